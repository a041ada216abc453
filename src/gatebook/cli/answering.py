"""Answering approvals by name, several at once: what `approve` and `deny` share."""

from typing import Any, Literal

import click

from gatebook.cli.asking import others
from gatebook.cli.fitting import check_edit
from gatebook.cli.main import ERROR, OK, sentences
from gatebook.cli.options import Given
from gatebook.cli.output import clock, document, safe, say
from gatebook.cli.steering import after_steering
from gatebook.cli.store import existing, find, whoami
from gatebook.errors import GatebookError
from gatebook.ports import RunRow
from gatebook.runtime.client import Client
from gatebook.runtime.runs.approvals import Approval, place_of_id

ids_argument = click.argument("ids", metavar="RUN#SEQ...", nargs=-1, required=True)
by_option = click.option("--by", metavar="NAME", help="Who answers; you, unless given.")
group_option = click.option(
    "--group", "groups", metavar="NAME", multiple=True, help="A group you answer for."
)


DONE = {"approve": "approved", "deny": "denied"}


def author_of(by: str | None, groups: tuple[str, ...], reason: str) -> dict[str, Any]:
    """Return who answers and why; you, unless somebody is named."""
    return {"by": by or whoami(), "groups": groups, "reason": reason}


async def whole(client: Client, id: str) -> str:
    """Return the whole id of an approval whose run is given by a beginning or @last."""
    run, mark, seq = id.rpartition("#")
    if not mark:
        place_of_id(id)
    return f"{(await find(client, run)).run.id}#{seq}"


async def answer(
    given: Given,
    ids: tuple[str, ...],
    word: Literal["approve", "deny"],
    author: dict[str, Any],
    *,
    edit: Any = None,
) -> int:
    """Give one answer to several approvals; return the exit code: 1 when one was refused.

    `author` is by, groups and reason, as `Approval.approve` takes them.
    """
    told: dict[str, GatebookError | None] = {}
    fields: dict[str, dict[str, Any]] = {}
    texts: dict[str, str] = {}
    until: dict[str, str] = {}
    missing: dict[str, str] = {}
    async with existing(given) as client:
        names = [await whole(client, id) for id in dict.fromkeys(ids)]
        if edit is None:
            told = await client.answer(names, word, **author)
        else:
            approval = client.approval(names[0])
            row = await client.journal.row(approval.run)
            told[approval.id] = await _edited(approval, edit, author, given, row)
        for name in names:
            approval = client.approval(name)
            if told[name] is None and word == "approve":
                asked = (await approval).asked
                until[name] = clock(asked.time + asked.expires_ms * 1000)
                missing[name] = await others(client, approval)
            fields[name], texts[name] = await after_steering(client, approval.run, given)
    if given.as_json:
        document(answers=[_fields(name, word, told[name], fields[name]) for name in names])
    else:
        _say(told, "edited and approved" if edit is not None else DONE[word], until, missing)
        taken = [name for name in names if told[name] is None and not missing.get(name)]
        for text in dict.fromkeys(texts[name] for name in taken):
            if text:
                say(text.strip())
    return ERROR if any(told.values()) else OK


async def _edited(
    approval: Approval, edit: Any, author: dict[str, Any], given: Given, row: RunRow
) -> GatebookError | None:
    try:
        check_edit(given, row, (await approval).what, edit)
        await approval.approve(edit=edit, **author)
    except GatebookError as exc:
        return exc
    return None


def _say(
    told: dict[str, GatebookError | None],
    done: str,
    until: dict[str, str],
    missing: dict[str, str],
) -> None:
    for name, error in told.items():
        good = f", to be used before {until[name]}" if name in until else ""
        if more := missing.get(name):
            good = f"; {more} must approve it too, before {until[name]}"
        say(safe(f"approval {name}: {f'{done}{good}' if error is None else error}"))


def _fields(
    name: str, word: str, error: GatebookError | None, fields: dict[str, Any]
) -> dict[str, Any]:
    problem = None
    if error is not None:
        message, hint = sentences(error)
        problem = {"code": error.code, "message": message, "hint": hint}
    return {"approval": name, "answer": word, "error": problem, **fields}
