"""Approvals on the command line: shown to people, answered one by one, and asked inline."""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Literal

from gatebook.cli.output import clock, on_terminal, safe, say, short, stamp
from gatebook.cli.store import whoami
from gatebook.errors import GatebookError, InvalidInput
from gatebook.kernel.codec import parse
from gatebook.runtime.client import Client
from gatebook.runtime.runs.approvals import Approval
from gatebook.runtime.runs.states import Waiting

OnAsk = Literal["prompt", "wait", "deny"]
Stopped = Callable[[], Coroutine[Any, Any, Any]]
UNASKED = "nobody is asked: --on-ask deny"
MENU = {"approve": "approve", "edit": "edit JSON", "deny": "deny REASON", "wait": "wait"}
MEANINGS = {
    "approve": "it starts, once, with exactly these arguments (also: a, y)",
    "edit": "it starts with these arguments instead, all of them; policy decides again (also: e)",
    "deny": "it does not start; the program and its model read the reason (also: d, n)",
    "wait": "leave it open, for somebody else or for later (also: w, Enter)",
}
WORDS = {
    "a": "approve", "y": "approve", "yes": "approve", "e": "edit", "d": "deny", "n": "deny",
    "no": "deny", "w": "wait", "": "wait", "h": "?", "help": "?",
} | {word: word for word in MENU}  # fmt: skip
OVERTAKEN = ("E_APPROVAL_ANSWERED", "E_APPROVAL_CONSUMED", "E_APPROVAL_EXPIRED")


def on_ask(chosen: OnAsk | None, *, quiet: bool) -> OnAsk:
    """Return what a driving command does with a question; prompting needs a terminal."""
    if chosen is not None:
        return chosen
    terminal = sys.stdin.isatty() and on_terminal(sys.stderr)
    return "prompt" if terminal and not quiet else "wait"


def approval_fields(approval: Approval) -> dict[str, Any]:
    """Return an approval as JSON documents show it."""
    asked = approval.asked
    return {
        "approval": approval.id,
        "run": approval.run.id,
        "address": approval.address,
        "what": approval.what,
        "arguments": approval.arguments,
        "message": approval.message,
        "rule": approval.rule or None,
        "facts": approval.facts,
        "requester": approval.requester,
        "approvers": [list(names) for names in approval.approvers],
        "choices": list(approval.choices),
        "asked": stamp(asked.time),
        "expires": stamp(asked.time + asked.expires_ms * 1000),
        "refused_edit": asked.refused or None,
    }


def shown(approval: Approval) -> list[str]:
    """Return an approval as the lines people read before they answer."""
    asked = approval.asked
    lines = [f"approval {approval.id}: {approval.message}"]
    lines.append(f"  {approval.what} {short(_arguments(approval), 2_000)}".rstrip())
    if approval.rule:
        lines.append(f"  rule {approval.rule}")
    until = clock(asked.time + asked.expires_ms * 1000)
    lines.append(
        f"  for {approval.requester}, to be answered by {who(approval.approvers)} until {until}"
    )
    if asked.refused:
        lines.append(f"  {asked.refused}")
    return [safe(line) for line in lines]


def arguments(approval: Approval, *, people: bool) -> str:
    """Return the arguments as a column shows them."""
    return short(_arguments(approval), 60) if people else _arguments(approval)


def _arguments(approval: Approval) -> str:
    args = getattr(approval.asked.action, "args", None)
    return "" if args is None else bytes(args).decode()


async def others(client: Client, approval: Approval) -> str:
    """Return who else must say yes to what was approved, as people read it; "" for nobody."""
    row = await client.journal.row(approval.run)
    for entry in row.head.approvals.asked.values():
        if entry.seq == approval.seq and entry.phase == "open":
            places = enumerate(entry.approvers)
            return who(names for place, names in places if place not in entry.given)
    return ""


def who(approvers: Iterable[tuple[str, ...]]) -> str:
    """Return who may answer, for each that asks."""
    return " and ".join(" or ".join(names) or "anybody else" for names in approvers)


