"""The agent's loop: which calls run when, what the model reads, and how a run ends."""

from typing import Any

import pytest

from gatebook.errors import Diverged
from gatebook.kernel.actions import CallTool, PromptPart
from gatebook.kernel.codec import Raw
from gatebook.kernel.events import ErrorRecord
from gatebook.kernel.messages import InvalidToolCall, Message, RefusalPart, ToolResultPart
from gatebook.ports import MAX_FANOUT, Outcome, Step, Stepper
from gatebook.programs import Agent
from tests.programs.play import Echo as Tool
from tests.programs.play import (
    action,
    addresses,
    begin,
    call,
    denied,
    failed,
    failure,
    ok,
    output,
    said,
)

TOOLS = [Tool("read"), Tool("put", "idempotent"), Tool("write", "at_most_once")]


def run(**options: Any) -> Stepper:
    """An agent's run that has asked its first question."""
    program: Agent[Any] = Agent(name="a", model="p:m", tools=TOOLS, **options)
    return begin(program, "go")[0]


def results(step: Step) -> list[tuple[str, str, bool]]:
    """The tool results at the end of the next question: call id, text, is it an error."""
    found = [message.content[0] for message in step.wants[0].messages if message.role == "tool"]
    return [(p.tool_call_id, p.content, p.is_error) for p in found if type(p) is ToolResultPart]


def last_result(step: Step) -> tuple[str, bool]:
    """Text of the last tool result, and whether it is an error."""
    return results(step)[-1][1:]


def test_a_call_is_asked_for_with_canonical_arguments() -> None:
    """Policy, approval and journal see one form of the same arguments."""
    step = run().step([said("t1", "", call("read", '{"b": 1, "a": 2}', "c9"))])

    assert addresses(step) == ["t1.0"]
    assert action(step) == CallTool("read", Raw(b'{"a":2,"b":1}'), "c9")


def test_reads_of_a_turn_overlap() -> None:
    """They change nothing, so waiting for each other would only cost time."""
    step = run().step([said("t1", "", call("read"), call("read", '{"n":1}'))])

    assert addresses(step) == ["t1.0", "t1.1"]


@pytest.mark.parametrize("write", ["write", "put", "unknown"])
def test_a_write_keeps_its_place(write: str) -> None:
    """The model ordered them: what it reads before and after a write must be so."""
    stepper = run()
    calls = [call("read"), call(write), call("read", '{"n":1}'), call("read", '{"n":2}')]
    steps = [
        stepper.step([outcome])
        for outcome in (said("t1", "", *calls), ok("t1.0"), ok("t1.1"), ok("t1.3"))
    ]

    assert [addresses(step) for step in steps] == [["t1.0"], ["t1.1"], ["t1.2", "t1.3"], []]


def test_two_writes_follow_each_other() -> None:
    """The second may depend on what the first did."""
    stepper = run()
    first = stepper.step([said("t1", "", call("write"), call("write", '{"n":1}'))])

    assert addresses(first) == ["t1.0"]
    assert addresses(stepper.step([ok("t1.0")])) == ["t1.1"]


def test_at_most_max_parallel_calls_are_in_flight() -> None:
    """A turn of many reads must not flood the service they read from."""
    stepper = run(max_parallel=2)
    first = stepper.step([said("t1", "", *(call("read", f'{{"n":{n}}}') for n in range(4)))])

    assert addresses(first) == ["t1.0", "t1.1"]
    assert addresses(stepper.step([ok("t1.1")])) == ["t1.2"]


def test_results_go_back_in_the_models_order() -> None:
    """Which call ended first must not show in the conversation."""
    stepper = run()
    stepper.step([said("t1", "", call("read", id="c0"), call("read", '{"n":1}', "c1"))])
    step = stepper.step([ok("t1.1", "second"), ok("t1.0", "first")])

    assert addresses(step) == ["t2"]
    assert results(step) == [("c0", "first", False), ("c1", "second", False)]


def test_answers_and_results_are_stored_by_reference() -> None:
    """What the journal holds as an outcome is not written a second time."""
    stepper = run()
    first = stepper.step([said("t1", "let me see", call("read"))])
    second = stepper.step([ok("t1.0", "x" * 1_000)])
    prompt = action(second).prompt

    assert prompt.new == (PromptPart(outcome="t1"), PromptPart(outcome="t1.0"))
    assert prompt.parent != prompt.digest
    assert first.end is None


