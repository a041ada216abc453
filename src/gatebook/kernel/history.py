"""Reading a run's events back: a timeline for people, and what it cost.

Pure. Knows events and the fold; must not know stores, programs or how anything is drawn.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Literal

import msgspec

from gatebook.errors import InvalidInput
from gatebook.kernel.actions import Action, CallLLM, CallTool, Sleep, WaitSignal, describe
from gatebook.kernel.approvals.events import ActionDeferred, ApprovalAsked
from gatebook.kernel.artifacts import Artifact
from gatebook.kernel.budget import METERS, NOTHING, Amount
from gatebook.kernel.codec import Raw
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
    ErrorRecord,
    HookAnswered,
    RunCancelled,
    RunCompleted,
    RunFailed,
)
from gatebook.kernel.head import Head
from gatebook.kernel.hooks.answers import place_of_acts
from gatebook.kernel.messages import Usage
from gatebook.kernel.spending.prices import Price

RowKind = Literal["tool", "llm", "sleep", "signal"]
RowStatus = Literal[
    "running",
    "waiting",
    "backoff",
    "unknown",
    "succeeded",
    "failed",
    "denied",
    "cancelled",
    "started",  # said by who knows that no worker has the run: perhaps it runs, perhaps it ended
]


class TimelineRow(msgspec.Struct, kw_only=True):
    """One action as people see it. Times are microseconds UTC, None while it goes on.

    Attributes:
        seq: of its request or denial.
        what: the tool, the route, the length of the sleep or the name of the signal.
        attempts: how many started; 0 for a denied action.
        begun: when the last of them did.
        charged: what its settled attempts count against the budget.
        usage: what the provider reported for the answer.
        price: what its last settled attempt was charged at; None is unknown, or no model call.
        error: why it was denied, failed, is unknown, or is being repeated.
        code: the stable code of that error.
        rule, verdict: what policy said.
        resolved_by: who settled an unknown outcome, "" when nobody had to.
        artifact: that a model reads only the beginning of the output.
    """

    seq: int
    address: str
    kind: RowKind
    what: str
    status: RowStatus
    effect: str
    started: int
    attempts: int = 1
    begun: int = 0
    ended: int | None = None
    reserve: Amount = NOTHING
    charged: Amount = NOTHING
    usage: Usage | None = None
    price: Price | None = None
    args: Raw | None = None
    output: Raw | None = None
    error: str = ""
    code: str = ""
    rule: str = ""
    verdict: str = "allow"
    resolved_by: str = ""
    artifact: Artifact | None = None

    @property
    def duration_us(self) -> int | None:
        """Microseconds from request to outcome, None while there is none."""
        return None if self.ended is None else self.ended - self.started

    def _settle(self, spent: Amount | None) -> None:
        self.charged += self.reserve if spent is None else spent
        self.reserve = NOTHING

    def _end(self, status: RowStatus, time: int) -> None:
        self.status, self.ended = status, time
        self.error = self.code = ""

    def _blame(self, error: ErrorRecord | None) -> None:
        if error is not None:
            self.error, self.code = error.message, error.code

    def over(self, time: int) -> None:
        """Take in the end of the run, or of its hook: what had not started never will."""
        if self.status == "waiting" and self.attempts == 0:
            self._end("cancelled", time)

    def follow(self, event: AnyEvent) -> None:
        """Take in one more event of this action."""
        match event:
            case AttemptFailed():
                self._settle(event.spent)
                self.status, self.price = "backoff", event.price
                self._blame(event.error)
            case AttemptStarted():
                self._settle(None)
                self.status, self.reserve = "running", event.reserve
                self.attempts, self.begun = event.attempt + 1, event.time
            case ActionSucceeded():
                self._settle(event.spent)
                self._end("succeeded", event.time)
                self.output, self.usage, self.price = event.output, event.usage, event.price
                self.artifact = event.artifact
                if event.decision is not None and event.decision.withholds:
                    self._blame(event.decision.told)
            case ActionFailed():
                self._settle(event.spent)
                self.price = event.price
                cancelled = event.error.code == "E_ACTION_CANCELLED"
                self._end("cancelled" if cancelled else "failed", event.time)
                self._blame(event.error)
            case ActionUnknown():
                self.status = "unknown"
                self._blame(event.error)
            case ActionResolved():
                self._resolve(event)
            case _:
                pass

    def _resolve(self, event: ActionResolved) -> None:
        self._settle(None)
        self.resolved_by = event.by or "somebody"
        if event.resolution == "retry":
            self.status = "backoff"
        elif event.resolution == "succeeded":
            self._end("succeeded", event.time)
            self.output = event.output
        else:
            self._end("failed", event.time)
            self._blame(event.error)


def timeline(events: Iterable[AnyEvent]) -> list[TimelineRow]:
    """Return one row per action, in the order they were requested or denied."""
    rows: dict[str, TimelineRow] = {}
    for seq, event in enumerate(events, start=1):
        match event:
            case ActionRequested() | ActionDenied() | ApprovalAsked() | ActionDeferred():
                rows[event.address] = _row(seq, event)
            case RunCompleted() | RunFailed() | RunCancelled():
                for row in rows.values():
                    row.over(event.time)
            case HookAnswered(address=address, hook=hook, attempt=attempt):
                acts = place_of_acts(address, hook, attempt)
                for row in rows.values():
                    if row.address.startswith(acts):
                        row.over(event.time)
            case _:
                row_of = rows.get(getattr(event, "address", ""))
                if row_of is not None:
                    row_of.follow(event)
    return list(rows.values())


def _row(
    seq: int, event: ActionRequested | ActionDenied | ApprovalAsked | ActionDeferred
) -> TimelineRow:
    action = event.action
    waits = isinstance(action, Sleep | WaitSignal) or isinstance(
        event, ApprovalAsked | ActionDeferred
    )
    row = TimelineRow(
        seq=seq,
        address=event.address,
        kind=row_kind(action),
        what=describe(action),
        status="waiting" if waits else "running",
        effect="",
        started=event.time,
        begun=event.time,
        args=action.args if isinstance(action, CallTool) else None,
        rule=event.decision.rule,
        verdict=event.decision.verdict,
    )
    if isinstance(event, ActionRequested):
        row.effect, row.reserve = event.effect, event.reserve
        return row
    row.attempts = 0
    if isinstance(event, ActionDenied):
        row._end("denied", event.time)
        row._blame(event.error)
    return row


def find_artifact(events: Iterable[AnyEvent], name: str, *, run: str) -> Raw:
    """Return the whole result behind an artifact's digest, or behind a beginning that fits one.

    Raises:
        InvalidInput: E_ARTIFACT: the run has none of that name, or several.
    """
    found = {
        event.artifact.digest: event.output
        for event in events
        if isinstance(event, ActionSucceeded) and event.artifact is not None
    }
    fits = [digest for digest in found if name and digest.startswith(name)]
    if len(fits) != 1:
        names = ", ".join(digest[:12] for digest in fits or found) or "none"
        raise InvalidInput("E_ARTIFACT", run=run, value=name, names=names)
    return found[fits[0]]


def row_kind(action: Action) -> RowKind:
    """Return the short word for an action's kind."""
    match action:
        case CallTool():
            return "tool"
        case CallLLM():
            return "llm"
        case Sleep():
            return "sleep"
        case WaitSignal():
            return "signal"


