"""`files` stays below its folder: against names, links and races that lead out."""

import contextlib
import ctypes
import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tools.folders import SECRET, tools
from tests.tools.shipped import call, linux, refusal

from gatebook.errors import ActionError, Permanent
from gatebook.tools.beneath import MAX_PARTS, parts, plain_file, plain_folder

AT_FDCWD = -100  # linux/fcntl.h
RENAME_EXCHANGE = 2  # linux/fs.h


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "../outside", "a/../../outside", "..", "a/..", "a\0b", "a\nb", "\u202eb",
        "x" * 5_000, "/".join("a" * (MAX_PARTS + 1)), ".gatebook-x", "a/.gatebook-x/b",
        "/proc/self/root",
    ],
)  # fmt: skip
def test_a_path_that_is_not_below_is_refused(path: str, root: Path, outside: Path) -> None:
    """A9: nothing is opened to find out."""
    made = tools(root)

    assert refusal(made["read"], path=path).code == "E_PATH"
    assert refusal(made["list"], path=path).code == "E_PATH"
    assert refusal(made["write"], path=path, text="x", overwrite=True).code == "E_PATH"
    assert outside.read_text() == SECRET


@given(st.text())
def test_every_text_is_a_list_of_plain_names_or_refused(path: str) -> None:
    """No name leads up or away, however it is spelt."""
    names: list[str] = []

    with contextlib.suppress(Permanent):
        names = parts(path)

    assert not any(name in ("", ".", "..") or "/" in name or "\0" in name for name in names)


@pytest.mark.parametrize("path", ["", ".", "a/", "a/."])
def test_a_path_without_a_name_is_no_file(path: str, root: Path) -> None:
    """The folder itself is not a file."""
    (root / "a").mkdir()

    assert refusal(tools(root)["read"], path=path).code in ("E_PATH", "E_FILE")


@pytest.mark.parametrize("path", ["./.env", ".//.env", "././.env"])
def test_what_rules_see_is_what_is_opened(path: str, root: Path) -> None:
    """A rule that denies `.env` must not be passed by another spelling of it."""
    made = tools(root)

    for name in ("read", "write", "list"):
        args = {"path": path} | ({"text": "x"} if name == "write" else {})
        final = json.loads(made[name].validate(json.dumps(args).encode()))
        assert final["path"] == ".env"
        assert (
            made[name].validate(json.dumps(final).encode())
            == json.dumps(final, separators=(",", ":"), sort_keys=True).encode()
        )


@pytest.mark.parametrize("path", ["a/", "a/.", "a/./", "a//."])
def test_a_slash_at_the_end_makes_a_file_no_other_file(path: str, root: Path) -> None:
    """A system finds no file there, so neither does a tool."""
    (root / "a").write_text("x")
    made = tools(root)

    assert refusal(made["read"], path=path).code == "E_PATH"
    assert refusal(made["write"], path=path, text="y", overwrite=True).code == "E_PATH"
    assert (root / "a").read_text() == "x"


@given(st.text(alphabet="./ab~\\", max_size=12))
def test_a_path_has_one_spelling(path: str) -> None:
    """It goes through the same names, and spelling it once more changes nothing."""
    for spell in (plain_file, plain_folder):
        found = spell(path)

        assert spell(found) == found
        with contextlib.suppress(Permanent):
            assert parts(found) == parts(path)
            assert found.rstrip("/") in ("/".join(parts(path)), ".")


def test_a_link_to_a_file_is_not_followed(root: Path, outside: Path) -> None:
    """A9: whoever can make a link chooses where it leads."""
    (root / "link").symlink_to(outside)
    made = tools(root)

    assert refusal(made["read"], path="link").code == "E_PATH"
    assert refusal(made["write"], path="link", text="x", overwrite=True).code == "E_PATH"
    assert outside.read_text() == SECRET


