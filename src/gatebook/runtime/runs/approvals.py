"""Approvals and grants as callers see them, from any process: what is asked, and answering it.

Who answers is what the caller says, from what authenticates people there; never a model, and
never a tool of a run.
"""

import os
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

from gatebook.errors import ConfigError, GatebookError, InvalidInput, RunIsOver
from gatebook.kernel.actions import CallTool, describe
from gatebook.kernel.append import Batch
from gatebook.kernel.approvals.events import (
    ApprovalAnswered,
    ApprovalAsked,
    ApprovalExpired,
)
from gatebook.kernel.approvals.standing import answered, common_choices, name_of
from gatebook.kernel.approvals.terms import Choice
from gatebook.kernel.codec import NULL, Raw, canonical, check_run_id
from gatebook.kernel.events import ActionRequested, AnyEvent, Resumed
from gatebook.kernel.secrets import keep_references, referred
from gatebook.kernel.status import Status
from gatebook.ports import Program, RunKey, RunQuery, RunRow
from gatebook.runtime.runs.reading import Door

OPEN = ("running", "interrupted")  # runs that may wait for people
MAX_RUNS = 100_000  # that are looked through for open approvals
PAGE = 1_000  # events read at once


class Approval:
    """One question to people about one action; `await` it to read what it asks.

    The id is RUN#SEQ: the run, and the event that asks. It never means another question.
    """

    def __init__(self, inbox: "Inbox", run: RunKey, seq: int) -> None:
        self._inbox = inbox
        self.run = run
        self.seq = seq
        self._asked: ApprovalAsked | None = None

    @property
    def id(self) -> str:
        """RUN#SEQ."""
        return name_of(self.run.id, self.seq)

    def __repr__(self) -> str:
        return f"Approval({self.id!r})"

    def __await__(self) -> Generator[Any, None, "Approval"]:
        return self._read().__await__()

    async def _read(self) -> "Approval":
        if self._asked is None:
            self._asked = await self._inbox.asked(self.run, self.seq)
        return self

    @property
    def asked(self) -> ApprovalAsked:
        """The event that asks. Raises ConfigError E_APPROVAL_UNREAD before it was read."""
        if self._asked is None:
            raise ConfigError("E_APPROVAL_UNREAD", approval=self.id)
        return self._asked

    @property
    def address(self) -> str:
        """Where in its run the action stands."""
        return self.asked.address

    @property
    def what(self) -> str:
        """The tool, or the model route."""
        return describe(self.asked.action)

    @property
    def arguments(self) -> dict[str, Any]:
        """A tool's final arguments: exactly what will run. Empty for a model call."""
        action = self.asked.action
        return action.arguments if isinstance(action, CallTool) else {}

    @property
    def message(self) -> str:
        """The question in words, of everybody who asks."""
        told = [term.message for term in self.asked.terms if term.message]
        return "; ".join(told) or f"{self.what}?"

    @property
    def rule(self) -> str:
        """The rules that ask."""
        return self.asked.decision.rule

    @property
    def facts(self) -> dict[str, str]:
        """What these rules asked of the action."""
        return dict(self.asked.decision.facts)

    @property
    def approvers(self) -> tuple[tuple[str, ...], ...]:
        """Who may answer, for each that asks; () is anybody but the requester."""
        return tuple(term.approvers for term in self.asked.terms)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The answers it takes."""
        return common_choices(self.asked.terms)

    @property
    def requester(self) -> str:
        """For whom the action would be done; never who may approve it."""
        return self.asked.requester

    @property
    def expires(self) -> datetime:
        """Until when it can be given and used."""
        asked = self.asked
        return moment(asked.time + asked.expires_ms * 1000)

    async def approve(
        self,
        *,
        by: str,
        edit: Mapping[str, Any] | None = None,
        groups: Iterable[str] = (),
        reason: str = "",
    ) -> None:
        """Let the action start, once, as it was shown; or with other arguments.

        An edit is validated and decided about again: it cannot open what policy denies. Where
        somebody else must approve the edited action, that is asked.

        Args:
            by: who says so, from what authenticates your callers.
            edit: all arguments to use instead.
            groups: for which groups they speak ("team:finance").

        Raises:
            InvalidInput: E_APPROVAL_*: answered, used or expired already, not theirs to give;
                E_ARGS_* when the edit does not fit a tool that is known here.
        """
        args = NULL if edit is None else self._inbox.edited(await self, edit)
        answer: Choice = "approve" if edit is None else "edit"
        await self._answer(answer, by=by, groups=groups, reason=reason, args=args)

    async def deny(self, *, by: str, reason: str = "", groups: Iterable[str] = ()) -> None:
        """Refuse the action; the program and the model read the reason. See `approve`."""
        await self._answer("deny", by=by, groups=groups, reason=reason)

    async def _answer(
        self, answer: Choice, *, by: str, groups: Iterable[str], reason: str, args: Raw = NULL
    ) -> None:
        await self
        asked, clean = self.asked, self._inbox.door.redactor.text
        event = ApprovalAnswered(
            address=asked.address,
            asked=self.seq,
            answer=answer,
            by=clean(text_of("by", by)),
            groups=names_of(groups, clean),
            reason=clean(text_of("reason", reason)),
            args=args,
        )
        await self._inbox.answer(self.run, asked, event)


class Inbox:
    """The approvals of one client's runs.

    Args:
        programs: what is known here, by name: their tools validate edits at once.
        check_caller: refuses callers that must not answer.
    """

    def __init__(
        self,
        door: Door,
        tenant: str,
        *,
        programs: Mapping[str, Program[Any, Any]],
        check_caller: Callable[[], None],
    ) -> None:
        self.door = door
        self.tenant = tenant
        self._programs = programs
        self.check_caller = check_caller

    def approval(self, id: str) -> Approval:
        """Return an approval by its id. Raises InvalidInput E_APPROVAL_ID."""
        run, seq = place_of_id(id)
        return Approval(self, RunKey(self.tenant, run), seq)

    async def open(self, run_id: str | None, *, follow: bool) -> AsyncIterator[Approval]:
        """Yield what waits for an answer, oldest first; with `follow`, then what is asked next."""
        journal, seen = self.door.journal, set[str]()
        position = await journal.wait(-1) if follow else 0
        for row in await self._rows(run_id):
            for found in self.of(row):
                seen.add(found.id)
                yield await found
        while follow:
            page = await journal.tail(self.tenant, after=position, limit=PAGE)
            for recorded in page:
                position = recorded.position
                if run_id is not None and recorded.run.id != run_id:
                    continue
                if isinstance(recorded.event, ApprovalAsked):
                    found = Approval(self, recorded.run, recorded.seq)
                    if found.id not in seen and await self._is_open(found):
                        yield await found
            if not page:
                await journal.wait(position)

    async def _rows(self, run_id: str | None) -> list[RunRow]:
        journal = self.door.journal
        if run_id is not None:
            return [await journal.row(RunKey(self.tenant, check_run_id(run_id)))]
        found = await journal.runs(self.tenant, RunQuery(statuses=OPEN, limit=MAX_RUNS))
        return found[::-1]

    def of(self, row: RunRow) -> list[Approval]:
        """Return what one run asks and nobody has answered, oldest first; not read yet."""
        now = self.door.journal.now()
        entries = row.head.approvals.asked.values()
        waiting = [e.seq for e in entries if e.phase == "open" and e.expires > now]
        return [Approval(self, row.run, seq) for seq in sorted(waiting)]

    async def _is_open(self, approval: Approval) -> bool:
        row = await self.door.journal.row(approval.run)
        return any(found.seq == approval.seq for found in self.of(row))

    async def asked(self, run: RunKey, seq: int) -> ApprovalAsked:
        """Return the event that asks. Raises InvalidInput E_APPROVAL_UNKNOWN."""
        for each in await self.door.journal.read(run, after=seq - 1, limit=1):
            if isinstance(each.event, ApprovalAsked):
                return each.event
        raise InvalidInput("E_APPROVAL_UNKNOWN", approval=name_of(run.id, seq))

    def edited(self, approval: Approval, edit: Mapping[str, Any]) -> Raw:
        """Return an edit's arguments as they are recorded, checked as far as is known here."""
        if not isinstance(edit, Mapping):
            raise InvalidInput("E_APPROVAL_DECISION", value=edit)
        what, clean = approval.what, self.door.redactor
        data = canonical(dict(edit), what=f"edited arguments of {what}")
        if clean.json(data) != data:
            raise InvalidInput("E_ARGS_SECRET", tool=what, detail="in an edit")
        keep_references(approval.arguments, edit, tool=what)
        for program in self._programs.values():
            if what in program.tools:
                tool = program.tools[what]
                referred(tool.validate(data), tool.spec)
        return Raw(data)

    async def answer(self, run: RunKey, asked: ApprovalAsked, event: ApprovalAnswered) -> None:
        """Append an answer; with the last one that a stopped run waits for, the run goes on."""
        self.check_caller()
        goes_on = asked.stops and await self._goes_on(run, event)
        events: tuple[AnyEvent, ...] = (event, Resumed(by=event.by)) if goes_on else (event,)
        try:
            await self.say(run, *events)
        except (InvalidInput, RunIsOver) as exc:
            if exc.code not in ("E_APPROVAL_STATE", "E_RUN_TERMINAL"):
                raise
            raise await self._why(run, asked, event, exc) from exc
        if asked.stops and not goes_on and await self._goes_on(run, event):  # two were the last
            with suppress(InvalidInput, RunIsOver):
                await self.say(run, Resumed(by=event.by))

    async def _goes_on(self, run: RunKey, event: ApprovalAnswered) -> bool:
        """Whether a run is stopped and, after an answer, nobody else is asked about that."""
        head = (await self.door.journal.row(run)).head
        entry = head.approvals.asked.get(event.address)
        if head.status is not Status.INTERRUPTED or entry is None or entry.seq != event.asked:
            return False
        return entry.phase != "open" or answered(entry, event).phase != "open"

    async def _why(
        self, run: RunKey, asked: ApprovalAsked, event: ApprovalAnswered, error: GatebookError
    ) -> GatebookError:
        """Return why a question takes no answer any more, as its run's journal tells it."""
        name, by = name_of(run.id, event.asked), ""
        for each in await self.door.journal.read(run, after=event.asked):
            found = each.event
            if isinstance(found, ActionRequested) and found.decision.approval == asked.bound:
                return InvalidInput("E_APPROVAL_CONSUMED", run=run.id, approval=name, by=by)
            if isinstance(found, ApprovalAnswered) and found.asked == event.asked:
                by = found.by
                error = InvalidInput("E_APPROVAL_ANSWERED", run=run.id, approval=name, by=by)
            if isinstance(found, ApprovalExpired) and found.asked == event.asked:
                return InvalidInput("E_APPROVAL_EXPIRED", run=run.id, approval=name)
        return error

    async def answer_all(
        self,
        approvals: Iterable["Approval | str"],
        answer: Literal["approve", "deny"],
        *,
        by: str,
        groups: Iterable[str] = (),
        reason: str = "",
    ) -> dict[str, GatebookError | None]:
        """Answer several; return for each id None, or why its answer was refused."""
        found: dict[str, GatebookError | None] = {}
        if answer not in ("approve", "deny"):
            raise InvalidInput("E_APPROVAL_DECISION", value=answer)
        for each in approvals:
            approval = each if isinstance(each, Approval) else self.approval(each)
            say = approval.approve if answer == "approve" else approval.deny
            try:
                await say(by=by, groups=groups, reason=reason)
                found[approval.id] = None
            except GatebookError as exc:
                found[approval.id] = exc
        return found

    async def say(self, run: RunKey, *events: AnyEvent) -> int:
        """Append what somebody said, and return its seq."""
        batch = Batch(events=events, append_id=os.urandom(8))
        done = await self.door.journal.append(run, batch)
        self.door.touched(run)
        return done.events[0].seq


