"""What a person's word, a grant or a later time means for an action: asked, answered, let through.

Decides with the gate, from the run's fold and the time of the next append. An approval turns ask
into allow and never deny into allow: every answer is followed by another decision.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from gatebook.errors import GatebookError, InvalidInput
from gatebook.kernel.actions import MAX_SLEEP_DAYS, Action, CallTool, action_digest, describe
from gatebook.kernel.approvals.events import (
    ActionDeferred,
    ApprovalAnswered,
    ApprovalAsked,
    ApprovalExpired,
    DeferralEnded,
)
from gatebook.kernel.approvals.standing import (
    NOBODY_ASKED,
    Asked,
    Grant,
    binding,
    common_choices,
    may_answer,
    name_of,
    same_person,
)
from gatebook.kernel.approvals.terms import (
    DEFAULT_DEFER_MS,
    MIN_DEFER_MS,
    ApprovalTerms,
    Choice,
    DeferTerms,
)
from gatebook.kernel.budget import NOTHING
from gatebook.kernel.codec import NULL, Raw, plain
from gatebook.kernel.decisions import ASKING
from gatebook.kernel.events import (
    AnyEvent,
    ErrorRecord,
    Interrupted,
    RunStarted,
)
from gatebook.kernel.gate import (
    Again,
    Answers,
    Judged,
    decide_attempt,
    decision_record,
    judge,
    nobody,
    request,
)
from gatebook.kernel.grounds import Grounds
from gatebook.kernel.pins import definition_digest
from gatebook.kernel.refusals import Refused, refusal
from gatebook.kernel.rules.past import user_of
from gatebook.kernel.state import RunState
from gatebook.kernel.status import Status

MAX_MS = MAX_SLEEP_DAYS * 86_400_000  # an approval waits no longer than a run may sleep

T = TypeVar("T")
Events = tuple[AnyEvent, ...]


def requester_of(started: RunStarted) -> str:
    """Return for whom a run acts: the `user` of its context, else the program itself."""
    return user_of(plain(started.context)) or started.program


def ready(pending: Mapping[str, T], state: RunState) -> list[T]:
    """Return what can be decided about now: not what waits for people, a time or a signal."""
    approvals = state.head.approvals
    if approvals is NOBODY_ASKED:
        return list(pending.values())
    if state.head.status is not Status.RUNNING:
        return []
    return [want for address, want in pending.items() if not approvals.holds(address)]


def lapses(state: RunState, now: int) -> Iterator[AnyEvent]:
    """Yield what time and signals do to approvals and deferrals; fold each before the next."""
    approvals = state.head.approvals
    if state.head.status is not Status.RUNNING:
        return
    for address, entry in approvals.asked.items():
        if entry.expires > now or entry.phase not in ("open", "approved", "edited"):
            continue
        yield ApprovalExpired(address=address, asked=entry.seq)
        if entry.silence == "interrupt":
            name = describe(state.asked[address][0].action)
            detail = _lapsed(state, address)
            error = GatebookError("E_INTERRUPTED_SILENCE", tool=name, detail=detail)
            yield Interrupted(error=ErrorRecord.of(error))
            return
    for address, held in approvals.deferred.items():
        taken = next((name for name in held.signals if state.signals.get(name)), None)
        if taken is not None:
            yield DeferralEnded(address=address, consumed=state.signals[taken][0][0])
        elif held.due is not None and held.due <= now:
            yield DeferralEnded(address=address)


def _lapsed(state: RunState, address: str) -> str:
    """Return whose fault it is that an approval expired: nobody gave it, or nobody used it."""
    entry, (_, answer) = state.head.approvals.asked[address], state.asked[address]
    edited = answer is not None and answer.answer == "edit"
    if answer is None or (not edited and len(entry.given) < len(entry.approvers)):
        return "nobody approved it in time"
    until = datetime.fromtimestamp(entry.expires // 1_000_000, UTC).isoformat(" ").split("+")[0]
    did = "edited" if edited else "approved"
    return f"{answer.by} {did} it, but nothing used that before {until} UTC"


def admit_want(address: str, action: Action, grounds: Grounds, now: int) -> Events:
    """Decide about one action; return what to append: a request, a denial, or what it waits for.

    Never raises for anything the action, the policy or a person does.
    """
    try:
        if address in grounds.state.asked:
            return _answered(address, action, grounds, now)
        judged = judge(address, action, grounds)
        if judged.decision.verdict in ("allow", "modify"):
            return (request(address, judged, grounds),)
        return _held(address, judged, grounds, now)
    except Refused as refused:
        return (refused.event(address, grounds),)


def decide_again(address: str, action: Action, attempt: int, grounds: Grounds, now: int) -> Again:
    """Decide about a further attempt; an approval or grant covers it while it is still good."""
    approvals, asked = grounds.state.head.approvals, grounds.state.requests[address]
    if approvals is NOBODY_ASKED and not asked.decision.grant:
        return decide_attempt(address, action, attempt, grounds)
    entry, error = approvals.asked.get(address), None
    run, grant = grounds.base.run_id, approvals.grants.get(asked.decision.grant)
    if asked.decision.grant:
        if grant is None or now >= grant.until:
            error = GatebookError("E_GRANT_UNKNOWN", run=run, grant=asked.decision.grant)
        elif grant.definition != _definition(asked.action, grounds):
            name = name_of(run, asked.decision.grant)
            error = GatebookError("E_GRANT_DEFINITION", grant=name, tool=describe(asked.action))
    elif entry is not None and now >= entry.expires:
        error = GatebookError("E_APPROVAL_EXPIRED", approval=name_of(run, entry.seq))
    elif entry is not None and entry.bound != _bound(address, asked.action, grounds):
        name = name_of(run, entry.seq)
        error = GatebookError("E_APPROVAL_TOOL", approval=name, tool=describe(asked.action))
    if error is not None:
        return Again(NOTHING, refusal=ErrorRecord.of(error))

    answers: Answers = nobody
    if grant is not None:
        answers = _granted(grant, _requester(grounds))
    elif entry is not None:
        other = describe(action) != describe(asked.action)  # a further route of a model call
        answers = _given(entry) if other else lambda _: True
    return decide_attempt(address, action, attempt, grounds, answers=answers)


def _given(entry: Asked) -> Answers:
    """Return what an approval answers of a further route: those asked were asked about it too."""
    return lambda decision: all(
        not term.approvers or term.approvers in entry.approvers for term in decision.approvals
    )


def _granted(grant: Grant, requester: str) -> Answers:
    return lambda decision: _may_say("approve", decision.approvals, grant, requester)


def _held(address: str, judged: Judged, grounds: Grounds, now: int) -> Events:
    """Return what holds an action that its decision does not let through."""
    decision = judged.decision
    if decision.verdict == "defer":
        return (_deferral(address, judged, grounds),)
    question = _question(address, judged, grounds)
    if decision.verdict == "interrupt":
        return question, _stop(judged, grounds)
    grant = _grant_for(question, grounds.state, now)
    if not grant:
        return (question,)
    if decision.defers:
        return (_deferral(address, judged, grounds),)
    return (request(address, judged, grounds, grant=grant),)


def _question(address: str, judged: Judged, grounds: Grounds) -> ApprovalAsked:
    """Return what people are asked about an action, with all that their answer is bound to."""
    action, spec = judged.action, judged.spec
    terms = _terms(judged, grounds)
    return ApprovalAsked(
        address=address,
        action=action,
        digest=action_digest(action),
        bound=_bound(address, action, grounds),
        requester=_requester(grounds),
        expires_ms=min(term.expires_ms for term in terms),
        definition="" if spec is None else definition_digest(spec),
        policy=grounds.policy_digest,
        terms=terms,
        decision=decision_record(judged, grounds),
        stops=judged.decision.verdict == "interrupt",
    )


def _requester(grounds: Grounds) -> str:
    started = grounds.state.started
    assert started is not None
    return grounds.redactor.text(requester_of(started))


def _bound(address: str, action: Action, grounds: Grounds) -> str:
    base = grounds.base
    return binding(base.tenant, base.run_id, address, action, _definition(action, grounds))


def _definition(action: Action, grounds: Grounds) -> str:
    """Return the digest of what an action is a call of as it is defined now, "" for no tool."""
    if isinstance(action, CallTool) and action.tool in grounds.tools:
        return definition_digest(grounds.tools[action.tool].spec)
    return ""


def _terms(judged: Judged, grounds: Grounds) -> tuple[ApprovalTerms, ...]:
    """Return who is asked, as it may be stored; a policy of one's own may say anything."""
    decision, clean = judged.decision, grounds.redactor
    stops = decision.verdict == "interrupt"
    plain_terms = ApprovalTerms(
        rule=decision.rule,
        message=decision.reason,
        choices=("approve", "edit", "deny") if stops else ("approve", "deny"),
    )
    why = f"{decision.reason}; " if stops and decision.approvals and decision.reason else ""
    given: Any = decision.approvals or (plain_terms,)
    try:
        terms = msgspec.convert(msgspec.to_builtins(given), tuple[ApprovalTerms, ...])
    except (msgspec.ValidationError, TypeError):
        terms = ()
    if not terms or not all(0 < term.expires_ms <= MAX_MS for term in terms):
        raise refusal(judged.action, GatebookError("E_POLICY_DECISION", value="terms of an ask"))
    tool = isinstance(judged.action, CallTool)
    return tuple(
        msgspec.structs.replace(
            term,
            message=clean.text(("" if place else why) + term.message),
            choices=tuple(c for c in term.choices if tool or c != "edit"),
        )
        for place, term in enumerate(terms)
    )