def test_every_question_extends_the_one_before() -> None:
    """A reader of the journal can follow the chain to the first message."""
    stepper, step = begin(Agent(name="a", model="p:m", tools=TOOLS), "go")
    first = action(step).prompt
    stepper.step([said("t1", "", call("read"))])
    second = action(stepper.step([ok("t1.0")])).prompt

    assert (first.parent, second.parent) == ("", first.digest)


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (denied("t1.0", "E_POLICY_DENIED", "policy says no"), "policy says no"),
        (denied("t1.0", "E_TOOL_UNKNOWN", "there is no such tool"), "there is no such tool"),
        (failed("t1.0", ErrorRecord("E_ACTION", "disk on fire")), "disk on fire"),
        (failed("t1.0", ErrorRecord("E_TOOL_RETRY", "use ISO dates")), "use ISO dates"),
    ],
)
def test_a_call_that_did_not_work_is_a_result_the_model_reads(outcome: Outcome, text: str) -> None:
    """The model can say so, or try something else; the run goes on."""
    stepper = run()
    stepper.step([said("t1", "", call("read"))])

    assert last_result(stepper.step([outcome])) == (text, True)


@pytest.mark.parametrize("arguments", ["", "{", "[1]", '"x"', '{"a":1,"a":2}', '{"a":NaN}'])
def test_arguments_that_are_no_json_object_are_not_asked_for(arguments: str) -> None:
    """Nothing can be decided about bytes that cannot be read; the model is told why."""
    step = run().step([said("t1", "", call("read", arguments))])
    text, is_error = last_result(step)

    assert addresses(step) == ["t2"]
    assert is_error
    assert "[E_JSON_" in text


def test_a_refused_call_holds_nobody_up() -> None:
    """It is answered already, so the write after it may start."""
    step = run().step([said("t1", "", call("read", "{"), call("write"))])

    assert addresses(step) == ["t1.1"]


def test_the_third_identical_call_is_warned_of() -> None:
    """A model in a loop often sees it when told."""
    stepper = run()
    steps = []
    for turn in (1, 2, 3):
        stepper.step([said(f"t{turn}", "", call("read", '{"a": 1}'))])
        steps.append(stepper.step([ok(f"t{turn}.0", "same")]))
    texts = [last_result(step)[0] for step in steps]

    assert texts[:2] == ["same", "same"]
    assert texts[2].startswith("same\n\nWarning: 'read' was called 3 times in a row")
    assert action(steps[2]).prompt.new[-1].outcome is None


def test_the_fourth_identical_call_does_not_run() -> None:
    """Warned and unheeded, it would cost money for ever."""
    stepper = run()
    for turn in (1, 2, 3):
        stepper.step([said(f"t{turn}", "", call("read", '{"a":1}'))])
        stepper.step([ok(f"t{turn}.0")])
    step = stepper.step([said("t4", "", call("read", '{ "a": 1 }'))])

    assert addresses(step) == ["t5"]
    assert "[E_LOOP_REPEATED]" in last_result(step)[0]


def test_another_call_between_ends_the_repetition() -> None:
    """Polling with something in between is no loop."""
    stepper = run()
    same, other = call("read"), call("read", '{"n":1}')
    step = stepper.step([said("t1", "", same, same, other, same, same)])

    assert len(step.wants) == 5
    assert "Warning" not in str(
        stepper.step([ok(f"t1.{index}") for index in range(5)]).wants[0].messages
    )


def test_identical_calls_of_one_turn_count_too() -> None:
    """A model may repeat itself within one answer."""
    step = run().step([said("t1", "", *[call("read")] * 5)])

    assert addresses(step) == ["t1.0", "t1.1", "t1.2"]


def test_calls_beyond_the_fan_out_are_refused() -> None:
    """A thousand calls of one turn are a mistake; the model reads which did not run."""
    stepper = run(max_parallel=1_000)
    calls = [call("read", f'{{"n":{n}}}', f"c{n}") for n in range(MAX_FANOUT + 2)]
    first = stepper.step([said("t1", "", *calls)])
    step = stepper.step([ok(f"t1.{n}") for n in range(MAX_FANOUT)])

    assert len(first.wants) == MAX_FANOUT
    assert [is_error for _, _, is_error in results(step)] == [False] * MAX_FANOUT + [True] * 2
    assert "[E_FANOUT]" in last_result(step)[0]


def test_an_invalid_call_never_runs_and_the_model_is_told() -> None:
    """It is not in the answer's message, so it has no result; the user tells."""
    bad = InvalidToolCall("not_json", "c1", "write", "{")
    step = run().step([said("t1", "hm", invalid=[bad])])
    told = step.wants[0].messages[-1]

    assert addresses(step) == ["t2"]
    assert told.role == "user"
    assert "tool call of write did not run: its arguments are not JSON" in told.text


def test_an_answer_of_nothing_but_an_invalid_call_leaves_no_empty_message() -> None:
    """Providers refuse assistant messages without content."""
    bad = InvalidToolCall("no_name")
    step = run().step([said("t1", invalid=[bad])])

    assert [message.role for message in step.wants[0].messages] == ["user", "user"]


def test_valid_calls_beside_an_invalid_one_run() -> None:
    """One bad call must not cost the others; the model hears of it after the results."""
    stepper = run()
    bad = InvalidToolCall("cut_off", "c1", "write")
    first = stepper.step([said("t1", "", call("read"), invalid=[bad], finish="length")])
    step = stepper.step([ok("t1.0")])

    assert addresses(first) == ["t1.0"]
    assert [message.role for message in step.wants[0].messages][-2:] == ["tool", "user"]


