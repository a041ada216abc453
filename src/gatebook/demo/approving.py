"""The scene in which a person decides about the refunds that policy asks about."""

import json

from gatebook import Client
from gatebook.demo.cast import Answer, Cast
from gatebook.demo.desk import DATA
from gatebook.demo.screen import heading, say
from gatebook.demo.terminal import APP, Terminal, path_from_here
from gatebook.runtime.runs.approvals import Approval

BY = "nadia"  # who answers, as the journal records it


async def approve(client: Client, cast: Cast, terminal: Terminal) -> None:
    """Answer everything that waits for a person, from the command line, in other processes."""
    heading("4. Refunds above 50: a person decides")
    waiting = [approval async for approval in client.approvals()]
    say(f"""{len(waiting)} runs wait for somebody to look: rule 'refunds-above-50' asks before such
        a refund starts. A run that waits holds nothing, for hours if need be. The demo answers as
        {BY} would, in processes of their own; worker 2 goes on.""")
    await terminal.run("approvals")
    for answer in dict.fromkeys(cast.answers.values()):
        ids = [each.id for each in waiting if cast.answers[each.run.id] == answer]
        await terminal.run(*_command(answer, ids, waiting))
    say("""An edit is decided about again, so nobody edits past a deny. What was approved is good
        for exactly this call with exactly these arguments, once.""")


def _command(answer: Answer, ids: list[str], waiting: list[Approval]) -> list[str]:
    told = ["deny" if answer.denied else "approve", *ids, "--by", BY]
    if answer.denied:
        return [*told, "--reason", answer.denied]
    if answer.edit:
        (edited,) = (each for each in waiting if each.id in ids)
        return [*told, "--edit", json.dumps(edited.arguments | dict(answer.edit))]
    return told


async def compare(terminal: Terminal, asked: str) -> None:
    """Show why an action, RUN#SEQ, was decided as it was, and what another policy would have said.

    The backtest exits with 1: some decisions would differ.
    """
    heading("6. Why, and what another policy would have said")
    policy, stricter = (path_from_here(DATA / f"{name}.toml") for name in ("policy", "stricter"))
    say("Every decision is in the journal, with its rule and the facts it was made of:")
    await terminal.run("policy", "explain", asked, "--policy", policy, "--app", APP)
    say("""A stricter file asks above 30. Before anybody puts it to use, it decides everything that
        was recorded once more; nothing is called, nothing is written:""")
    await terminal.run("policy", "backtest", stricter, "--app", APP, code=1)