def _stop(judged: Judged, grounds: Grounds) -> Interrupted:
    detail = grounds.redactor.text(judged.decision.reason) or "no reason given"
    error = GatebookError("E_INTERRUPTED", tool=describe(judged.action), detail=detail)
    return Interrupted(error=ErrorRecord.of(error))


def _deferral(address: str, judged: Judged, grounds: Grounds) -> ActionDeferred:
    """Return until when an action waits: the first time or signal that any deferring rule names."""
    try:
        given = msgspec.to_builtins(judged.decision.defers)
        terms = msgspec.convert(given, tuple[DeferTerms, ...])
    except (msgspec.ValidationError, TypeError):
        error = GatebookError("E_POLICY_DECISION", value="terms of a defer")
        raise refusal(judged.action, error) from None
    times = [term.after_ms for term in terms if term.after_ms is not None]
    signals = tuple(sorted({term.signal for term in terms if term.signal}))
    after = min(times, default=None if signals else DEFAULT_DEFER_MS)
    return ActionDeferred(
        address=address,
        action=judged.action,
        decision=decision_record(judged, grounds),
        after_ms=None if after is None else min(max(after, MIN_DEFER_MS), MAX_MS),
        signals=signals,
    )


def _grant_for(question: ApprovalAsked, state: RunState, now: int) -> int:
    """Return the seq of a grant that answers a question, 0 for none.

    It does where its author could have said yes: a grant is no way round other approvers.
    """
    action = question.action
    for seq, grant in state.head.approvals.grants.items():
        fits = isinstance(action, CallTool) and grant.tool == action.tool
        if not fits or grant.definition != question.definition or now >= grant.until:
            continue
        if _may_say("approve", question.terms, grant, question.requester):
            return seq
    return 0