class Meter(msgspec.Struct, frozen=True):
    """One budget meter: what is spent, what is held for attempts in flight, and the limit.

    `whole` is False for money when some of the tokens it was spent on have no known price.
    """

    name: str
    spent: int
    reserved: int
    limit: int | None
    whole: bool = True


def totals(head: Head) -> list[Meter]:
    """Return the budget meters of a run, limited or not."""
    unknown = {"usd_micros"} if head.spent.cost_usd is None else frozenset()
    return [
        Meter(
            m,
            getattr(head.spent, m),
            getattr(head.reserved, m),
            getattr(head.limits, m),
            m not in unknown,
        )
        for m in METERS
    ]


class Cost(msgspec.Struct, kw_only=True):
    """What all calls of one tool or model came to. Tokens are None where nobody reported any.

    `cost_usd` is what they were charged in dollars; None when some of it is unknown, and for tools.
    """

    what: str
    kind: RowKind
    calls: int = 0
    attempts: int = 0
    tokens: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None
    duration_us: int = 0


def costs(rows: Iterable[TimelineRow]) -> list[Cost]:
    """Return what each tool and model came to, in order of first use; waits cost nothing."""
    found: dict[tuple[str, str], Cost] = {}
    charged: dict[tuple[str, str], Amount] = {}
    for row in rows:
        if row.attempts == 0 or row.kind not in ("tool", "llm"):
            continue
        key = (row.kind, row.what)
        cost = found.setdefault(key, Cost(what=row.what, kind=row.kind))
        charged[key] = charged.get(key, NOTHING) + row.charged
        cost.cost_usd = charged[key].cost_usd if row.kind == "llm" else None
        cost.calls += 1
        cost.attempts += row.attempts
        cost.tokens += row.charged.llm_tokens
        cost.duration_us += row.duration_us or 0
        if row.usage is not None:
            cost.input_tokens = _plus(cost.input_tokens, row.usage.input_tokens)
            cost.output_tokens = _plus(cost.output_tokens, row.usage.output_tokens)
    return list(found.values())


def _plus(total: int | None, more: int | None) -> int | None:
    return total if more is None else (total or 0) + more
