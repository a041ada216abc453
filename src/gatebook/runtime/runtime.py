"""The runtime: a client and a worker in one. What most programs need."""

import asyncio
import contextlib
import inspect
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, TypeVar

from gatebook.errors import ConfigError, shown
from gatebook.kernel.actions import Action
from gatebook.kernel.budget import Budget
from gatebook.kernel.hooks.declared import Hook, Hooks
from gatebook.kernel.policies import result_judge
from gatebook.kernel.policy import Policy
from gatebook.kernel.spending.ledgers import checked_ledgers, policy_ledgers, smallest
from gatebook.kernel.spending.prices import Price
from gatebook.ports import (
    DEFAULT_TENANT,
    Clock,
    Journal,
    Parked,
    Program,
    Provider,
    RunKey,
)
from gatebook.runtime.client import Client, check_program
from gatebook.runtime.ids import new_owner
from gatebook.runtime.leases import TTL_S, LeaseKeeper, checked_ttl
from gatebook.runtime.likeness import acts_alike
from gatebook.runtime.models.breaker import BreakerSettings
from gatebook.runtime.models.limiter import Rate, checked_rates
from gatebook.runtime.models.prices import Prices
from gatebook.runtime.models.routes import Providers
from gatebook.runtime.performing.admission import Admission
from gatebook.runtime.performing.executor import Executor
from gatebook.runtime.performing.secrets import Source
from gatebook.runtime.performing.voices import Voices
from gatebook.runtime.policy_files import PolicyFiles
from gatebook.runtime.production import check_policy
from gatebook.runtime.services import DefinitionChange, Services
from gatebook.runtime.worker import Worker

if TYPE_CHECKING:
    from gatebook.runtime.settings import Settings

In = TypeVar("In")
Out = TypeVar("Out")
DRIVEN_LOOK_S = 2.0  # the fallback should a driver end without a word
UNSHARED = ("self", "__class__", "store", "only")  # what `Runtime.options` leaves out