def test_the_last_turn_may_answer_but_not_call() -> None:
    """Nobody would read the results of its calls, so they do not run."""
    stepper = run(max_turns=2)
    stepper.step([said("t1", "", call("read"))])
    stepper.step([ok("t1.0")])
    step = stepper.step([said("t2", "", call("write"))])

    assert step.wants == ()
    assert (failure(step).error.code, failure(step).denied) == ("E_MAX_TURNS", False)


def test_the_last_turn_may_answer() -> None:
    """`max_turns` counts questions, and the last one may be the answer."""
    assert output(run(max_turns=1).step([said("t1", "done")])) == "done"


@pytest.mark.parametrize("code", ["E_BUDGET", "E_RUN_TOO_LONG"])
def test_a_spent_budget_ends_the_run(code: str) -> None:
    """No other call could go through either; asking the model again would only cost."""
    stepper = run()
    stepper.step([said("t1", "", call("read"))])
    end = failure(stepper.step([denied("t1.0", code, "spent")]))

    assert (end.denied, end.error) == (True, ErrorRecord(code, "spent"))


def test_a_run_ends_only_when_nothing_is_in_flight() -> None:
    """A terminal event needs every request answered; nothing new is started meanwhile."""
    stepper = run()
    calls = [call("read"), call("read", '{"n":1}'), call("write")]
    stepper.step([said("t1", "", *calls)])
    first = stepper.step([denied("t1.0", "E_BUDGET")])
    last = stepper.step([ok("t1.1")])

    assert (first.wants, first.end, last.wants) == ((), None, ())
    assert failure(last).error.code == "E_BUDGET"


def test_a_denied_question_ends_the_run_as_denied() -> None:
    """An agent cannot go on without its model."""
    end = failure(run().step([denied("t1", "E_POLICY_DENIED", "no")]))

    assert (end.denied, end.error.code) == (True, "E_POLICY_DENIED")


def test_a_failed_question_ends_the_run() -> None:
    """Retries were the executor's; this is what is left."""
    error = ErrorRecord("E_PROVIDER", "down", "transient", "server")
    end = failure(run().step([failed("t1", error)]))

    assert (end.denied, end.error) == (False, error)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (said("t1", "half", finish="length", state="incomplete"), "E_ANSWER_INCOMPLETE"),
        (said("t1", "half", state="interrupted"), "E_ANSWER_INCOMPLETE"),
        (said("t1", "", call("write"), state="interrupted"), "E_ANSWER_INCOMPLETE"),
        (said("t1", "", call("write"), finish="error"), "E_ANSWER_INCOMPLETE"),
        (said("t1", "", call("write"), finish="content_filter"), "E_ANSWER_FILTERED"),
        (said("t1", "no", finish="refusal"), "E_ANSWER_REFUSED"),
        (ok("t1", {"not": "an answer"}), "E_ANSWER_UNREADABLE"),
    ],
)
def test_an_unusable_answer_ends_the_run(answer: Outcome, code: str) -> None:
    """Cut or filtered text must not pass for the answer, nor its calls for a plan."""
    step = run().step([answer])

    assert failure(step).error.code == code
    assert step.wants == ()


def test_a_refusal_in_the_message_ends_the_run() -> None:
    """Some providers say stop and put the refusal into the content."""
    import msgspec

    from gatebook.kernel.messages import ChatResponse

    message = Message("assistant", (RefusalPart("I will not"),))
    response = ChatResponse(model="m", message=message, finish_reason="stop")
    answer = Outcome("t1", "succeeded", 1, 1, Raw(msgspec.json.encode(response)))
    error = failure(run().step([answer])).error

    assert error.code == "E_ANSWER_REFUSED"
    assert "I will not" in error.message


def test_a_paused_turn_is_continued() -> None:
    """The provider asks to be called again with what it said so far."""
    step = run().step([said("t1", "thinking", finish="pause", state="suspended")])

    assert addresses(step) == ["t2"]
    assert step.wants[0].messages[-1] == Message.assistant("thinking")


@pytest.mark.parametrize("address", ["t2", "t1.0", "t1.2", "t1.3", "t1", "x"])
def test_an_outcome_nobody_asked_for_is_a_divergence(address: str) -> None:
    """The agent is not the one that wrote this journal."""
    stepper = run()
    stepper.step([said("t1", "", call("read"), call("write"), call("write", '{"n":1}'))])
    stepper.step([ok("t1.0")])

    with pytest.raises(Diverged, match="E_NONDETERMINISM"):
        stepper.step([ok(address)])


def test_no_outcome_is_folded_after_the_end() -> None:
    """One batch may hold outcomes that came after the one that ended the run."""
    assert output(run().step([said("t1", "done"), ok("t9")])) == "done"
