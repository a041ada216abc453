"""`gatebook verify`: does what is stored still prove what it says."""

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import click
import msgspec

from gatebook.cli.latest import seen
from gatebook.cli.main import ERROR, OK, sentences
from gatebook.cli.options import Given, Verb, common
from gatebook.cli.output import document, say, table
from gatebook.cli.store import existing, find
from gatebook.cli.words import status_of
from gatebook.errors import IntegrityError
from gatebook.kernel.verify import Report
from gatebook.ports import RunKey
from gatebook.runtime.client import Client
from gatebook.runtime.runs.audit import LedgerReport, audit, audit_ledgers, audit_store


@click.command(cls=Verb, examples=("gatebook verify @last", "gatebook verify --all --json"))
@click.argument("run", metavar="RUN|--all", required=False)
@click.option("--all", "every", is_flag=True, help="Every run of the store.")
@common()
def command(given: Given, run: str | None, every: bool) -> int:
    """Check a run's stored bytes: seq, hashes, anchor, what events may follow, and the sums.

    With --all also the ledgers that runs share, and that no run is gone. Exits with 1 when anything
    does not hold. Nothing is changed.
    """
    if (run is None) == (not every):
        raise click.UsageError("give a RUN or --all")
    found = asyncio.run(_found(given, run))
    bad = found.bad
    if given.as_json:
        document(ok=not bad, **_fields(found))
    else:
        table(
            ("RUN", "VERDICT", "STATUS", "EVENTS", "ACTIONS", "VIOLATION"),
            list(_rows(found)),
            styled=1,
            least=("ACTIONS", "EVENTS"),
        )
        say(f"{len(found.runs) + len(found.ledgers)} verified, {bad} bad")
    return ERROR if bad else OK


class Found(NamedTuple):
    """What was found: of runs, each with its status as lists show it, of ledgers, of the store."""

    runs: list[tuple[Report, str]]
    ledgers: list[LedgerReport]
    store: IntegrityError | None

    @property
    def bad(self) -> int:
        """How much of it does not hold."""
        violations = [self.store, *(each.violation for each in self.ledgers)]
        violations += [report.violation for report, _ in self.runs]
        return sum(violation is not None for violation in violations)


async def _found(given: Given, run: str | None) -> Found:
    async with existing(given) as client:
        journal, ledgers, store = client.journal, [], None
        if run is not None:
            keys = [(await find(client, run)).run]
        else:
            keys = await journal.keys(client.tenant)
            ledgers = await audit_ledgers(journal, client.tenant)
            store = await audit_store(journal)
        runs = [(await audit(journal, key), await _status(client, key)) for key in keys]
        return Found(runs, ledgers, store)


async def _status(client: Client, run: RunKey) -> str:
    """Return how a run stands, in the word that lists use; "" when its row does not read."""
    journal = client.journal
    try:
        return status_of(await seen(journal, await journal.row(run)), journal.now())
    except IntegrityError:
        return ""


def _rows(found: Found) -> Iterator[tuple[str, ...]]:
    for report, status in found.runs:
        count, actions = str(report.events), str(report.actions)
        yield report.run, _verdict(report), status, count, actions, _told(report.violation)
    for each in found.ledgers:
        yield f"ledger {each.ledger}", _verdict(each), "", "", "", _told(each.violation)
    if found.store is not None:
        yield "store", "bad", "", "", "", _told(found.store)


def _verdict(report: Report | LedgerReport) -> str:
    return "ok" if report.ok else "bad"


def _told(violation: IntegrityError | None) -> str:
    return "" if violation is None else str(violation)


def _ledger_fields(report: LedgerReport) -> dict[str, object]:
    return {
        "ledger": report.ledger,
        "ok": report.ok,
        "reserved": msgspec.to_builtins(report.balance.reserved),
        "spent": msgspec.to_builtins(report.balance.spent),
        "violation": _violation(report.violation),
    }


def _violation(violation: IntegrityError | None) -> dict[str, str] | None:
    if violation is None:
        return None
    message, hint = sentences(violation)
    return {"code": violation.code, "message": message, "hint": hint}


def _fields(found: Found) -> dict[str, object]:
    fields: dict[str, object] = {"runs": [_run_fields(*each) for each in found.runs]}
    if found.ledgers:
        fields["ledgers"] = [_ledger_fields(report) for report in found.ledgers]
    if found.store is not None:
        fields["store"] = {"ok": False, "violation": _violation(found.store)}
    return fields


def _run_fields(report: Report, status: str) -> dict[str, object]:
    return {
        "run": report.run,
        "ok": report.ok,
        "status": status,
        "events": report.events,
        "actions": report.actions,
        "hash": report.hash,
        "violation": _violation(report.violation),
    }
