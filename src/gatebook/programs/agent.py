"""Agents: instructions, a model, tools and limits, as one immutable value with a fingerprint.

Knows what an agent declares; how a run goes from turn to turn is in `turns`.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar, Unpack, overload

from gatebook.errors import InvalidInput, shown
from gatebook.kernel.actions import CallLLM, Prompt, split_route
from gatebook.kernel.codec import Raw, canonical, digest, plain
from gatebook.kernel.events import RunStarted
from gatebook.kernel.messages import ToolDefinition
from gatebook.ports import Tool
from gatebook.programs.conversation import definitions, tools_digest
from gatebook.programs.declared import program_name, route_list, tool_map, undeclarable
from gatebook.programs.outputs import Output, output_of
from gatebook.programs.settings import (
    ModelLimits,
    ModelSettings,
    model_limits,
    settings_bytes,
    whole_number,
)
from gatebook.programs.turns import AgentStepper, TurnLimits

Out = TypeVar("Out")

MAX_TURNS = 20
MAX_PARALLEL = 10  # calls of one turn that run at the same time


class AgentOptions(TypedDict, total=False):
    """Limits and settings of an agent; all part of its fingerprint.

    Attributes:
        max_turns: model calls of one run; 20 unless given.
        max_parallel: calls of one turn that run at the same time; 10 unless given.
        max_output_tokens: the most one answer may have; None leaves it to the runtime.
        timeout: seconds or a timedelta for one model call; None leaves it to the runtime.
        settings: temperature and the like, see `ModelSettings`.
    """

    max_turns: int
    max_parallel: int
    max_output_tokens: int | None
    timeout: float | timedelta | None
    settings: ModelSettings


class Agent(Generic[Out]):
    """A model that calls tools until it has an answer: text, or JSON that `output` declares.

    `output` is a type (a pydantic model, dataclass, TypedDict, list[...], ...) or a JSON Schema as
    a dict. The provider is asked for it; that the answer fits is checked here, and an answer that
    does not is asked for again, in a turn of its own, twice at most.

    `model` is a route, or a list of them: a call that its route cannot answer (overloaded, rate
    limited for too long, no such model, or still failing after its retries) goes on with the next.

    Immutable. The tool calls of one turn: reads overlap, a write keeps its place among them,
    results go back in the model's order. A call that is denied, fails or has bad arguments is a
    result the model reads, not the end of the run.

    Raises:
        InvalidInput: E_PROGRAM_NAME, E_NAME_*, E_ROUTE.
        ConfigError: E_TOOL_DECLARATION, E_TOOL_DUPLICATE, E_PROGRAM_DECLARATION, E_CONFIG,
            E_OUTPUT_SCHEMA*.
    """

    kind: Literal["agent"] = "agent"

    @overload
    def __init__(
        self: "Agent[str]", *, name: str, model: str | Sequence[str], instructions: str = "",
        tools: Sequence[Any] = (), output: None = None, **options: Unpack[AgentOptions],
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self, *, name: str, model: str | Sequence[str], instructions: str = "",
        tools: Sequence[Any] = (), output: type[Out], **options: Unpack[AgentOptions],
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: "Agent[Any]", *, name: str, model: str | Sequence[str], instructions: str = "",
        tools: Sequence[Any] = (), output: Any, **options: Unpack[AgentOptions],
    ) -> None: ...  # fmt: skip
    def __init__(
        self, *, name: str, model: str | Sequence[str], instructions: str = "",
        tools: Sequence[Any] = (), output: Any = None, **options: Unpack[AgentOptions],
    ) -> None:  # fmt: skip
        program = program_name(name)
        models = route_list(model, program=program)
        if not isinstance(instructions, str):
            raise undeclarable(program, "its instructions are not text", "pass a str")
        unknown = [key for key in options if key not in AgentOptions.__annotations__]
        if unknown:
            fix = "give " + ", ".join(AgentOptions.__annotations__)
            if unknown[0] in ModelSettings.__annotations__:
                fix = f"write settings={{{unknown[0]!r}: ...}}"
            raise undeclarable(program, f"there is no option {unknown[0]}", fix)
        asked = output_of(output, program=program)
        self._facts = _Facts(
            name=program,
            models=models,
            instructions=instructions,
            tools=MappingProxyType(tool_map(tools, program=program)),
            output=asked,
            settings=_settings(options, asked, program),
            limits=_model_limits(options, program),
            turns=_turn_limits(options, program),
        )

    def __setattr__(self, name: str, value: object) -> None:
        if "_facts" in self.__dict__:
            raise AttributeError(f"an agent is immutable; make another one with {name}=...")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"<agent {self.name} on {self.model}>"

    @property
    def name(self) -> str:
        """Unique in a runtime; what the journal records."""
        return self._facts.name

    @property
    def model(self) -> str:
        """The model route, "provider:model"; of several the first."""
        return self._facts.models[0]

    @property
    def models(self) -> Sequence[str]:
        """The model routes it declares: `model`, then those it falls back on, in order."""
        return self._facts.models

    @property
    def instructions(self) -> str:
        """What the model is told first; "" for nothing."""
        return self._facts.instructions

    @property
    def tools(self) -> Mapping[str, Tool]:
        """Its tools by name, in the order they are offered."""
        return self._facts.tools

    @property
    def output(self) -> Output[Out]:
        """What its final answer must be."""
        return self._facts.output

    @property
    def limits(self) -> TurnLimits:
        """How many turns, calls at once and calls in one turn."""
        return self._facts.turns

    @cached_property
    def offered(self) -> tuple[ToolDefinition, ...]:
        """Its tools as the model sees them."""
        return definitions(tool.spec for tool in self.tools.values())

    @cached_property
    def ask(self) -> CallLLM:
        """The model call of every turn, without its prompt."""
        facts = self._facts
        provider, model = split_route(self.model)
        return CallLLM(
            provider,
            model,
            Prompt(""),
            tools=tuple(facts.tools),
            tools_digest=tools_digest(self.offered),
            settings=facts.settings,
            max_output_tokens=facts.limits.max_output_tokens,
            timeout_ms=facts.limits.timeout_ms,
            fallbacks=facts.models[1:],
        )

    @cached_property
    def digest(self) -> str:
        """Fingerprint: over everything that affects execution, tools and output type included."""
        facts = self._facts
        fallbacks = {"fallbacks": list(facts.models[1:])} if facts.models[1:] else {}
        return digest(
            canonical(
                {
                    "kind": self.kind,
                    "name": facts.name,
                    "model": self.model,
                    **fallbacks,
                    "instructions": facts.instructions,
                    "tools": [[name, tool.spec.digest] for name, tool in facts.tools.items()],
                    "output": facts.output.schema,
                    "settings": plain(facts.settings),
                    "limits": list(facts.limits),
                    "turns": list(facts.turns),
                }
            )
        )

    def accept(self, value: str) -> bytes:
        """Return the canonical JSON of what the user says.

        Raises:
            InvalidInput: E_INPUT when it is not text, E_CONTENT when blank, E_TEXT_INVALID.
        """
        given: object = value
        if not isinstance(given, str):
            detail = f"it is {shown(given)}, not the user's text"
            raise InvalidInput("E_INPUT", program=self.name, detail=detail)
        if not given.strip():
            raise InvalidInput("E_CONTENT")
        return canonical(str.__str__(given), what="input")

    def decode(self, output: bytes) -> Out:
        """Return a run's output as the declared type. Raises InvalidInput (E_OUTPUT)."""
        return self.output.decode(output)

    def begin(self, started: RunStarted) -> AgentStepper:
        """Return a stepper for one run, at its first turn."""
        return AgentStepper(self, started)


class _Facts(NamedTuple):
    name: str
    models: tuple[str, ...]
    instructions: str
    tools: Mapping[str, Tool]
    output: Output[Any]
    settings: Raw
    limits: ModelLimits
    turns: TurnLimits


def _settings(options: AgentOptions, output: Output[Any], program: str) -> Raw:
    given = options.get("settings", {})
    if not isinstance(given, Mapping):
        raise undeclarable(program, f"settings= is {shown(given)}", "pass a dict")
    settings = dict(given)
    settings["response_format"] = output.format
    return settings_bytes(settings, program=program)


def _model_limits(options: AgentOptions, program: str) -> ModelLimits:
    return model_limits(options.get("max_output_tokens"), options.get("timeout"), program=program)


def _turn_limits(options: AgentOptions, program: str) -> TurnLimits:
    turns = options.get("max_turns", MAX_TURNS)
    parallel = options.get("max_parallel", MAX_PARALLEL)
    return TurnLimits(
        whole_number("max_turns", turns, program=program),
        whole_number("max_parallel", parallel, program=program),
    )
