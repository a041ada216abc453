"""`files` reads and lists: text, bytes, parts of what is long."""

import base64
import os
from pathlib import Path

import pytest
from tests.tools.folders import tools
from tests.tools.shipped import call, refusal

from gatebook.errors import ToolRetry


def test_a_file_is_read_as_text(root: Path) -> None:
    """The usual case."""
    (root / "sub").mkdir()
    (root / "sub" / "a.md").write_text("grün")

    assert call(tools(root)["read"], path="./sub//a.md") == {
        "path": "sub/a.md", "text": "grün", "encoding": "utf-8", "size": 5, "next": None,
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


@pytest.mark.parametrize("offset", [-1, 2**63 - 1])
def test_an_offset_that_no_file_has_is_refused(offset: int, root: Path) -> None:
    """The system would say less."""
    (root / "a").write_text("x")

    with pytest.raises(ToolRetry):
        call(tools(root)["read"], path="a", offset=offset)


def test_behind_its_end_a_file_has_its_size(root: Path) -> None:
    """A model that read too far is told how far it may."""
    (root / "a").write_text("xyz")

    found = call(tools(root)["read"], path="a", offset=1_000)

    assert (found["text"], found["size"], found["next"]) == ("", 3, None)


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
