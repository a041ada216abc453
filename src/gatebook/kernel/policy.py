"""Policies: who may do what, and what may be tried again. Synchronous, pure, closed by default.

A policy sees an action and its context and answers a `Decision`. Anything else it does (raise,
return None, return True) is a deny.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, get_args

import msgspec

from gatebook.errors import ActionError, GatebookError, InvalidInput
from gatebook.kernel.actions import Action, CallLLM, CallTool, describe
from gatebook.kernel.approvals.terms import ApprovalTerms, DeferTerms
from gatebook.kernel.backoff import exponential
from gatebook.kernel.budget import Amount, Budget, Limits, checked_budget
from gatebook.kernel.codec import NULL, Raw, canonical, digest
from gatebook.kernel.events import Verdict
from gatebook.kernel.rules.facts import RunFacts, ToolFacts
from gatebook.kernel.tools import Effect

Ending = Literal["succeeded", "failed"]

EDGE_RETRIES, EDGE_BASE_MS, EDGE_CAP_MS = 3, 500, 30_000  # docs/design.md, "Retries"


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What a policy says about one action.

    Attributes:
        verdict: allow, deny or modify; ask, defer and interrupt let it wait.
        reason: for people and for the model, in one sentence.
        rule: the name of the rule that decided.
        code: a stable error code for a deny.
        args: the arguments to use instead, for a model call its provider, model and
            max_output_tokens (canonical JSON): they are decided again. Not with allow, deny
            and interrupt.
        shadow: what the policy would have said if it enforced.
        facts: what was asked, by name, as it may be recorded.
        patch: how `args` differ, as a JSON Patch.
        approvals: who must say yes, for each that asks; none is anybody but the requester.
        defers: when to decide again.
        labels: of a result: what it brings into the run, beside what its tool declares.
    """

    verdict: Verdict
    reason: str = ""
    rule: str = ""
    code: str = "E_POLICY_DENIED"
    args: Raw | None = None
    shadow: Verdict | None = None
    facts: dict[str, str] = {}
    patch: Raw = NULL
    approvals: tuple[ApprovalTerms, ...] = ()
    defers: tuple[DeferTerms, ...] = ()
    labels: tuple[str, ...] = ()

    @classmethod
    def allow(cls, *, rule: str = "") -> "Decision":
        """Let the action through, budget permitting."""
        return cls("allow", rule=rule) if rule else ALLOW

    @classmethod
    def deny(cls, reason: str, *, rule: str = "", code: str = "E_POLICY_DENIED") -> "Decision":
        """Refuse the action; the program and the model read the reason."""
        return cls("deny", reason, rule, code)

    @classmethod
    def modify(cls, args: dict[str, Any], *, reason: str = "", rule: str = "") -> "Decision":
        """Use these arguments instead; they are validated and decided again."""
        return cls("modify", reason, rule, args=Raw(canonical(args, what="modified arguments")))

    @classmethod
    def ask(
        cls, reason: str = "", *, rule: str = "", terms: ApprovalTerms | None = None
    ) -> "Decision":
        """Ask a person first; `terms` say who may answer, how and by when."""
        terms = terms or ApprovalTerms(rule=rule, message=reason)
        return cls("ask", reason, rule, approvals=(terms,))

    @classmethod
    def defer(
        cls, reason: str = "", *, rule: str = "", terms: DeferTerms | None = None
    ) -> "Decision":
        """Decide again later: after the time or at the signal that `terms` name, or in a minute."""
        return cls("defer", reason, rule, defers=(terms or DeferTerms(rule=rule),))

    @classmethod
    def interrupt(cls, reason: str = "", *, rule: str = "") -> "Decision":
        """Stop the run until a person answers about this action, or resumes it."""
        return cls("interrupt", reason, rule)


ALLOW = Decision("allow")  # of every action that is just let pass
_ASK_BEFORE = ApprovalTerms(rule="ask-before", choices=("approve", "edit", "deny"))


class Retry(msgspec.Struct, frozen=True):
    """Try again after `after_ms`, shortened by up to `jitter_ratio` of it."""

    after_ms: int
    jitter_ratio: float = 0.0


