"""Grants: "also allow this tool in this run until ...", given, listed and taken back."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec

from gatebook.errors import InvalidInput
from gatebook.kernel.actions import CallTool
from gatebook.kernel.approvals.consent import requester_of
from gatebook.kernel.approvals.events import ApprovalAnswered, ApprovalAsked, Granted, GrantRevoked
from gatebook.kernel.approvals.standing import may_answer, name_of, same_person
from gatebook.kernel.codec import check_run_id
from gatebook.kernel.events import AnyEvent, RunStarted
from gatebook.ports import RunKey
from gatebook.runtime.runs.approvals import Inbox, moment, names_of, place_of_id, text_of

_LAST = round(datetime(9999, 1, 1, tzinfo=UTC).timestamp() * 1e6)  # what any clock can show

TRIES = 10  # to answer what waits, while others answer it too


class GrantGiven(msgspec.Struct, frozen=True):
    """A grant that stands in a run: "also allow this tool in this run until ..."."""

    id: str
    tool: str
    until: datetime
    by: str
    over: bool = False


class Grants:
    """The grants of one client's runs."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

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
        """Allow a tool in one run without further asking; see `Client.grant`."""
        self._inbox.check_caller()
        run, clean = (
            RunKey(self._inbox.tenant, check_run_id(run_id)),
            self._inbox.door.redactor.text,
        )
        events = [each.event for each in await self._inbox.door.journal.read(run)]
        started = events[0]
        assert isinstance(started, RunStarted)
        by = clean(text_of("by", by))
        if same_person(by, requester_of(started)):
            raise InvalidInput("E_GRANT_SELF", run=run_id, by=by)
        event = Granted(
            tool=tool,
            definition=_definition(tool, started, events, run_id),
            until=_until(until, self._inbox.door.journal.now()),
            by=by,
            groups=names_of(groups, clean),
            reason=clean(text_of("reason", reason)),
        )
        seq = await self._given(run, event)
        return GrantGiven(name_of(run.id, seq), tool, moment(event.until), by)

    async def _given(self, run: RunKey, event: Granted) -> int:
        """Append a grant with its answers, fewer when somebody else has answered meanwhile."""
        for _ in range(TRIES):
            answers = await self._answers(run, event)
            try:
                return await self._inbox.say(run, event, *answers)
            except InvalidInput as exc:
                if not answers or not exc.code.startswith("E_APPROVAL_"):
                    raise
        return await self._inbox.say(run, event)

    async def _answers(self, run: RunKey, event: Granted) -> list[ApprovalAnswered]:
        """Return a yes to each open question about a tool that its granter might approve.

        Raises:
            InvalidInput: E_APPROVAL_APPROVER when that tool waits for others only.
        """
        answers, theirs = [], ""
        for approval in self._inbox.of(await self._inbox.door.journal.row(run)):
            asked = (await approval).asked
            if not isinstance(asked.action, CallTool) or asked.action.tool != event.tool:
                continue
            if not any(may_answer(each, event.by, event.groups) for each in approval.approvers):
                theirs = theirs or approval.id
            elif not asked.stops and "approve" in approval.choices:
                answers.append(
                    ApprovalAnswered(
                        address=asked.address,
                        asked=approval.seq,
                        answer="approve",
                        by=event.by,
                        groups=event.groups,
                    )
                )
        if theirs and not answers:
            raise await self._not_theirs(theirs, event)
        return answers

    async def _not_theirs(self, id: str, event: Granted) -> InvalidInput:
        approval = await self._inbox.approval(id)
        names = ", ".join(sorted({name for who in approval.approvers for name in who}))
        return InvalidInput(
            "E_APPROVAL_APPROVER", by=event.by, names=names, run=approval.run.id, approval=id
        )

    async def grants(self, run_id: str) -> list[GrantGiven]:
        """Return the grants of a run that were not revoked, oldest first."""
        run = RunKey(self._inbox.tenant, check_run_id(run_id))
        row, now = await self._inbox.door.journal.row(run), self._inbox.door.journal.now()
        return [
            GrantGiven(
                name_of(run.id, seq), each.tool, moment(each.until), each.by, each.until <= now
            )
            for seq, each in sorted(row.head.approvals.grants.items())
        ]

    async def revoke(self, grant: GrantGiven | str, *, by: str, reason: str = "") -> None:
        """Take a grant back; what it let start goes on. See `Client.revoke`."""
        self._inbox.check_caller()
        run, seq = place_of_id(grant if isinstance(grant, str) else grant.id)
        clean = self._inbox.door.redactor.text
        event = GrantRevoked(
            grant=seq, by=clean(text_of("by", by)), reason=clean(text_of("reason", reason))
        )
        await self._inbox.say(RunKey(self._inbox.tenant, run), event)


def _until(until: datetime | timedelta, now: int) -> int:
    if isinstance(until, timedelta):
        found = now + round(until.total_seconds() * 1e6)
    elif isinstance(until, datetime) and until.tzinfo is not None:
        found = round(until.timestamp() * 1e6)
    else:
        raise InvalidInput("E_GRANT_UNTIL", value=until)
    if found > _LAST:
        raise InvalidInput("E_GRANT_UNTIL", value=until)
    return found


def _definition(tool: str, started: RunStarted, events: Iterable[AnyEvent], run: str) -> str:
    """Return the definition of a tool that a grant is for: as it was last asked about or pinned."""
    found = started.pins.get(tool)
    for event in events:
        if isinstance(event, ApprovalAsked) and isinstance(event.action, CallTool):
            found = event.definition if event.action.tool == tool else found
    if not found:
        raise InvalidInput("E_GRANT_TOOL", tool=tool, run=run)
    return found
