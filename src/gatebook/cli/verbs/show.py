"""`gatebook show`: one run, as a timeline, as events or as what it cost."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import click
import msgspec

from gatebook.cli.latest import seen
from gatebook.cli.options import Given, Verb, common, run_argument
from gatebook.cli.output import (
    clock,
    document,
    facts,
    number,
    on_terminal,
    safe,
    safe_lines,
    say,
    short,
    span,
    stamp,
    table,
)
from gatebook.cli.store import existing, find
from gatebook.cli.telling import Teller, answer_words, event_fields
from gatebook.cli.words import (
    UNDRIVEN,
    cost_text,
    held,
    last_word,
    meter_texts,
    next_steps,
    run_fields,
    status_of,
)
from gatebook.kernel.codec import Raw, plain
from gatebook.kernel.events import RunCompleted, RunFailed, RunStarted
from gatebook.kernel.history import Cost, TimelineRow, costs, find_artifact, timeline
from gatebook.kernel.policies import AllowDeclared
from gatebook.ports import Recorded, RunRow

WORD = 200  # characters of an answer or an error beside the rows


@click.command(
    cls=Verb,
    examples=(
        "gatebook show @last",
        "gatebook show 0199a0f1 --events",
        "gatebook show @last --json | jq .timeline",
        "gatebook show @last --artifact 5f1c88a0 > whole.txt",
    ),
)
@run_argument
@click.option("--events", "view", flag_value="events", help="Every event of the journal.")
@click.option("--cost", "view", flag_value="cost", help="What each tool and model came to.")
@click.option("--timeline", "view", flag_value="timeline", help="One row per action (default).")
@click.option("--artifact", metavar="DIGEST", help="The whole of a result a model saw part of.")
@common()
def command(given: Given, run: str, view: str | None, artifact: str | None) -> None:
    """Show one run: what it did, what it waits for and which command moves it on.

    RUN is a run id, a unique beginning of one, or @last. Piped, standard output has only the rows,
    as tab-separated values, and standard error says how the run stands.
    """
    row, recorded, now = asyncio.run(_read(given, run))
    if artifact is not None:
        _artifact(given, row, find_artifact((r.event for r in recorded), artifact, run=row.run.id))
        return
    view = view or "timeline"
    actions = as_known(timeline(each.event for each in recorded), held=held(row, now))
    if given.as_json:
        fields: dict[str, Any] = run_fields(row, now) | _facts_of(recorded)
        body: list[Any] = [_action_fields(action) for action in actions]
        if view == "events":
            body = [event_fields(each) for each in recorded]
        elif view == "cost":
            body = [msgspec.to_builtins(cost) for cost in costs(actions)]
        document(**fields, next=[line for _, line in next_steps(row, given, now)], **{view: body})
        return
    people = on_terminal(sys.stdout)
    if people:
        _head(row, recorded, now)
    if view == "events":
        _events(recorded)
    elif view == "cost":
        _costs(costs(actions))
    else:
        _timeline(actions, now)
    if not people:
        _stand(row, recorded, now)
    _foot(row, given, now, write=print if people else say)


async def _read(given: Given, name: str) -> tuple[RunRow, list[Recorded], int]:
    async with existing(given) as client:
        row = await find(client, name)
        recorded = await client.journal.read(row.run)
        row = await seen(client.journal, await client.journal.row(row.run))
        return row, recorded, client.journal.now()


def _artifact(given: Given, row: RunRow, whole: Raw) -> None:
    """Write a text as it is, and other JSON as one line; made safe where it is looked at."""
    value = plain(whole)
    if given.as_json:
        document(run=row.run.id, artifact=value)
        return
    text = value if isinstance(value, str) else bytes(whole).decode()
    sys.stdout.write(safe_lines(text) if on_terminal(sys.stdout) else text)
    sys.stdout.write("" if text.endswith("\n") else "\n")


def _facts_of(recorded: list[Recorded]) -> dict[str, Any]:
    started, last = recorded[0].event, None
    for each in recorded:
        if isinstance(each.event, RunCompleted | RunFailed):
            last = each.event
    assert isinstance(started, RunStarted)
    fields: dict[str, Any] = {
        "policy": policy_of(recorded),
        "definition": started.definition,
        "input": plain(started.input),
    }
    if isinstance(last, RunCompleted):
        fields["output"] = plain(last.output)
    elif isinstance(last, RunFailed):
        fields["error"] = {"code": last.error.code, "message": last.error.message}
        fields["denied"] = last.denied
    return fields


def policy_of(recorded: list[Recorded]) -> str:
    """Return the name of the policy that decided last about a run, "" for one without a name."""
    started = recorded[0].event
    assert isinstance(started, RunStarted)
    name = started.policy_name
    for each in recorded:
        decision = getattr(each.event, "decision", None)
        if decision is not None and decision.policy:
            name = decision.policy_name or _name_of(decision.policy, started)
    return name


def _name_of(digest: str, started: RunStarted) -> str:
    """Return the name of a policy that was recorded by its digest alone."""
    if digest == started.policy:
        return started.policy_name
    development = AllowDeclared()
    return development.name if digest == development.digest else f"another, {digest[:12]}"


def _head(row: RunRow, recorded: list[Recorded], now: int) -> None:
    started = recorded[0].event
    assert isinstance(started, RunStarted)
    until = row.updated if row.head.terminal else now
    name, word = last_word(row, recorded)
    facts(
        {
            "run": row.run.id,
            "program": f"{row.program} ({row.program_kind})",
            "status": status_of(row, now),
            "policy": policy_of(recorded) or "(unnamed)",
            "started": f"{clock(row.created)}, {span(until - row.created)} in all",
            "used": ", ".join(meter_texts(row)) or "nothing",
            "input": short(bytes(started.input).decode()),
        }
        | ({name: short(word, WORD)} if word else {})
    )
    print()


def _stand(row: RunRow, recorded: list[Recorded], now: int) -> None:
    """Say in one line beside the piped rows how the run stands."""
    _, word = last_word(row, recorded)
    say(f"run {row.run.id} {status_of(row, now)}{f': {safe(short(word, WORD))}' if word else ''}")


def _foot(row: RunRow, given: Given, now: int, *, write: Callable[[str], None]) -> None:
    for what, line in next_steps(row, given, now):
        write(f"{'' if what == UNDRIVEN else 'waits: '}{safe(what)}\n  {line}")


def _action_fields(action: TimelineRow) -> dict[str, Any]:
    """Return an action as JSON documents show it."""
    return {
        "seq": action.seq,
        "address": action.address,
        "kind": action.kind,
        "what": action.what,
        "status": action.status,
        "effect": action.effect or None,
        "attempts": action.attempts,
        "started": stamp(action.started),
        "ended": stamp(action.ended) or None,
        "duration_us": action.duration_us,
        "charged": msgspec.to_builtins(action.charged),
        "usage": msgspec.to_builtins(action.usage),
        "cost_usd": None if (cost := action.charged.cost_usd) is None else str(cost),
        "price": msgspec.to_builtins(action.price),
        "args": None if action.args is None else plain(action.args),
        "output": None if action.output is None else plain(action.output),
        "artifact": msgspec.to_builtins(action.artifact),
        "error": {"code": action.code, "message": action.error} if action.code else None,
        "rule": action.rule or None,
        "verdict": action.verdict,
        "resolved_by": action.resolved_by or None,
    }


def as_known(actions: list[TimelineRow], *, held: bool) -> list[TimelineRow]:
    """Return actions; what was begun and has no end is "started" when no worker has the run."""
    for action in actions:
        if action.status == "running" and not held:
            action.status = "started"
    return actions


def _timeline(actions: list[TimelineRow], now: int) -> None:
    people = on_terminal(sys.stdout)
    table(
        ("ADDRESS", "KIND", "ACTION", "STATUS", "TRIES", "STARTED", "TOOK", "TOKENS", "DETAIL"),
        [
            (
                action.address, action.kind, action.what, action.status, str(action.attempts),
                clock(action.started) if people else stamp(action.started),
                span(action.duration_us) if people else str(action.duration_us or ""),
                (number if people else str)(action.charged.llm_tokens)
                if action.kind == "llm" else "",
                _detail(action, now, limit=70 if people else 10_000),
            )
            for action in actions
        ],
        styled=3,
        least=("STARTED", "TRIES", "KIND"),
    )  # fmt: skip


def _detail(action: TimelineRow, now: int, *, limit: int) -> str:
    """Return `detail`, and before it, of what nobody watches, how long ago it began."""
    if action.status != "started":
        return detail(action, limit=limit)
    told = f"started {span(now - action.begun)} ago; no worker has the run"
    given = detail(action, limit=limit)
    return short(f"{told}: {given}" if given else told, limit)


def detail(action: TimelineRow, *, limit: int) -> str:
    """Return what people ask about an action next: why it is not well, or what went in and out."""
    if action.error:
        rule = f" (rule {action.rule})" if action.rule else ""
        return short(f"{action.error}{rule}", limit)
    given = short(bytes(action.args).decode(), limit) if action.args is not None else ""
    if action.output is None or bytes(action.output) == b"null":
        return given
    output = bytes(action.output).decode()
    if action.kind == "llm":
        output = answer_words(plain(action.output)) or output
    text = f"{given} → {output}" if given else output
    if action.artifact is None:
        return short(text, limit)
    name = f" (artifact {action.artifact.digest[:12]})"
    return short(text, limit - len(name)) + name


def _events(recorded: list[Recorded]) -> None:
    teller = Teller()
    people = on_terminal(sys.stdout)
    rows = []
    for each in recorded:
        word, address, text = teller.parts(each)
        at = clock(each.event.time) if people else stamp(each.event.time)
        rows.append((str(each.seq), at, word, address, text))
    table(("SEQ", "TIME", "EVENT", "ADDRESS", "DETAIL"), rows, styled=2, least=("TIME",))


def _costs(found: list[Cost]) -> None:
    people = on_terminal(sys.stdout)
    count = number if people else lambda n: "" if n is None else str(n)
    table(
        ("KIND", "ACTION", "CALLS", "TRIES", "TOKENS CHARGED", "IN", "OUT", "COST", "TIME"),
        [
            (
                cost.kind, cost.what, count(cost.calls), count(cost.attempts), count(cost.tokens),
                count(cost.input_tokens), count(cost.output_tokens),
                cost_text(cost.cost_usd, people=people) if cost.kind == "llm" else "",
                span(cost.duration_us) if people else str(cost.duration_us),
            )
            for cost in found
        ],
        least=("TRIES", "CALLS"),
    )  # fmt: skip
