"""Drafts a first policy from what an app declares: reads are allowed, everything else asks.

Its text is for people to change; each rule has a test beside it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from gatebook.kernel.actions import split_route
from gatebook.kernel.codec import plain
from gatebook.kernel.review.writing import comment, pair, table, visible
from gatebook.kernel.tools import ToolSpec

TOOL_CALLS, LLM_TOKENS, COST_USD, WALL_CLOCK = 60, 400_000, "1.00", "2h"  # of one run; a beginning
SHOWN_ARGUMENTS = 4  # in the question of an ask
MAX_ID = 64
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Starter(msgspec.Struct, frozen=True, kw_only=True):
    """A first policy.

    Attributes:
        text: the file.
        verdicts: (verdict, tool or route), as its tests say.
        rules: the ids of its rules.
    """

    text: str
    verdicts: tuple[tuple[str, str], ...]
    rules: tuple[str, ...]


def starter(
    name: str,
    tools: Mapping[str, ToolSpec],
    routes: Sequence[str],
    *,
    target: str,
    unpriced: Iterable[str] = (),
) -> Starter:
    """Return a first policy for these tools and model routes.

    Args:
        target: where they were found, "module:attribute", for the commands it suggests.
        unpriced: routes without a known price; a limit in dollars would refuse them all.
    """
    reads = [name for name, spec in sorted(tools.items()) if spec.effect == "read"]
    effects = [spec for _, spec in sorted(tools.items()) if spec.effect != "read"]
    draft = _Draft()
    if routes:
        draft.models(list(dict.fromkeys(routes)))
    if reads:
        draft.reads(reads)
    if effects:
        draft.effects(effects)
    if tools:
        draft.sending(tools)
        draft.test({"tool": _absent(tools)}, "deny", name="a tool that no rule names")
    parts = [_head(name, target), _budgets(list(unpriced)), *draft.rules, *draft.tests]
    return Starter(text="\n".join(parts), verdicts=tuple(draft.verdicts), rules=tuple(draft.taken))


def _head(name: str, target: str) -> str:
    about = (
        f"A first policy for {target}: what no rule below allows is denied.\n"
        f"Change it, then:  gatebook policy check FILE --app {target}\n"
        "                  gatebook policy test FILE\n"
    )
    return (
        f"{comment(about)}version = 1\n"
        f"{pair('name', name)}\n"
        f"{pair('mode', 'enforce', 'shadow: decide and record, but let everything through')}\n"
    )


def _budgets(unpriced: list[str]) -> str:
    dollars = pair("cost_usd", COST_USD)
    if unpriced:
        why = f"no price is known of {visible(', '.join(unpriced[:3]))}"
        dollars = f"# {dollars}  # {why}: a limit in dollars refuses such calls"
    return (
        f"{'[budgets]':<31} # of each run\n"
        f"{pair('tool_calls', TOOL_CALLS)}\n"
        f"llm_tokens = {LLM_TOKENS:_}\n"
        f"{dollars}\n"
        f"{pair('wall_clock', WALL_CLOCK, 'time in tools and models; waits are free')}\n"
    )


class _Draft:
    """Rules and tests, as they are added."""

    def __init__(self) -> None:
        self.rules: list[str] = []
        self.tests: list[str] = []
        self.verdicts: list[tuple[str, str]] = []
        self.taken: dict[str, None] = {}

    def rule(self, values: dict[str, Any], note: str = "") -> None:
        self.taken[values["id"]] = None
        self.rules.append(table("rule", values, {"id": note}))

    def test(self, call: dict[str, Any], expect: str, *, rule: str = "", name: str = "") -> None:
        values: dict[str, Any] = {"name": name} if name else {}
        values |= {"call": call, "expect": expect} | ({"rule": rule} if rule else {})
        self.tests.append(table("test", values))

    def models(self, routes: list[str]) -> None:
        where = {"route": {"in": routes}}
        rule = {"id": "models", "then": "allow", "action": "call_llm", "where": where}
        self.rule(rule, "the routes that are declared")
        provider, model = split_route(routes[0])
        self.test({"provider": provider, "model": model}, "allow", rule="models")
        self.verdicts += [("allow", route) for route in routes]

    def reads(self, names: list[str]) -> None:
        self.rule({"id": "reads", "then": "allow", "tool": names}, "tools that change nothing")
        self.test({"tool": names[0], "effect": "read"}, "allow", rule="reads")
        self.verdicts += [("allow", name) for name in names]

    def effects(self, specs: list[ToolSpec]) -> None:
        names = [spec.name for spec in specs]
        self.rule(
            {"id": "effects", "then": "allow", "tool": names},
            "tools that do something; each asks first, below",
        )
        for spec in specs:
            asks = self._free(f"ask-{spec.name}")
            message = _question(spec)
            self.rule({"id": asks, "then": "ask", "tool": spec.name, "message": message})
            self.test({"tool": spec.name, "effect": spec.effect}, "ask", rule=asks)
            self.verdicts.append(("ask", spec.name))

    def sending(self, tools: Mapping[str, ToolSpec]) -> None:
        seen = ["private", "untrusted"]
        where = {"tool.outbound": {"eq": True}, "seen.label": {"has": seen}}
        message = "{tool} sends, and the run has seen private data and untrusted text. Send it?"
        asks = self._free("ask-before-sending")
        self.rule(
            {"id": asks, "then": "ask", "tool": "*", "where": where, "message": message},
            "of a run that strangers may steer and that knows secrets",
        )
        sends = sorted(tools, key=lambda name: (not tools[name].sends, name))
        call = {"tool": sends[0], "outbound": True, "seen": seen}
        self.test(call, "ask", rule=asks)

    def _free(self, wanted: str) -> str:
        found, number = wanted[:MAX_ID], 2
        while found in self.taken:
            tail = f"-{number}"
            found, number = wanted[: MAX_ID - len(tail)] + tail, number + 1
        return found


def _question(spec: ToolSpec) -> str:
    """Return what a person is asked: the tool with its first arguments, secrets left out."""
    schema = plain(spec.schema)
    properties = schema.get("properties", {}) if isinstance(schema, dict) else {}
    names = [n for n in properties if _NAME.fullmatch(n) and n not in spec.secrets]
    shown = ", ".join(f"{name} {{args.{name}}}" for name in names[:SHOWN_ARGUMENTS])
    return f"{{tool}}: {shown}?" if shown else "{tool}?"


def _absent(tools: Mapping[str, ToolSpec]) -> str:
    name = "not-declared"
    while name in tools:
        name += "-"
    return name
