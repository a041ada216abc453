"""The vocabulary: stable names, bytes that read back, readers that stop at the unknown."""

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gatebook.errors import JournalCorrupt
from gatebook.kernel.actions import CallLLM, CallTool, Prompt, Sleep, WaitSignal
from gatebook.kernel.approvals.events import (
    ActionDeferred,
    ApprovalAnswered,
    ApprovalAsked,
    ApprovalExpired,
    DeferralEnded,
    Granted,
    GrantRevoked,
)
from gatebook.kernel.approvals.terms import ApprovalTerms
from gatebook.kernel.budget import Amount, Limits
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import (
    AUDIT,
    EXTERNAL,
    KINDS,
    ActionDenied,
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    ActionUnknown,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    BudgetRaised,
    CancelRequested,
    DecisionRecord,
    DefinitionChanged,
    ErrorRecord,
    HookAnswered,
    Interrupted,
    LabelEndorsed,
    LedgersDeclared,
    Note,
    Resumed,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    SignalReceived,
    kind_of,
)
from gatebook.kernel.messages import Usage
from gatebook.kernel.stored import chain, decode, stamp, written
from gatebook.ports import Recorded, RunKey

STAMP = stamp(time=7, epoch=3)
ERROR = ErrorRecord("E_X", "text", "transient", "server", 5, 503, "half")
CALL = CallTool("t", Raw(b'{"n":1}'), "c1", 5, 2)
EVENTS: list[AnyEvent] = [
    RunStarted(program="p", program_kind="agent", definition="d", nonce="00", input=Raw(b"1"),
               context=Raw(b'{"u":1}'), policy="x", limits=Limits(tool_calls=1), labels={"a": "b"}),
    ActionRequested(address="0", action=CALL, effect="at_most_once", reserve=Amount(1, 2, 3),
                    decision=DecisionRecord("modify", "r", "why"), timeout_ms=9),
    ActionRequested(address="0", action=CallLLM("p", "m", Prompt("d", size=4))),
    ActionRequested(address="0", action=Sleep(5)),
    ActionRequested(address="0", action=WaitSignal("go", 7)),
    ActionDenied(address="0", action=CALL, decision=DecisionRecord("deny"), error=ERROR),
    AttemptFailed(address="0", attempt=1, error=ERROR, delay_ms=50, spent=Amount(1)),
    AttemptStarted(address="0", attempt=1, reserve=Amount(1), cause="recovery"),
    ActionSucceeded(address="0", output=Raw(b"[1]"), usage=Usage(input_tokens=1), consumed=4),
    ActionFailed(address="0", error=ERROR),
    ActionUnknown(address="0", error=ERROR),
    ActionResolved(address="0", resolution="failed", error=ERROR, by="ann"),
    SignalReceived(name="go", payload=Raw(b'"x"'), by="ann"),
    CancelRequested(reason="enough"),
    BudgetRaised(limits=Limits(wall_ms=5), more=Limits(fan_out=1), by="ann", reason="more"),
    LedgersDeclared(ledgers={"day": Limits(tool_calls=5)}),
    DefinitionChanged(before="a", after="b"),
    Interrupted(error=ERROR),
    Resumed(by="ann"),
    RunCompleted(output=Raw(b"1")),
    RunFailed(error=ERROR, denied=True),
    RunCancelled(reason="x", unknown=("0", "1")),
    Note(text="hello", detail=Raw(b"{}")),
    LabelEndorsed(label="untrusted", upto=4, by="ann", reason="read it"),
    HookAnswered(point="before_tool", hook="cap", verdict="change", address="0", attempt=1,
                 saw="a", made="b", change=Raw(b"{}"), error=ERROR, stops=True),
    ApprovalAsked(address="0", action=CALL, digest="d", bound="b", requester="u", expires_ms=5,
                  definition="f", policy="p", stops=True, edit=3, refused="no", terms=(
                      ApprovalTerms(rule="r", approvers=("ann",), choices=("edit",)),)),
    ApprovalAnswered(address="0", asked=2, answer="edit", by="ann", groups=("g",), reason="less",
                     args=Raw(b"{}")),
    ApprovalExpired(address="0", asked=2),
    Granted(tool="t", definition="f", until=9, by="ann", groups=("g",), reason="often"),
    GrantRevoked(grant=4, by="ann", reason="done"),
    ActionDeferred(address="0", action=CALL, decision=DecisionRecord("defer"), after_ms=5,
                   signals=("go",)),
    DeferralEnded(address="0", consumed=7),
]  # fmt: skip
STORED_NAMES = {
    "run_started", "action_requested", "action_denied", "attempt_failed", "attempt_started",
    "action_succeeded", "action_failed", "action_unknown", "action_resolved", "signal_received",
    "cancel_requested", "budget_raised", "definition_changed", "interrupted", "resumed",
    "run_completed", "run_failed", "run_cancelled", "note", "hook_answered",
    "ledgers_declared", "label_endorsed", "approval_asked", "approval_answered",
    "approval_expired", "granted", "grant_revoked", "action_deferred", "deferral_ended",
}  # fmt: skip


