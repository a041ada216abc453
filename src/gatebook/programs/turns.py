"""The agent's loop as a fold: model answer in, tool calls out, their results in, next question out.

Knows turns, calls and the conversation. What an agent declares comes from its `Declared` face.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from gatebook.errors import Diverged, GatebookError, InvalidInput
from gatebook.kernel.actions import CallLLM, CallTool
from gatebook.kernel.codec import Raw, canonical, parse, plain
from gatebook.kernel.events import ErrorRecord, RunStarted
from gatebook.kernel.messages import (
    ChatResponse,
    InvalidToolCall,
    Message,
    ToolCallPart,
    ToolDefinition,
    ToolResultPart,
)
from gatebook.ports import MAX_FANOUT, Complete, Fail, Outcome, Step, Stepper, Tool, Want
from gatebook.programs.answers import MAX_REPAIRS, repair, unfit, unusable
from gatebook.programs.conversation import Conversation, answer_of, tool_message
from gatebook.programs.failures import STOPS, record_of
from gatebook.programs.outputs import Output

WARN_AT = 3  # identical calls in a row: the third is told, later ones do not run

REASONS = {
    "not_json": "its arguments are not JSON",
    "not_object": "its arguments are not a JSON object",
    "no_name": "it names no tool",
    "cut_off": "the answer ended before the call was whole",
    "not_called": "a tool call was required and none came",
}


class TurnLimits(NamedTuple):
    """How far a run of an agent may go; of calls beyond its fan-out a model only reads."""

    max_turns: int
    max_parallel: int
    max_fanout: int = MAX_FANOUT


class Declared(Protocol):
    """What the loop needs to know of an agent."""

    @property
    def instructions(self) -> str:
        """What the model is told first."""

    @property
    def tools(self) -> Mapping[str, Tool]:
        """Its tools by name."""

    @property
    def offered(self) -> tuple[ToolDefinition, ...]:
        """Its tools as the model sees them."""

    @property
    def ask(self) -> CallLLM:
        """The model call of every turn, without its prompt."""

    @property
    def limits(self) -> TurnLimits:
        """How far a run may go."""

    @property
    def output(self) -> Output[Any]:
        """What its final answer must be."""


class Call:
    """One tool call of a turn.

    Attributes:
        call_id: the model's id of it.
        action: what to ask for; None when the call is answered without asking.
        exclusive: it keeps its place: everything before it ends first, nothing after it starts.
        warning: text that is added to its result, "" for none.
        started: it was asked for.
        result: the message the model will read, None while it is open.
    """

    __slots__ = ("action", "address", "call_id", "exclusive", "result", "started", "warning")

    def __init__(self, address: str, call_id: str) -> None:
        self.address = address
        self.call_id = call_id
        self.action: CallTool | None = None
        self.exclusive = False
        self.warning = ""
        self.started = False
        self.result: Message | None = None

    @property
    def in_flight(self) -> bool:
        """Whether its outcome is still to come."""
        return self.started and self.result is None


class Repeats:
    """Counts identical calls in a row, in the model's order, across turns."""

    def __init__(self) -> None:
        self._last: tuple[str, bytes] | None = None
        self._count = 0

    def count(self, tool: str, args: bytes) -> int:
        """Return how many times in a row this call has now been made."""
        call = (tool, args)
        self._count = self._count + 1 if call == self._last else 1
        self._last = call
        return self._count


