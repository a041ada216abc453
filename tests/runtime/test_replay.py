"""Re-driving: where a program stands after its journal, and what counts as divergence."""

from collections.abc import Sequence
from typing import Any

import pytest
from tests.runtime.kit import RUN

from gatebook.errors import Diverged, InvalidInput
from gatebook.kernel.actions import Action, CallTool, Sleep
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import (
    ActionDenied,
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    ActionUnknown,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    DecisionRecord,
    ErrorRecord,
    Note,
    RunCancelled,
    RunCompleted,
    RunFailed,
    SignalReceived,
)
from gatebook.ports import Complete, Fail, Outcome, Recorded, Step, Stepper, Want
from gatebook.runtime.replay import Replay, replay

ERROR = ErrorRecord("E_ACTION", "no")


def call(args: bytes = b"{}", tool: str = "t", **fields: Any) -> CallTool:
    return CallTool(tool, Raw(args), **fields)


def denied(action: Action) -> ActionDenied:
    return ActionDenied(address="a0", action=action, decision=DecisionRecord("deny"), error=ERROR)


class Script(Stepper):
    """A program of given steps; remembers the outcomes it was shown."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.shown: list[Outcome] = []
        self.closed = False

    def step(self, outcomes: Sequence[Outcome]) -> Step:
        self.shown += outcomes
        return self.steps.pop(0) if self.steps else Step()

    def close(self) -> None:
        self.closed = True


def wants(*actions: Action, start: int = 0) -> Step:
    return Step(tuple(Want(f"a{start + i}", action) for i, action in enumerate(actions)))


def unchanged(action: CallTool) -> bytes:
    return bytes(action.args)


def asked(action: Action, address: str = "a0", **fields: Any) -> ActionRequested:
    return ActionRequested(address=address, action=action, **fields)


def recorded(*events: AnyEvent) -> list[Recorded]:
    run = RUN
    return [Recorded(run, seq, seq, b"", b"", event) for seq, event in enumerate(events, start=1)]


def driven(script: Script, *events: AnyEvent, normalise: Any = unchanged) -> Replay:
    replayed = Replay(script, normalise)
    for each in recorded(*events):
        replayed.feed(each.event, each.seq)
    return replayed


def test_what_the_journal_does_not_have_is_pending_in_order() -> None:
    """This is what a driver asks the gate about after a crash."""
    replayed = driven(Script(wants(call(), Sleep(5), call())), asked(Sleep(5), "a1"))

    assert list(replayed.pending) == ["a0", "a2"]


def test_outcomes_reach_the_program_one_by_one_in_journal_order() -> None:
    """The order of the journal is the order of the run."""
    script = Script(wants(call(), call()))

    driven(
        script, asked(call(), "a0"), asked(call(), "a1"),
        ActionSucceeded(address="a1", output=Raw(b"7"), time=9),
        ActionFailed(address="a0", error=ERROR),
    )  # fmt: skip

    assert script.shown == [
        Outcome("a1", "succeeded", 3, 9, Raw(b"7")),
        Outcome("a0", "failed", 4, 0, error=ERROR),
    ]


def test_a_program_sees_no_attempts_signals_or_unknown_outcomes() -> None:
    """Retries, signals and open questions are the runtime's business."""
    script = Script(wants(call()))

    driven(
        script, asked(call()),
        AttemptFailed(address="a0", attempt=0, error=ERROR, delay_ms=1),
        AttemptStarted(address="a0", attempt=1),
        SignalReceived(name="go"),
        ActionUnknown(address="a0", error=ERROR),
        ActionResolved(address="a0", resolution="retry"),
    )  # fmt: skip

    assert script.shown == []


@pytest.mark.parametrize("resolution", ["succeeded", "failed"])
def test_a_resolution_is_an_outcome(resolution: Any) -> None:
    """What a person says became of an action is what became of it."""
    script = Script(wants(call()))

    driven(
        script, asked(call()), ActionUnknown(address="a0", error=ERROR),
        ActionResolved(address="a0", resolution=resolution, output=Raw(b"1")),
    )  # fmt: skip

    assert [outcome.status for outcome in script.shown] == [resolution]


def test_another_action_at_an_address_diverges() -> None:
    """A changed program must not be driven along an old journal."""
    with pytest.raises(Diverged) as caught:
        driven(Script(wants(call(b'{"n":2}'))), asked(call(b'{"n":1}')))

    assert caught.value.fields["seq"] == 1
    assert str(caught.value).startswith("at seq 1 the program asks for 't {\"n\":2} at a0', ")


def test_an_action_the_program_does_not_ask_for_diverges() -> None:
    """An effect nobody asked for belongs to another program."""
    with pytest.raises(Diverged, match="asks for 'nothing'"):
        driven(Script(wants()), asked(call()))


