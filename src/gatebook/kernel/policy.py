"""Policies: who may do what, and what may be tried again. Synchronous, pure, closed by default.

A policy sees an action and its context and answers a `Decision`. Anything else it does (raise,
return None, return True) is a deny.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal

import msgspec

from gatebook.errors import EXITS, ActionError, ConfigError, InvalidInput
from gatebook.kernel.actions import Action
from gatebook.kernel.approvals.terms import ApprovalTerms, DeferTerms
from gatebook.kernel.budget import Amount, Budget, Limits, checked_budget
from gatebook.kernel.codec import NULL, Raw, canonical, digest
from gatebook.kernel.events import Verdict
from gatebook.kernel.rules.facts import RunFacts, ToolFacts
from gatebook.kernel.tools import Effect

ResultOutcome = Literal["succeeded", "failed"]

EDGE_RETRIES, EDGE_BASE_MS, EDGE_CAP_MS = 3, 500, 30_000  # docs/design.md, "Retries"


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What a policy says about one action.

    Attributes:
        verdict: allow, deny or modify; ask, defer and interrupt let it wait.
        reason: for people and for the model, in one sentence.
        rule: the name of the rule that decided.
        code: a stable error code for a deny.
        args: the arguments to use instead, for a model call its provider, model and
            max_output_tokens (canonical JSON): they are decided again. Not with allow and deny.
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
        self, action: Action, context: PolicyContext, output: Any, *, outcome: ResultOutcome
    ) -> Decision:
        """Decide about a result before anything sees it; `output` is plain JSON.

        `modify` puts its `args` in the place of the output; all but that and allow withhold it.
        Of an action that failed there is no output, and what is withheld is its error's text.
        """
        return Decision.allow()

    def retry(self, error: ActionError, action: Action, attempt: int) -> Retry | Fail:
        """Decide whether attempt number `attempt` (from 0) that failed is followed by another.

        None follows a permanent error (`error.kind`), whatever the answer.
        """
        return Fail()

    def budget(self) -> Budget:
        """Return the limits of each run."""
        return Budget()

    def ledgers(self) -> Mapping[str, Budget]:
        """Return the limits that all runs of a tenant share, by "day" and "tenant"."""
        return {}


def policy_digest(policy: Any) -> str:
    """Return a policy's digest, or one of its class name for a policy that has none.

    Raises:
        ConfigError: E_POLICY_ERROR when it cannot be told.
    """
    found = _text_of(policy, "digest")
    return digest("policy", type(policy).__qualname__) if found is None else found


def policy_name(policy: Any) -> str:
    """Return the name shown wherever a run is shown. Raises as `policy_digest`."""
    found = _text_of(policy, "name")
    return type(policy).__name__ if found is None else found


def _text_of(policy: Any, attribute: str) -> str | None:
    """Return what a policy says of itself, None for what is no text that can be stored."""
    try:
        found = getattr(policy, attribute, None)
        if not isinstance(found, str):
            return None
        found.encode()
        return found
    except UnicodeEncodeError:
        return None
    except Exception as exc:
        detail = f"{type(exc).__name__} in its {attribute}"
        raise ConfigError("E_POLICY_ERROR", detail=detail) from exc


def policy_budget(policy: Any) -> Budget:
    """Return a policy's budget; a policy without `budget()` sets no limits.

    Raises:
        InvalidInput: E_BUDGET_TYPE when it is no Budget; else as `declared`.
    """
    found = declared(policy, "budget", Budget())
    return checked_budget(found, f"budget() of {type(policy).__name__}")


def declared(policy: Any, method: str, default: Any) -> Any:
    """Return what a policy declares beside its decisions, `default` without that method.

    Raises:
        InvalidInput: it makes a budget that there is none of.
        ConfigError: E_POLICY_ERROR when it raises anything else.
    """
    try:
        declare = getattr(policy, method, None)
        return default if declare is None else declare()
    except (*EXITS, InvalidInput):
        raise
    except BaseException as exc:
        detail = f"{type(exc).__name__} in {method}() of {type(policy).__name__}"
        raise ConfigError("E_POLICY_ERROR", detail=detail) from exc


def wants_facts(policy: Any) -> bool:
    """Whether a policy asks about tools and the run's past; then its contexts carry them."""
    return getattr(policy, "wants_facts", False) is True


def offered_by(policy: Any, tools: Iterable[str], context: PolicyContext) -> tuple[str, ...]:
    """Return the tools that a policy lets a model be offered; all without `offered()`."""
    choose = getattr(policy, "offered", None)
    return tuple(tools) if choose is None else tuple(choose(tools, context))


def owns_retries(policy: Any) -> bool:
    """Whether a policy says itself what is retried; otherwise the runtime's edge defaults count."""
    decides = getattr(type(policy), "retry", None)
    return decides is not None and decides is not Policy.retry
