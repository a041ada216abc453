"""What every driver of one worker shares."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gatebook.kernel.budget import Limits
from gatebook.kernel.hooks.declared import Hooks
from gatebook.kernel.policy import Policy, policy_digest
from gatebook.kernel.redact import Redactor
from gatebook.ports import Clock, Journal, Lease, Program
from gatebook.runtime.leases import LeaseKeeper
from gatebook.runtime.models.prices import Prices
from gatebook.runtime.performing.admission import Admission
from gatebook.runtime.performing.executor import Executor
from gatebook.runtime.performing.secrets import Secrets
from gatebook.runtime.subscriptions import Hub

DefinitionChange = Literal["refuse", "adopt"]


@dataclass(kw_only=True)
class Services:
    """The parts a run is driven with.

    Attributes:
        programs: what this worker can drive, by name.
        leases: knows which leases are good.
        admission: when a model call may go to its route.
        prices: what model calls cost.
        ledgers: what all runs of the tenant share, by name.
        on_definition_change: what to do with a run whose program was changed meanwhile.
        hooks: None for none.
        secrets: what arguments may refer to.
    """

    journal: Journal
    policy: Policy
    programs: Mapping[str, Program[Any, Any]]
    executor: Executor
    hub: Hub
    redactor: Redactor
    clock: Clock
    leases: LeaseKeeper
    on_definition_change: DefinitionChange = "refuse"
    prices: Prices = field(default_factory=lambda: Prices(now=lambda: 0))
    admission: Admission = field(default_factory=Admission)
    hooks: Hooks | None = None
    ledgers: Mapping[str, Limits] = field(default_factory=dict)
    secrets: Secrets = field(default_factory=lambda: Secrets({}, Redactor()))
    policy_digest: str = field(init=False)

    def __post_init__(self) -> None:
        self.policy_digest = policy_digest(self.policy)

    def fresh(self, lease: Lease) -> bool:
        """Whether a lease was renewed recently enough for an effect to start under it."""
        return self.leases.held(lease).fresh()
