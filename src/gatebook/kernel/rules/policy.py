"""A policy document behind the kernel's `Policy` seam: the gate asks, the rules answer."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from gatebook.errors import ActionError, GatebookError
from gatebook.kernel.actions import Action, CallLLM, CallTool, Sleep, WaitSignal, describe
from gatebook.kernel.budget import Amount, Budget, shortfall
from gatebook.kernel.codec import NULL, Raw, canonical, plain
from gatebook.kernel.policies import RetryWithBackoffPolicy
from gatebook.kernel.policy import Decision, Fail, Policy, PolicyContext, ResultOutcome, Retry
from gatebook.kernel.redact import Redactor
from gatebook.kernel.rules.changes import plain_json
from gatebook.kernel.rules.document import Document, Limited, Retries, merge
from gatebook.kernel.rules.facts import MISSING, Left, Outcome, Request, RunFacts, ToolFacts
from gatebook.kernel.rules.match import Rulebook, Ruling
from gatebook.kernel.rules.past import of_tools
from gatebook.kernel.rules.reading import load
from gatebook.kernel.rules.views import View
from gatebook.kernel.spending.prices import micro_usd
from gatebook.kernel.tools import ToolSpec

NOT_KNOWN = RunFacts()
MAX_TOLD = 10  # rules of which a denial that names none tells the facts


class RulesPolicy(Policy):
    """Decides as a policy document says.

    In shadow mode nothing of the document is enforced, its budgets included: decisions say in
    `shadow` what they would have been. Facts the context does not carry are unknown.

    Args:
        redactor: cuts secrets where rules redact; the runtime's, so that it knows what is secret.
    """

    def __init__(self, document: Document, *, redactor: Redactor | None = None) -> None:
        self.document = document
        self.book = Rulebook(document, redactor=redactor)
        self.shadow = document.mode == "shadow"
        self.name = document.name + (" (shadow)" if self.shadow else "")
        self._digest = document.digest
        self._limits = _budget_of(document.budgets).limits
        allows = [(), *((rule.id,) for rule in document.rules if rule.then == "allow")]
        self._allowed = {ids: _allow(ids, shadow=self.shadow) for ids in allows}

    @property
    def digest(self) -> str:
        return self._digest

    @property
    def wants_facts(self) -> bool:
        return True

    @property
    def pins(self) -> dict[str, str]:
        """Digests of the tool definitions that pass, by tool; of others each call is asked."""
        return {} if self.shadow else self.document.pins

    def knowing(self, redactor: Redactor) -> "RulesPolicy":
        """Return this policy with a redactor that knows what is secret here."""
        return type(self)(self.document, redactor=redactor)

    def start(self, program: str, input: Any, context: PolicyContext) -> Decision:
        return self._decide(started(program, input, self._seen(context)))

    def authorize(self, action: Action, context: PolicyContext) -> Decision:
        decision = self._decide(requested(action, self._seen(context)))
        return self._short(decision, action, context) if decision.shadow == "allow" else decision

    def _seen(self, context: PolicyContext) -> PolicyContext:
        """Return the context with the limits that would be in force if this were enforced."""
        if not self.shadow:
            return context
        return msgspec.structs.replace(context, limits=context.limits.smallest(self._limits))

    def _short(self, decision: Decision, action: Action, context: PolicyContext) -> Decision:
        """Return what a shadow would have said of an action that its budgets cannot carry."""
        want, error = Amount(tool_calls=1) if isinstance(action, CallTool) else Amount(), None
        if isinstance(action, CallLLM):
            cost = (context.run or NOT_KNOWN).est_cost_usd
            micros = 0 if cost is None else micro_usd(cost, exact=False) or 0
            want = Amount(llm_tokens=context.est_tokens, usd_micros=micros)
            if cost is None and self._limits.usd_micros is not None:
                error = GatebookError("E_PRICE_UNKNOWN", tool=describe(action))
        short = shortfall(self._limits, context.used, want)
        if short is not None:
            error = GatebookError("E_BUDGET", tool=describe(action), **short.told())
        if error is None:
            return decision
        return msgspec.structs.replace(decision, shadow="deny", rule="", reason=str(error))

    def _decide(self, request: Request) -> Decision:
        ruling = self.book.decide(request)
        if ruling.verdict == "allow":
            return self._allowed[ruling.rules]
        rules = ruling.rules
        if ruling.code == "E_POLICY_NO_RULE":  # what those saw that might have allowed it
            rules += tuple(part.rule.id for part in self.book.candidates(request)[:MAX_TOLD])
        facts = self.book.facts(rules, request)
        return decision_of(ruling, shadow=self.shadow, facts=facts)

    def budget(self) -> Budget:
        return Budget() if self.shadow else _budget_of(self.document.budgets)

    def ledgers(self) -> dict[str, Budget]:
        if self.shadow:
            return {}
        return {name: _budget_of(limits) for name, limits in self.document.ledgers.items()}

    def rule(self, action: Action, context: PolicyContext) -> Ruling:
        """Return the full ruling about one action."""
        return self.book.decide(requested(action, self._seen(context)))

    def sees_results(self, action: Action) -> bool:
        return self.book.sees(_named(action))

    def result(
        self, action: Action, context: PolicyContext, output: Any, *, outcome: ResultOutcome
    ) -> Decision:
        given = MISSING if outcome == "failed" else output
        request = requested(action, self._seen(context), output=given, outcome=outcome)
        labels = self.book.labels(request)
        return msgspec.structs.replace(self._decide(request), labels=labels)

    def offered(self, tools: Iterable[str], context: PolicyContext) -> tuple[str, ...]:
        """Return the tools that a model is offered: those that no rule hides, in order."""
        agent = context.program
        if self.shadow:
            return tuple(tools)
        return tuple(
            name for name in tools if not self.book.hidden(Request(tool=name, agent=agent))
        )


class RetryingRulesPolicy(RulesPolicy):
    """A `RulesPolicy` whose document has `[retry]`: it decides retries too."""

    def __init__(self, document: Document, *, redactor: Redactor | None = None) -> None:
        super().__init__(document, redactor=redactor)
        retry = document.retry or Retries()
        self._retry = RetryWithBackoffPolicy(
            Policy(), retry.max, retry.base_ms, retry.cap_ms, float(retry.jitter)
        )

    def retry(self, error: ActionError, action: Action, attempt: int) -> Retry | Fail:
        return self._retry.retry(error, action, attempt)


def policy_from(*texts: tuple[str, str], redactor: Redactor | None = None) -> RulesPolicy:
    """Return the policy that (source name, text) pairs make together.

    Raises:
        ConfigError: the first error of a text, or that two texts do not go together.
    """
    document = merge(load(text, source) for source, text in texts)
    kind = (
        RulesPolicy if document.retry is None or document.mode == "shadow" else RetryingRulesPolicy
    )
    return kind(document, redactor=redactor)


def _budget_of(limits: Limited) -> Budget:
    return Budget(
        tool_calls=limits.tool_calls,
        llm_tokens=limits.llm_tokens,
        wall_clock=None if limits.wall_ms is None else limits.wall_ms / 1000,
        usd=limits.cost_usd,
        fan_out=limits.fan_out,
    )


def _allow(rules: tuple[str, ...], *, shadow: bool) -> Decision:
    ruling = Ruling(verdict="allow", enforced="allow", rules=rules)
    return decision_of(ruling, shadow=shadow)


def labels_of(policy: Any, tools: Mapping[str, ToolSpec], agent: str) -> dict[str, tuple[str, ...]]:
    """Return the labels of what a person says tools have brought back, by tool.

    They are those of the tool's own results: what it declares, and what `[[label]]` adds.
    """
    while type(policy) is RetryWithBackoffPolicy:
        policy = policy.inner
    if isinstance(policy, RulesPolicy):
        return of_tools(policy.book.labels, tools, agent)
    return {name: tuple(spec.returns) for name, spec in tools.items()}


def decision_of(
    ruling: Ruling, *, shadow: bool = False, facts: dict[str, str] | None = None
) -> Decision:
    """Return what the gate is told: the enforced verdict, and arguments that must replace."""
    code = ruling.code or "E_POLICY_DENIED"
    enforced = ruling.enforced != "allow"
    replaced = enforced and ruling.changed is not MISSING
    args = Raw(canonical(plain_json(ruling.changed))) if replaced else None
    return Decision(
        ruling.enforced,
        ruling.reason,
        ",".join(ruling.rules),
        code,
        args,
        shadow=ruling.verdict if shadow else None,
        facts=facts or {},
        patch=Raw(msgspec.json.encode(ruling.patch)) if ruling.patch else NULL,
        approvals=ruling.approvals if enforced else (),
        defers=ruling.defers if enforced else (),
    )


def started(program: str, input: Any, context: PolicyContext) -> Request:
    """Return the request for a run's start; `input` is plain JSON."""
    return msgspec.structs.replace(_of_run(context), on="start", input=input, agent=program)


