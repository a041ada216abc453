"""What a policy may ask: the requests that are decided about, and the names of their facts.

A fact that is not known is `MISSING`; what that means is the conditions' to say. Knows nothing
of rules.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from gatebook.kernel.budget import Amount, Limits
from gatebook.kernel.rules.globs import glob, is_pattern
from gatebook.kernel.spending.prices import dollars
from gatebook.kernel.tools import ToolSpec

On = Literal["start", "call", "result"]
Kind = Literal["call_tool", "call_llm", "sleep", "wait_signal"]
Outcome = Literal["succeeded", "failed", "denied", "unknown"]
Getter = Callable[["Request"], Any]

POINTS: Final[tuple[On, ...]] = ("start", "call", "result")
KINDS: Final[tuple[Kind, ...]] = ("call_tool", "call_llm", "sleep", "wait_signal")
UNLIMITED: Final = float("inf")  # what is left of a meter without a limit


class _Missing:
    """The value of a fact that is not known."""

    def __repr__(self) -> str:
        return "not known"


MISSING: Final = _Missing()


class Each(list[Any]):
    """The values a path with `*` leads to."""


class ToolFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked about a tool; None is not known.

    Attributes:
        server: the name of the server it comes from, "" for our own code.
        labels: what its results carry ("untrusted", "private").
        outbound: whether it sends something outside.
        schema: JSON Schema of its arguments, to see decimals as numbers.
    """

    effect: str | None = None
    server: str | None = None
    labels: frozenset[str] | None = None
    outbound: bool | None = None
    schema: msgspec.Raw | None = None


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked about a run beside its budget and labels; None is not known.

    Attributes:
        user: for whom the run acts, from the caller of the API and never from a model.
        history: the fold of this run's journal.
        deferred: how often this action has been deferred already.
        est_cost_usd: what a model call would reserve; None when its price is not known.
    """

    user: str | None = None
    history: "History | None" = None
    deferred: int = 0
    est_cost_usd: Decimal | None = None


class History(msgspec.Struct):
    """What a run has done so far, as a fold over its journal; changes in place.

    Attributes:
        seen: labels of everything the run has touched.
        counts: how many actions were let through, by tool name or route.
        last, last_outcome: the action that ended last and how.
        seq: how many events there were.
        brought: the last event that brought each label in.
    """

    seen: set[str] = msgspec.field(default_factory=set)
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    last: str | None = None
    last_outcome: Outcome | None = None
    seq: int = 0
    brought: dict[str, int] = msgspec.field(default_factory=dict)

    def requested(self, name: str) -> None:
        """Count one more action that was let through; `name` as `describe` gives it."""
        self.counts[name] = self.counts.get(name, 0) + 1

    def ended(self, name: str, outcome: Outcome, labels: Iterable[str] = ()) -> None:
        """Remember how an action ended and the labels of what it brought in."""
        self.last, self.last_outcome = name, outcome
        for label in labels:
            self.seen.add(label)
            self.brought[label] = self.seq

    def endorsed(self, label: str, upto: int) -> None:
        """Forget a label that nothing after the event `upto` has brought in.

        Only a recorded endorsement may do so.
        """
        if self.brought.get(label, 0) <= upto:
            self.seen.discard(label)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to decide about, with every fact a rule may ask; None is not known.

    Attributes:
        on: where a run stands: before its start, before an action, before a result is seen.
        action: what kind of action; its result has the same kind. "call_tool" at a start says
            nothing.
        args: a tool's final arguments as plain JSON, decimals as numbers.
        left: what is left of each meter by its name, as `Left` or a table gives it.
        history: the run's past, this request not counted.
        result, outcome: at a result, what came back and how.
        input: at a start, the run's input.
    """

    on: On = "call"
    action: Kind = "call_tool"
    tool: str = ""
    args: Any = MISSING
    about: ToolFacts = ToolFacts()
    agent: str | None = None
    user: str | None = None
    tenant: str | None = None
    labels: Mapping[str, str] | None = None
    provider: str | None = None
    model: str | None = None
    est_tokens: int | None = None
    est_cost_usd: Decimal | None = None
    max_output_tokens: int | None = None
    left: "Left | Mapping[str, Any] | None" = None
    history: History | None = None
    attempt: int = 0
    deferred: int = 0
    signal: str | None = None
    sleep_s: float | None = None
    result: Any = MISSING
    outcome: Outcome | None = None
    input: Any = MISSING

    @property
    def name(self) -> str:
        """What people call it: the tool, the route, the wait."""
        if self.on == "start":
            return f"start of {self.agent}"
        match self.action:
            case "call_tool":
                return self.tool
            case "call_llm":
                return f"{self.provider}:{self.model}"
            case "wait_signal":
                return f"signal {self.signal}"
            case "sleep":
                return "sleep"


