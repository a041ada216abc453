"""How events of hooks read in `show --events` and `tail`."""

from typing import Any

import pytest

from gatebook.cli.telling import Teller
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import ErrorRecord, HookAnswered
from gatebook.ports import Recorded, RunKey


def told(**fields: Any) -> str:
    facts: dict[str, Any] = {"hook": "cap", "address": "t1.0", "point": "before_tool"} | fields
    event = HookAnswered(**facts)
    recorded = Recorded(RunKey("default", "r"), 2, 2, b"", b"", event)
    return " ".join(Teller().line(recorded).split()[2:])


BROKE = ErrorRecord("E_HOOK_FAILED", "hook 'cap' failed: KeyError")


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "hook t1.0 cap before_tool: let it pass"),
        ({"verdict": "change", "change": Raw(b"{}")}, "hook t1.0 cap before_tool: changed it"),
        (
            {"verdict": "failed", "error": BROKE, "stops": True},
            "hook t1.0 cap before_tool: hook 'cap' failed: KeyError",
        ),
        (
            {"verdict": "failed", "error": BROKE},
            "hook t1.0 cap before_tool: hook 'cap' failed: KeyError; it passed",
        ),
        ({"address": "", "point": "on_run_end"}, "hook cap on_run_end: let it pass"),
    ],
)
def test_an_answer_reads_as_one_line(fields: dict[str, Any], line: str) -> None:
    """Who was asked where, and what came of it; a failure says which way it went."""
    assert told(**fields) == line
