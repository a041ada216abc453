"""What `ctx` methods return: actions that happen when they are awaited, and how each is read."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from gatebook.kernel.actions import CallLLM, CallTool, Sleep, WaitSignal
from gatebook.kernel.messages import Message, ToolDefinition
from gatebook.ports import Outcome, Want
from gatebook.programs.answers import unusable
from gatebook.programs.contracts import Contract
from gatebook.programs.conversation import Threads, answer_of
from gatebook.programs.scheduler import Act, Scheduler

T = TypeVar("T")


class ToolAct(Act[T]):
    """A tool call; its value is read by the tool's declared type."""

    __slots__ = ("_action", "_decode")

    def __init__(
        self, scheduler: Scheduler, action: CallTool, decode: Callable[[bytes], T]
    ) -> None:
        self._action = action
        self._decode = decode
        super().__init__(scheduler)

    @property
    def label(self) -> str:
        return f"ctx.call_tool({self._action.tool}, ...)"

    def want(self, address: str) -> Want:
        return Want(address, self._action)

    def read(self, outcome: Outcome) -> T:
        return self._decode(bytes(outcome.output))


class LLMAct(Act[Any]):
    """A model call; its value is the answer, or what its text stands for."""

    __slots__ = ("_action", "_contract", "_messages", "_offered", "_threads")

    def __init__(
        self,
        scheduler: Scheduler,
        threads: Threads,
        action: CallLLM,
        said: tuple[tuple[Message, ...], tuple[ToolDefinition, ...]],
        contract: Contract[Any] | None,
    ) -> None:
        self._threads = threads
        self._action = action
        self._messages, self._offered = said
        self._contract = contract
        super().__init__(scheduler)

    @property
    def label(self) -> str:
        return f"ctx.call_llm({self._action.route}, ...)"

    def want(self, address: str) -> Want:
        prompt = self._threads.prompt(self._messages)
        action = msgspec.structs.replace(self._action, prompt=prompt)
        return Want(address, action, self._messages, self._offered)

    def read(self, outcome: Outcome) -> Any:
        answer = answer_of(outcome)
        self._threads.heard(outcome.address, answer.message)
        problem = unusable(answer)
        if problem is not None:
            raise problem
        if self._contract is None:
            return answer
        return self._contract.decode(self._contract.read(answer.text))


class SleepAct(Act[None]):
    """A sleep."""

    __slots__ = ("_action",)

    def __init__(self, scheduler: Scheduler, action: Sleep) -> None:
        self._action = action
        super().__init__(scheduler)

    @property
    def label(self) -> str:
        return "ctx.sleep(...)"

    def want(self, address: str) -> Want:
        return Want(address, self._action)

    def read(self, outcome: Outcome) -> None:
        return None


class SignalAct(Act[Any]):
    """A wait for a signal; its value is the payload."""

    __slots__ = ("_action", "_contract")

    def __init__(self, scheduler: Scheduler, action: WaitSignal, contract: Contract[Any]) -> None:
        self._action = action
        self._contract = contract
        super().__init__(scheduler)

    @property
    def label(self) -> str:
        return f"ctx.wait_signal({self._action.name})"

    def want(self, address: str) -> Want:
        return Want(address, self._action)

    def read(self, outcome: Outcome) -> Any:
        return self._contract.decode(bytes(outcome.output))