def requested(
    action: Action,
    context: PolicyContext,
    *,
    output: Any = MISSING,
    outcome: Outcome | None = None,
) -> Request:
    """Return the request for an action, or with `outcome` for its result."""
    request = _of_action(action, context, _of_run(context))
    if outcome is None:
        return request
    return msgspec.structs.replace(request, on="result", result=output, outcome=outcome)


def _of_run(context: PolicyContext) -> Request:
    run = context.run or NOT_KNOWN
    return Request(
        agent=context.program,
        user=run.user,
        tenant=context.tenant,
        labels=context.labels,
        left=Left(context.limits, context.used),
        history=run.history,
        attempt=context.attempt,
        deferred=run.deferred,
    )


def _of_action(action: Action, context: PolicyContext, run: Request) -> Request:
    match action:
        case CallTool():
            about = context.tool or ToolFacts(effect=context.effect)
            args = plain(action.args)
            if about.schema is not None:
                args = _view(bytes(about.schema)).of(args)
            return msgspec.structs.replace(run, tool=action.tool, args=args, about=about)
        case CallLLM():
            return msgspec.structs.replace(
                run,
                action="call_llm",
                provider=action.provider,
                model=action.model,
                est_tokens=context.est_tokens,
                est_cost_usd=(context.run or NOT_KNOWN).est_cost_usd,
                max_output_tokens=action.max_output_tokens,
            )
        case Sleep():
            return msgspec.structs.replace(run, action="sleep", sleep_s=Decimal(action.ms) / 1000)
        case WaitSignal():
            return msgspec.structs.replace(run, action="wait_signal", signal=action.name)


def _named(action: Action) -> Request:
    """Return a request about the result of an action that says no more than its kind and name."""
    match action:
        case CallTool(tool=tool):
            return Request(on="result", tool=tool)
        case CallLLM():
            return Request(on="result", action="call_llm")
        case Sleep():
            return Request(on="result", action="sleep")
        case WaitSignal():
            return Request(on="result", action="wait_signal")


@lru_cache(maxsize=1_024)
def _view(schema: bytes) -> View:
    """Return how arguments of one schema are seen; schemas do not change."""
    return View(schema)
