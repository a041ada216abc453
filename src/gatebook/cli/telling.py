"""Events as people read them: one line each, and as JSON."""

from typing import Any

from gatebook.cli.budgets import limits_text
from gatebook.cli.output import clock, short, span, stamp
from gatebook.kernel.actions import CallTool, describe
from gatebook.kernel.approvals.events import (
    ActionDeferred,
    ApprovalAnswered,
    ApprovalAsked,
    ApprovalExpired,
    DeferralEnded,
)
from gatebook.kernel.codec import plain
from gatebook.kernel.events import (
    ActionDenied,
    ActionFailed,
    ActionRequested,
    ActionResolved,
    ActionSucceeded,
    ActionUnknown,
    AnyEvent,
    AttemptFailed,
    AttemptStarted,
    BudgetRaised,
    CancelRequested,
    DefinitionChanged,
    HookAnswered,
    Interrupted,
    LabelEndorsed,
    LedgersDeclared,
    Note,
    Resumed,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunStarted,
    SignalReceived,
    kind_of,
)
from gatebook.ports import Recorded, RunKey

WIDTH = 72  # of arguments and results in a line


class Teller:
    """Tells events line by line; remembers what stands behind each open address."""

    def __init__(self) -> None:
        self._asked: dict[tuple[RunKey, str], tuple[str, int]] = {}

    def line(self, recorded: Recorded) -> str:
        """Return an event as one line: time, what happened, where, details."""
        word, address, detail = self.parts(recorded)
        where = f"{address:<7} " if address else ""
        return f"{clock(recorded.event.time)}  {word:<10} {where}{detail}".rstrip()

    def parts(self, recorded: Recorded) -> tuple[str, str, str]:
        """Return (what happened, the action's address or "", details)."""
        event = recorded.event
        address: str = getattr(event, "address", "")
        if not address:
            return _of_run(event)
        key = (recorded.run, address)
        if isinstance(event, ActionRequested | ActionDenied | ApprovalAsked | ActionDeferred):
            self._asked[key] = (describe(event.action), event.time)
        name, since = self._asked.get(key, ("", event.time))
        word, detail = _of_action(event, since)
        return word, address, f"{name}  {detail}".strip()


def _of_run(event: AnyEvent) -> tuple[str, str, str]:
    match event:
        case RunStarted():
            policy = f"policy: {event.policy_name}" if event.policy_name else ""
            if event.decision is not None and event.decision.verdict == "interrupt":
                policy += f", which stops it here: {event.decision.reason}"
            return "started", "", f"{event.program} ({event.program_kind})  {policy}".rstrip()
        case SignalReceived():
            return "signal", "", f"{event.name} {short(_json(event.payload), WIDTH)}{_by(event.by)}"
        case CancelRequested():
            return "cancel", "", f"{short(event.reason)}{_by(event.by)}".strip()
        case LabelEndorsed():
            upto = f" up to {event.upto}"
            return "endorsed", "", f"{event.label}{upto}{_by(event.by)}  {event.reason}".rstrip()
        case DefinitionChanged():
            return "definition", "", f"{event.before[:12]} is now {event.after[:12]}"
        case Interrupted():
            return "stopped", "", event.error.message
        case Resumed():
            return "resumed", "", _by(event.by).strip()
        case Note():
            return "note", "", short(event.text, WIDTH)
        case HookAnswered():
            return "hook", "", _hooked(event)
        case _:
            return _of_budget(event)


def _of_budget(event: AnyEvent) -> tuple[str, str, str]:
    if isinstance(event, LedgersDeclared):
        named = [f"{n} ({limits_text(each) or 'no limit'})" for n, each in event.ledgers.items()]
        return "ledgers", "", f"counts against {', '.join(sorted(named)) or 'none'}"
    if not isinstance(event, BudgetRaised):
        return _of_end(event)
    told = [text for text in (limits_text(event.limits), limits_text(event.more, "+")) if text]
    why = f": {short(event.reason)}" if event.reason else ""
    return "budget", "", f"limits raised, {', '.join(told)}{_by(event.by)}{why}"


