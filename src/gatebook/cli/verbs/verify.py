"""`gatebook verify`: does what is stored still prove what it says."""

import asyncio

import click

from gatebook.cli.main import ERROR, OK, sentences
from gatebook.cli.options import Given, Verb, common
from gatebook.cli.output import document, say, table
from gatebook.cli.store import existing, find
from gatebook.kernel.verify import Report
from gatebook.ports import RunQuery
from gatebook.runtime.audit import audit

EVERY = 1_000_000  # more runs than one store holds


@click.command(cls=Verb, examples=("gatebook verify @last", "gatebook verify --all --json"))
@click.argument("run", metavar="RUN", required=False)
@click.option("--all", "every", is_flag=True, help="Every run of the store.")
@common()
def command(given: Given, run: str | None, every: bool) -> int:
    """Check a run's stored bytes: seq, hashes, anchor, what events may follow, and the sums.

    Exits with 1 when anything does not hold. Nothing is changed.
    """
    if (run is None) == (not every):
        raise click.UsageError("give a RUN or --all")
    reports = asyncio.run(_reports(given, run))
    bad = [report for report in reports if not report.ok]
    if given.as_json:
        document(ok=not bad, runs=[_fields(report) for report in reports])
    else:
        table(
            ("RUN", "VERDICT", "STATUS", "EVENTS", "ACTIONS", "VIOLATION"),
            [
                (
                    report.run, "ok" if report.ok else "bad", report.status, str(report.events),
                    str(report.actions), "" if report.ok else str(report.violation),
                )
                for report in reports
            ],
            styled=1,
        )  # fmt: skip
        say(f"{len(reports)} verified, {len(bad)} bad")
    return ERROR if bad else OK


async def _reports(given: Given, run: str | None) -> list[Report]:
    async with existing(given) as client:
        if run is not None:
            keys = [(await find(client, run)).run]
        else:
            keys = [row.run for row in await client.runs(RunQuery(limit=EVERY))]
        return [await audit(client.journal, key) for key in keys]


def _fields(report: Report) -> dict[str, object]:
    violation = None
    if report.violation is not None:
        message, hint = sentences(report.violation)
        violation = {"code": report.violation.code, "message": message, "hint": hint}
    return {
        "run": report.run,
        "ok": report.ok,
        "status": report.status,
        "events": report.events,
        "actions": report.actions,
        "hash": report.hash,
        "violation": violation,
    }