def _may_say(
    answer: Choice, terms: Sequence[ApprovalTerms], who: Asked | Grant, requester: str
) -> bool:
    """Whether somebody alone may give this answer to all who ask."""
    if same_person(who.by, requester) or answer not in common_choices(terms):
        return False
    return all(may_answer(term.approvers, who.by, who.groups) for term in terms)


def _answered(address: str, action: Action, grounds: Grounds, now: int) -> Events:
    """Return what follows from an answer, or from silence: always another decision."""
    asked, answer = grounds.state.asked[address]
    entry = grounds.state.head.approvals.asked[address]
    if entry.phase == "expired":
        detail = _lapsed(grounds.state, address)
        raise refusal(
            action, GatebookError("E_APPROVAL_LATE", tool=describe(action), detail=detail)
        )
    if entry.phase == "denied" or answer is None:
        raise refusal(action, _denial(action, answer))
    if entry.phase == "edited":
        return _edited(address, action, grounds)
    if asked.edit and isinstance(action, CallTool) and isinstance(asked.action, CallTool):
        action = msgspec.structs.replace(action, args=asked.action.args)
    judged = judge(address, action, grounds)
    _check_same(asked, judged, name_of(grounds.base.run_id, entry.seq))
    if asked.edit:
        judged = _as_edited(judged)
    verdict = judged.decision.verdict
    if verdict == "defer" or judged.decision.defers:
        return (_deferral(address, judged, grounds),)
    stricter = verdict == "interrupt" and not entry.stops
    if stricter or (verdict in ASKING and _asks_more(asked, judged, grounds)):
        return _held(address, judged, grounds, now)
    return (request(address, judged, grounds, approval=entry.bound, answers=_given(entry)),)


