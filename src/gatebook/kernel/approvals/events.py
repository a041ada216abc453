"""The events of approvals, grants and deferrals: what was asked of people, and what they said.

Part of the vocabulary in `events`; what may follow what stands in `approvals`.
"""

from gatebook.kernel.actions import Action
from gatebook.kernel.approvals.terms import ApprovalTerms, Choice
from gatebook.kernel.codec import NULL, Raw
from gatebook.kernel.records import DecisionRecord, Event


class ApprovalAsked(Event, frozen=True, tag="approval_asked"):
    """An action waits for people: they see here exactly what will run.

    Attributes:
        action: with its final canonical arguments.
        digest: of the action.
        definition: the digest of its tool's definition, "" for no tool.
        policy: the digest of the policy that asks.
        bound: what an approval is good for: tenant, run, address, action and definition in one.
        terms: of everybody who asks; each must be given.
        requester: for whom the action would be done; never who may approve it.
        expires_ms: how long after this event's time.
        stops: the run is interrupted until it is answered or resumed.
        edit: the seq of the answer that this action is the edit of.
        answered: by its edit, whose author is all who must approve.
        refused: why an edit before it does not count.
    """

    address: str
    action: Action
    digest: str
    bound: str
    requester: str
    expires_ms: int
    definition: str = ""
    policy: str = ""
    terms: tuple[ApprovalTerms, ...] = ()
    decision: DecisionRecord = DecisionRecord()
    stops: bool = False
    edit: int = 0
    answered: bool = False
    refused: str = ""


class ApprovalAnswered(Event, frozen=True, tag="approval_answered"):
    """Somebody answered an approval; `asked` is the seq of what they saw.

    Attributes:
        by, groups: who answered, as the caller of the API said.
        reason: for a denial, the model reads it.
        args: for an edit, the arguments to use instead.
    """

    address: str
    asked: int
    answer: Choice
    by: str
    groups: tuple[str, ...] = ()
    reason: str = ""
    args: Raw = NULL


class ApprovalExpired(Event, frozen=True, tag="approval_expired"):
    """An approval was not given, or not used, in time."""

    address: str
    asked: int


class Granted(Event, frozen=True, tag="granted"):
    """Somebody allowed a tool in this run without further asking, until a time (us UTC).

    It answers only asks that `by` could have approved, and only for this definition of the tool.
    """

    tool: str
    definition: str
    until: int
    by: str
    groups: tuple[str, ...] = ()
    reason: str = ""


class GrantRevoked(Event, frozen=True, tag="grant_revoked"):
    """Somebody took back the grant that stands at the seq `grant`."""

    grant: int
    by: str
    reason: str = ""


class ActionDeferred(Event, frozen=True, tag="action_deferred"):
    """An action is decided again `after_ms` from here or at one of the signals, the first."""

    address: str
    action: Action
    decision: DecisionRecord
    after_ms: int | None = None
    signals: tuple[str, ...] = ()


class DeferralEnded(Event, frozen=True, tag="deferral_ended"):
    """It is time to decide about a deferred action again; `consumed` is the signal it took."""

    address: str
    consumed: int | None = None