def test_the_names_of_kinds_are_stable() -> None:
    """They are in every journal there is."""
    assert KINDS == STORED_NAMES


def test_every_kind_has_a_sample_here() -> None:
    """A new kind must be shown to read back."""
    assert {type(event) for event in EVENTS} == set(get_args(AnyEvent))


@pytest.mark.parametrize("event", EVENTS, ids=kind_of)
def test_an_event_reads_back_as_it_was_written(event: AnyEvent) -> None:
    """With the stamp of the append."""
    body = written(event, STAMP)

    assert decode(body, run="r", seq=1) == replace(event, time=7, epoch=3)


@pytest.mark.parametrize("event", EVENTS, ids=kind_of)
def test_stored_bytes_are_plain_json_that_names_its_kind_and_version(event: AnyEvent) -> None:
    """Any JSON tool can read a journal; no class path is in it."""
    facts = json.loads(written(event, STAMP))

    assert (facts["kind"], facts["v"], facts["time"], facts["epoch"]) == (kind_of(event), 1, 7, 3)
    assert "gatebook" not in json.dumps(facts)


@pytest.mark.parametrize("event", EVENTS, ids=kind_of)
def test_the_same_event_is_always_the_same_bytes(event: AnyEvent) -> None:
    """The bytes stored are the bytes hashed."""
    again = decode(written(event, STAMP), run="r", seq=1)

    bare: AnyEvent = msgspec.structs.replace(again, time=0, epoch=0)

    assert written(bare, STAMP) == written(event, STAMP)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"kind":"teleported","v":1,"time":1,"epoch":1}', "E_EVENT_UNKNOWN"),
        (b'{"kind":"note","text":"x","v":2,"time":1,"epoch":1}', "E_EVENT_UNKNOWN"),
        (b'{"kind":"note","text":"x","new":1,"v":2,"time":1,"epoch":1}', "E_EVENT_UNKNOWN"),
        (b'{"kind":"note","text":"x","new":1,"v":1,"time":1,"epoch":1}', "E_EVENT_INVALID"),
        (b'{"kind":"note","text":5,"v":1,"time":1,"epoch":1}', "E_EVENT_INVALID"),
        (b'{"kind":"note","v":1}', "E_EVENT_INVALID"),
        (b'{"kind":"note"', "E_EVENT_INVALID"),
        (b"[]", "E_EVENT_INVALID"),
        (b"", "E_EVENT_INVALID"),
        (b"\xff", "E_EVENT_INVALID"),
    ],
)
def test_what_is_not_known_stops_the_reader(body: bytes, code: str) -> None:
    """A skipped fact would be a wrong state."""
    with pytest.raises(JournalCorrupt) as caught:
        decode(body, run="r", seq=1)

    assert caught.value.code == code


@given(st.binary(max_size=80))
def test_no_bytes_make_the_reader_break(body: bytes) -> None:
    """A damaged journal is reported, never a crash."""
    with pytest.raises(JournalCorrupt):
        decode(body, run="r", seq=1)


@pytest.mark.parametrize(
    "other", [(b"a" * 32, 2, b"x"), (b"b" * 32, 1, b"x"), (b"a" * 32, 1, b"y")]
)
def test_a_hash_covers_place_and_bytes(other: tuple[bytes, int, bytes]) -> None:
    """Moved, re-chained or changed: each shows."""
    assert chain(b"a" * 32, 1, b"x") != chain(*other)


def test_a_users_data_is_never_a_type() -> None:
    """Tags inside payloads are plain data."""
    payload: Any = b'{"kind":"run_completed","__type__":"os.system"}'

    event = decode(written(SignalReceived(name="go", payload=Raw(payload)), STAMP), run="r", seq=1)

    assert isinstance(event, SignalReceived)
    assert bytes(event.payload) == payload


def test_only_what_people_say_is_external() -> None:
    """Everything else needs the claim of a worker."""
    assert set(EXTERNAL) == {
        SignalReceived, CancelRequested, ActionResolved, BudgetRaised, Resumed, LabelEndorsed, Note,
        ApprovalAnswered, Granted, GrantRevoked,
    }  # fmt: skip
    assert set(AUDIT) <= set(EXTERNAL)


def test_an_event_that_is_printed_shows_what_it_says() -> None:
    """Whoever prints the events of a run wants to read arguments and results."""
    event = ActionRequested(address="0", action=CallTool("pay", Raw(b'{"n":1}')), time=5)
    recorded = Recorded(RunKey("default", "r"), 2, 7, b"a", b"h", event)

    assert repr(recorded) == (
        "Recorded(run='r', seq=2, position=7, event=ActionRequested("
        '{"kind":"action_requested","address":"0",'
        '"action":{"action":"call_tool","tool":"pay","args":{"n":1}},"time":5}))'
    )


@pytest.mark.parametrize("text", ["\ud800", object()])
def test_an_event_that_cannot_be_stored_can_be_printed(text: Any) -> None:
    """An error about it must not be hidden by another one."""
    assert repr(Note(text=text)).startswith("Note(text=")
