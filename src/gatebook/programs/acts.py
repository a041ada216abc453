"""What `ctx` methods return: actions that happen when they are awaited, and how each is read."""

from collections.abc import Callable, Generator
from typing import Any, TypeVar

import msgspec

from gatebook.errors import InvalidInput
from gatebook.kernel.actions import CallLLM, CallTool, Sleep, WaitSignal
from gatebook.kernel.messages import Message, ToolDefinition
from gatebook.ports import Outcome, Want
from gatebook.programs.answers import MAX_REPAIRS, repair, unfit, unusable
from gatebook.programs.conversation import Threads, answer_of
from gatebook.programs.failures import failure_of
from gatebook.programs.outputs import Output
from gatebook.programs.scheduler import Act, Scheduler

T = TypeVar("T")


class PlainAct(Act[T]):
    """A tool call, a sleep or a wait for a signal; its value is read from the output alone."""

    __slots__ = ("_action", "_decode")

    def __init__(
        self,
        scheduler: Scheduler,
        action: CallTool | Sleep | WaitSignal,
        decode: Callable[[bytes], T],
    ) -> None:
        self._action = action
        self._decode = decode
        self.scheduler = scheduler  # as Awaited does it, without a call in every step
        scheduler.unawaited[self] = None

    @property
    def label(self) -> str:
        match self._action:
            case CallTool():
                return f"ctx.call_tool({self._action.tool}, ...)"
            case Sleep():
                return "ctx.sleep(...)"
            case WaitSignal():
                return f"ctx.wait_signal({self._action.name})"

    def want(self, address: str) -> Want:
        return Want(address, self._action)

    def __await__(self) -> Generator[Any, Any, T]:
        self.scheduler.starting(self)
        outcome: Outcome = yield self
        if outcome.status != "succeeded":
            raise failure_of(outcome)
        return self._decode(bytes(outcome.output))


class LLMAct(Act[Any]):
    """A model call; its value is the answer, or what its text stands for.

    An answer that does not fit is asked for again, twice at most: at `{address}.r1`, `.r2`.
    """

    __slots__ = ("_action", "_address", "_messages", "_offered", "_output", "_repairs", "_threads")

    def __init__(
        self,
        scheduler: Scheduler,
        threads: Threads,
        action: CallLLM,
        said: tuple[tuple[Message, ...], tuple[ToolDefinition, ...]],
        output: Output[Any] | None,
    ) -> None:
        self._threads = threads
        self._action = action
        self._messages, self._offered = said
        self._output = output
        self._address = ""
        self._repairs = 0
        super().__init__(scheduler)

    @property
    def label(self) -> str:
        return f"ctx.call_llm({self._action.route}, ...)"

    def want(self, address: str) -> Want:
        if self._repairs:
            address = f"{self._address}.r{self._repairs}"
        else:
            self._address = address
        prompt = self._threads.prompt(self._messages)
        action = msgspec.structs.replace(self._action, prompt=prompt)
        return Want(address, action, self._messages, self._offered)

    def __await__(self) -> Generator[Any, Any, Any]:
        self.scheduler.starting(self)
        while True:
            outcome = yield self
            if outcome.status != "succeeded":
                raise failure_of(outcome)
            try:
                return self.read(outcome)
            except InvalidInput as exc:
                self._repair(exc)

    def _repair(self, refused: InvalidInput) -> None:
        """Say what is wrong, to ask again; or raise when that would not help."""
        problems = refused.fields.get("problems")
        if problems is None or self._output is None:
            raise refused
        if self._repairs >= MAX_REPAIRS:
            raise unfit(problems, self._repairs) from refused
        self._repairs += 1
        told = Message.user(repair(problems, self._repairs, self._output))
        self._messages = (*self._messages, told)

    def read(self, outcome: Outcome) -> Any:
        answer = answer_of(outcome)
        self._threads.heard(outcome.address, answer.message)
        problem = unusable(answer, whole=self._output is not None)
        if problem is not None:
            raise problem
        if self._output is None:
            return answer
        return self._output.decode(self._output.read(answer.text))
