"""What `files` offers, about which folder, and what it refuses to be made with."""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.tools.folders import tools
from tests.tools.shipped import call, refusal

from gatebook.errors import ConfigError
from gatebook.tools import files


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
