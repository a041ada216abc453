"""Decisions side by side: which is stricter, how changes add up, and what is kept of them."""

from collections.abc import Callable
from typing import Any, Final

from gatebook.errors import GatebookError
from gatebook.kernel.codec import NULL, Raw
from gatebook.kernel.policy import Decision
from gatebook.kernel.records import STRICTNESS, DecisionRecord
from gatebook.kernel.redact import Redactor

MAX_ROUNDS: Final = 3  # change -> validate -> decide; docs/design.md, "The gate"
PLAIN: Final = DecisionRecord()
LIMIT_S: Final = 5.0  # of one decision; it holds up every run of its worker

Watch = Callable[[], float]


def ask(decide: Callable[..., Any], *asked: Any, watch: Watch | None) -> Decision:
    """Return what a policy answers.

    Raises:
        GatebookError: E_POLICY_ERROR when it raises, E_POLICY_DECISION when its answer is none,
            E_POLICY_TIMEOUT when by `watch` (seconds) it took too long: nobody can stop it, but
            what it said then does not count.
    """
    began = 0.0 if watch is None else watch()
    try:
        decision: Any = decide(*asked)
    except Exception as exc:
        raise GatebookError("E_POLICY_ERROR", detail=type(exc).__name__) from exc
    if watch is not None and (took := watch() - began) > LIMIT_S:
        raise GatebookError("E_POLICY_TIMEOUT", value=f"{took:.1f}", limit=LIMIT_S)
    if type(decision) is not Decision:
        raise GatebookError("E_POLICY_DECISION", value=decision)
    return decision


def is_stricter(one: Decision, other: Decision) -> bool:
    """Whether the first narrows at least as much as the other."""
    return STRICTNESS.index(one.verdict) >= STRICTNESS.index(other.verdict)


def is_plain(decision: Decision) -> bool:
    """Whether a decision just lets pass, in fact and in a shadow policy's view."""
    return decision.verdict == "allow" and decision.shadow is None


def recorded(decision: Decision, redactor: Redactor) -> DecisionRecord:
    """Return a decision as it is journaled; nothing but the rule of a plain allow."""
    if decision.verdict == "allow" and decision.shadow is None:
        return DecisionRecord(rule=decision.rule) if decision.rule else PLAIN
    return DecisionRecord(
        verdict=decision.verdict,
        rule=decision.rule,
        reason=redactor.text(decision.reason),
        shadow=decision.shadow,
        facts={name: redactor.text(text) for name, text in decision.facts.items()},
    )


def joined(patch: Raw, decision: Decision) -> Raw:
    """Return a patch followed by the one that leads to a decision's arguments."""
    more = bytes(decision.patch)
    if decision.patch == NULL:
        assert decision.args is not None
        more = b'[{"op":"replace","path":"","value":%b}]' % bytes(decision.args)
    return Raw(more if patch is NULL else b"%b,%b" % (bytes(patch)[:-1], more[1:]))
