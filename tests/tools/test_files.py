"""`files`: reading, listing and writing below one folder, against links and races that lead out."""

import base64
import contextlib
import ctypes
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
from tests.tools.shipped import call, linux, refusal

from gatebook.errors import ActionError, ConfigError, Permanent, ToolRetry
from gatebook.tools import files
from gatebook.tools.beneath import MAX_PARTS, parts

SECRET = "what lies outside"
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that no tool of the folder may read or change."""
    path = tmp_path / "outside"
    path.write_text(SECRET)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the tools."""
    path = tmp_path / "base"
    path.mkdir()
    return path


def tools(root: Path, **options: Any) -> dict[str, Any]:
    """The tools of a folder by the last part of their names."""
    made = files(root, write=True, **options)
    return {tool.name.rpartition(".")[2]: tool for tool in made}


# ---- what is offered ----


def test_reading_is_a_read_and_writing_is_not_offered_unasked(root: Path) -> None:
    """A tool that is there is used."""
    made = files(root)

    assert [(tool.name, tool.spec.effect) for tool in made] == [
        ("fs.read", "read"), ("fs.list", "read"),
    ]  # fmt: skip


def test_writing_the_same_again_changes_nothing(root: Path) -> None:
    """So it may be started again after a crash."""
    assert tools(root)["write"].spec.effect == "idempotent"


def test_labels_of_what_is_read_are_declared(root: Path) -> None:
    """Rules see what a run has read."""
    made = tools(root, returns={"private"}, prefix="notes")

    assert made["read"].spec.returns == ("private",)
    assert made["list"].spec.returns == ("private",)
    assert made["write"].spec.returns == ()


@pytest.mark.parametrize(
    "options", [{"max_bytes": 0}, {"max_bytes": 10**7}, {"max_entries": 0}, {"prefix": "a b"}]
)
def test_a_limit_that_cannot_be_kept_is_refused(options: Any, root: Path) -> None:
    """An answer must fit into what the journal keeps."""
    with pytest.raises((ConfigError, ValueError)) as caught:
        tools(root, **options)

    assert getattr(caught.value, "code", "") in ("E_TOOL_DECLARATION", "E_TOOL_NAME")


# ---- paths ----


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


# ---- reading ----


def test_a_file_is_read_as_text(root: Path) -> None:
    """The usual case."""
    (root / "sub").mkdir()
    (root / "sub" / "a.md").write_text("grün")

    assert call(tools(root)["read"], path="./sub//a.md") == {
        "path": "./sub//a.md", "text": "grün", "encoding": "utf-8", "size": 5, "next": None,
    }  # fmt: skip


def test_a_long_file_is_read_on_at_an_offset(root: Path) -> None:
    """A prompt holds a part; a cut never splits a character."""
    (root / "a").write_text("aéb" * 10)
    read = tools(root, max_bytes=6)["read"]

    found = [call(read, path="a")]
    while found[-1]["next"] is not None:
        found.append(call(read, path="a", offset=found[-1]["next"]))

    assert "".join(part["text"] for part in found) == "aéb" * 10
    assert len(found) >= 7
    assert {part["size"] for part in found} == {40}


def test_what_is_no_text_is_given_as_base64(root: Path) -> None:
    """JSON cannot hold bytes."""
    data = bytes(range(256))
    (root / "a").write_bytes(data)

    found = call(tools(root)["read"], path="a")

    assert found["encoding"] == "base64"
    assert base64.b64decode(found["text"]) == data


def test_a_huge_file_is_read_in_part(root: Path) -> None:
    """A17: memory follows the limit, not the file."""
    with open(root / "huge", "wb") as file:
        file.truncate(10**12)

    found = call(tools(root, max_bytes=1_000)["read"], path="huge", offset=10**11)

    assert (len(found["text"]), found["next"], found["size"]) == (1_000, 10**11 + 1_000, 10**12)


def test_a_file_that_is_not_there_is_said_to_be_missing(root: Path) -> None:
    """The model can look and choose another."""
    error = refusal(tools(root)["read"], path="nothing.md")

    assert error.code == "E_FILE"
    assert "nothing.md" in str(error)
    assert str(root) not in str(error)


def test_a_negative_offset_is_refused(root: Path) -> None:
    """The system would say less."""
    (root / "a").write_text("x")

    with pytest.raises(ToolRetry):
        call(tools(root)["read"], path="a", offset=-1)


# ---- listing ----


