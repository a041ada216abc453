"""Approvals as an append knows them: who may answer what, single use, and what each event changes.

Kept in a run's head, so that every guard holds inside the append. Knows no policy and no clock:
times are the stamps of events. What an answer means for an action stands in `consent`.
"""

import unicodedata
from collections.abc import Container, Iterable
from typing import Any, Literal, Protocol

import msgspec

from gatebook.errors import InvalidInput, StoreError
from gatebook.kernel.actions import Action, CallTool, action_digest
from gatebook.kernel.approvals.events import (
    ActionDeferred,
    ApprovalAnswered,
    ApprovalAsked,
    ApprovalExpired,
    DeferralEnded,
    Granted,
    GrantRevoked,
)
from gatebook.kernel.approvals.terms import ApprovalTerms, Choice, Silence
from gatebook.kernel.codec import digest
from gatebook.kernel.events import ActionDenied, ActionRequested, HookAnswered, Requests
from gatebook.kernel.hooks.answers import place_of_acts
from gatebook.kernel.records import Event

MAX_GRANTS = 100  # of one run; each append stores them
ANSWERS: tuple[Choice, ...] = ("approve", "edit", "deny")
GOES_ON = ("running", "interrupted")  # where an answer still means something

Phase = Literal["open", "approved", "edited", "denied", "expired", "used"]


