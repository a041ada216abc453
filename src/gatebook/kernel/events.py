"""The events: the closed, versioned vocabulary of facts a journal can hold.

An event is a frozen struct with a stable `kind`. How it is stored is `kernel.stored`.
"""

from typing import Literal, get_args

from gatebook.kernel.actions import Action
from gatebook.kernel.approvals.events import (
    ActionDeferred,
    ApprovalAnswered,
    ApprovalAsked,
    ApprovalExpired,
    DeferralEnded,
    Granted,
    GrantRevoked,
)
from gatebook.kernel.artifacts import Artifact
from gatebook.kernel.budget import NOTHING, Amount, Limits, SoftLimit
from gatebook.kernel.codec import NULL, Raw
from gatebook.kernel.messages import Usage
from gatebook.kernel.records import DOUBTFUL as DOUBTFUL  # noqa: PLC0414 - part of this vocabulary
from gatebook.kernel.records import DecisionRecord as DecisionRecord  # noqa: PLC0414 - part of this vocabulary
from gatebook.kernel.records import ErrorRecord as ErrorRecord  # noqa: PLC0414 - part of this vocabulary
from gatebook.kernel.records import Event as Event  # noqa: PLC0414 - part of this vocabulary
from gatebook.kernel.records import Verdict as Verdict  # noqa: PLC0414 - part of this vocabulary
from gatebook.kernel.spending.prices import Price
from gatebook.kernel.tools import Effect

Resolution = Literal["succeeded", "failed", "retry"]
Cause = Literal["retry", "recovery", "resolved"]  # of an attempt after the first
HookPoint = Literal[
    "on_run_start", "before_model", "after_model", "before_tool", "after_tool", "on_run_end"
]
HookVerdict = Literal["pass", "change", "deny", "failed"]


class RunStarted(Event, frozen=True, tag="run_started"):
    """A run began: with this program, definition, policy, input and budget.

    `guards` are the security hooks it may not go on without, `decision` is what policy said to
    the start beside a plain yes, `pins` are the digests of its tools by name.
    """

    program: str
    program_kind: str
    definition: str
    nonce: str
    input: Raw
    context: Raw = NULL
    policy: str = ""
    policy_name: str = ""
    guards: tuple[str, ...] = ()
    limits: Limits = Limits()
    labels: dict[str, str] = {}  # noqa: RUF012 - a struct copies it
    soft: tuple[SoftLimit, ...] = ()
    decision: DecisionRecord | None = None
    pins: dict[str, str] = {}  # noqa: RUF012 - a struct copies it


class ActionRequested(Event, frozen=True, tag="action_requested"):
    """The gate let an action through; this is also the start of its attempt 0."""

    address: str
    action: Action
    effect: Effect = "read"
    decision: DecisionRecord = DecisionRecord()
    reserve: Amount = NOTHING
    timeout_ms: int | None = None


class ActionDenied(Event, frozen=True, tag="action_denied"):
    """The gate refused an action; it was never started. The program sees this as its outcome."""

    address: str
    action: Action
    decision: DecisionRecord
    error: ErrorRecord


class AttemptFailed(Event, frozen=True, tag="attempt_failed"):
    """An attempt failed and another follows `delay_ms` after this event's time.

    `route` is where a model call goes on then, "" for the action's own (its first).
    """

    address: str
    attempt: int
    error: ErrorRecord
    delay_ms: int
    spent: Amount | None = None
    price: Price | None = None
    route: str = ""


class AttemptStarted(Event, frozen=True, tag="attempt_started"):
    """A later attempt (1, 2, ...) starts: after its wait, a crash, or a person's order.

    `route` is the one it asks, "" for the action's own (its first), `decision` what policy said
    to it beside a plain yes.
    """

    address: str
    attempt: int
    reserve: Amount = NOTHING
    cause: Cause = "retry"
    route: str = ""
    decision: DecisionRecord | None = None


class ActionSucceeded(Event, frozen=True, tag="action_succeeded"):
    """An action ended well. `consumed` is the seq of the signal a wait took, `price` what the
    tokens in `spent` were charged at (None: unknown, or no model call), `artifact` that a model
    reads only the beginning of the output. `labels` come into the run with the output;
    `decision` is of policy about the output: after all but allow and modify it is withheld.
    """

    address: str
    attempt: int = 0
    output: Raw = NULL
    usage: Usage | None = None
    spent: Amount | None = None
    consumed: int | None = None
    price: Price | None = None
    artifact: Artifact | None = None
    labels: tuple[str, ...] = ()
    decision: DecisionRecord | None = None


class ActionFailed(Event, frozen=True, tag="action_failed"):
    """An action ended badly and will not be tried again. `usage` is of an answer that a hook
    withheld, `labels` come into the run with the error's text, `decision` is of policy about
    that text or about another attempt.
    """

    address: str
    error: ErrorRecord
    attempt: int = 0
    spent: Amount | None = None
    price: Price | None = None
    usage: Usage | None = None
    labels: tuple[str, ...] = ()
    decision: DecisionRecord | None = None


