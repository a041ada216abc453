"""Finds the decisions of a recorded run, each with all that rules could ask when it was made.

A fold over the run's events: what a decision knew is what the journal held before it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from gatebook.kernel.actions import Action, CallLLM, CallTool, describe
from gatebook.kernel.approvals.events import ActionDeferred, ApprovalAsked
from gatebook.kernel.budget import NOTHING, Amount, Limits, charged
from gatebook.kernel.codec import plain
from gatebook.kernel.events import (
    ActionDenied,
    ActionFailed,
    ActionRequested,
    ActionSucceeded,
    AnyEvent,
    AttemptFailed,
    DecisionRecord,
    RunStarted,
    Verdict,
)
from gatebook.kernel.head import Head
from gatebook.kernel.history import RowKind, row_kind
from gatebook.kernel.policy import PolicyContext
from gatebook.kernel.rules.facts import Outcome, Request, RunFacts, ToolFacts, tool_facts
from gatebook.kernel.rules.past import Labeller, Past, of_tools
from gatebook.kernel.rules.policy import requested, started
from gatebook.kernel.spending.prices import Price, dollars
from gatebook.kernel.spending.reserving import estimate_tokens
from gatebook.kernel.spending.soft import RULE as SOFT
from gatebook.kernel.tools import Effect, ToolSpec

DecisionKind = Literal["start", "result"] | RowKind
Asked = ActionRequested | ActionDenied | ApprovalAsked | ActionDeferred

PIN = "E_TOOL_PIN"
OF_A_POLICY = ("E_BUDGET", "E_MODIFY_LOOP")  # refusals without a rule that a policy answers for
OF_OTHERS = ("E_HOOK_", "E_LEDGER", "E_APPROVAL_", "E_GRANT_")  # with a reason, but not a policy's


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """One decision of the journal.

    Attributes:
        seq: of the event that holds it.
        what: the tool, the route, the wait, "start of ...".
        was: what was done.
        record: what the journal says of it; None for a start or a result that merely passed.
        policy: the digest of the policy that decided.
        by_policy: False when something else refused it (its arguments, a hook, a person):
            another policy would not have mattered.
        repeats: a person was asked about the action before, and that was the decision.
        floor: what something else made of it, which no policy can undercut: a soft limit of the
            run, a changed tool.
        pin: the digest of the tool's definition that the run began with, "" for not known.
        requests: what is decided about; of a model call each of its routes, in order.
        want: what the action would reserve; `limits` and `used` are the run's then.
        action: the action; None for a start.
    """

    seq: int
    kind: DecisionKind
    what: str
    was: Verdict
    record: DecisionRecord | None = None
    code: str = ""
    told: str = ""
    policy: str = ""
    by_policy: bool = True
    repeats: bool = False
    floor: Verdict = "allow"
    pin: str = ""
    requests: tuple[Request, ...]
    want: Amount = NOTHING
    limits: Limits = Limits()
    used: Amount = NOTHING
    action: Action | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a fold over a run cannot know from its journal.

    Attributes:
        tenant, run_id: whose run it is.
        tools: what the run's program declares; without one its facts are unknown.
        limits: what another policy limits; what it does not limit stays as recorded.
        policy: the digest of that policy; a run that it decided keeps its own limits.
        labels: gives the labels of a result instead of the recorded ones.
        results: whether results are decisions too.
    """

    run_id: str
    tenant: str = "default"
    tools: Mapping[str, ToolSpec] = {}
    limits: Limits = Limits()
    policy: str = ""
    labels: Labeller | None = None
    results: bool = False


def decisions(events: Iterable[AnyEvent], told: Told) -> Iterator[Decided]:
    """Yield every decision of a run, in journal order.

    Raises:
        IntegrityError: the events cannot follow one another.
    """
    recorded = list(events)
    fold = _Fold(told, _prices(recorded), _effects(recorded))
    for seq, event in enumerate(recorded, start=1):
        yield from fold.take(seq, event)


