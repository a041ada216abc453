"""`gatebook verify`: does what is stored still prove what it says."""

import asyncio

import click
import msgspec

from gatebook.cli.main import ERROR, OK, sentences
from gatebook.cli.options import Given, Verb, common
from gatebook.cli.output import document, say, table
from gatebook.cli.store import existing, find
from gatebook.kernel.verify import Report
from gatebook.ports import RunQuery
from gatebook.runtime.runs.audit import LedgerReport, audit, audit_ledgers

EVERY = 1_000_000  # more runs than one store holds


@click.command(cls=Verb, examples=("gatebook verify @last", "gatebook verify --all --json"))
@click.argument("run", metavar="RUN|--all", required=False)
@click.option("--all", "every", is_flag=True, help="Every run of the store.")
@common()
def command(given: Given, run: str | None, every: bool) -> int:
    """Check a run's stored bytes: seq, hashes, anchor, what events may follow, and the sums.

    With --all also the ledgers that runs share. Exits with 1 when anything does not hold. Nothing
    is changed.
    """
    if (run is None) == (not every):
        raise click.UsageError("give a RUN or --all")
    reports, ledgers = asyncio.run(_reports(given, run))
    bad = sum(not report.ok for report in reports) + sum(not report.ok for report in ledgers)
    if given.as_json:
        more = {"ledgers": [_ledger_fields(report) for report in ledgers]} if ledgers else {}
        document(ok=not bad, runs=[_fields(report) for report in reports], **more)
    else:
        table(
            ("RUN", "VERDICT", "STATUS", "EVENTS", "ACTIONS", "VIOLATION"),
            [
                (
                    report.run, "ok" if report.ok else "bad", report.status, str(report.events),
                    str(report.actions), "" if report.ok else str(report.violation),
                )
                for report in reports
            ]
            + [
                (f"ledger {report.ledger}", "ok" if report.ok else "bad", "", "", "",
                 "" if report.ok else str(report.violation))
                for report in ledgers
            ],
            styled=1,
            least=("ACTIONS", "EVENTS"),
        )  # fmt: skip
        say(f"{len(reports) + len(ledgers)} verified, {bad} bad")
    return ERROR if bad else OK


async def _reports(given: Given, run: str | None) -> tuple[list[Report], list[LedgerReport]]:
    async with existing(given) as client:
        ledgers = []
        if run is not None:
            keys = [(await find(client, run)).run]
        else:
            keys = [row.run for row in await client.runs(RunQuery(limit=EVERY))]
            ledgers = await audit_ledgers(client.journal, client.tenant)
        return [await audit(client.journal, key) for key in keys], ledgers


def _ledger_fields(report: LedgerReport) -> dict[str, object]:
    return {
        "ledger": report.ledger,
        "ok": report.ok,
        "reserved": msgspec.to_builtins(report.balance.reserved),
        "spent": msgspec.to_builtins(report.balance.spent),
        "violation": _violation(report),
    }


def _violation(report: Report | LedgerReport) -> dict[str, str] | None:
    if report.violation is None:
        return None
    message, hint = sentences(report.violation)
    return {"code": report.violation.code, "message": message, "hint": hint}


def _fields(report: Report) -> dict[str, object]:
    return {
        "run": report.run,
        "ok": report.ok,
        "status": report.status,
        "events": report.events,
        "actions": report.actions,
        "hash": report.hash,
        "violation": _violation(report),
    }