class Asked(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An approval while its action may still start: what answers and requests are checked by.

    Attributes:
        seq: of its `ApprovalAsked`, which names it.
        digest, bound: of the action and of all that an approval is bound to.
        expires: when it is no longer good (microseconds UTC).
        approvers: who may give each of its terms, () for anybody but the requester.
        given: the places of the terms that were given.
        by, groups, answer: who answered last, and the seq of the answer.
    """

    seq: int
    digest: str
    bound: str
    expires: int
    requester: str
    approvers: tuple[tuple[str, ...], ...] = ()
    choices: tuple[Choice, ...] = ()
    silence: Silence = "deny"
    stops: bool = False
    phase: Phase = "open"
    given: tuple[int, ...] = ()
    by: str = ""
    groups: tuple[str, ...] = ()
    answer: int = 0


class Deferred(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """When a deferred action is decided again: at `due` or at a signal."""

    due: int | None = None
    signals: tuple[str, ...] = ()


class Grant(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A grant in force: see `Granted`."""

    tool: str
    definition: str
    until: int
    by: str
    groups: tuple[str, ...] = ()


class Approvals(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a run's head holds of approvals; replaced, never changed. Grants by seq."""

    asked: dict[str, Asked] = {}
    deferred: dict[str, Deferred] = {}
    grants: dict[int, Grant] = {}

    def holds(self, address: str) -> bool:
        """Whether nothing is to be decided at an address yet."""
        entry = self.asked.get(address)
        return address in self.deferred or (entry is not None and entry.phase == "open")


NOBODY_ASKED = Approvals()  # the one that stands in every head without any


class HeadPart(Protocol):
    """What is known here of a run's head; only `approvals` and `kept_signals` are changed."""

    approvals: Approvals
    kept_signals: int

    @property
    def seq(self) -> int:
        """The seq of the last event."""

    @property
    def status(self) -> str:
        """Where the run stands."""

    @property
    def open(self) -> Container[str]:
        """The addresses of its open actions."""


def binding(tenant: str, run: str, address: str, action: Action, definition: str) -> str:
    """Return what an approval is good for, and nothing else is."""
    return digest("approval", tenant, run, address, action_digest(action), definition)


def same_person(one: str, other: str) -> bool:
    """Whether two names would pass for one another."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()


def may_answer(approvers: Iterable[str], by: str, groups: Iterable[str]) -> bool:
    """Whether somebody is among those who may give a term; nobody named is anybody."""
    wanted = set(approvers)
    return not wanted or by in wanted or not wanted.isdisjoint(groups)


def common_choices(terms: Iterable[ApprovalTerms]) -> tuple[Choice, ...]:
    """Return the answers that every asker takes; a denial always is one."""
    sets = [set(term.choices) for term in terms]
    return tuple(c for c in ANSWERS if c == "deny" or all(c in given for given in sets))


def name_of(run: str, asked: int) -> str:
    """Return the name of an approval: the run and the seq at which it was asked."""
    return f"{run}#{asked}"


def _put(head: HeadPart, **changed: Any) -> None:
    after = msgspec.structs.replace(head.approvals, **changed)
    empty = not (after.asked or after.deferred or after.grants)
    head.approvals = NOBODY_ASKED if empty else after


def _keep(head: HeadPart, address: str, entry: Asked | None) -> None:
    asked = {a: e for a, e in head.approvals.asked.items() if a != address}
    if entry is not None:
        asked[address] = entry
    _put(head, asked=asked)


def fold_asked(head: HeadPart, event: ApprovalAsked) -> None:
    """Open an approval, in place of one before it; an edit's author has approved it."""
    before = head.approvals.asked.get(event.address)
    silences = {term.on_expiry for term in event.terms}
    entry = Asked(
        seq=head.seq,
        digest=event.digest,
        bound=event.bound,
        expires=event.time + event.expires_ms * 1000,
        requester=event.requester,
        approvers=tuple(term.approvers for term in event.terms),
        choices=common_choices(event.terms),
        silence="interrupt" if silences == {"interrupt"} else "deny",
        stops=event.stops,
    )
    if event.answered and before is not None:
        entry = msgspec.structs.replace(
            entry, phase="approved", by=before.by, groups=before.groups, answer=before.answer
        )
    _keep(head, event.address, entry)


def fold_answer(head: HeadPart, event: ApprovalAnswered) -> None:
    """Take in an answer: an approval stands when every term is given."""
    entry = answered(head.approvals.asked[event.address], event)
    _keep(head, event.address, msgspec.structs.replace(entry, answer=head.seq))


def answered(entry: Asked, event: ApprovalAnswered) -> Asked:
    """Return an approval after an answer; it stays open while somebody else is asked as well."""
    phase: Phase = "denied" if event.answer == "deny" else "edited"
    given = entry.given
    if event.answer == "approve":
        given = tuple(sorted({*given, *_answerable(entry, event)}))
        phase = "approved" if len(given) == len(entry.approvers) else "open"
    return msgspec.structs.replace(
        entry, phase=phase, given=given, by=event.by, groups=event.groups
    )


def fold_expired(head: HeadPart, event: ApprovalExpired) -> None:
    """Close an approval nobody gave or used."""
    entry = head.approvals.asked[event.address]
    _keep(head, event.address, msgspec.structs.replace(entry, phase="expired"))


def fold_requested(head: HeadPart, address: str) -> None:
    """Use an approval up."""
    entry = head.approvals.asked.get(address)
    if entry is not None:
        _keep(head, address, msgspec.structs.replace(entry, phase="used"))


def fold_closed(head: HeadPart, address: str) -> None:
    """Forget the approval of an action that is over; a used one covers its attempts until then."""
    if address in head.approvals.asked:
        _keep(head, address, None)


def fold_denied(head: HeadPart, event: ActionDenied) -> None:
    """Forget the approval of an action that was refused."""
    if head.approvals is not NOBODY_ASKED:
        fold_closed(head, event.address)


def fold_resumed(head: HeadPart) -> None:
    """Ask anew, where the policy still wants to, for what had stopped the run."""
    again = [
        address
        for address, entry in head.approvals.asked.items()
        if entry.phase == "expired" or (entry.stops and entry.phase == "open")
    ]
    for address in again:
        _keep(head, address, None)


def fold_granted(head: HeadPart, event: Granted) -> None:
    """Keep a grant."""
    grant = Grant(event.tool, event.definition, event.until, event.by, event.groups)
    _put(head, grants={**head.approvals.grants, head.seq: grant})


def fold_revoked(head: HeadPart, event: GrantRevoked) -> None:
    """Drop a grant."""
    grants = {seq: grant for seq, grant in head.approvals.grants.items() if seq != event.grant}
    _put(head, grants=grants)


def fold_deferred(head: HeadPart, event: ActionDeferred) -> None:
    """Hold an action until its time or a signal."""
    due = None if event.after_ms is None else event.time + event.after_ms * 1000
    deferred = {**head.approvals.deferred, event.address: Deferred(due, event.signals)}
    _put(head, deferred=deferred)


def fold_undeferred(head: HeadPart, event: DeferralEnded) -> None:
    """Let an action be decided again."""
    deferred = {a: d for a, d in head.approvals.deferred.items() if a != event.address}
    _put(head, deferred=deferred)
    if event.consumed is not None:
        head.kept_signals -= 1


def fold_hook_answered(head: HeadPart, event: HookAnswered) -> None:
    """Forget what was to be asked about acts of a hook that waits for nothing any more.

    An approval that is used covers the attempts of an act that has started.
    """
    approvals = head.approvals
    if approvals is NOBODY_ASKED:
        return
    acts = place_of_acts(event.address, event.hook, event.attempt)
    asked = {
        a: e for a, e in approvals.asked.items() if e.phase == "used" or not a.startswith(acts)
    }
    deferred = {a: d for a, d in approvals.deferred.items() if not a.startswith(acts)}
    _put(head, asked=asked, deferred=deferred)


FROM_OUTSIDE: frozenset[type[Event]] = frozenset({ApprovalAnswered, Granted, GrantRevoked})
HEAD_FOLDS: dict[type[Event], Any] = {
    ApprovalAsked: fold_asked,
    ApprovalAnswered: fold_answer,
    ApprovalExpired: fold_expired,
    Granted: fold_granted,
    GrantRevoked: fold_revoked,
    ActionDeferred: fold_deferred,
    DeferralEnded: fold_undeferred,
}
APPROVAL_KINDS: frozenset[type[Event]] = frozenset(HEAD_FOLDS.keys())
HEAD_FOLDS[HookAnswered] = fold_hook_answered


def _answerable(entry: Asked, event: ApprovalAnswered) -> list[int]:
    """Return the places of the terms somebody may give."""
    return [
        place
        for place, approvers in enumerate(entry.approvers)
        if may_answer(approvers, event.by, event.groups)
    ]


def guard_asked(head: HeadPart, event: ApprovalAsked, run: str) -> None:
    """Refuse a question about other bytes than it shows, or one that answers itself."""
    entry = head.approvals.asked.get(event.address)
    wrong = ""
    if event.digest != action_digest(event.action):
        wrong = "its digest is not that of its action"
    elif event.address in head.open or (entry is not None and entry.phase in ("open", "used")):
        wrong = "the action is asked about or started already"
    elif event.answered and not _edited_by(entry, event):
        wrong = "nobody who may has edited the action"
    if wrong:
        raise StoreError("E_INVARIANT", run=run, detail=f"approval of {event.address}: {wrong}")


def _edited_by(entry: Asked | None, event: ApprovalAsked) -> bool:
    if entry is None or entry.phase != "edited" or entry.answer != event.edit:
        return False
    if same_person(entry.by, event.requester):
        return False
    return all(may_answer(term.approvers, entry.by, entry.groups) for term in event.terms)


def guard_answer(head: HeadPart, event: ApprovalAnswered, run: str) -> None:
    """Refuse an answer that comes too late, a second time or from the wrong person."""
    name = name_of(run, event.asked)
    entry = head.approvals.asked.get(event.address)
    if entry is None or entry.seq != event.asked or head.status not in GOES_ON:
        raise InvalidInput("E_APPROVAL_STATE", status="not open", run=run, approval=name)
    if entry.phase == "used":
        raise InvalidInput("E_APPROVAL_CONSUMED", by=entry.by, run=run, approval=name)
    if entry.phase == "expired" or event.time >= entry.expires:
        raise InvalidInput("E_APPROVAL_EXPIRED", run=run, approval=name)
    if entry.phase != "open":
        raise InvalidInput("E_APPROVAL_ANSWERED", by=entry.by, run=run, approval=name)
    if event.answer not in ANSWERS:
        raise InvalidInput("E_APPROVAL_DECISION", value=event.answer)
    if not event.by.strip():
        raise InvalidInput("E_APPROVAL_BY")
    if same_person(event.by, entry.requester):
        if event.answer == "deny":
            return  # whoever asks may take it back: a refusal opens nothing
        raise InvalidInput("E_APPROVAL_SELF", by=event.by, run=run, approval=name)
    if event.answer not in entry.choices:
        names = ", ".join(entry.choices)
        raise InvalidInput(
            "E_APPROVAL_CHOICE", value=event.answer, names=names, run=run, approval=name
        )
    places = _answerable(entry, event)
    if entry.approvers and not places:
        names = ", ".join(sorted({name for who in entry.approvers for name in who}))
        raise InvalidInput("E_APPROVAL_APPROVER", by=event.by, names=names, run=run, approval=name)
    if event.answer == "approve" and entry.approvers and set(places) <= set(entry.given):
        raise InvalidInput("E_APPROVAL_ANSWERED", by=entry.by, run=run, approval=name)


def guard_expired(head: HeadPart, event: ApprovalExpired, run: str) -> None:
    """Refuse to expire what is not there or still good."""
    entry = head.approvals.asked.get(event.address)
    waits = entry is not None and entry.phase in ("open", "approved", "edited")
    if entry is None or not waits or entry.seq != event.asked or event.time < entry.expires:
        detail = f"approval {event.asked} of {event.address} does not expire now"
        raise StoreError("E_INVARIANT", run=run, detail=detail)


def guard_granted(head: HeadPart, event: Granted, run: str) -> None:
    """Refuse a grant by nobody, or one that is over before it begins."""
    if not event.by.strip():
        raise InvalidInput("E_APPROVAL_BY")
    if event.until <= event.time:
        raise InvalidInput("E_GRANT_PAST", tool=event.tool)
    if head.status not in GOES_ON or len(head.approvals.grants) >= MAX_GRANTS:
        raise InvalidInput("E_GRANT_REFUSED", run=run, status=str(head.status), limit=MAX_GRANTS)


def guard_revoked(head: HeadPart, event: GrantRevoked, run: str) -> None:
    """Refuse to take back what is not granted: of two who do, the second is told."""
    if event.grant not in head.approvals.grants:
        raise InvalidInput("E_GRANT_UNKNOWN", run=run, grant=event.grant)


def check_request(head: HeadPart, event: ActionRequested, run: str) -> None:
    """Refuse a request that needs somebody's word and has none that is good for it, now.

    Called for every request that is no plain allow, and for all where something is asked.
    """
    entry, decision = head.approvals.asked.get(event.address), event.decision
    name = name_of(run, entry.seq if entry is not None else 0)
    if decision.grant:
        grant, action = head.approvals.grants.get(decision.grant), event.action
        named_tool = action.tool if isinstance(action, CallTool) else None
        if grant is None or grant.tool != named_tool or event.time >= grant.until:
            raise InvalidInput("E_GRANT_UNKNOWN", run=run, grant=decision.grant)
        return
    if entry is None:
        if decision.approval or decision.verdict in ("ask", "interrupt", "defer", "deny"):
            raise InvalidInput("E_APPROVAL_STATE", status="never given", run=run, approval=name)
        return
    if entry.phase == "used":
        raise InvalidInput("E_APPROVAL_CONSUMED", by=entry.by, run=run, approval=name)
    if event.time >= entry.expires:
        raise InvalidInput("E_APPROVAL_EXPIRED", run=run, approval=name)
    if entry.phase != "approved":
        raise InvalidInput("E_APPROVAL_STATE", status=entry.phase, run=run, approval=name)
    now = action_digest(event.action)
    if decision.approval != entry.bound or now != entry.digest:
        raise InvalidInput(
            "E_APPROVAL_MISMATCH", shown=entry.digest[:12], now=now[:12], run=run, approval=name
        )


def check_again(head: HeadPart, event: Requests, run: str) -> None:
    """Refuse a later attempt of an action whose approval is no longer good."""
    entry = head.approvals.asked.get(event.address)
    if entry is not None and event.time >= entry.expires:
        raise InvalidInput("E_APPROVAL_EXPIRED", run=run, approval=name_of(run, entry.seq))


GUARDS: dict[type[Event], Any] = {
    ApprovalAsked: guard_asked,
    ApprovalAnswered: guard_answer,
    ApprovalExpired: guard_expired,
    Granted: guard_granted,
    GrantRevoked: guard_revoked,
}