class Fail(msgspec.Struct, frozen=True):
    """Do not try again. `code` says why when it is not the error's own end."""

    code: str = ""
    reason: str = ""


class PolicyContext(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a policy may know beside the action.

    Attributes:
        tools, models: what the program declares.
        effect: the effect class of a tool; "read" for everything else.
        attempt: 0 for the request, higher when a retry is decided again.
        limits, used: the run's budget and what is reserved and spent of it.
        est_tokens: what a model call would reserve.
        labels: the run's labels.
        tool: what rules may ask about the tool; None leaves all but its effect unknown.
        run: what rules may ask about the run; None is unknown.
    """

    run_id: str
    tenant: str
    program: str
    address: str
    tools: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    effect: Effect = "read"
    attempt: int = 0
    limits: Limits = Limits()
    used: Amount = Amount()
    est_tokens: int = 0
    labels: dict[str, str] = {}
    tool: ToolFacts | None = None
    run: RunFacts | None = None


class Policy:
    """The shape of a policy, closed by default: it allows nothing and retries nothing.

    Any object with these methods is a policy. `name` is shown wherever a run is shown;
    `digest` identifies what decided.
    """

    name = "policy"
    load: ClassVar[Callable[..., "Policy"]]  # from files: the runtime's, the kernel reads none

    @property
    def wants_facts(self) -> bool:
        """Whether contexts carry `tool` and `run`; keeping them costs a little for each step."""
        return False

    @property
    def digest(self) -> str:
        """Identifies this policy's rules; changes when they change."""
        return digest("policy", type(self).__name__, self.name)

    def start(self, program: str, input: Any, context: PolicyContext) -> Decision:
        """Decide whether a run may start at all."""
        return Decision.allow()

    def authorize(self, action: Action, context: PolicyContext) -> Decision:
        """Decide about one action on its final arguments. Must be pure and quick."""
        return Decision.deny("no rule allows it")

    def offered(self, tools: Iterable[str], context: PolicyContext) -> tuple[str, ...]:
        """Return the tools a model is offered; asked only of a policy that `wants_facts`."""
        return tuple(tools)

    def sees_results(self, action: Action) -> bool:
        """Whether `result` is asked about what this action brings back.

        What a model says to it is then not shown while it is being said.
        """
        return False

    def result(
        self, action: Action, context: PolicyContext, output: Any, *, outcome: Ending
    ) -> Decision:
        """Decide about a result before anything sees it; `output` is plain JSON.

        `modify` puts its `args` in the place of the output; all but that and allow withhold it.
        Of an action that failed there is no output, and what is withheld is its error's text.
        """
        return Decision.allow()

    def retry(self, error: ActionError, action: Action, attempt: int) -> Retry | Fail:
        """Decide whether attempt number `attempt` (from 0) that failed is followed by another."""
        return Fail()

    def budget(self) -> Budget:
        """Return the limits of each run."""
        return Budget()

    def ledgers(self) -> Mapping[str, Budget]:
        """Return the limits that all runs of a tenant share, by "day" and "tenant"."""
        return {}


class AllowListPolicy(Policy):
    """Allows the listed tools and the listed providers or "provider:model" routes, nothing else.

    Sleeps and signal waits are allowed: they reach nobody.
    """

    name = "allow-list"

    def __init__(
        self,
        tools: Iterable[str] = (),
        providers: Iterable[str] = (),
        *,
        budget: Budget | None = None,
    ) -> None:
        self.tools = frozenset(_names(tools, "tools"))
        self.providers = frozenset(_names(providers, "providers"))
        self._budget = budget or Budget()

    @classmethod
    def tools_only(cls, *tools: str, budget: Budget | None = None) -> "AllowListPolicy":
        """Return a policy that allows these tools and no model."""
        return cls(tools=tools, budget=budget)

    @classmethod
    def providers_only(cls, *providers: str, budget: Budget | None = None) -> "AllowListPolicy":
        """Return a policy that allows these providers or routes and no tool."""
        return cls(providers=providers, budget=budget)

    @property
    def digest(self) -> str:
        facts = {"tools": sorted(self.tools), "providers": sorted(self.providers)}
        return digest(self.name, canonical(facts | {"budget": self._budget.facts()}))

    def authorize(self, action: Action, context: PolicyContext) -> Decision:
        match action:
            case CallTool(tool=tool):
                allowed = tool in self.tools
            case CallLLM(provider=provider):
                allowed = provider in self.providers or action.route in self.providers
            case _:
                allowed = True
        if allowed:
            return ALLOW
        what = describe(action)
        return Decision.deny(f"{what!r} is not on the allow-list", code="E_NOT_ALLOWED")

    def budget(self) -> Budget:
        return self._budget


def _names(given: Iterable[str], what: str) -> list[str]:
    if isinstance(given, str):
        raise InvalidInput("E_POLICY_LIST", name=what, value=given)
    names = [getattr(item, "name", item) for item in given]
    for name in names:
        if not isinstance(name, str):
            raise InvalidInput("E_POLICY_LIST", name=what, value=name)
    return names


class AllowDeclared(Policy):
    """Allows exactly what the program itself declares: for development, never the default.

    Where GATEBOOK_ENV is "production" no run starts under it and no worker drives with it.

    Args:
        ask_before: effect classes of tools that a person is asked about first, for first runs:
            {"at_most_once"}.

    Raises:
        InvalidInput: E_POLICY_LIST.
    """

    name = "allow-declared (development)"
    development = True

    def __init__(self, *, ask_before: Iterable[str] = (), budget: Budget | None = None) -> None:
        self.ask_before = frozenset(_names(ask_before, "ask_before"))
        for name in self.ask_before.difference(get_args(Effect)):
            raise InvalidInput("E_POLICY_LIST", name="ask_before", value=name)
        self._budget = budget or Budget()

    @property
    def digest(self) -> str:
        asks = (",".join(sorted(self.ask_before)),) if self.ask_before else ()
        return digest(self.name, canonical(self._budget.facts()), *asks)

    def authorize(self, action: Action, context: PolicyContext) -> Decision:
        match action:
            case CallTool(tool=tool):
                allowed = tool in context.tools
                if allowed and context.effect in self.ask_before:
                    return Decision.ask(rule=_ASK_BEFORE.rule, terms=_ASK_BEFORE)
            case CallLLM():
                allowed = action.route in context.models
            case _:
                allowed = True
        if allowed:
            return ALLOW
        what = describe(action)
        text = f"{what!r} is not declared by program {context.program!r}"
        return Decision.deny(text, code="E_NOT_DECLARED")

    def budget(self) -> Budget:
        return self._budget


class RetryWithBackoffPolicy(Policy):
    """Decides as `inner` does and retries transient and rate-limited errors.

    Waits base * 2**attempt up to the cap, or exactly what the server hinted. A hint above the
    cap gives up at once: the error keeps it, so a workflow may sleep durably and call again.

    Args:
        max_retries: attempts after the first, so N+1 in all.
        base_ms, cap_ms: milliseconds.
        jitter_ratio: 0 to 1; a wait is shortened by up to this part of it.

    Raises:
        InvalidInput: E_RETRY_CONFIG.
    """

    def __init__(
        self,
        inner: Policy,
        max_retries: int,
        base_ms: int,
        cap_ms: int = 60_000,
        jitter_ratio: float = 0.0,
    ) -> None:
        _in_range("max_retries", max_retries, 0, 99)
        _in_range("base_ms", base_ms, 0, 2**53)
        _in_range("cap_ms", cap_ms, 0, 2**53)
        if type(jitter_ratio) not in (int, float) or not 0 <= jitter_ratio <= 1:
            want = "a number from 0 to 1"
            raise InvalidInput("E_RETRY_CONFIG", name="jitter_ratio", value=jitter_ratio, want=want)
        self.inner, self.max_retries = inner, max_retries
        self.base_ms, self.cap_ms, self.jitter_ratio = base_ms, cap_ms, float(jitter_ratio)
        self.name = getattr(inner, "name", type(inner).__name__)

    @property
    def wants_facts(self) -> bool:
        return wants_facts(self.inner)

    @property
    def digest(self) -> str:
        settings = f"{self.max_retries}/{self.base_ms}/{self.cap_ms}/{self.jitter_ratio}"
        return digest("retry", settings, policy_digest(self.inner))

    def start(self, program: str, input: Any, context: PolicyContext) -> Decision:
        return self.inner.start(program, input, context)

    def authorize(self, action: Action, context: PolicyContext) -> Decision:
        return self.inner.authorize(action, context)

    def offered(self, tools: Iterable[str], context: PolicyContext) -> tuple[str, ...]:
        return offered_by(self.inner, tools, context)

    def sees_results(self, action: Action) -> bool:
        sees = result_judge(self.inner)
        return sees is not None and sees(action)

    def result(
        self, action: Action, context: PolicyContext, output: Any, *, outcome: Ending
    ) -> Decision:
        return self.inner.result(action, context, output, outcome=outcome)

    def budget(self) -> Budget:
        return self.inner.budget()

    def ledgers(self) -> Mapping[str, Budget]:
        declare: Callable[[], Mapping[str, Budget]] | None = getattr(self.inner, "ledgers", None)
        return {} if declare is None else declare()

    def retry(self, error: ActionError, action: Action, attempt: int) -> Retry | Fail:
        if error.kind not in ("transient", "rate_limited") or attempt >= self.max_retries:
            return Fail()
        hint = error.retry_after_ms
        if hint is not None and hint > self.cap_ms:
            exceeds = GatebookError("E_RETRY_AFTER_EXCEEDS", value=hint, limit=self.cap_ms)
            return Fail(exceeds.code, str(exceeds))
        if hint is not None and hint > 0:
            return Retry(hint)
        return Retry(exponential(self.base_ms, self.cap_ms, attempt), self.jitter_ratio)


def _in_range(name: str, value: Any, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        want = f"a whole number from {low} to {high}"
        raise InvalidInput("E_RETRY_CONFIG", name=name, value=value, want=want)


def policy_digest(policy: Any) -> str:
    """Return a policy's digest, or one of its class name for a policy that has none."""
    found = getattr(policy, "digest", None)
    return found if isinstance(found, str) else digest("policy", type(policy).__qualname__)


def policy_name(policy: Any) -> str:
    """Return the name shown wherever a run is shown."""
    found = getattr(policy, "name", None)
    return found if isinstance(found, str) else type(policy).__name__


def policy_budget(policy: Any) -> Budget:
    """Return a policy's budget; a policy without `budget()` sets no limits."""
    make = getattr(policy, "budget", None)
    if make is None:
        return Budget()
    return checked_budget(make(), "a policy's budget()")


def wants_facts(policy: Any) -> bool:
    """Whether a policy asks about tools and the run's past; then its contexts carry them."""
    return getattr(policy, "wants_facts", False) is True


def offered_by(policy: Any, tools: Iterable[str], context: PolicyContext) -> tuple[str, ...]:
    """Return the tools that a policy lets a model be offered; all without `offered()`."""
    choose = getattr(policy, "offered", None)
    return tuple(tools) if choose is None else tuple(choose(tools, context))


def result_judge(policy: Any) -> Callable[[Action], bool] | None:
    """Return a policy's `sees_results`, None for a policy that looks at no results at all."""
    if type(policy) is RetryWithBackoffPolicy:
        return policy.sees_results if result_judge(policy.inner) is not None else None
    sees = getattr(type(policy), "sees_results", Policy.sees_results)
    return None if sees is Policy.sees_results else policy.sees_results


def may_dawdle(policy: Any) -> bool:
    """Whether a policy is somebody's own code, of which nobody knows how long it takes."""
    while type(policy) is RetryWithBackoffPolicy:
        policy = policy.inner
    return not type(policy).__module__.startswith("gatebook.")


def owns_retries(policy: Any) -> bool:
    """Whether a policy says itself what is retried; otherwise the runtime's edge defaults count."""
    decides = getattr(type(policy), "retry", None)
    return decides is not None and decides is not Policy.retry