def _of_end(event: AnyEvent) -> tuple[str, str, str]:
    match event:
        case RunCompleted():
            return "completed", "", short(_json(event.output), WIDTH)
        case RunFailed():
            return ("denied" if event.denied else "failed"), "", event.error.message
        case RunCancelled():
            unknown = f"unknown: {', '.join(event.unknown)}" if event.unknown else ""
            return "cancelled", "", f"{event.reason}  {unknown}".strip()
        case _:
            return kind_of(event), "", ""


def _of_action(event: AnyEvent, since: int) -> tuple[str, str]:
    took = span(event.time - since)
    match event:
        case ActionRequested():
            return "asked", _args(event)
        case ActionDenied():
            return "denied", event.error.message
        case AttemptFailed():
            wait = span(event.delay_ms * 1000)
            return "retry", f"{short(event.error.message, WIDTH)}; again in {wait}"
        case AttemptStarted():
            return "again", f"attempt {event.attempt + 1} ({event.cause})"
        case ActionSucceeded():
            return _of_success(event, took)
        case ActionFailed():
            return "failed", f"{short(event.error.message, WIDTH)}  {took}"
        case ActionUnknown():
            return "unknown", event.error.message
        case ActionResolved():
            return "resolved", f"{event.resolution}{_by(event.by)}"
        case HookAnswered():
            return "hook", _hooked(event)
        case _:
            return _of_word(event)


def _of_success(event: ActionSucceeded, took: str) -> tuple[str, str]:
    if event.decision is not None and event.decision.withholds:
        return "withheld", event.decision.reason
    return "done", f"{short(_json(event.output), WIDTH)}  {took}".strip()


def _of_word(event: AnyEvent) -> tuple[str, str]:
    """Return what people, times and signals say about an action before it starts."""
    match event:
        case ApprovalAsked():
            told = "; ".join(term.message for term in event.terms if term.message)
            if event.refused:
                return "approval?", f"{_args(event)}  {event.refused}".strip()
            return "approval?", f"{_args(event)}  {short(told, WIDTH)}".strip()
        case ApprovalAnswered():
            words = {"approve": "approved", "edit": "edited", "deny": "refused"}
            why = f": {short(event.reason)}" if event.reason else ""
            return words[event.answer], f"{_by(event.by).strip()}{why}"
        case ApprovalExpired():
            return "expired", "it was not approved and used in time"
        case ActionDeferred():
            waits = [] if event.after_ms is None else [f"for {span(event.after_ms * 1000)}"]
            waits += [f"to signal {name}" for name in event.signals]
            return "deferred", f"{' or '.join(waits)}  {short(event.decision.reason)}".strip()
        case DeferralEnded():
            return "decided", "again"
        case _:
            return kind_of(event), ""


def _args(event: ActionRequested | ApprovalAsked) -> str:
    if not isinstance(event.action, CallTool):
        return ""
    return short(_json(event.action.args), WIDTH)


def _hooked(event: HookAnswered) -> str:
    did = {"pass": "let it pass", "change": "changed it"}.get(event.verdict, "")
    if event.error is not None:
        did = short(event.error.message, WIDTH) + ("" if event.stops else "; it passed")
    return f"{event.hook} {event.point}: {did}"


def _by(who: str) -> str:
    return f" by {who}" if who else ""


def _json(data: bytes | Any) -> str:
    """Return stored JSON as a line; of a model's answer only its text and the tools it calls."""
    text = bytes(data).decode()
    if not text.startswith('{"model":') and '"finish_reason"' not in text:
        return "" if text == "null" else text
    return answer_words(plain(data)) or text


def answer_words(answer: Any) -> str:
    """Return what a recorded model answer says: its text, or the tools it calls."""
    parts = answer.get("message", {}).get("content", []) if isinstance(answer, dict) else []
    text = "".join(part.get("text", "") for part in parts if part.get("type") == "text")
    calls = [part.get("name", "") for part in parts if part.get("type") == "tool_call"]
    called = f"calls {', '.join(calls)}" if calls else ""
    return f"{text} {called}".strip()


def event_fields(recorded: Recorded) -> dict[str, Any]:
    """Return an event as JSON documents show it: its place, then what is stored."""
    import msgspec

    return {
        "run": recorded.run.id,
        "seq": recorded.seq,
        "position": recorded.position,
        "at": stamp(recorded.event.time),
        "hash": recorded.hash.hex(),
        "event": msgspec.json.decode(msgspec.json.encode(recorded.event)),
    }