class Fact(msgspec.Struct, frozen=True):
    """One name a condition may use: how to read it, its JSON type, and where it exists."""

    read: Getter
    type: str
    points: tuple[On, ...] = POINTS
    kinds: tuple[Kind, ...] = KINDS


_TOOL: tuple[Kind, ...] = ("call_tool",)
_LLM: tuple[Kind, ...] = ("call_llm",)
_ACTIONS: tuple[On, ...] = ("call", "result")
_CALL: tuple[On, ...] = ("call",)


def _known(value: Any) -> Any:
    return MISSING if value is None else value


def _attribute(name: str) -> Getter:
    return lambda request: _known(getattr(request, name))


def _about(name: str) -> Getter:
    return lambda request: _known(getattr(request.about, name))


def _past(name: str) -> Getter:
    def read(request: Request) -> Any:
        return MISSING if request.history is None else getattr(request.history, name)

    return read


def _left(meter: str) -> Getter:
    return lambda request: MISSING if request.left is None else request.left.get(meter, MISSING)


def _read_only(request: Request) -> Any:
    return MISSING if request.about.effect is None else request.about.effect == "read"


def _route(request: Request) -> Any:
    both = request.provider is not None and request.model is not None
    return f"{request.provider}:{request.model}" if both else MISSING


def _count(request: Request) -> Any:
    return MISSING if request.history is None else request.history.counts.get(request.name, 0)


FACTS: dict[str, Fact] = {
    "agent": Fact(_attribute("agent"), "string"),
    "user": Fact(_attribute("user"), "string"),
    "tenant": Fact(_attribute("tenant"), "string"),
    "attempt": Fact(_attribute("attempt"), "number", _CALL),
    "deferred": Fact(_attribute("deferred"), "number"),
    "tool.read_only": Fact(_read_only, "boolean", _ACTIONS, _TOOL),
    "tool.effect": Fact(_about("effect"), "string", _ACTIONS, _TOOL),
    "tool.server": Fact(_about("server"), "string", _ACTIONS, _TOOL),
    "tool.labels": Fact(_about("labels"), "array", _ACTIONS, _TOOL),
    "tool.outbound": Fact(_about("outbound"), "boolean", _ACTIONS, _TOOL),
    "provider": Fact(_attribute("provider"), "string", _ACTIONS, _LLM),
    "model": Fact(_attribute("model"), "string", _ACTIONS, _LLM),
    "route": Fact(_route, "string", _ACTIONS, _LLM),
    "est_tokens": Fact(_attribute("est_tokens"), "number", _CALL, _LLM),
    "est_cost_usd": Fact(_attribute("est_cost_usd"), "number", _CALL, _LLM),
    "max_output_tokens": Fact(_attribute("max_output_tokens"), "number", _CALL, _LLM),
    "budget.left.tool_calls": Fact(_left("tool_calls"), "number"),
    "budget.left.llm_tokens": Fact(_left("llm_tokens"), "number"),
    "budget.left.wall_s": Fact(_left("wall_s"), "number"),
    "budget.left.cost_usd": Fact(_left("cost_usd"), "number"),
    "seen.label": Fact(_past("seen"), "array"),
    "count": Fact(_count, "number", _CALL, ("call_tool", "call_llm")),
    "last.action": Fact(_past("last"), "string", _ACTIONS),
    "last.outcome": Fact(_past("last_outcome"), "string", _ACTIONS),
    "signal": Fact(_attribute("signal"), "string", _ACTIONS, ("wait_signal",)),
    "sleep_s": Fact(_attribute("sleep_s"), "number", _CALL, ("sleep",)),
    "outcome": Fact(_attribute("outcome"), "string", ("result",)),
    "result": Fact(_attribute("result"), "any", ("result",)),
    "input": Fact(_attribute("input"), "any", ("start",)),
}
FAMILIES: dict[str, Fact] = {  # names that go on: `args.path`, `count.mail.*`
    "args": Fact(_attribute("args"), "any", _ACTIONS, _TOOL),
    "result": Fact(_attribute("result"), "any", ("result",)),
    "input": Fact(_attribute("input"), "any", ("start",)),
    "label": Fact(_attribute("labels"), "string"),
    "count": Fact(_past("counts"), "number"),
}


