"""`gatebook policy backtest`: what another policy would have said to what is recorded."""

import re
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import msgspec

from gatebook.cli.apps import beside
from gatebook.cli.main import ERROR, OK
from gatebook.cli.options import Given, Verb
from gatebook.cli.output import document, on_terminal, safe, say, short, table
from gatebook.cli.policies.files import counted, looking, usable
from gatebook.cli.policies.recorded import Declared, each_run, specs, validator
from gatebook.errors import GatebookError
from gatebook.kernel.events import AnyEvent, Verdict
from gatebook.kernel.review.again import Answer, answer, differs, limits_of
from gatebook.kernel.review.decisions import Decided, Told, decisions
from gatebook.kernel.rules.document import Document
from gatebook.kernel.rules.match import Rulebook
from gatebook.ports import RunRow

_AGE = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One decision that would be another."""

    run: str
    seq: int
    program: str
    kind: str
    what: str
    was: Verdict
    would_be: Verdict
    rules: tuple[str, ...]
    reason: str
    code: str

    @property
    def link(self) -> str:
        """What `policy explain` takes: RUN#SEQ."""
        return f"{self.run}#{self.seq}"


class Backtest:
    """Decides recorded runs again, one after the other, and counts."""

    def __init__(self, policy: Document, declared: Declared) -> None:
        self._book, self._policy, self._declared = Rulebook(policy), policy, declared
        self._results = any(rule.select.on == "result" for rule in policy.rules)
        self.changes: list[Change] = []
        self.counts: Counter[tuple[Verdict, Verdict]] = Counter()
        self.runs = self.decided = self.refused = 0
        self.unread: dict[str, str] = {}

    def visit(self, row: RunRow, events: Sequence[AnyEvent] | GatebookError) -> None:
        """Decide one run again."""
        try:
            if isinstance(events, GatebookError):
                raise events
            self._run(row, events)
        except GatebookError as exc:
            self.unread[row.run.id] = str(exc)

    def _run(self, row: RunRow, events: Sequence[AnyEvent]) -> None:
        tools = self._declared.tools(row.program)
        told = Told(
            run_id=row.run.id,
            tenant=row.run.tenant,
            tools=specs(tools),
            limits=limits_of(self._policy),
            policy=self._policy.digest if self._policy.mode == "enforce" else "",
            labels=self._book.labels,
            results=self._results,
        )
        for decided in decisions(events, told):
            if decided.repeats:
                continue
            if decided.by_policy:
                self._count(row, decided, answer(self._book, decided, validator(tools)))
            else:
                self.refused += 1
        self.runs += 1

    def _count(self, row: RunRow, decided: Decided, now: Answer) -> None:
        self.decided += 1
        if not differs(decided, now):
            return
        self.counts[decided.was, now.verdict] += 1
        self.changes.append(
            Change(
                run=row.run.id, seq=decided.seq, program=row.program, kind=decided.kind,
                what=decided.what, was=decided.was, would_be=now.verdict, rules=now.rules,
                reason=now.reason, code=now.code,
            )
        )  # fmt: skip


@click.command(
    cls=Verb,
    examples=(
        "gatebook policy backtest stricter.toml --since 30d",
        "gatebook policy backtest policy.toml --run @last --json",
    ),
)
@click.argument("new", metavar="NEW...", nargs=-1, required=True)
@click.option("--since", metavar="WHEN", help="Only runs started within 30d, or since 2026-11-01.")
@click.option("--run", "runs", multiple=True, metavar="RUN", help="Only this run; may be repeated.")
@click.option("--program", default="", metavar="NAME", help="Only runs of this program.")
@looking
def command(
    given: Given, new: tuple[str, ...], since: str | None, runs: tuple[str, ...], program: str
) -> int:
    """Decide all recorded actions again, by the policy in files, and show what would differ.

    Each decision is taken alone, as if all before it had happened as recorded, and as if the
    policy were enforced. Nothing is written, called or started. Rows are RUN#SEQ (which `policy
    explain` takes), action, what was done, what would be, why. Exits with 1 when any differs.
    """
    policy = usable(new)
    given = beside(given)
    declared = Declared(given)
    test = Backtest(policy, declared)
    query = {"program": program, "since": None if since is None else _moment(since)}
    each_run(given, query, runs, test.visit)
    code = ERROR if test.changes or test.unread else OK
    if given.as_json:
        _document(policy, new, test, declared)
        return code
    _show(test.changes)
    _summary(test, declared)
    return code


def _moment(text: str) -> int:
    """Return a moment in microseconds UTC: an age before now, a date, or a date and time."""
    age = _AGE.fullmatch(text)
    if age is not None:
        past = timedelta(**{_UNITS[age[2]]: int(age[1])})
        return int((datetime.now(tz=UTC).timestamp() - past.total_seconds()) * 1e6)
    try:
        then = datetime.fromisoformat(text)
    except ValueError as exc:
        raise click.BadParameter(
            f"--since takes an age like 12h, 30d or 4w, or a date like 2026-11-01, got {text!r}"
        ) from exc
    return int((then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() * 1e6)


def _why(change: Change) -> str:
    by = ", ".join(change.rules)
    return f"{by}: {change.reason}" if by and change.reason else by or change.reason


def _show(changes: list[Change]) -> None:
    if not on_terminal(sys.stdout):
        table(
            (),
            [(each.link, each.what, each.was, each.would_be, _why(each)) for each in changes],
        )
        return
    widest = max((len(each.link) for each in changes), default=0)
    for each in changes:
        print(f"{each.link:<{widest}}  {safe(each.what)}  {each.was} -> {each.would_be}")
        print(f"    {safe(short(_why(each), 200))}")


def _summary(test: Backtest, declared: Declared) -> None:
    ways = ", ".join(f"{n} {was} -> {now}" for (was, now), n in sorted(test.counts.items()))
    differ = f"{len(test.changes)} would differ ({ways})" if ways else "none would differ"
    say(f"{counted(test.decided, 'decision')} of {counted(test.runs, 'run')}: {differ}")
    if test.refused:
        say(f"{counted(test.refused, 'action')} more: refused, and not by a policy")
    if declared.unknown:
        names = ", ".join(sorted(declared.unknown))
        say(f"what tools declare is not known of {names}: --app MODULE:ATTR says it")
    for run, why in test.unread.items():
        say(f"run {run} was left out: {why}")


def _document(policy: Document, files: tuple[str, ...], test: Backtest, declared: Declared) -> None:
    changes: list[dict[str, Any]] = [
        {"link": each.link, **msgspec.to_builtins(each)} for each in test.changes
    ]
    document(
        policy={"name": policy.name, "digest": policy.digest, "files": list(files)},
        runs=test.runs, decisions=test.decided, refused_otherwise=test.refused,
        changed=len(changes),
        summary=[
            {"was": was, "would_be": now, "count": n}
            for (was, now), n in sorted(test.counts.items())
        ],
        changes=changes, undeclared=sorted(declared.unknown), unread=test.unread,
    )  # fmt: skip