class ActionUnknown(Event, frozen=True, tag="action_unknown"):
    """An action was started and nobody knows whether it took effect; a person must say.
    `decision` is of policy about another attempt, which it refused.
    """

    address: str
    error: ErrorRecord
    attempt: int = 0
    decision: DecisionRecord | None = None


class ActionResolved(Event, frozen=True, tag="action_resolved"):
    """A person said what became of an unknown action, or ordered another start."""

    address: str
    resolution: Resolution
    output: Raw = NULL
    error: ErrorRecord | None = None
    by: str = ""


class SignalReceived(Event, frozen=True, tag="signal_received"):
    """Somebody sent a signal; it is kept until a wait takes it."""

    name: str
    payload: Raw = NULL
    by: str = ""


class CancelRequested(Event, frozen=True, tag="cancel_requested"):
    """Somebody cancelled the run; no action starts after this."""

    reason: str = ""
    by: str = ""


class BudgetRaised(Event, frozen=True, tag="budget_raised"):
    """Somebody raised limits, to `limits` and by `more`; they count from the next request on."""

    limits: Limits = Limits()
    by: str = ""
    more: Limits = Limits()
    reason: str = ""


class LedgersDeclared(Event, frozen=True, tag="ledgers_declared"):
    """From here on the run's requests count against these ledgers too, with these limits."""

    ledgers: dict[str, Limits]


class DefinitionChanged(Event, frozen=True, tag="definition_changed"):
    """The run goes on under a changed definition, by explicit choice."""

    before: str
    after: str


class Interrupted(Event, frozen=True, tag="interrupted"):
    """The run stopped for a person: nothing starts until it is resumed."""

    error: ErrorRecord


class Resumed(Event, frozen=True, tag="resumed"):
    """A person let an interrupted run go on."""

    by: str = ""


class RunCompleted(Event, frozen=True, tag="run_completed"):
    """The run ended with its output."""

    output: Raw = NULL


class RunFailed(Event, frozen=True, tag="run_failed"):
    """The run ended without output. `denied` marks an end by policy or budget."""

    error: ErrorRecord
    denied: bool = False


class RunCancelled(Event, frozen=True, tag="run_cancelled"):
    """The run ended because it was cancelled; `unknown` names actions nobody resolved."""

    reason: str = ""
    unknown: tuple[str, ...] = ()


class LabelEndorsed(Event, frozen=True, tag="label_endorsed"):
    """Somebody vouched for what brought a label into the run, up to and with the event `upto`.

    The label falls, unless something later has brought it in again.
    """

    label: str
    upto: int
    by: str
    reason: str = ""


class HookAnswered(Event, frozen=True, tag="hook_answered"):
    """A hook was asked; it stands ahead of what its answer is applied to, and is not asked again.

    Attributes:
        address, attempt: what it was asked about; "" is the run itself.
        saw: digest of what it was shown; `made`: of what it changed that into.
        change: how it changed an action; at an after point the outcome shows what it made.
        error: why it refuses, or why it has no answer.
        stops: it refuses the action, withholds the result or ends the run.
    """

    point: HookPoint
    hook: str
    verdict: HookVerdict = "pass"
    address: str = ""
    attempt: int = 0
    saw: str = ""
    made: str = ""
    change: Raw = NULL
    error: ErrorRecord | None = None
    stops: bool = False


class Note(Event, frozen=True, tag="note"):
    """Something worth keeping that changes nothing: a log line, a late outcome."""

    text: str
    detail: Raw = NULL


AnyEvent = (
    RunStarted | ActionRequested | ActionDenied | AttemptFailed | AttemptStarted
    | ActionSucceeded | ActionFailed | ActionUnknown | ActionResolved | SignalReceived
    | CancelRequested | BudgetRaised | LedgersDeclared | DefinitionChanged | Interrupted | Resumed
    | RunCompleted | RunFailed | RunCancelled | Note | HookAnswered | LabelEndorsed
    | ApprovalAsked | ApprovalAnswered | ApprovalExpired | Granted | GrantRevoked
    | ActionDeferred | DeferralEnded
)  # fmt: skip

Requests = ActionRequested | AttemptStarted
EndOfAttempt = ActionSucceeded | ActionFailed | ActionUnknown | AttemptFailed
Ends = RunCompleted | RunFailed | RunCancelled
EXTERNAL = (
    SignalReceived, CancelRequested, ActionResolved, BudgetRaised, Resumed, LabelEndorsed, Note,
    ApprovalAnswered, Granted, GrantRevoked,
)  # fmt: skip
AUDIT = (Note, ActionResolved)  # what may still be added after the end
ENDS_OF_ATTEMPTS: tuple[type[EndOfAttempt], ...] = get_args(EndOfAttempt)


def kind_of(event: Event) -> str:
    """Return the stable name of an event's kind."""
    tag: str = type(event).__struct_config__.tag  # type: ignore[assignment]
    return tag


KINDS = frozenset(t.__struct_config__.tag for t in AnyEvent.__args__)
