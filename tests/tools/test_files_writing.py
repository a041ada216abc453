"""`files` writes: whole files or none, and again without harm."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.tools.folders import tools
from tests.tools.invocations import Given
from tests.tools.shipped import call, refusal

from gatebook.errors import ToolRetry


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


def test_a_link_in_the_place_of_an_unfinished_file_is_not_followed(root: Path) -> None:
    """A sandboxed program that may write below must not get at the modes of what lies outside."""
    outside = root.parent / "outside"
    outside.write_text("secret")
    outside.chmod(0o600)
    (root / "a").write_text("old")
    (root / "a").chmod(0o777)
    write = tools(root)["write"]

    def swapped() -> bool:
        (draft,) = root.glob(".gatebook-*")
        draft.unlink()
        draft.symlink_to(outside)
        return False

    final = write.validate(b'{"path":"a","text":"new","overwrite":true}')
    asyncio.run(write.call(final, Given(cancelled=swapped)))

    assert outside.stat().st_mode & 0o777 == 0o600
    assert outside.read_text() == "secret"


def test_a_name_that_no_file_can_have_is_refused(root: Path) -> None:
    """As what it is, before anything is created: no retry will find room for it."""
    error = refusal(tools(root)["write"], path="a/" + "é" * 128, text="x")

    assert error.code == "E_PATH"
    assert list(root.iterdir()) == []


def test_too_much_text_is_refused_before_anything_is_created(root: Path) -> None:
    """A limit that leaves half a file behind is none."""
    error = refusal(tools(root, max_bytes=10)["write"], path="a/b", text="x" * 11)

    assert error.code == "E_FILE"
    assert list(root.iterdir()) == []
