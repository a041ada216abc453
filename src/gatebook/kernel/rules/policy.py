"""A policy document behind the kernel's `Policy` seam: the gate asks, the rules answer."""

from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from gatebook.errors import ActionError
from gatebook.kernel.actions import Action, CallLLM, CallTool, Sleep, WaitSignal
from gatebook.kernel.budget import Budget
from gatebook.kernel.codec import NULL, Raw, canonical, plain
from gatebook.kernel.policy import (
    Decision,
    Fail,
    Policy,
    PolicyContext,
    Retry,
    RetryWithBackoffPolicy,
)
from gatebook.kernel.redact import Redactor
from gatebook.kernel.rules.changes import plain_json
from gatebook.kernel.rules.document import Document, Retries, merge
from gatebook.kernel.rules.facts import MISSING, Outcome, Request, RunFacts, ToolFacts, left_of
from gatebook.kernel.rules.match import Rulebook, Ruling
from gatebook.kernel.rules.reading import load
from gatebook.kernel.rules.views import View

NOT_KNOWN = RunFacts()


class RulesPolicy(Policy):
    """Decides as a policy document says.

    `authorize` answers what the gate does with an action; `rule` says the same in full, and in
    shadow mode also what would have been done. Facts the context does not carry are unknown.

    Args:
        redactor: cuts secrets where rules redact; the runtime's, so that it knows what is secret.
    """

    def __init__(self, document: Document, *, redactor: Redactor | None = None) -> None:
        self.document = document
        self.book = Rulebook(document, redactor=redactor)
        self.name = document.name + (" (shadow)" if document.mode == "shadow" else "")
        self._digest = document.digest

    @property
    def digest(self) -> str:
        return self._digest

    @property
    def wants_facts(self) -> bool:
        return True

    def knowing(self, redactor: Redactor) -> "RulesPolicy":
        """Return this policy with a redactor that knows what is secret here."""
        return type(self)(self.document, redactor=redactor)

    def start(self, program: str, input: Any, context: PolicyContext) -> Decision:
        return self._decide(started(program, input, context))

    def authorize(self, action: Action, context: PolicyContext) -> Decision:
        return self._decide(requested(action, context))

    def _decide(self, request: Request) -> Decision:
        ruling = self.book.decide(request)
        if ruling.verdict == "allow":
            return decision_of(ruling, shadow=self.document.mode == "shadow")
        return decision_of(
            ruling,
            shadow=self.document.mode == "shadow",
            facts=self.book.facts(ruling.rules, request),
        )

    def budget(self) -> Budget:
        limits = self.document.budgets
        seconds = None if limits.wall_ms is None else limits.wall_ms / 1000
        return Budget(
            tool_calls=limits.tool_calls,
            llm_tokens=limits.llm_tokens,
            wall_clock=seconds,
            usd=limits.cost_usd,
        )

    def rule(self, action: Action, context: PolicyContext) -> Ruling:
        """Return the full ruling about one action."""
        return self.book.decide(requested(action, context))

    def result(
        self, action: Action, context: PolicyContext, output: Any, *, outcome: Outcome
    ) -> tuple[Ruling, tuple[str, ...]]:
        """Return the ruling about what an action brought back, and the labels it carries.

        `output` is plain JSON. A ruling with `changed` replaces it; a deny withholds it.
        """
        request = requested(action, context, output=output, outcome=outcome)
        return self.book.decide(request), self.book.labels(request)

    def offered(self, tools: Iterable[str], context: PolicyContext) -> tuple[str, ...]:
        """Return the tools that a model is offered: those that no rule hides, in order."""
        agent = context.program
        if self.document.mode == "shadow":
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


class MissingPolicy(Policy):
    """What stands where a policy file should: denies everything and says what is missing."""

    name = "missing policy"

    def __init__(self, where: str) -> None:
        self.where = where

    def start(self, program: str, input: Any, context: PolicyContext) -> Decision:
        return self._deny()

    def authorize(self, action: Action, context: PolicyContext) -> Decision:
        return self._deny()

    def _deny(self) -> Decision:
        return Decision.deny(f"there is no policy at {self.where}", code="E_POLICY_MISSING")


def policy_from(*texts: tuple[str, str], redactor: Redactor | None = None) -> RulesPolicy:
    """Return the policy that (source name, text) pairs make together.

    Raises:
        ConfigError: the first error of a text, or that two texts do not go together.
    """
    document = merge(load(text, source) for source, text in texts)
    kind = RulesPolicy if document.retry is None else RetryingRulesPolicy
    return kind(document, redactor=redactor)


def decision_of(
    ruling: Ruling, *, shadow: bool = False, facts: dict[str, str] | None = None
) -> Decision:
    """Return what the gate is told: the enforced verdict, and arguments that must replace."""
    code = ruling.code or "E_POLICY_DENIED"
    replaced = ruling.enforced != "allow" and ruling.changed is not MISSING
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
    )


def started(program: str, input: Any, context: PolicyContext) -> Request:
    """Return the request for a run's start; `input` is plain JSON."""
    return Request(on="start", input=input, agent=program, **_of_run(context))


def requested(
    action: Action,
    context: PolicyContext,
    *,
    output: Any = MISSING,
    outcome: Outcome | None = None,
) -> Request:
    """Return the request for an action, or with `outcome` for its result."""
    facts = _of_run(context) | _of_action(action, context)
    on: Any = "call" if outcome is None else "result"
    return Request(on=on, agent=context.program, result=output, outcome=outcome, **facts)


def _of_run(context: PolicyContext) -> dict[str, Any]:
    run = context.run or NOT_KNOWN
    return {
        "user": run.user,
        "tenant": context.tenant,
        "labels": context.labels,
        "left": left_of(context.limits, context.used),
        "history": run.history,
        "attempt": context.attempt,
        "deferred": run.deferred,
    }


def _of_action(action: Action, context: PolicyContext) -> dict[str, Any]:
    match action:
        case CallTool():
            about = context.tool or ToolFacts(effect=context.effect)
            args = plain(action.args)
            if about.schema is not None:
                args = _view(bytes(about.schema)).of(args)
            return {"action": "call_tool", "tool": action.tool, "args": args, "about": about}
        case CallLLM():
            return {
                "action": "call_llm",
                "provider": action.provider,
                "model": action.model,
                "est_tokens": context.est_tokens,
                "est_cost_usd": (context.run or NOT_KNOWN).est_cost_usd,
                "max_output_tokens": action.max_output_tokens,
            }
        case Sleep():
            return {"action": "sleep", "sleep_s": Decimal(action.ms) / 1000}
        case WaitSignal():
            return {"action": "wait_signal", "signal": action.name}


@lru_cache(maxsize=1_024)
def _view(schema: bytes) -> View:
    """Return how arguments of one schema are seen; schemas do not change."""
    return View(schema)