@lru_cache(maxsize=1_024)
def fact(name: str) -> Fact | None:
    """Return the fact of that name, or None when there is none."""
    if name in FACTS:
        return FACTS[name]
    family, dot, rest = name.partition(".")
    found = FAMILIES.get(family)
    if found is None or not dot or not rest:
        return None
    if family == "count":
        return msgspec.structs.replace(found, read=_counted(rest))
    if family == "label":
        return msgspec.structs.replace(found, read=_label(rest))
    steps = tuple(rest.split("."))
    if not all(steps):
        return None
    if family == "args" and len(steps) == 1 and rest != "*":
        return msgspec.structs.replace(found, read=_argument(rest))
    return msgspec.structs.replace(found, read=_within(found.read, steps))


def fact_names() -> list[str]:
    """Return every name a condition may use, families with `...`."""
    return sorted([*FACTS, *(f"{family}..." for family in FAMILIES if family not in FACTS)])


def _counted(pattern: str) -> Getter:
    matches, wide = glob(pattern), is_pattern(pattern)

    def read(request: Request) -> Any:
        if request.history is None:
            return MISSING
        counts = request.history.counts
        if not wide:
            return counts.get(pattern, 0)
        return sum(count for name, count in counts.items() if matches(name))

    return read


def _label(name: str) -> Getter:
    return lambda request: MISSING if request.labels is None else request.labels.get(name, MISSING)


def _argument(name: str) -> Getter:
    def read(request: Request) -> Any:
        args = request.args
        return args.get(name, MISSING) if type(args) is dict else MISSING

    return read


def _within(read: Getter, steps: tuple[str, ...]) -> Getter:
    return lambda request: walk(read(request), steps)


def walk(value: Any, steps: tuple[str, ...]) -> Any:
    """Return what lies at a path: `name` of an object, `0` of a list, `*` for `Each` of a list."""
    for at, step in enumerate(steps):
        if type(value) is dict:  # which has no items: a member "*" would speak for all others
            value = MISSING if step == "*" else value.get(step, MISSING)
        elif type(value) is list:
            if step == "*":
                return _flat(walk(item, steps[at + 1 :]) for item in value)
            index = int(step) if step.isascii() and step.isdigit() and len(step) < 8 else -1
            value = value[index] if 0 <= index < len(value) else MISSING
        else:
            return MISSING
    return value


def _flat(values: Iterable[Any]) -> Each:
    found = Each()
    for value in values:
        if type(value) is Each:
            found.extend(value)
        else:
            found.append(value)
    return found


class Left(msgspec.Struct, frozen=True, gc=False):
    """What is left of each meter, reckoned when a rule asks: the clock in seconds, dollars."""

    limits: Limits
    used: Amount

    def get(self, name: str, default: Any) -> Any:
        """Return what is left; `UNLIMITED` without a limit."""
        if name not in _UNITS:
            return default
        meter, unit = _UNITS[name]
        limit = getattr(self.limits, meter)
        return UNLIMITED if limit is None else unit(max(0, limit - getattr(self.used, meter)))


_UNITS: dict[str, tuple[str, Callable[[int], Any]]] = {
    "tool_calls": ("tool_calls", int),
    "llm_tokens": ("llm_tokens", int),
    "wall_s": ("wall_ms", lambda ms: Decimal(ms) / 1000),
    "cost_usd": ("usd_micros", dollars),
}


def tool_facts(spec: ToolSpec) -> ToolFacts:
    """Return what a tool's spec says of it; our own code comes from no server."""
    return ToolFacts(
        effect=spec.effect,
        labels=frozenset(spec.returns),
        outbound=spec.sends,
        schema=spec.schema,
    )