class Asker:
    """Answers what one run asks, as --on-ask says: at a prompt, with a denial, or not at all.

    Args:
        pause, go_on: what stops and starts the drawing around a prompt.
    """

    def __init__(
        self,
        client: Client,
        how: OnAsk,
        *,
        pause: Callable[[], None],
        go_on: Callable[[], None],
    ) -> None:
        self._client = client
        self._how = how
        self._pause, self._go_on = pause, go_on
        self._left: set[str] = set()  # what is to wait

    async def heed(self, run: str, state: Waiting, stopped: Stopped) -> bool:
        """Answer what a run waits for; tell whether something was answered."""
        if self._how == "wait" or not any(on.startswith("approval ") for on in state.on):
            return False
        answered = False
        async for approval in self._client.approvals(run):
            if approval.id in self._left:
                continue
            if self._how == "deny":
                await _refuse(approval)
                answered = True
                continue
            self._pause()
            try:
                answered |= await self._prompt(approval, stopped)
            finally:
                self._go_on()
        return answered

    async def _prompt(self, approval: Approval, stopped: Stopped) -> bool:
        for line in shown(approval):
            say(line)
        while True:
            said = await _typed(_menu(approval), stopped)
            word, _, rest = (said or "wait").strip().partition(" ")
            word, rest = WORDS.get(word.lower(), word), rest.strip()
            if word == "wait":
                self._left.add(approval.id)
                return False
            if word == "?":
                _explain(approval)
            elif word not in approval.choices:
                say(safe(f"not answered: {short(word, 40)!r} is no answer here; ? explains"))
            elif await self._answered(approval, word, rest, stopped):
                return True

    async def _answered(self, approval: Approval, word: str, rest: str, stopped: Stopped) -> bool:
        """Give one answer; tell whether it was taken, and say why when it was not."""
        try:
            if word == "deny" and not rest:
                reason = await _typed(
                    "why? (the program reads it; Enter gives no reason) ", stopped
                )
                if reason is None:
                    return False
                rest = reason.strip()
            await _say(approval, word, rest)
            if more := await others(self._client, approval):
                say(safe(f"approved; {more} must approve it too"))
                self._left.add(approval.id)
        except (GatebookError, ValueError) as exc:
            say(safe(f"not answered: {exc}"))
            return False
        return True


async def _say(approval: Approval, word: str, rest: str) -> None:
    by = whoami()
    if word == "deny":
        await approval.deny(by=by, reason=rest)
        return
    edit = parse(rest, what="the edited arguments") if word == "edit" else None
    await approval.approve(by=by, edit=edit)


def _explain(approval: Approval) -> None:
    for choice in (*approval.choices, "wait"):
        say(f"  {MENU[choice]:<12} {MEANINGS[choice]}")


async def _refuse(approval: Approval) -> None:
    """Refuse what nobody is asked about; where others are named to answer, take it back.

    That is the requester's refusal, and its reason says who gave it. Somebody's answer that came
    first stands.
    """
    by = whoami()
    try:
        await approval.deny(by=by, reason=UNASKED)
    except InvalidInput as exc:
        if exc.code == "E_APPROVAL_APPROVER":
            await approval.deny(by=approval.requester, reason=f"{UNASKED}, said {by}")
        elif exc.code not in OVERTAKEN:
            raise


def _menu(approval: Approval) -> str:
    return " | ".join(MENU[choice] for choice in (*approval.choices, "wait")) + "? "


async def _typed(prompt: str, stopped: Stopped) -> str | None:
    """Return a line from the terminal; None at its end, or when a signal came first.

    The thread that reads is left behind then: nothing can wake it, and nobody waits for it.
    """
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        print(prompt, end="", file=sys.stderr, flush=True)
        text = sys.stdin.readline()
        loop.call_soon_threadsafe(lambda: None if line.done() else line.set_result(text))

    threading.Thread(target=read, name="gatebook-prompt", daemon=True).start()
    stop = asyncio.ensure_future(stopped())
    try:
        await asyncio.wait({line, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
    return line.result() or None if line.done() else None
