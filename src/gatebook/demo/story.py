"""The story as the reader sees it: a day at the desk, a kill, two questions, and the checks.

Reads the journal as any other process would, through a client; the work is done by workers.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatebook import RETRY, Client, RunHandle, RunNotFound, Succeeded, Waiting
from gatebook.demo.approving import approve, compare
from gatebook.demo.cast import POLICY, Cast, Model, cast_of
from gatebook.demo.desk import Desk
from gatebook.demo.facts import Day, Story, read_run
from gatebook.demo.screen import columns, heading, labelled, say, verdict
from gatebook.demo.stage import LOOK_S, WorkerProcess
from gatebook.demo.terminal import APP, Terminal
from gatebook.demo.tools import close_account, refund
from gatebook.demo.worker import store_of
from gatebook.kernel.history import TimelineRow, costs

BY = "demo"  # who answers, as the journal records it


@dataclass(frozen=True)
class Question:
    """One action whose outcome nobody knows, as a person would have to look at it."""

    run: Story
    action: TimelineRow

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the call."""
        found: dict[str, Any] = json.loads(bytes(self.action.args or b"{}"))
        return found


class Telling:
    """One telling of the story, in one folder."""

    def __init__(self, client: Client, folder: Path, model: Model) -> None:
        """Take the door to the folder's journal."""
        self.client = client
        self.folder = folder
        self.model = model
        self.cast: Cast = cast_of(model)
        self.desk = Desk(folder)
        self.terminal = Terminal(folder)

    def opening(self) -> None:
        """Say who plays, with what."""
        heading("Gatebook demo: a support desk, a killed worker, and a payment nobody is sure of")
        say(f"Model: {self.cast.label}.")
        say(f"""{len(self.cast.jobs)} messages wait at the desk of Kettle & Kin, one run each. Its
            tools really read the messages, orders and articles in gatebook/demo/data, and really
            write {self.folder}/ledger.jsonl and outbox.jsonl. Every contact with the outside,
            model calls included, passes one gate and is in {self.folder}/journal.db before it
            starts.""")
        say("""The policy is gatebook/demo/data/policy.toml: what it does not allow does not run,
            refunds above 50 wait for a person, and nobody may close an account.""")

    async def crash(self) -> None:
        """Run the morning's jobs in a worker and kill it while calls are in flight."""
        heading("1. The worker is killed while payments are in flight")
        moments = frozenset(self.cast.holds.values())
        async with WorkerProcess(self.folder, self.model, morning=True) as worker:
            say(f"""Worker 1 (process {worker.pid}) takes up the first {self.cast.first} messages.
                {len(moments)} of its calls are held at chosen moments, so that the kill finds them
                in flight every time.""")
            await worker.until("its calls were in flight", lambda: self.desk.held() == moments)
            others = [job for job in self._morning() if job not in self.cast.holds]
            states = await worker.during("its other runs were over", self._settle(others))
            code = await worker.kill()
        say(f"Killed with SIGKILL, exit code {code}. It had no chance to clean up.")
        waiting = sum(isinstance(state, Waiting) for state in states.values())
        say(f"""{len(states) - waiting} runs were over, {waiting} waited for a person.
            {len(self.cast.holds)} were in the middle of a call:""")
        runs = [await read_run(self.client, run_id) for run_id in self.cast.holds]
        columns(
            (run.id, each.what, each.effect, self._left_behind(run, each))
            for run in runs
            for each in run.actions
            if each.status == "running"
        )

    def _morning(self) -> list[str]:
        return [job.run_id for job in self.cast.jobs[: self.cast.first]]

    def _left_behind(self, run: Story, action: TimelineRow) -> str:
        """Say what a call that was in flight has left in the files."""
        if action.effect == "read":
            return "left nothing"
        name = "ledger" if action.what == refund.name else "outbox"
        lines = (self.desk.ledger if name == "ledger" else self.desk.outbox).read()
        found = any(line["key"] == run.key(action) for line in lines)
        return f"{name} line written, result never recorded" if found else f"no {name} line yet"

    async def _settle(self, run_ids: list[str]) -> dict[str, Any]:
        """Wait until these runs are over or blocked, and return which they are."""
        return {run_id: await self._settled(run_id) for run_id in run_ids}

    async def _settled(self, run_id: str) -> Any:
        while True:
            try:
                return await self.client.handle(run_id).settled()
            except RunNotFound:  # its worker has not come to it yet
                await asyncio.sleep(LOOK_S)

    async def resume(self) -> None:
        """Let a second worker take up everything, and answer what it cannot know."""
        heading("2. A second worker resumes")
        async with WorkerProcess(self.folder, self.model, morning=False) as worker:
            say(f"""Worker 2 (process {worker.pid}) starts the same {len(self.cast.jobs)} messages
                under the same run ids. Runs that are over stay over; the others go on from their
                journal. The dead worker's lock is free, so nobody waits for a lease to lapse.""")
            jobs = [job.run_id for job in self.cast.jobs]
            states = await worker.during("every run was over or waiting", self._settle(jobs))
            asking = [run_id for run_id, state in states.items() if isinstance(state, Waiting)]
            await self._repeated()
            say(f"{len(states) - len(asking)} of {len(states)} runs are over now.")
            await self._ask([run_id for run_id in asking if run_id not in self.cast.answers])
            await approve(self.client, self.cast, self.terminal)
            code = await worker.ended()
            print()
            say(f"With that, worker 2 finished the runs and ended by itself, exit code {code}.")

    async def _repeated(self) -> None:
        """Show the calls that were simply made again."""
        runs = [await read_run(self.client, run_id) for run_id in self.cast.holds]
        again = [(run, each) for run in runs for each in run.actions if each.attempts > 1]
        if not again:
            return
        say("Calls that may be repeated (read, idempotent) were, without asking anybody:")
        columns(
            (run.id, each.what, each.effect, f"{each.attempts} attempts, {self._trace(run, each)}")
            for run, each in again
        )

    def _trace(self, run: Story, action: TimelineRow) -> str:
        if action.effect == "read":
            return "reading twice harms nobody"
        lines = [x for x in self.desk.outbox.read() if x["key"] == run.key(action)]
        return f"same key both times: {len(lines)} line in the outbox"

    async def _ask(self, asking: list[str]) -> None:
        """Answer every open question from what the ledger says."""
        heading("3. The unknown payments: the runs ask")
        say(f"""{len(asking)} runs wait. Refunds are declared at_most_once: these were started,
            nobody recorded how they ended, and starting one again could pay twice. So Gatebook does
            not guess; a person looks at the ledger and says what became of it. Here the demo does,
            with the calls behind `gatebook resolve`:""")
        for run_id in asking:
            run = await read_run(self.client, run_id)
            for action in run.actions:
                if action.status == "unknown":
                    await self._answer(Question(run, action))

    async def _answer(self, question: Question) -> None:
        run, action, asked = question.run, question.action, question.arguments
        print()
        labelled("run", run.id)
        labelled("waits for", run.row.waiting_on)
        labelled("call", f"{action.what} {asked['amount']} {asked['currency']} of {asked['order']}")
        labelled("why", action.error)
        key = run.key(action)
        lines = [line for line in self.desk.ledger.read() if line["key"] == key]
        handle: RunHandle[Any] = self.client.handle(run.id)
        if lines:
            facts = {name: lines[0][name] for name in ("receipt", "order", "amount", "currency")}
            labelled("ledger", f"has a line with the call's key {key[:12]}...: it was paid")
            told = f"--succeeded '{json.dumps(facts)}'"
            await handle.resolve(action.address, Succeeded(facts), by=BY)
        else:
            text = f"has no line with the call's key {key[:12]}..., and its process is dead"
            labelled("ledger", f"{text}: it was not paid")
            told = "--retry"
            await handle.resolve(action.address, RETRY, by=BY)
        labelled("answer", f"gatebook resolve {run.id} {action.address} {told}")

    def refusals(self, day: Day) -> None:
        """Show what was not allowed, and why."""
        heading("5. What was refused, and why")
        for run, each in day.actions(close_account.name):
            say(f"{run.id} asked for {each.what}: {each.status} by rule {each.rule!r}. The program "
                f"was told: {each.error}")  # fmt: skip
        failed = [(run, each) for run, each in day.actions(refund.name) if each.status == "failed"]
        if failed:
            say("The tool itself refused these; the model read why and went on:")
            columns((run.id, each.what, each.error) for run, each in failed)
        denied = [(run, each) for run, each in day.actions(refund.name) if each.status == "denied"]
        if denied:
            say("A person denied this; the model read why and went on:")
            columns((run.id, each.what, each.error) for run, each in denied)

    def timeline(self, day: Day) -> None:
        """Show the run whose payment was unknown, action by action."""
        run_id = next(iter(self.cast.holds))
        run = next(each for each in day.runs if each.id == run_id)
        heading(f"7. The timeline of {run.id}")
        begin = run.actions[0].started
        columns([
            ("seq", "address", "after", "what", "effect", "tries", "outcome"),
            *((each.seq, each.address, f"{(each.started - begin) / 1e6:.2f} s", each.what,
               each.effect, each.attempts, _outcome(each)) for each in run.actions),
        ])  # fmt: skip

        say("""The gap after the refund is the kill, the start of the second worker, and the wait
            for an answer.""")
        mails = {mail["key"]: mail for mail in self.desk.outbox.read()}
        for each in run.actions:
            if mail := mails.get(run.key(each)):
                say("The mail it sent, in the model's words:")
                labelled("to", mail["to"])
                labelled("subject", mail["subject"])
                labelled("body", mail["body"])

    def bill(self, day: Day) -> None:
        """Show what it cost."""
        heading("8. What it used")
        found = costs(each for run in day.runs for each in run.actions)
        columns([
            ("", "calls", "tries", "tokens"),
            *((cost.what, cost.calls, cost.attempts, f"{cost.tokens:,}" if cost.tokens else "")
              for cost in found),
        ])  # fmt: skip
        how = "counted by the server" if self.cast.real else "estimated: bytes / 4"
        say(f"{day.tokens:,} tokens in all ({how}).")

    def checks(self, day: Day) -> bool:
        """Print every check and return whether all hold."""
        heading("9. What is true now")
        columns(
            (line["receipt"], line["order"], f"{line['amount']} {line['currency']}", line["reason"])
            for line in self.desk.ledger.read()
        )
        facts = day.facts()
        for fact in facts:
            verdict(fact.holds, fact.text)
        return all(fact.holds for fact in facts)

    def closing(self, day: Day, *, good: bool) -> None:
        """Say how to go on."""
        ends = Counter(str(run.row.head.status) for run in day.runs)
        told = ", ".join(f"{count} {status}" for status, count in ends.items())
        heading(f"Done: {told}." if good else "NOT as promised: see the lines marked FAILED.")
        say(f"Everything is still in {self.folder}/. Look around:")
        run_id = next(iter(self.cast.holds))
        again = f"replay {run_id} --app {APP}"
        self.terminal.suggest("list", f"show {run_id}", again, "verify --all")


async def tell(folder: Path, model: Model) -> int:
    """Tell the whole story and return 0 when every check holds, else 1."""
    async with Client(store_of(folder), policy=POLICY) as client:
        telling = Telling(client, folder, model)
        telling.opening()
        await telling.crash()
        await telling.resume()
        day = await Day.read(client, telling.cast, telling.desk)
        telling.refusals(day)
        run, refused = next(iter(day.actions(close_account.name)))
        await compare(telling.terminal, f"{run.id}#{refused.seq}")
        telling.timeline(day)
        telling.bill(day)
        good = telling.checks(day)
        telling.closing(day, good=good)
        return 0 if good else 1


def _outcome(action: TimelineRow) -> str:
    if action.resolved_by:
        return f"{action.status}, resolved by {action.resolved_by}"
    return f"{action.status}: {action.error}" if action.error else action.status
