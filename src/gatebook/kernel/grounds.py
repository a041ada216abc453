"""What decisions are made on: the run, the policy, the tools, and what is left to spend."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from gatebook.kernel.actions import Action, CallLLM, CallTool
from gatebook.kernel.budget import SoftLimit, charged
from gatebook.kernel.decisions import Watch
from gatebook.kernel.pins import Pins
from gatebook.kernel.policy import Policy, PolicyContext
from gatebook.kernel.redact import Redactor
from gatebook.kernel.rules.facts import RunFacts, tool_facts
from gatebook.kernel.spending.ledgers import Shared
from gatebook.kernel.spending.prices import Price, dollars
from gatebook.kernel.spending.reserving import estimate_tokens
from gatebook.kernel.state import RunState
from gatebook.kernel.tools import Effect, ToolSpec


class Validated(Protocol):
    """What the gate needs of a tool: its spec, and the final form of arguments."""

    @property
    def spec(self) -> ToolSpec: ...

    def validate(self, args: bytes) -> bytes: ...


class Grounds(msgspec.Struct, kw_only=True):
    """What decisions about one run share.

    Attributes:
        policy_digest: of the policy in force; recorded when another decided last.
        state: the run's; what is decided is folded into it before the next decision.
        base: the context of this run; what is true of one action is filled in.
        share: among how many new actions the remaining wall clock is divided.
        price: what a model call would cost; asked under a limit in dollars and for facts.
        run: what rules may ask about the run at an address; None for a policy that asks nothing.
        watch: seconds on a clock, for a policy that might take long; None for those of our own.
        soft: limits beyond which a person is asked or a model call goes elsewhere.
        shared: the ledgers that requests count against; None for none.
        secrets: names of the secrets that arguments may refer to.
        pins: which definitions of tools somebody looked at.
    """

    policy: Policy
    policy_digest: str
    state: RunState
    base: PolicyContext
    tools: Mapping[str, Any]
    redactor: Redactor
    share: int = 1
    price: Callable[[CallLLM], Price | None] = lambda _: None
    run: Callable[[str], RunFacts] | None = None
    watch: Watch | None = None
    soft: tuple[SoftLimit, ...] = ()
    shared: Shared | None = None
    secrets: Collection[str] = ()
    pins: Pins | None = None


def context_at(grounds: Grounds, address: str, action: Action, effect: Effect) -> PolicyContext:
    """Return what a policy is told of an action, and of the run where it stands."""
    head = grounds.state.head
    context = replace(
        grounds.base, address=address, effect=effect, limits=head.limits, used=head.used
    )
    if type(action) is CallLLM:
        context = replace(context, est_tokens=estimate_tokens(action))
    return context if grounds.run is None else _with_facts(context, action, grounds)


def _with_facts(context: PolicyContext, action: Action, grounds: Grounds) -> PolicyContext:
    """Return a context with what it carries for rules beside what every policy gets."""
    assert grounds.run is not None
    run = grounds.run(context.address)
    if isinstance(action, CallTool):
        facts = tool_facts(grounds.tools[action.tool].spec)
        return replace(context, run=run, tool=facts)
    price = grounds.price(action) if isinstance(action, CallLLM) else None
    if price is not None and isinstance(action, CallLLM):
        cost = dollars(charged(action, price, None))
        run = replace(run, est_cost_usd=cost)
    return replace(context, run=run)
