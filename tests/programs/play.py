"""What tests of programs share: a tiny tool, outcomes, and a play of a stepper."""

import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from gatebook.kernel.actions import Action, CallTool
from gatebook.kernel.codec import NULL, Raw, canonical, plain
from gatebook.kernel.events import ErrorRecord, RunStarted
from gatebook.kernel.messages import (
    ChatResponse,
    FinishReason,
    InvalidToolCall,
    Message,
    ToolCallPart,
)
from gatebook.kernel.tools import Effect, ToolSpec, tool_digest
from gatebook.ports import Complete, Fail, Invocation, Outcome, Program, Step, Stepper, Want
from gatebook.programs import Workflow

SCHEMA = canonical({"type": "object"})
START = 1_700_000_000_000_000


class Echo:
    """A tool that is never called here: programs only see its spec and read its results."""

    def __init__(self, name: str, effect: Effect = "read", **limits: Any) -> None:
        digest = tool_digest(name=name, description="", schema=SCHEMA, effect=effect)
        self.spec = ToolSpec(
            name=name, description="", schema=Raw(SCHEMA), effect=effect, digest=digest, **limits
        )

    def validate(self, args: bytes) -> bytes:
        return args

    async def call(self, args: bytes, invocation: Invocation) -> bytes:
        raise NotImplementedError

    def decode(self, output: bytes) -> Any:
        return plain(output)


read = Echo("read")
write = Echo("write", "at_most_once")


def flow(function: Callable[..., Coroutine[Any, Any, Any]]) -> Workflow[Any, Any]:
    """A workflow with two declared tools."""
    return Workflow(function, tools=[read, write])


def started(input: Any = None, **fields: Any) -> RunStarted:
    """The first event of a run."""
    facts: dict[str, Any] = {
        "program": "p",
        "program_kind": "workflow",
        "definition": "d",
        "nonce": "00" * 16,
        "input": Raw(canonical(input)),
        "time": START,
    }
    return RunStarted(**(facts | fields))


def ok(address: str, value: Any = None, *, seq: int = 1, time: int = START + 1) -> Outcome:
    """An action ended well with this JSON value."""
    return Outcome(address, "succeeded", seq, time, Raw(canonical(value)))


def failed(address: str, error: ErrorRecord) -> Outcome:
    """An action failed."""
    return Outcome(address, "failed", 1, START + 1, NULL, error)


def denied(address: str, code: str = "E_POLICY_DENIED", message: str = "no") -> Outcome:
    """The gate refused an action."""
    return Outcome(address, "denied", 1, START + 1, NULL, ErrorRecord(code, message))


def said(
    address: str,
    text: str = "",
    *calls: ToolCallPart,
    finish: FinishReason | None = None,
    invalid: Sequence[InvalidToolCall] = (),
    **fields: Any,
) -> Outcome:
    """A model answered with this text and these calls."""
    response = ChatResponse(
        model="m",
        message=Message.assistant(text, *calls),
        finish_reason=finish or ("tool_calls" if calls else "stop"),
        invalid_tool_calls=tuple(invalid),
        **fields,
    )
    return Outcome(address, "succeeded", 1, START + 1, Raw(msgspec.json.encode(response)))


def call(name: str, arguments: str = "{}", id: str = "c") -> ToolCallPart:
    """A tool call of a model."""
    return ToolCallPart(id, name, arguments)


def addresses(step: Step) -> list[str]:
    """Where the wanted actions stand."""
    return [want.address for want in step.wants]


def action(step: Step, index: int = 0) -> Any:
    """One wanted action, of whatever kind the test expects."""
    return step.wants[index].action


def tool_args(wanted: Action) -> Any:
    """The arguments of a wanted tool call."""
    assert isinstance(wanted, CallTool)
    return wanted.arguments


def output(step: Step) -> Any:
    """The output of a step that completes the run."""
    assert isinstance(step.end, Complete), step.end
    return plain(step.end.output)


def failure(step: Step) -> Fail:
    """The end of a step that fails the run."""
    assert isinstance(step.end, Fail), step.end
    return step.end


def begin(program: Program[Any, Any], input: Any = None, **fields: Any) -> tuple[Stepper, Step]:
    """A run of a program after its first step."""
    stepper = program.begin(started(input, **fields))
    return stepper, stepper.step(())


Respond = Callable[[Want], Outcome]


def play(
    stepper: Stepper, respond: Respond, rng: random.Random
) -> tuple[list[Outcome], list[Step]]:
    """Play a run to its end, answering open actions in an order that `rng` draws."""
    outcomes: list[Outcome] = []
    steps = [stepper.step(())]
    open_wants = list(steps[0].wants)
    while steps[-1].end is None:
        assert open_wants, "the run waits for nothing"
        outcome = respond(open_wants.pop(rng.randrange(len(open_wants))))
        outcome = msgspec.structs.replace(
            outcome, seq=len(outcomes) + 2, time=START + len(outcomes) * 1_000
        )
        outcomes.append(outcome)
        steps.append(stepper.step([outcome]))
        open_wants += steps[-1].wants
    return outcomes, steps
