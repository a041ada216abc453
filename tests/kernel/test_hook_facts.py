"""Verification: what follows a hook's answer agrees with it."""

from typing import Any

import pytest

from gatebook.errors import IntegrityError
from gatebook.kernel.actions import CallTool
from gatebook.kernel.codec import Raw, digest
from gatebook.kernel.events import (
    ActionRequested,
    ActionSucceeded,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    DecisionRecord,
    ErrorRecord,
    HookAnswered,
    RunCompleted,
)
from gatebook.kernel.head import Head
from gatebook.kernel.verify import verify_facts
from gatebook.testing.journal_facts.kit import started

BEGUN = started()
ASKED = ActionRequested(address="a", action=CallTool("t", Raw(b"{}")))
DONE = ActionSucceeded(address="a", output=Raw(b"1"))
NO = ErrorRecord("E_HOOK_DENIED", "no")


def said(point: Any, **fields: Any) -> HookAnswered:
    facts: dict[str, Any] = {"hook": "h", "address": "a"} | fields
    return HookAnswered(point=point, **facts)


def verified(*events: AnyEvent) -> str:
    """Why events are refused that a store without any guard holds, "" for no reason."""
    head = Head()
    for event in events:
        head.apply(event)
    try:
        verify_facts("r", events, head)
    except IntegrityError as exc:
        return str(exc)
    return ""


def test_a_run_whose_hooks_were_heeded_verifies() -> None:
    """A check that cries wolf is switched off."""
    assert not verified(
        BEGUN,
        said("on_run_start", address=""),
        said("before_tool", verdict="change", change=Raw(b"{}"), made="x"),
        ASKED,
        said("after_tool", verdict="deny", stops=True, error=NO),
        AttemptFailed(address="a", attempt=0, error=NO, delay_ms=0),
        AttemptStarted(address="a", attempt=1),
        said("after_tool", attempt=1, verdict="change", made=digest(b"1")),
        ActionSucceeded(address="a", attempt=1, output=Raw(b"1")),
        said("on_run_end", address=""),
        RunCompleted(),
    )


def test_what_result_rules_made_of_a_hooks_result_verifies() -> None:
    """They come after it, and say so."""
    ruled = ActionSucceeded(address="a", output=Raw(b"3"), decision=DecisionRecord("modify"))

    assert not verified(BEGUN, ASKED, said("after_tool", made=digest(b"1")), ruled)


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ((said("before_tool", stops=True, error=NO), ASKED), "hook h refused it"),
        ((ASKED, said("before_tool")), "after it was decided"),
        ((ASKED, DONE, said("before_tool")), "after it was decided"),
        ((said("after_tool"),), "of which nothing ran"),
        ((ASKED, DONE, said("after_tool")), "of which nothing ran"),
        ((ASKED, said("after_tool", stops=True, error=NO), DONE), "hook h withheld"),
        ((ASKED, said("after_tool", made=digest(b"2")), DONE), "another result than hook h made"),
        ((said("on_run_start", address="", stops=True, error=NO), RunCompleted()), "refused it"),
        ((said("on_run_end", address="", stops=True, error=NO), RunCompleted()), "refused it"),
    ],
)
def test_what_went_on_against_a_hooks_answer_is_found(
    events: tuple[AnyEvent, ...], problem: str
) -> None:
    """A journal in which a refusal had no consequence was written by something broken."""
    assert problem in verified(BEGUN, *events)