def test_a_folder_is_listed_in_order_with_kinds_and_sizes(root: Path) -> None:
    """What a model needs to choose."""
    (root / "b").write_text("xyz")
    (root / "a").mkdir()
    (root / "c").symlink_to("/")

    assert call(tools(root)["list"])["entries"] == [
        {"name": "a", "kind": "folder", "size": None},
        {"name": "b", "kind": "file", "size": 3},
        {"name": "c", "kind": "link", "size": None},
    ]


def test_a_long_listing_is_cut_and_says_so(root: Path) -> None:
    """A folder of a million names is no answer."""
    for n in range(5):
        (root / str(n)).touch()

    found = call(tools(root, max_entries=3)["list"])
    whole = call(tools(root, max_entries=5)["list"])

    assert ([entry["name"] for entry in found["entries"]], found["truncated"]) == (
        ["0", "1", "2"], True,
    )  # fmt: skip
    assert not whole["truncated"]


def test_a_name_that_is_no_text_can_be_listed(root: Path) -> None:
    """One such name must not hide all others."""
    (root / os.fsdecode(b"\xff")).touch()

    assert call(tools(root)["list"])["entries"][0]["name"] == "\ufffd"


# ---- writing ----


def test_a_file_is_written_with_its_folders(root: Path) -> None:
    """A model should not need a tool more for that."""
    found = call(tools(root)["write"], path="a/b/c.txt", text="grün")

    assert (root / "a/b/c.txt").read_text() == "grün"
    assert (found["path"], found["size"]) == ("a/b/c.txt", 5)


def test_a_file_is_replaced_only_when_that_is_asked_for(root: Path) -> None:
    """What people wrote is not lost by a wrong name."""
    (root / "a").write_text("old")
    write = tools(root)["write"]

    with pytest.raises(ToolRetry, match="overwrite"):
        call(write, path="a", text="new")
    assert (root / "a").read_text() == "old"
    call(write, path="a", text="new", overwrite=True)
    assert (root / "a").read_text() == "new"


def test_writing_the_same_file_again_succeeds(root: Path) -> None:
    """A later attempt finds what the first one, whose answer was lost, has written."""
    write = tools(root)["write"]

    first = call(write, path="a", text="new")

    assert call(write, attempt=1, path="a", text="new") == first


def test_what_a_killed_attempt_left_is_removed(root: Path) -> None:
    """An unfinished file must neither stay nor be taken for a finished one."""
    write = tools(root)["write"]
    call(write, path="probe", text="x")
    (left,) = drafts(write, root)
    left.write_text("half")

    call(write, attempt=1, path="a", text="new")

    assert sorted(path.name for path in root.iterdir()) == ["a", "probe"]


def drafts(write: Any, root: Path) -> list[Path]:
    """The names under which an attempt writes, seen while it does."""
    found: set[str] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            found.update(name for name in os.listdir(root) if name.startswith(".gatebook-"))

    thread = threading.Thread(target=look)
    thread.start()
    while not found:
        call(write, path="probe", text="x", overwrite=True)
    stop.set()
    thread.join()
    return [root / name for name in found]


def test_a_replaced_file_keeps_its_mode(root: Path) -> None:
    """A script stays one."""
    (root / "run.sh").write_text("old")
    (root / "run.sh").chmod(0o750)

    call(tools(root)["write"], path="run.sh", text="new", overwrite=True)

    assert (root / "run.sh").stat().st_mode & 0o777 == 0o750


def test_too_much_text_is_refused_before_anything_is_created(root: Path) -> None:
    """A limit that leaves half a file behind is none."""
    error = refusal(tools(root, max_bytes=10)["write"], path="a/b", text="x" * 11)

    assert error.code == "E_FILE"
    assert list(root.iterdir()) == []


def test_a_hard_link_is_replaced_and_not_written_through(root: Path, outside: Path) -> None:
    """A new file takes the name; the other name keeps the old one."""
    os.link(outside, root / "link")

    call(tools(root)["write"], path="link", text="new", overwrite=True)

    assert outside.read_text() == SECRET


def test_a_root_that_is_missing_is_an_error_of_the_call(tmp_path: Path) -> None:
    """It may be mounted later than the tools are declared."""
    made = tools(tmp_path / "later")

    assert refusal(made["list"]).code == "E_FILE"
    (tmp_path / "later").mkdir()
    assert call(made["list"])["entries"] == []


def test_a_later_change_of_folder_changes_nothing(root: Path) -> None:
    """A relative root means where it was declared."""
    before = os.getcwd()
    try:
        os.chdir(root.parent)
        made = tools(Path("base"))
    finally:
        os.chdir(before)
    (root / "a").write_text("x")

    assert call(made["read"], path="a")["text"] == "x"


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