class Runtime(Client):
    """Starts runs and drives them: those it starts, and unfinished ones of its programs.

    Use it as `async with Runtime(...) as runtime`. On entry it takes up unfinished runs of
    `programs`; on exit it lets attempts in flight end (10 s), then gives its runs back.

    Args:
        store, tenant, policy, secrets: see Client.
        programs: what this worker can drive, beside what it starts.
        providers: model providers by name; they win over gatebook.toml.
        prices: of models, by route or model name, in dollars per million tokens:
            {"openai:m": {"input": "0.25", "output": "2", "cache_read": "0.025"}}. They win over
            `[prices]` in gatebook.toml, which wins over the package genai-prices.
        rates: how much may be asked in a minute, by provider or route, over all runs here:
            {"openai": {"requests_per_minute": 500, "tokens_per_minute": 200_000}}. They win over
            gatebook.toml. A call waits its turn up to `max_wait_s` (30 s).
        breaker: when a route that fails is left alone for a while; None never does.
        ledgers: what all runs of the tenant share, for good or for each day (UTC):
            {"day": Budget(tool_calls=1_000, usd="20"), "tenant": Budget(usd="500")}. With those of
            the policy, the smallest limits count.
        hooks: functions that are asked before and after actions and runs, in this order; see
            `gatebook.hook`.
        deps: what tools get as `ctx.deps`: a value, or a function, async function or async
            context manager function that makes it when the runtime opens.
        on_definition_change: "refuse" parks a run whose program was changed; "adopt" goes on
            with the new definition and records that.
        lease_ttl_s: how long a hung worker keeps others from its runs; 0.1 s up to a day.
        only: drive these runs and leave all others to their workers; None drives every run of
            its programs.
    """

    def __init__(  # noqa: PLR0913 - keyword-only options of the public face
        self,
        store: str | Journal | None = None,
        *,
        programs: Sequence[Program[Any, Any]] = (),
        policy: Policy | PolicyFiles | None = None,
        providers: Mapping[str, Provider] | None = None,
        prices: Mapping[str, Price | Mapping[str, Any]] | None = None,
        rates: Mapping[str, Rate | Mapping[str, Any]] | None = None,
        breaker: BreakerSettings | None = BreakerSettings(),  # noqa: B008 - frozen
        ledgers: Mapping[str, Budget] | None = None,
        hooks: Sequence[Hook[Any]] = (),
        deps: Any = None,
        tenant: str = DEFAULT_TENANT,
        secrets: Mapping[str, Source] | Iterable[str] = (),
        on_definition_change: DefinitionChange = "refuse",
        clock: Clock | None = None,
        lease_ttl_s: float = TTL_S,
        only: Set[RunKey] | None = None,
    ) -> None:
        options = {name: given for name, given in locals().items() if name not in UNSHARED}
        super().__init__(store, tenant=tenant, policy=policy, secrets=secrets, clock=clock)
        self.options: dict[str, Any] = options  # what another runtime like this one is made with
        self._only = only
        for program in _listed(programs):
            check_program(program)
            if program.name in self._programs:
                raise ConfigError("E_PROGRAM_DUPLICATE", program=program.name)
            self._programs[program.name] = program
        self._given_providers = dict(providers or {})
        self._given_prices = dict(prices or {})
        Prices(self._given_prices, now=self.clock.now)  # refuses what is no price, at once
        self._given_rates = checked_rates(rates or {})
        self._breaker = breaker
        self._ledgers = checked_ledgers(ledgers or {}, "ledgers=")
        self._hooks = Hooks(hooks) if hooks else None
        self._deps = deps
        self._on_definition_change: DefinitionChange = on_definition_change
        self._lease_ttl_s = checked_ttl(lease_ttl_s)
        self._stack = contextlib.AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None  # in which it was opened
        self._providers: Providers | None = None
        self._worker: Worker | None = None

    @property
    def programs(self) -> dict[str, Program[Any, Any]]:
        """What this worker can drive, by name."""
        return dict(self._programs)

    async def open(self) -> None:
        """Open the store, make `deps`, and begin to drive. Raises ConfigError."""
        await super().open()
        self._worker, self._loop = None, asyncio.get_running_loop()
        try:
            for program in self._programs.values():
                self._check_policy(self.policy or Policy(), program)
            await self._open_worker()
        except BaseException:
            await self.close()
            raise

    async def _open_worker(self) -> None:
        from gatebook.runtime.settings import load_settings

        settings = load_settings()
        self.secrets.add(settings.secrets)
        self.secrets.learn()
        self._providers = Providers(
            self._given_providers, settings.providers, learn=lambda key: self.redactor.add([key])
        )
        self._stack.push_async_callback(self._providers.aclose)
        prices = self._prices(settings)
        executor = self._executor(self._providers, prices)
        check_policy(self.policy)
        executor.deps = await self._make_deps()
        leases = LeaseKeeper(self.journal, new_owner(), clock=self.clock, ttl_s=self._lease_ttl_s)
        leases.start()
        self._stack.push_async_callback(leases.close)
        services = Services(
            journal=self.journal,
            policy=self.policy or Policy(),
            programs=self._programs,
            executor=executor,
            hub=self.hub,
            redactor=self.redactor,
            clock=self.clock,
            leases=leases,
            secrets=self.secrets,
            prices=prices,
            hooks=self._hooks,
            admission=Admission(
                self.clock, rates={**settings.rates, **self._given_rates}, breaker=self._breaker
            ),
            on_definition_change=self._on_definition_change,
            ledgers=smallest(policy_ledgers(self.policy), self._ledgers),
        )
        self._worker = Worker(
            services, tenant=self.tenant, providers=self._providers, only=self._only
        )

    def _prices(self, settings: "Settings") -> Prices:
        configured = settings.providers.items()
        return Prices(
            self._given_prices,
            settings.prices,
            endpoints={n: p.base_url for n, p in configured if n not in self._given_providers},
            now=self.clock.now,
        )

    def _executor(self, providers: Providers, prices: Prices) -> Executor:
        holds = result_judge(self.policy)
        if self._hooks is not None and self._hooks.reworks_answers:
            holds = _always
        voices = Voices(self.hub, self.redactor, self.journal, holds=holds)
        self._stack.push_async_callback(voices.close)
        executor = Executor(
            providers=providers,
            voices=voices,
            hub=self.hub,
            redactor=self.redactor,
            clock=self.clock,
            prices=prices,
        )
        executor.secrets = self.secrets
        return executor

    async def _make_deps(self) -> Any:
        made = self._deps
        if callable(made):
            made = made()
        if inspect.isawaitable(made):
            made = await made
        if hasattr(made, "__aenter__"):
            return await self._stack.enter_async_context(made)
        if isinstance(made, contextlib.AbstractContextManager):
            return self._stack.enter_context(made)
        return made

    async def close(self) -> None:
        """Let attempts in flight end, give the runs back, close everything."""
        if self._worker is not None:
            await self._worker.stop()
        try:
            await self._stack.aclose()
        finally:
            await super().close()

    async def serve(self) -> None:
        """Drive runs until cancelled; for a process that does nothing else."""
        if self._worker is None:
            raise ConfigError("E_RUNTIME_CLOSED")
        await self._worker.serve()

    async def drive(self, run: RunKey) -> Parked:
        """Advance one run until it is over or blocked; the unit of distribution.

        A run that is driven here already is told to look again.

        Raises:
            RunNotFound: there is no such run. StoreError: the store does not answer.
            InvalidInput: E_REENTRANT when the caller is a tool that this runtime runs.
        """
        if self._worker is None:
            return Parked("busy")
        self._worker.check_caller()
        return await self._worker.drive(run)

    def look_s(self, run: RunKey, *, listening: bool = False) -> float:
        """See Client; of a run that is driven here, news comes.

        Raises:
            GatebookError: E_RUNTIME_STOPPED, nothing is driven here any more.
        """
        if self._worker is not None:
            self._worker.check()
            if self._worker.drives(run):
                return DRIVEN_LOOK_S
        return super().look_s(run, listening=listening)

    def claims(self, run: RunKey) -> bool:
        """Whether a run was taken up here, and its driver has not looked at it yet."""
        return self._worker is not None and self._worker.claims(run)

    def touched(self, run: RunKey) -> None:
        """Wake the readers and the driver of a run that somebody here appended to."""
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            self._loop.call_soon_threadsafe(self.touched, run)
            return
        super().touched(run)
        if self._worker is not None:
            self._worker.wake(run)

    def _check_caller(self) -> None:
        if self._worker is not None:
            self._worker.check_caller()

    def _check_start(self) -> None:
        if self._loop is not asyncio.get_running_loop():
            raise ConfigError("E_RUNTIME_LOOP")
        if self._worker is not None:
            self._worker.check()

    def _check_code(self, known: Program[Any, Any], program: Program[Any, Any]) -> None:
        if known is not program and not acts_alike(known, program):
            raise ConfigError("E_PROGRAM_CODE", program=program.name)

    def _check_hooks(self, program: Program[Any, Any]) -> tuple[str, ...]:
        if self._hooks is None:
            return ()
        known = {tool for each in [program, *self._programs.values()] for tool in each.tools}
        for tool, named in self._hooks.named.items():
            if tool not in known:
                raise ConfigError("E_HOOK_TOOL", hook=named, tool=tool)
        return self._hooks.guards

    def check_providers(self, program: Program[Any, Any]) -> None:
        """Check that a program's models can be asked here.

        Raises:
            ConfigError: E_PROVIDER_UNKNOWN, E_KEY_MISSING, E_EXTRA_MISSING, E_CONFIG,
                E_SCRIPT_FILE; E_RUNTIME_CLOSED.
        """
        if self._providers is None:
            raise ConfigError("E_RUNTIME_CLOSED")
        self._providers.check(program)


def _listed(programs: Any) -> Iterable[Any]:
    """Return what can be gone through. Raises ConfigError (E_CONFIG) for one program alone."""
    if isinstance(programs, Iterable):
        return programs
    detail, fix = f"it is {shown(programs)} and not a list", "pass a list: programs=[...]"
    raise ConfigError("E_CONFIG", name="programs", path="Runtime()", detail=detail, fix=fix)


def _always(_: Action) -> bool:
    return True
