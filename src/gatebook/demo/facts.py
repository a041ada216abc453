"""What is true at the end of the day: the journal, the ledger and the outbox read side by side."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gatebook import Client, RunHandle
from gatebook.demo.cast import Cast
from gatebook.demo.desk import Desk, refunded_of
from gatebook.demo.tools import close_account, refund, send_mail
from gatebook.kernel.approvals.events import ApprovalAnswered
from gatebook.kernel.codec import idempotency_key
from gatebook.kernel.events import RunStarted
from gatebook.kernel.history import TimelineRow, timeline
from gatebook.kernel.status import Status
from gatebook.kernel.verify import Report
from gatebook.ports import DEFAULT_TENANT, RunRow
from gatebook.runtime.runs.audit import audit

APPROVED_ABOVE = 50  # as data/policy.toml says


@dataclass(frozen=True)
class Story:
    """One run as it is stored: its row, its nonce, its actions, and what people said of them."""

    row: RunRow
    nonce: str
    actions: list[TimelineRow]
    answers: Mapping[str, str]  # address -> approve, edit or deny

    @property
    def id(self) -> str:
        """The run id."""
        return self.row.run.id

    def key(self, action: TimelineRow) -> str:
        """Return the idempotency key that an action's tool was given, on every attempt."""
        return idempotency_key(DEFAULT_TENANT, self.id, self.nonce, action.address)


async def read_run(client: Client, run_id: str) -> Story:
    """Return a run as it is stored now."""
    run: RunHandle[Any] = client.handle(run_id)
    row = await run.row()
    events = [recorded.event for recorded in await client.journal.read(run.key)]
    started = events[0]
    assert isinstance(started, RunStarted)
    answers = {each.address: each.answer for each in events if isinstance(each, ApprovalAnswered)}
    return Story(row, started.nonce, timeline(events), answers)


@dataclass(frozen=True)
class Fact:
    """One check: what should hold, and whether it does."""

    text: str
    holds: bool


@dataclass(frozen=True)
class Day:
    """Everything that is left at the end."""

    cast: Cast
    desk: Desk
    runs: list[Story]
    reports: list[Report]

    @classmethod
    async def read(cls, client: Client, cast: Cast, desk: Desk) -> "Day":
        """Read every run of the day and verify it."""
        runs = [await read_run(client, job.run_id) for job in cast.jobs]
        reports = [await audit(client.journal, run.row.run) for run in runs]
        return cls(cast, desk, runs, reports)

    def actions(self, *names: str) -> list[tuple[Story, TimelineRow]]:
        """Return the actions of these tools, of all runs."""
        return [(run, each) for run in self.runs for each in run.actions if each.what in names]

    def facts(self) -> list[Fact]:
        """Return every check, in the order a reader would ask."""
        ledger = self.desk.ledger.read()
        keys = [line["key"] for line in ledger]
        paid = [run.key(each) for run, each in self.actions(refund.name) if _done(each)]
        sent = [run.key(each) for run, each in self.actions(send_mail.name) if _done(each)]
        mails = [mail["key"] for mail in self.desk.outbox.read()]
        refused = [each.status for _, each in self.actions(close_account.name)]
        return [
            Fact("every run is over, none waits", all(_over(run) for run in self.runs)),
            Fact("every run ended with its result", self._all_completed()),
            Fact(f"the ledger has {self.cast.refunds} refunds", len(keys) == self.cast.refunds),
            Fact("each refund is in the ledger once", _once(keys)),
            Fact("the ledger holds what the journal says succeeded, and nothing else",
                 sorted(keys) == sorted(paid)),
            Fact("no order was paid back more than was paid for it", self._within_paid(ledger)),
            Fact("each refund above 50 was approved by a person, and none below was asked about",
                 self._approved()),
            Fact("each mail is in the outbox once", _once(mails) and sorted(mails) == sorted(sent)),
            Fact("close_account was refused each time, and no account was closed",
                 set(refused) == {"denied"} and not self.desk.closed_accounts.path.exists()),
            Fact(f"all {len(self.reports)} runs verify: {self.events:,} events, each hashed over "
                 "the one before", all(report.ok for report in self.reports)),
            *self._model_facts(),
        ]  # fmt: skip

    @property
    def events(self) -> int:
        """How many events the runs have."""
        return sum(report.events for report in self.reports)

    @property
    def tokens(self) -> int:
        """What all model calls were charged."""
        return sum(run.row.head.spent.llm_tokens for run in self.runs)

    def _model_facts(self) -> Iterable[Fact]:
        calls = [each for run in self.runs for each in run.actions if each.kind == "llm"]
        answered = [each.usage for each in calls if each.status == "succeeded" and each.usage]
        yield Fact("the model was called, and tokens were charged", bool(calls) and self.tokens > 0)
        if self.cast.real:
            text = "the server counted the tokens of every answer"
            counted = all(usage.measured and usage.output_tokens for usage in answered)
            yield Fact(text, bool(answered) and counted)

    def _all_completed(self) -> bool:
        return all(
            run.row.head.status is Status.COMPLETED
            for run in self.runs
            if run.id not in self.cast.may_fail
        )

    def _approved(self) -> bool:
        paid = {line["key"]: Decimal(line["amount"]) for line in self.desk.ledger.read()}
        return all(
            (paid.get(run.key(each), 0) > APPROVED_ABOVE) == (each.address in run.answers)
            for run, each in self.actions(refund.name)
            if _done(each)
        )

    def _within_paid(self, ledger: list[dict[str, str]]) -> bool:
        orders = {line["order"]: self.desk.order(line["order"]) for line in ledger}
        return all(
            order is not None and Decimal(0) < refunded_of(ledger, number) <= order.paid
            for number, order in orders.items()
        )


def _over(run: Story) -> bool:
    return run.row.head.terminal


def _done(action: TimelineRow) -> bool:
    return action.status == "succeeded"


def _once(keys: list[str]) -> bool:
    return all(count == 1 for count in Counter(keys).values())