def _prices(events: list[AnyEvent]) -> dict[str, Price]:
    """Return the price that each model call was charged at first, by address."""
    found: dict[str, Price] = {}
    for event in events:
        if isinstance(event, ActionSucceeded | ActionFailed | AttemptFailed) and event.price:
            found.setdefault(event.address, event.price)
    return found


def _effects(events: list[AnyEvent]) -> dict[str, Effect]:
    """Return what the tools of actions that were let through declared, by address."""
    return {event.address: event.effect for event in events if isinstance(event, ActionRequested)}


class _Fold:
    """Where a run stands, as its decisions saw it."""

    def __init__(
        self, told: Told, prices: Mapping[str, Price], effects: Mapping[str, Effect]
    ) -> None:
        self._told, self._prices, self._effects = told, prices, effects
        self._head = Head()
        self._past = Past({name: spec.returns for name, spec in told.tools.items()})
        self._pins: dict[str, str] = {}
        self._waiting: set[str] = set()  # addresses of actions that a person was asked about
        self._policy = ""
        self._base: PolicyContext
        self._open: dict[str, ActionRequested] = {}

    def take(self, seq: int, event: AnyEvent) -> Iterator[Decided]:
        if isinstance(event, RunStarted):
            event = self._limited(event)
            yield self._start(seq, event)
        elif isinstance(event, ActionRequested | ActionDenied | ApprovalAsked | ActionDeferred):
            self._policy = event.decision.policy or self._policy
            yield self._action(seq, event)
            if isinstance(event, ApprovalAsked):
                self._waiting.add(event.address)
        elif isinstance(event, ActionSucceeded | ActionFailed):
            yield from self._result(seq, event)
            event = self._labelled(event)
        if isinstance(event, ActionRequested):
            self._open[event.address] = event
        self._head.apply(event)
        self._past.apply(event)

    def _limited(self, event: RunStarted) -> RunStarted:
        """Return the start with the limits that the other policy would have set."""
        if event.policy == self._told.policy:
            return event
        return msgspec.structs.replace(event, limits=event.limits.raised(self._told.limits))

    def _start(self, seq: int, event: RunStarted) -> Decided:
        told, self._policy, self._pins = self._told, event.policy, event.pins
        if told.labels is not None:
            self._past = Past(of_tools(told.labels, told.tools, event.program))
        self._base = PolicyContext(
            run_id=told.run_id,
            tenant=told.tenant,
            program=event.program,
            address="",
            limits=event.limits,
            labels=event.labels,
        )
        request = started(event.program, plain(event.input), self._base)
        return Decided(
            seq=seq,
            kind="start",
            what=request.name,
            was="allow" if event.decision is None else event.decision.verdict,
            record=event.decision,
            policy=event.policy,
            requests=(request,),
            limits=event.limits,
        )

    def _action(self, seq: int, event: Asked) -> Decided:
        action, record = event.action, event.decision
        context = self._context(event.address, action, self._effects.get(event.address))
        routes = action.fallbacks if isinstance(action, CallLLM) else ()
        calls = [action, *(action.on(route) for route in routes if isinstance(action, CallLLM))]
        error = event.error if isinstance(event, ActionDenied) else None
        return Decided(
            seq=seq,
            kind=row_kind(action),
            what=describe(action),
            was=record.verdict,
            record=record,
            code="" if error is None else error.code,
            told="" if error is None else error.message,
            policy=self._policy,
            by_policy=error is None or refused_by_policy(record),
            repeats=self._repeats(event),
            floor=record.verdict if _is_of_others(record) else "allow",
            pin=self._pins.get(action.tool, "") if isinstance(action, CallTool) else "",
            requests=tuple(requested(call, context) for call in calls),
            want=self._want(event.address, action),
            limits=self._head.limits,
            used=self._head.used,
            action=action,
        )

    def _repeats(self, event: Asked) -> bool:
        """Whether a person was asked about the action before, or is asked the same again."""
        if isinstance(event, ApprovalAsked):
            return bool(event.refused)
        return event.address in self._waiting

    def _context(self, address: str, action: Action, effect: Effect | None) -> PolicyContext:
        about = None
        if isinstance(action, CallTool):
            spec = self._told.tools.get(action.tool)
            about = ToolFacts(effect=effect) if spec is None else tool_facts(spec)
        run = self._past.facts(address)
        return msgspec.structs.replace(
            self._base,
            address=address,
            limits=self._head.limits,
            used=self._head.used,
            est_tokens=estimate_tokens(action) if isinstance(action, CallLLM) else 0,
            tool=about,
            run=self._kept(run, address, action),
        )

    def _kept(self, run: RunFacts, address: str, action: Action) -> RunFacts:
        """Return facts that stay as they are while the fold goes on."""
        past = run.history
        history = past and msgspec.structs.replace(
            past, seen=set(past.seen), counts=dict(past.counts), brought=dict(past.brought)
        )
        price = self._prices.get(address) if isinstance(action, CallLLM) else None
        cost = run.est_cost_usd
        if price is not None and isinstance(action, CallLLM):
            cost = dollars(charged(action, price, None))
        return msgspec.structs.replace(run, history=history, est_cost_usd=cost)

    def _want(self, address: str, action: Action) -> Amount:
        wall = 1 if self._head.limits.wall_ms is not None else 0
        if isinstance(action, CallTool):
            return Amount(tool_calls=1, wall_ms=wall)
        if not isinstance(action, CallLLM):
            return NOTHING
        price = self._prices.get(address)
        usd = 0 if price is None else charged(action, price, None)
        return Amount(llm_tokens=estimate_tokens(action), wall_ms=wall, usd_micros=usd)

    def _result(self, seq: int, event: ActionSucceeded | ActionFailed) -> Iterator[Decided]:
        request = self._of_result(event) if self._told.results else None
        if request is not None:
            yield Decided(
                seq=seq,
                kind="result",
                what=f"result of {request.name}",
                was="allow" if event.decision is None else event.decision.verdict,
                record=event.decision,
                policy=self._policy,
                requests=(request,),
                limits=self._head.limits,
                used=self._head.used,
                action=self._open[event.address].action,
            )

    def _of_result(self, event: ActionSucceeded | ActionFailed) -> Request | None:
        asked = self._open.get(event.address)
        if asked is None or not isinstance(asked.action, CallTool | CallLLM):
            return None
        context = self._context(event.address, asked.action, asked.effect)
        outcome: Outcome = "succeeded" if isinstance(event, ActionSucceeded) else "failed"
        more = {"output": plain(event.output)} if isinstance(event, ActionSucceeded) else {}
        return requested(asked.action, context, outcome=outcome, **more)

    def _labelled(self, event: ActionSucceeded | ActionFailed) -> ActionSucceeded | ActionFailed:
        """Return an outcome with the labels it would carry."""
        if self._told.labels is None:
            return event
        request = self._of_result(event)
        if request is None:
            return event
        found = set(self._told.labels(request))
        if request.about.labels is None:
            found.update(event.labels)
        return msgspec.structs.replace(event, labels=tuple(sorted(found)))


def _is_of_others(record: DecisionRecord) -> bool:
    """Whether a soft limit of the run or a changed tool made the decision, and no file."""
    return record.rule == SOFT or record.code == PIN or record.reason.endswith(f"[{PIN}]")


def refused_by_policy(record: DecisionRecord) -> bool:
    """Whether a denial is a policy's; what the gate refuses by itself has no rule and no reason."""
    if record.code.startswith(OF_OTHERS):
        return False
    said = record.verdict != "deny" or record.rule or record.reason
    return bool(said) or record.code.startswith("E_POLICY_") or record.code in OF_A_POLICY
