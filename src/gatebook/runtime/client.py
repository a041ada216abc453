"""The client: start, read and steer runs. What a web process needs; it drives nothing."""

import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, Self, TypeVar, overload

from gatebook.errors import ConfigError, GatebookError, InvalidInput, RunConflict, shown
from gatebook.kernel.budget import Budget, checked_budget
from gatebook.kernel.codec import NULL, Raw, canonical, check_run_id, digest
from gatebook.kernel.events import RunStarted
from gatebook.kernel.pins import pins_of
from gatebook.kernel.policy import Policy, policy_budget, policy_digest, policy_name
from gatebook.kernel.redact import Redactor
from gatebook.ports import (
    DEFAULT_TENANT,
    Clock,
    Journal,
    Program,
    RunKey,
    RunQuery,
    RunRow,
    is_program,
)
from gatebook.runtime.clock import SystemClock
from gatebook.runtime.ids import new_nonce, new_run_id
from gatebook.runtime.logs import SecretFilter
from gatebook.runtime.performing.secrets import Secrets, Source, sources_of, values_of
from gatebook.runtime.policy_files import PolicyFiles, are_files, check_fit, in_force
from gatebook.runtime.production import check_policy
from gatebook.runtime.runs.approvals import Approval, Inbox
from gatebook.runtime.runs.grants import GrantGiven, Grants
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.runs.starts import Starts
from gatebook.runtime.subscriptions import Hub

LISTEN_S = 0.1
LOOK_S = 0.25  # at a run that another process drives: no news comes from there

In = TypeVar("In")
Out = TypeVar("Out")


def check_program(value: Any) -> None:
    """Refuse what is not a program, such as a function without @workflow.

    Raises:
        ConfigError: E_PROGRAM_SHAPE.
    """
    if not is_program(value):
        raise ConfigError("E_PROGRAM_SHAPE", value=value)


def _checked_tenant(tenant: Any) -> str:
    """Return whose runs these are; nobody's would be everybody's who forgot to say whose.

    Raises:
        ConfigError: E_CONFIG.
    """
    if type(tenant) is str and tenant:
        return tenant
    detail, fix = f"it is {shown(tenant)}, which names nobody", "leave it out, or give a text"
    raise ConfigError("E_CONFIG", name="tenant", path="Client()", detail=detail, fix=fix)