def place_of_id(id: str) -> tuple[str, int]:
    """Return (run, seq) of RUN#SEQ. Raises InvalidInput E_APPROVAL_ID."""
    run, mark, seq = id.rpartition("#") if isinstance(id, str) else ("", "", "")
    if not mark or not seq.isascii() or not seq.isdecimal() or len(seq) > 9 or int(seq) < 1:
        raise InvalidInput("E_APPROVAL_ID", value=id)
    return check_run_id(run), int(seq)


def moment(micros: int) -> datetime:
    """Return a stamp of the store as a time."""
    return datetime.fromtimestamp(micros / 1e6, UTC)


def text_of(name: str, value: Any) -> str:
    """Return a text that can be journaled. Raises InvalidInput E_TEXT_TYPE, E_TEXT_INVALID."""
    if type(value) is not str:
        raise InvalidInput("E_TEXT_TYPE", name=name, value=value)
    canonical(value, what=name)
    return value


def names_of(groups: Iterable[str], clean: Callable[[str], str]) -> tuple[str, ...]:
    """Return names that can be journaled, rid of secrets by `clean`; one text is not several."""
    if isinstance(groups, str):
        raise InvalidInput("E_TEXT_TYPE", name="groups", value=groups)
    return tuple(clean(text_of("groups", name)) for name in groups)
