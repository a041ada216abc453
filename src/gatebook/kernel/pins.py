"""Pins: which definition of a tool somebody looked at. A changed tool is a new tool.

A run pins the tools it begins with; a policy's `[pins]` say which definitions pass, and win.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from gatebook.errors import GatebookError
from gatebook.kernel.policy import Decision
from gatebook.kernel.tools import Effect, ToolSpec, tool_digest

MIN_PIN = 16  # characters of a digest that are enough to write
NARROWED = ("allow", "modify", "defer")  # what a pin that does not hold makes an ask of
MAX_KEPT = 4_096  # definitions whose digests are remembered


def definition_digest(spec: ToolSpec) -> str:
    """Return the digest of a tool's name, texts, schema and annotations, made here.

    A foreign tool may bring any `digest`; what it says of itself proves nothing.
    """
    texts = (spec.name, spec.description, spec.effect)
    return _digest(texts, bytes(spec.schema), tuple(spec.returns), spec.sends, tuple(spec.secrets))


@lru_cache(maxsize=MAX_KEPT)
def _digest(
    texts: tuple[str, str, Effect],
    schema: bytes,
    returns: tuple[str, ...],
    sends: bool,
    secrets: tuple[str, ...],
) -> str:
    return tool_digest(
        name=texts[0],
        description=texts[1],
        schema=schema,
        effect=texts[2],
        returns=returns,
        sends=sends,
        secrets=secrets,
    )


def pins_of(tools: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of tools by name, as a run that starts records them."""
    return {name: definition_digest(tool.spec) for name, tool in tools.items()}


def pinned_by(policy: Any) -> Mapping[str, str]:
    """Return the pins of a policy, also of one within another."""
    while policy is not None:
        found = getattr(policy, "pins", None)
        if isinstance(found, Mapping):
            return found
        policy = getattr(policy, "inner", None)
    return {}


class Pins:
    """The pins that count for one run.

    Args:
        began: what the run recorded when it started; nothing pins nothing.
        policy: digests, or beginnings of them, that the policy in force pins.
    """

    __slots__ = ("_began", "_policy", "_seen")

    def __init__(self, began: Mapping[str, str], policy: Mapping[str, str]) -> None:
        self._began, self._policy = began, policy
        self._seen: dict[str, ToolSpec] = {}  # definitions that were compared, and hold

    def narrowed(self, decision: Decision, spec: ToolSpec) -> Decision:
        """Return a decision about a call of a tool; an ask where its definition is another."""
        if self._seen.get(spec.name) is spec:
            return decision
        detail = self._difference(spec)
        if not detail:
            self._seen[spec.name] = spec
            return decision
        if decision.verdict not in NARROWED:
            return decision
        error = GatebookError("E_TOOL_PIN", tool=spec.name, detail=detail)
        return msgspec.structs.replace(decision, verdict="ask", reason=str(error), code=error.code)

    def _difference(self, spec: ToolSpec) -> str:
        now = definition_digest(spec)
        pin = self._policy.get(spec.name)
        if pin is not None:
            if len(pin) >= MIN_PIN and now.startswith(pin):
                return ""
            return f"the policy pins {pin[:MIN_PIN] or 'no one definition'}, it is {now}"
        began = self._began.get(spec.name)
        if began == now or not self._began:
            return ""
        if began is None:
            return f"the run began without it, it is {now}"
        return f"the run began with {began[:MIN_PIN]}, it is {now}"