def test_other_settings_of_the_same_call_diverge() -> None:
    """A timeout is part of what was asked for."""
    with pytest.raises(Diverged, match="other settings"):
        driven(Script(wants(call(timeout_ms=5))), asked(call()))


def test_arguments_are_compared_in_their_final_form() -> None:
    """The journal holds arguments with defaults filled in; programs leave them out."""
    replayed = driven(
        Script(wants(call())), asked(call(b'{"n":1}')), normalise=lambda action: b'{"n":1}'
    )

    assert replayed.pending == {}


def test_arguments_that_no_longer_validate_diverge() -> None:
    """A tool whose schema changed is another tool."""

    def refuse(action: CallTool) -> bytes:
        raise InvalidInput("E_ARGS_SCHEMA", tool="t", path="n", want="int", got="str")

    with pytest.raises(Diverged):
        driven(Script(wants(call())), asked(call(b'{"n":1}')), normalise=refuse)


def test_arguments_that_policy_modified_are_not_compared() -> None:
    """What ran is what policy made of the want."""
    event = asked(call(b'{"n":1}'), decision=DecisionRecord("modify"))

    assert driven(Script(wants(call(b'{"n":9}'))), event).pending == {}


def test_a_denied_call_is_compared_by_its_tool() -> None:
    """Its arguments may have been redacted."""
    script = Script(wants(call(b'{"key":"sk-1"}')))

    driven(script, denied(call(b'{"key":"[redacted]"}')))

    assert [outcome.status for outcome in script.shown] == ["denied"]


def test_a_denied_call_of_another_tool_diverges() -> None:
    """Redaction explains other arguments, never another tool."""
    with pytest.raises(Diverged):
        driven(Script(wants(call())), denied(call(tool="rm")))


def test_the_recorded_output_must_be_the_programs() -> None:
    """The same outcomes must give the same end."""
    with pytest.raises(Diverged, match="completed with 2"):
        driven(Script(Step(end=Complete(Raw(b"2")))), RunCompleted(output=Raw(b"1")))


def test_the_runtime_may_fail_or_cancel_a_run_that_has_not_ended() -> None:
    """A poison action or a cancel ends a run without asking its program."""
    assert driven(Script(wants(call())), RunFailed(error=ERROR)).end is None
    assert driven(Script(wants(call())), RunCancelled()).end is None


def test_an_output_the_runtime_refused_to_store_does_not_diverge() -> None:
    """The program completed; what it said could not be kept."""
    refused = RunFailed(error=ErrorRecord("E_OUTPUT", "it holds a secret"))

    assert driven(Script(Step(end=Complete(Raw(b"2")))), refused).end is not None


def test_a_run_that_failed_does_not_fit_a_program_that_completes() -> None:
    """The journal says that the program could not go on."""
    with pytest.raises(Diverged, match="failed with E_ACTION"):
        driven(Script(Step(end=Complete(Raw(b"2")))), RunFailed(error=ERROR))


def test_a_failure_of_the_program_must_be_the_recorded_one() -> None:
    """Failing for another reason is another run."""
    end = Step(end=Fail(ErrorRecord("E_OTHER", "x")))

    with pytest.raises(Diverged, match="E_OTHER"):
        driven(Script(end), RunFailed(error=ERROR))


def test_a_program_is_not_stepped_after_its_end() -> None:
    """Outcomes of branches it left behind come too late to matter."""
    script = Script(wants(call(), call()), Step(end=Complete(Raw(b"1"))))

    driven(
        script, asked(call(), "a0"), asked(call(), "a1"),
        ActionSucceeded(address="a0"), ActionSucceeded(address="a1"),
        RunCompleted(output=Raw(b"1")),
    )  # fmt: skip

    assert [outcome.address for outcome in script.shown] == ["a0"]


def test_a_resolution_after_the_end_is_not_shown() -> None:
    """After the end it is an audit note."""
    script = Script(wants(call()))

    driven(
        script, asked(call()), ActionUnknown(address="a0", error=ERROR), RunCancelled(),
        ActionResolved(address="a0", resolution="succeeded"),
    )  # fmt: skip

    assert script.shown == []


def test_log_lines_that_are_journaled_are_not_new() -> None:
    """A line logged before a crash must not be logged again after it."""
    script = Script(Step(notes=("one", "two")))

    replayed = driven(script, Note(text="one"), Note(text="somebody else's"))

    assert list(replayed.notes) == ["two"]


def test_a_replay_counts_and_closes_the_program() -> None:
    """A parked computation left open keeps its frames alive."""
    script = Script(wants(call()), Step(end=Complete(Raw(b"1"))))

    report = replay(
        script, unchanged,
        recorded(asked(call()), ActionSucceeded(address="a0"), RunCompleted(output=Raw(b"1"))),
    )  # fmt: skip

    assert (report.events, report.actions, report.pending, report.ended) == (3, 1, (), True)
    assert script.closed
