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
from gatebook.programs.scheduler import Act

T = TypeVar("T")


class PlainAct(Act[T], eq=False):
    """A tool call, a sleep or a wait for a signal; its value is read from the output alone."""

    action: CallTool | Sleep | WaitSignal
    decode: Callable[[bytes], T]

    @property
    def label(self) -> str:
        match self.action:
            case CallTool():
                return f"ctx.call_tool({self.action.tool}, ...)"
            case Sleep():
                return "ctx.sleep(...)"
            case WaitSignal():
                return f"ctx.wait_signal({self.action.name})"

    def want(self, address: str) -> Want:
        return Want(address, self.action)

    def check(self, output: bytes) -> None:
        self.decode(output)

    def __await__(self) -> Generator[Any, Any, T]:
        self.scheduler.starting(self)
        outcome: Outcome = yield self
        if outcome.status != "succeeded":
            raise failure_of(outcome)
        return self.decode(bytes(outcome.output))


class LLMAct(Act[Any], eq=False):
    """A model call; its value is the answer, or what its text stands for.

    An answer that does not fit is asked for again, twice at most: at `{address}.r1`, `.r2`.
    """

    threads: Threads
    action: CallLLM
    messages: tuple[Message, ...]
    offered: tuple[ToolDefinition, ...]
    output: Output[Any] | None
    address: str = ""
    repairs: int = 0

    @property
    def label(self) -> str:
        return f"ctx.call_llm({self.action.route}, ...)"

    def want(self, address: str) -> Want:
        if self.repairs:
            address = f"{self.address}.r{self.repairs}"
        else:
            self.address = address
        prompt = self.threads.prompt(self.messages)
        action = msgspec.structs.replace(self.action, prompt=prompt)
        return Want(address, action, self.messages, self.offered)

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
        if problems is None or self.output is None:
            raise refused
        if self.repairs >= MAX_REPAIRS:
            raise unfit(problems, self.repairs) from refused
        self.repairs += 1
        told = Message.user(repair(problems, self.repairs, self.output))
        self.messages = (*self.messages, told)

    def read(self, outcome: Outcome) -> Any:
        answer = answer_of(outcome)
        self.threads.heard(outcome.address, answer.message)
        problem = unusable(answer, whole=self.output is not None)
        if problem is not None:
            raise problem
        if self.output is None:
            return answer
        return self.output.decode(self.output.read(answer.text))
