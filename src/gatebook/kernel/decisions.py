"""Decisions side by side: which is stricter, how changes add up, and what is kept of them."""

from collections.abc import Callable
from typing import Any, Final, get_type_hints

import msgspec

from gatebook.errors import EXITS, GatebookError
from gatebook.kernel.codec import NULL, Raw, parse, plain
from gatebook.kernel.policy import ALLOW, Decision
from gatebook.kernel.records import STRICTNESS, DecisionRecord
from gatebook.kernel.redact import Redactor

MAX_ROUNDS: Final = 3  # change -> validate -> decide; docs/design.md, "The gate"
PLAIN: Final = DecisionRecord()
LIMIT_S: Final = 5.0  # of one decision; it holds up every run of its worker

ASKING: Final = ("ask", "interrupt")  # verdicts that a person's yes answers

Watch = Callable[[], float]

_write = msgspec.json.Encoder(order="deterministic").encode
_READ: Final = {
    name: msgspec.json.Decoder(annotation).decode
    for name, annotation in get_type_hints(Decision).items()
    if name not in ("args", "patch")
}
_steps = msgspec.json.Decoder(list[Raw]).decode


def ask(decide: Callable[..., Any], *asked: Any, watch: Watch | None) -> Decision:
    """Return what a policy answers.

    Raises:
        GatebookError: E_POLICY_ERROR when it raises, E_POLICY_DECISION when its answer is none,
            E_POLICY_TIMEOUT when by `watch` (seconds) it took too long: nobody can stop it, but
            what it said then does not count. With a `watch` it is somebody's own code, whose
            answer is looked into: what cannot be read again must not come into a journal.
    """
    began = 0.0 if watch is None else watch()
    try:
        decision: Any = decide(*asked)
    except EXITS:
        raise
    except BaseException as exc:  # nobody cancels what does not wait: that too is its own
        raise GatebookError("E_POLICY_ERROR", detail=type(exc).__name__) from exc
    if watch is not None and (took := watch() - began) > LIMIT_S:
        raise GatebookError("E_POLICY_TIMEOUT", value=f"{took:.1f}", limit=LIMIT_S)
    if type(decision) is not Decision:
        raise GatebookError("E_POLICY_DECISION", value=decision)
    if watch is not None and decision is not ALLOW and (odd := _unfit(decision)):
        raise GatebookError("E_POLICY_DECISION", value=f"a Decision but for its {odd}")
    return decision


def _unfit(decision: Decision) -> str:
    """Return the first field whose value is not what it is declared to be, "" for none."""
    name = ""
    try:
        for name, read in _READ.items():
            value = getattr(decision, name)
            if read(_write(value)) != value:
                return name
        name, args = "args", decision.args
        if args is not None:
            parse(_bytes(args))
        name, raw = "patch", decision.patch
        patch = plain(_bytes(raw))
    except Exception:  # noqa: BLE001 - whatever it is, it is no such value
        return name
    return "" if patch is None or isinstance(patch, list) else name


def _bytes(raw: Any) -> bytes:
    if not isinstance(raw, Raw):
        raise TypeError(raw)
    return bytes(raw)


def is_stricter(one: Decision, other: Decision) -> bool:
    """Whether the first narrows at least as much as the other."""
    return STRICTNESS.index(one.verdict) >= STRICTNESS.index(other.verdict)


def strictest_of(before: Decision, after: Decision) -> Decision:
    """Return what two decisions about one action come to, the second about its changed form.

    The stricter stands, and who was asked in either is asked: another question about what was
    changed takes nobody's place.
    """
    found = after if is_stricter(after, before) else before
    if before.verdict not in ASKING or after.verdict not in ASKING:
        return found
    terms = {(term.rule, term.approvers): term for term in (*before.approvals, *after.approvals)}
    return msgspec.structs.replace(found, approvals=tuple(terms.values()))


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
    more = [] if decision.patch == NULL else _steps(decision.patch)
    if not more:
        assert decision.args is not None
        more = [Raw(b'{"op":"replace","path":"","value":%b}' % bytes(decision.args))]
    before = [] if patch is NULL else _steps(patch)
    return Raw(_write([*before, *more]))
