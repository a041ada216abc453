"""The policies that are made in code: allow-lists, and retries around any other.

Those that are read from files are in `kernel.rules`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from gatebook.errors import ActionError, GatebookError, InvalidInput
from gatebook.kernel.actions import Action, CallLLM, CallTool, describe
from gatebook.kernel.approvals.terms import ApprovalTerms
from gatebook.kernel.backoff import exponential
from gatebook.kernel.budget import Budget
from gatebook.kernel.codec import canonical, digest
from gatebook.kernel.policy import (
    ALLOW,
    Decision,
    Fail,
    Policy,
    PolicyContext,
    ResultOutcome,
    Retry,
    declared,
    offered_by,
    policy_budget,
    policy_digest,
    wants_facts,
)
from gatebook.kernel.tools import Effect

_ASK_BEFORE = ApprovalTerms(rule="ask-before", choices=("approve", "edit", "deny"))


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
        allowed = True
        if isinstance(action, CallTool):
            allowed = action.tool in context.tools
            if allowed and context.effect in self.ask_before:
                return Decision.ask(rule=_ASK_BEFORE.rule, terms=_ASK_BEFORE)
        elif isinstance(action, CallLLM):
            allowed = action.route in context.models
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
        _in_range("max_retries", max_retries, 99)
        _in_range("base_ms", base_ms, 2**53)
        _in_range("cap_ms", cap_ms, 2**53)
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
        start: Callable[..., Decision] | None = getattr(self.inner, "start", None)
        return Decision.allow() if start is None else start(program, input, context)

    def authorize(self, action: Action, context: PolicyContext) -> Decision:
        return self.inner.authorize(action, context)

    def offered(self, tools: Iterable[str], context: PolicyContext) -> tuple[str, ...]:
        return offered_by(self.inner, tools, context)

    def sees_results(self, action: Action) -> bool:
        sees = result_judge(self.inner)
        return sees is not None and sees(action)

    def result(
        self, action: Action, context: PolicyContext, output: Any, *, outcome: ResultOutcome
    ) -> Decision:
        return self.inner.result(action, context, output, outcome=outcome)

    def budget(self) -> Budget:
        return policy_budget(self.inner)

    def ledgers(self) -> Mapping[str, Budget]:
        found: Mapping[str, Budget] = declared(self.inner, "ledgers", {})
        return found

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


def _in_range(name: str, value: Any, high: int) -> None:
    if type(value) is not int or not 0 <= value <= high:
        want = f"a whole number from 0 to {high}"
        raise InvalidInput("E_RETRY_CONFIG", name=name, value=value, want=want)


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