class Client:
    """Starts, reads and steers the runs of one store. Use `async with Client(...) as client`.

    Args:
        store: a location ("sqlite:///runs.db", ":memory:") or a Journal; None is the default
            store, the one the command line uses.
        tenant: whose runs these are; another tenant's runs are not found.
        policy: decides whether runs may start; without one nothing may. A `Policy`, or the path
            of a policy file, or several, which are read when the client opens.
        secrets: where secrets come from, by name: "env:VARIABLE", "file:/path" or a function;
            or just values. Their values are cut out of everything that is stored or shown.
    """

    def __init__(
        self,
        store: str | Journal | None = None,
        *,
        tenant: str = DEFAULT_TENANT,
        policy: Policy | PolicyFiles | None = None,
        secrets: Mapping[str, Source] | Iterable[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self.tenant = _checked_tenant(tenant)
        self.policy: Policy | None = None if are_files(policy) else policy  # type: ignore[assignment]
        self._given = policy
        self._fitting: set[str] = set()  # digests of programs that the policy fits
        self.clock: Clock = clock or SystemClock()
        self.hub = Hub()
        self.redactor = Redactor(values_of(secrets))
        self.secrets = Secrets(sources_of(secrets), self.redactor)
        self._store = store
        self._journal: Journal | None = None
        self._programs: dict[str, Program[Any, Any]] = {}

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the store. Raises ConfigError E_STORE_*, E_POLICY_*, E_RUNTIME_OPEN."""
        if self._journal is not None:
            raise ConfigError("E_RUNTIME_OPEN", detail=type(self).__name__)
        self.policy = in_force(self._given, self.redactor)
        self.secrets.learn()
        journal = self._store
        if journal is None:
            from gatebook.runtime.settings import default_store_url

            journal = default_store_url()
        if isinstance(journal, str):
            from gatebook.journals import open_journal

            journal = open_journal(journal)
        await journal.open()
        self._journal = journal

    async def close(self) -> None:
        """Close the store."""
        journal, self._journal = self._journal, None
        if journal is not None:
            await journal.close()

    @property
    def store(self) -> str | Journal | None:
        """The store as it was given; None for the default one."""
        return self._store

    @property
    def journal(self) -> Journal:
        """The open store. Raises ConfigError E_RUNTIME_CLOSED outside `async with`."""
        if self._journal is None:
            raise ConfigError("E_RUNTIME_CLOSED")
        return self._journal

    def log_filter(self) -> logging.Filter:
        """Return a filter for logging handlers: `handler.addFilter(runtime.log_filter())`.

        It cuts what is secret here out of what anybody logs, tools and libraries included.
        """
        return SecretFilter(self.redactor)

    def handle(self, run_id: str, program: Program[Any, Out] | None = None) -> RunHandle[Out]:
        """Return a handle on a run started anywhere; the program gives it its output type."""
        key = RunKey(self.tenant, check_run_id(run_id))
        return RunHandle(self, key, program)

    async def runs(self, query: RunQuery | None = None) -> list[RunRow]:
        """Return this tenant's runs, newest first."""
        return await self.journal.runs(self.tenant, query or RunQuery())

    def approvals(
        self, run_id: str | None = None, *, follow: bool = False
    ) -> AsyncIterator[Approval]:
        """Yield what waits for an answer, oldest first: `async for a in runtime.approvals()`.

        With `follow` it does not end: what is asked later comes as it is asked, by any process.
        """
        return self._inbox().open(run_id, follow=follow)

    def approval(self, id: str) -> Approval:
        """Return an approval by its id, RUN#SEQ; `await` it to read what it asks.

        Raises:
            InvalidInput: E_APPROVAL_ID.
        """
        return self._inbox().approval(id)

    async def answer(
        self,
        approvals: Iterable[Approval | str],
        answer: Literal["approve", "deny"],
        *,
        by: str,
        groups: Iterable[str] = (),
        reason: str = "",
    ) -> dict[str, GatebookError | None]:
        """Answer several approvals alike; see `Approval.approve` and `Approval.deny`.

        Returns for each id None, or why its answer was refused: one that is does not stop others.
        """
        return await self._inbox().answer_all(
            approvals, answer, by=by, groups=groups, reason=reason
        )

    async def grant(
        self,
        run_id: str,
        tool: str,
        *,
        until: datetime | timedelta,
        by: str,
        groups: Iterable[str] = (),
        reason: str = "",
    ) -> GrantGiven:
        """Also allow this tool in this run until a time: what asks about it is not asked.

        It answers only what `by` could have approved, also what waits now, and only for the
        tool as it is defined now. Nothing that policy denies is opened.

        Raises:
            InvalidInput: E_GRANT_*; E_APPROVAL_APPROVER: the tool waits for others only.
                RunNotFound, RunIsOver.
        """
        return await Grants(self._inbox()).grant(
            run_id, tool, until=until, by=by, groups=groups, reason=reason
        )

    async def grants(self, run_id: str) -> list[GrantGiven]:
        """Return the grants of a run that nobody took back, oldest first."""
        return await Grants(self._inbox()).grants(run_id)

    async def revoke(self, grant: GrantGiven | str, *, by: str, reason: str = "") -> None:
        """Take a grant back by its id, RUN#SEQ: from the next decision on it counts no more.

        Raises:
            InvalidInput: E_GRANT_UNKNOWN. RunNotFound, RunIsOver.
        """
        await Grants(self._inbox()).revoke(grant, by=by, reason=reason)

    def _inbox(self) -> Inbox:
        return Inbox(self, self.tenant, programs=self._programs, check_caller=self._check_caller)

    def look_s(self, run: RunKey, *, listening: bool = False) -> float:
        """Return how often a reader looks at a run, in seconds, beside the news it gets of it.

        `listening`: it waits for what a model says to another process.
        """
        return LISTEN_S if listening else LOOK_S

    def claims(self, run: RunKey) -> bool:
        """Whether a worker here is about to have a run; a client has none."""
        del run
        return False

    def touched(self, run: RunKey) -> None:
        """Somebody appended to a run here: wake its readers (and its driver, in a Runtime)."""
        self.hub.changed(run)

    @overload
    async def start(
        self, program: Program[None, Out], value: None = ..., *, run_id: str | None = ...,
        context: Mapping[str, Any] | None = ..., labels: Mapping[str, str] | None = ...,
        budget: Budget | None = ...,
    ) -> RunHandle[Out]: ...  # fmt: skip
    @overload
    async def start(
        self, program: Program[In, Out], value: In, *, run_id: str | None = ...,
        context: Mapping[str, Any] | None = ..., labels: Mapping[str, str] | None = ...,
        budget: Budget | None = ...,
    ) -> RunHandle[Out]: ...  # fmt: skip
    async def start(
        self,
        program: Program[Any, Out],
        value: Any = None,
        *,
        run_id: str | None = None,
        context: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        budget: Budget | None = None,
    ) -> RunHandle[Out]:
        """Start a run, or return the one that this id and input already started.

        The checks run in one order and leave nothing behind when one fails: journal, content,
        policy, definition, provider, hooks, start policy, register.

        Args:
            value: the program's input; left out for a workflow that takes none.
            run_id: the caller's id; the same id and input is the same run.
            context: plain JSON for tools, journaled.
            labels: texts to find and group runs by.
            budget: limits of this run; the smallest of all that apply wins.

        Raises:
            InvalidInput: the id, input, context, labels or budget are refused; E_REENTRANT when
                the caller is a tool that this runtime runs.
            ConfigError: E_PROGRAM_SHAPE, E_POLICY_MISSING, a policy that does not fit the tools
                (E_POLICY_TOOL, E_POLICY_PATH), a bad definition, an unknown provider, a missing
                key.
            RunDenied: the policy refuses the start.
            RunConflict: the id is taken by another program or input.
        """
        self._check_caller()
        check_program(program)
        journal = self.journal
        self._check_start()
        self._check_names("the run id", run_id)
        key = RunKey(self.tenant, new_run_id() if run_id is None else check_run_id(run_id))
        given, facts, texts = self._content(program, value, context, labels)
        own = checked_budget(Budget() if budget is None else budget, "budget=")
        policy = self._given_policy()
        started = self._started(program, given, facts, texts, policy=policy, own=own)
        starts = Starts(policy, redactor=self.redactor, clock=self.clock)
        started = starts.decide(program, value, started, key=key)
        input_hash = digest(program.name, bytes(given))
        row = await journal.create(key, started, input_hash=input_hash)
        if row is None:
            await self._same_run(key, program, input_hash)
        self._programs.setdefault(program.name, program)
        self.touched(key)
        return RunHandle(self, key, program)

    def _started(
        self,
        program: Program[Any, Any],
        given: Raw,
        facts: Raw,
        texts: dict[str, str],
        *,
        policy: Policy,
        own: Budget,
    ) -> RunStarted:
        """Return a run's first event, once program, policy and hooks fit each other."""
        general = policy_budget(policy)
        definition = self._definition(program)
        self._check_policy(policy, program)
        self.check_providers(program)
        return RunStarted(
            program=program.name,
            program_kind=program.kind,
            definition=definition,
            nonce=new_nonce(),
            input=given,
            context=facts,
            policy=policy_digest(policy),
            policy_name=policy_name(policy),
            guards=self._check_hooks(program),
            limits=general.limits.smallest(own.limits),
            soft=general.soft + own.soft,
            labels=texts,
            pins=pins_of(program.tools),
        )

    def _content(
        self,
        program: Program[Any, Any],
        value: Any,
        context: Mapping[str, Any] | None,
        labels: Mapping[str, str] | None,
    ) -> tuple[Raw, Raw, dict[str, str]]:
        """Return the input, the context and the labels as they are stored, secrets cut out."""
        given = self.redactor.raw(Raw(program.accept(value)))
        if context is not None and not isinstance(context, Mapping):
            raise InvalidInput("E_CONTEXT", detail=f"it is a {type(context).__name__}")
        facts = NULL
        if context is not None:
            facts = self.redactor.raw(Raw(canonical(dict(context), what="context")))
        if labels is not None and not isinstance(labels, Mapping):
            raise InvalidInput("E_LABEL", value=labels)
        for name, text in (labels or {}).items():
            if not isinstance(name, str) or not isinstance(text, str):
                raise InvalidInput("E_LABEL", value=name if not isinstance(name, str) else text)
        canonical(dict(labels or {}), what="labels")
        self._check_names("the name of a label", *(labels or {}))
        return given, facts, {n: self.redactor.text(text) for n, text in (labels or {}).items()}

    def _check_names(self, what: str, *names: Any) -> None:
        """Refuse names that hold a secret: they are stored and shown as they are."""
        if any(isinstance(name, str) and self.redactor.text(name) != name for name in names):
            raise InvalidInput("E_NAME_SECRET", what=what)

    def _check_caller(self) -> None:
        """Refuse callers that must not start runs; a plain client knows none."""

    def _check_start(self) -> None:
        """Check that what is started will be driven here; a plain client drives nothing."""

    def _given_policy(self) -> Policy:
        if self.policy is None:
            raise ConfigError("E_POLICY_MISSING", detail="was given")
        check_policy(self.policy)
        return self.policy

    def _definition(self, program: Program[Any, Any]) -> str:
        known = self._programs.get(program.name)
        if known is not None and known is not program and known.digest != program.digest:
            raise ConfigError("E_PROGRAM_DUPLICATE", program=program.name)
        self._check_code(known or program, program)
        for tool in program.tools.values():
            _ = tool.spec  # a tool that cannot be declared stops the run here
        return program.digest

    def _check_code(self, known: Program[Any, Any], program: Program[Any, Any]) -> None:
        """Check that what a program's name stands for here runs its code; a client runs none."""

    def _check_policy(self, policy: Policy, program: Program[Any, Any]) -> None:
        """Refuse a policy that names tools or arguments which no program here has."""
        if program.digest not in self._fitting:
            check_fit(policy, [*self._programs.values(), program])
            self._fitting.add(program.digest)

    def check_providers(self, program: Program[Any, Any]) -> None:
        """Check that the declared routes can be answered; a plain client asks no provider."""

    def _check_hooks(self, program: Program[Any, Any]) -> tuple[str, ...]:
        """Check that hooks fit and return those a run may not go on without; a client has none."""
        del program
        return ()

    async def _same_run(self, key: RunKey, program: Program[Any, Any], input_hash: str) -> None:
        row = await self.journal.row(key)
        if row.program != program.name:
            what, has, asked = "program", row.program, program.name
        elif row.input_hash != input_hash:
            what, has, asked = "input", row.input_hash[:12], input_hash[:12]
        else:
            return
        raise RunConflict("E_RUN_CONFLICT", run=key.id, what=what, has=has, asked=asked)