def _asks_more(asked: ApprovalAsked, judged: Judged, grounds: Grounds) -> bool:
    """Whether somebody asks who was not asked then: another policy, or a rule that fires by now."""
    if asked.policy != grounds.policy_digest:
        return True
    return not _askers(_terms(judged, grounds)) <= _askers(asked.terms)


def _askers(terms: Iterable[ApprovalTerms]) -> set[tuple[str, tuple[str, ...]]]:
    return {(rule, term.approvers) for term in terms for rule in term.rule.split(",")}


def _edited(address: str, action: Action, grounds: Grounds) -> Events:
    """Return what follows from an edit: its author approved it, if nobody else has to."""
    asked, answer = grounds.state.asked[address]
    entry = grounds.state.head.approvals.asked[address]
    if answer is None or not isinstance(action, CallTool):
        raise refusal(action, _denial(action, answer))
    try:
        if action.tool in grounds.tools:
            grounds.tools[action.tool].validate(bytes(answer.args))
    except InvalidInput as exc:
        error = GatebookError("E_APPROVAL_EDIT", tool=action.tool, detail=str(exc))
        refused = grounds.redactor.text(str(error))
        return (msgspec.structs.replace(asked, refused=refused, answered=False, time=0, epoch=0),)
    judged = judge(address, msgspec.structs.replace(action, args=answer.args), grounds)
    by_policy = judged.patch is not NULL
    judged = _as_edited(judged)
    decision = judged.decision
    if decision.verdict == "defer" or decision.defers:
        return (_deferral(address, judged, grounds),)
    question = _question(address, judged, grounds)
    question = msgspec.structs.replace(question, edit=entry.answer)
    stricter = decision.verdict == "interrupt" and not entry.stops
    terms, requester = question.terms, question.requester
    may = any(_may_say(answer, terms, entry, requester) for answer in ("approve", "edit"))
    if by_policy or stricter or not may:
        return (question, _stop(judged, grounds)) if stricter else (question,)
    question = msgspec.structs.replace(question, answered=True)
    return question, request(address, judged, grounds, approval=question.bound)


def _as_edited(judged: Judged) -> Judged:
    """Return a decision about an edited call, recorded with how its arguments were changed."""
    assert isinstance(judged.action, CallTool)
    patch = b'[{"op":"replace","path":"","value":%b}]' % bytes(judged.action.args)
    return msgspec.structs.replace(judged, patch=Raw(patch))


def _check_same(asked: ApprovalAsked, judged: Judged, name: str) -> None:
    """Refuse to do anything else than what a person saw."""
    action, spec = judged.action, judged.spec
    shown, now = asked.digest, action_digest(action)
    definition = "" if spec is None else definition_digest(spec)
    if definition != asked.definition or describe(action) != describe(asked.action):
        error = GatebookError("E_APPROVAL_TOOL", approval=name, tool=describe(action))
        raise refusal(action, error)
    if now != shown:
        error = GatebookError("E_APPROVAL_MISMATCH", approval=name, shown=shown[:12], now=now[:12])
        raise refusal(action, error)


def _denial(action: Action, answer: ApprovalAnswered | None) -> GatebookError:
    reason = "" if answer is None else answer.reason
    detail = reason or "no reason given"
    return GatebookError("E_APPROVAL_DENIED", tool=describe(action), detail=detail)