def test_a_link_to_a_folder_is_not_followed(root: Path, outside: Path) -> None:
    """Neither the last step nor one on the way."""
    (root / "up").symlink_to("..")
    (root / "away").symlink_to(outside.parent)
    made = tools(root)

    for path in ("up/outside", "away/outside", "up/base/up/outside"):
        assert refusal(made["read"], path=path).code == "E_PATH"
        assert refusal(made["write"], path=path, text="x", overwrite=True).code == "E_PATH"
    assert refusal(made["list"], path="up").code == "E_PATH"
    assert outside.read_text() == SECRET


def test_a_link_that_stays_inside_is_not_followed_either(root: Path) -> None:
    """Where it leads can change between the look and the step."""
    (root / "real").write_text("x")
    (root / "link").symlink_to("real")

    assert refusal(tools(root)["read"], path="link").code == "E_PATH"


def test_a_dangling_link_is_not_written_through(root: Path, tmp_path: Path) -> None:
    """A9: a file that is not there yet is created here, not where a link points."""
    (root / "new").symlink_to(tmp_path / "created")

    assert refusal(tools(root)["write"], path="new", text="x").code == "E_PATH"
    assert not (tmp_path / "created").exists()


def test_only_regular_files_are_opened(root: Path) -> None:
    """A pipe would block, a device may act, a socket is no file."""
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
    made = tools(root)

    for name in ("pipe", "socket"):
        assert refusal(made["read"], path=name).code == "E_PATH"
        assert refusal(made["write"], path=name, text="x", overwrite=True).code == "E_PATH"


def exchange(one: Path, other: Path) -> None:
    """Let two names stand for each other's file, with no moment in between."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


@pytest.fixture
def swapping(root: Path, outside: Path) -> Iterator[Path]:
    """A root with a folder that turns into a link outwards and back, all the time."""
    inside, link = root / "inside", root / "link"
    inside.mkdir()
    (inside / "outside").write_text("inside")
    link.symlink_to(outside.parent)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            exchange(inside, link)

    thread = threading.Thread(target=swap)
    thread.start()
    yield root
    stop.set()
    thread.join()


def outcome(made: Any, **args: Any) -> Any:
    """The result of a call, or the code of its refusal."""
    try:
        return call(made, **args)
    except ActionError as exc:
        return exc.code


@linux
def test_a_folder_that_turns_into_a_link_never_leads_out(swapping: Path) -> None:
    """There is no moment between a look and a step: the step itself refuses links."""
    read, seen = tools(swapping)["read"], Counter[str]()

    while min(seen["inside"], seen["E_PATH"]) < 20:
        found = outcome(read, path="inside/outside")
        seen[found if isinstance(found, str) else found["text"]] += 1

    assert set(seen) <= {"inside", "E_PATH", "E_FILE"}


@linux
def test_writing_while_a_folder_turns_into_a_link_never_leads_out(
    swapping: Path, outside: Path
) -> None:
    """The same for what changes files."""
    write, seen = tools(swapping)["write"], Counter[str]()

    while min(seen["written"], seen["E_PATH"]) < 10:
        found = outcome(write, path="inside/outside", text="inside", overwrite=True)
        seen[found if isinstance(found, str) else "written"] += 1

    assert set(seen) <= {"written", "E_PATH", "E_FILE"}
    assert outside.read_text() == SECRET
    assert {path.name for path in outside.parent.iterdir()} == {"outside", "base"}


def test_a_hard_link_is_replaced_and_not_written_through(root: Path, outside: Path) -> None:
    """A new file takes the name; the other name keeps the old one."""
    os.link(outside, root / "link")

    call(tools(root)["write"], path="link", text="new", overwrite=True)

    assert outside.read_text() == SECRET


@linux
def test_no_descriptor_is_left_open(root: Path) -> None:
    """Refusals are the usual case of an attack."""
    (root / "sub").mkdir()
    (root / "sub" / "link").symlink_to("/")
    made = tools(root)
    refusal(made["read"], path="sub/link/x")
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(10):
        refusal(made["read"], path="sub/link/x")
        refusal(made["read"], path="sub/none")
        call(made["write"], path="sub/a", text="x", overwrite=True)
        call(made["read"], path="sub/a")

    assert len(os.listdir("/proc/self/fd")) == before