class AgentStepper(Stepper):
    """One run of an agent. The same outcomes give the same steps, however they are batched.

    Turn t asks the model at `t{t}` and calls its tools at `t{t}.{i}`, i from 0 in the model's
    order. A run ends only when no call of it is in flight. A final answer that does not fit is
    asked for again in the next turn, twice in a run at most.
    """

    def __init__(self, agent: Declared, started: RunStarted) -> None:
        self._agent = agent
        self._talk = Conversation()
        if agent.instructions:
            self._talk.say(Message.system(agent.instructions))
        self._talk.say(Message.user(str(plain(started.input))))
        self._repeats = Repeats()
        self._turn = 0
        self._repairs = 0
        self._calls: list[Call] = []
        self._told: list[Message] = []
        self._wants: list[Want] = []
        self._stop: Fail | None = None
        self._end: Complete | Fail | None = None

    def step(self, outcomes: Sequence[Outcome]) -> Step:
        """Fold outcomes in journal order; see `ports.Stepper.step`.

        Raises:
            Diverged: E_NONDETERMINISM for an outcome of something that was not asked for.
        """
        if self._turn == 0:
            self._ask()
        for outcome in outcomes:
            if self._end is not None:
                break
            self._fold(outcome)
        wants = tuple(self._wants)
        self._wants.clear()
        return Step(wants, self._end)

    def _fold(self, outcome: Outcome) -> None:
        if outcome.address == f"t{self._turn}" and not self._calls:
            self._answered(outcome)
            return
        call = self._open_call(outcome)
        if outcome.status == "denied" and outcome.error and outcome.error.code in STOPS:
            self._stop = self._stop or Fail(outcome.error, denied=True)
        call.result = _warned(tool_message(call.call_id, outcome), call.warning)
        self._go_on()

    def _open_call(self, outcome: Outcome) -> Call:
        for call in self._calls:
            if call.address == outcome.address and call.in_flight:
                return call
        raise Diverged(
            "E_NONDETERMINISM", seq=outcome.seq, got="nothing there", want=outcome.address
        )

    def _ask(self) -> None:
        """Begin the next turn."""
        self._turn += 1
        self._calls = []
        action = msgspec.structs.replace(self._agent.ask, prompt=self._talk.prompt())
        self._wants.append(Want(f"t{self._turn}", action, self._talk.messages, self._agent.offered))

    def _answered(self, outcome: Outcome) -> None:
        """Take the model's answer: the end, another turn, or tool calls."""
        if outcome.status != "succeeded":
            error = outcome.error or ErrorRecord("E_ACTION", "the model call failed")
            self._end = Fail(error, denied=outcome.status == "denied")
            return
        try:
            answer = answer_of(outcome)
        except InvalidInput as exc:
            self._end = Fail(record_of(exc))
            return
        problem = unusable(answer)
        if problem is not None:
            self._end = Fail(record_of(problem))
        elif self._is_final(answer):
            self._conclude(answer)
        elif self._turn >= self._agent.limits.max_turns:
            # The calls of the last turn do not run: nobody would read their results.
            limit = self._agent.limits.max_turns
            self._end = Fail(record_of(GatebookError("E_MAX_TURNS", limit=limit)))
        else:
            self._heed(answer, outcome.address)

    def _is_final(self, answer: ChatResponse) -> bool:
        calls = answer.tool_calls or answer.invalid_tool_calls
        return not calls and answer.state != "suspended"

    def _conclude(self, answer: ChatResponse) -> None:
        """End with the answer, or ask for it again: a repair is a turn like any other."""
        try:
            self._end = Complete(Raw(self._agent.output.read(answer.text)))
        except InvalidInput as exc:
            problems = exc.fields.get("problems")
            if problems is None:
                self._end = Fail(record_of(exc))
            elif self._repairs >= MAX_REPAIRS or self._turn >= self._agent.limits.max_turns:
                self._end = Fail(record_of(unfit(problems, self._repairs)))
            else:
                self._repairs += 1
                self._talk.say(Message.user(repair(problems, self._repairs, self._agent.output)))
                self._ask()

    def _heed(self, answer: ChatResponse, address: str) -> None:
        """Start what the model asks for; an answer with nothing in it leaves no message."""
        if answer.message.content:
            self._talk.refer(address, answer.message)
        self._told = [_told(call) for call in answer.invalid_tool_calls]
        self._calls = [
            self._call(part, f"{address}.{index}", index, len(answer.tool_calls))
            for index, part in enumerate(answer.tool_calls)
        ]
        self._go_on()

    def _call(self, part: ToolCallPart, address: str, index: int, count: int) -> Call:
        limit = self._agent.limits.max_fanout
        if index >= limit:
            return _refused(part, address, GatebookError("E_FANOUT", count=count, limit=limit))
        try:
            args = _arguments(part)
        except InvalidInput as exc:
            self._repeats.count(part.name, part.arguments.encode("utf-8", "replace"))
            return _refused(part, address, exc)
        repeated = self._repeats.count(part.name, args)
        told = GatebookError("E_LOOP_REPEATED", tool=part.name, count=repeated)
        if repeated > WARN_AT:
            return _refused(part, address, told)
        tool = self._agent.tools.get(part.name)
        call = Call(address, part.id)
        call.action = CallTool(part.name, Raw(args), part.id)
        call.exclusive = tool is None or tool.spec.effect != "read"
        call.warning = f"\n\nWarning: {told}" if repeated == WARN_AT else ""
        return call

    def _go_on(self) -> None:
        """Start the calls whose turn has come; with all results in, begin the next turn."""
        if self._stop is not None:
            if not any(call.in_flight for call in self._calls):
                self._end = self._stop
            return
        self._start_calls()
        if any(call.result is None for call in self._calls):
            return
        for call in self._calls:
            self._read(call)
        for message in self._told:
            self._talk.say(message)
        self._ask()

    def _read(self, call: Call) -> None:
        """Put a result into the conversation: by reference where it is the outcome's rendering."""
        if call.result is None:
            return
        if call.started and not call.warning:
            self._talk.refer(call.address, call.result)
        else:
            self._talk.say(call.result)

    def _start_calls(self) -> None:
        in_flight = sum(call.in_flight for call in self._calls)
        alone = True
        for call in self._calls:
            if call.result is not None:
                continue
            if in_flight >= self._agent.limits.max_parallel or (call.exclusive and not alone):
                return
            if not call.started and call.action is not None:
                call.started = True
                in_flight += 1
                self._wants.append(Want(call.address, call.action))
            if call.exclusive:
                return
            alone = False


def _arguments(part: ToolCallPart) -> bytes:
    """Return the canonical arguments of a call, or refuse text that is no JSON object."""
    what = f"arguments of {part.name}"
    value = parse(part.arguments, what=what)
    if not isinstance(value, dict):
        raise InvalidInput("E_JSON_SYNTAX", path=what, detail="it is not an object")
    return canonical(value, what=what)


def _refused(part: ToolCallPart, address: str, error: GatebookError) -> Call:
    call = Call(address, part.id)
    call.result = Message.tool_result(part.id, str(error), is_error=True)
    return call


def _told(call: InvalidToolCall) -> Message:
    """Return what the model is told of a call that must not run."""
    of_tool = f" of {call.name}" if call.name else ""
    return Message.user(
        f"Your tool call{of_tool} did not run: {_fault(call)}. "
        "Call it again with arguments that are one whole JSON object, or answer without it."
    )


def _fault(call: InvalidToolCall) -> str:
    """Return why a call must not run; of arguments that cannot be read, what stands in the way."""
    if call.reason == "not_json":
        try:
            parse(call.arguments, what=f"arguments of {call.name}")
        except InvalidInput as exc:
            if exc.code != "E_JSON_SYNTAX":
                return str(exc)
    return REASONS[call.reason]


def _warned(message: Message, warning: str) -> Message:
    """Return a tool result with a warning after its text."""
    results = [part for part in message.content if isinstance(part, ToolResultPart)]
    if not warning or not results:
        return message
    result = results[0]
    return Message.tool_result(
        result.tool_call_id, result.content + warning, is_error=result.is_error
    )
