"""Many runs in several processes spend of one ledger, with kills and retries: never above it."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gatebook import Client
from gatebook.kernel.budget import NOTHING
from gatebook.kernel.spending.ledgers import Balance
from gatebook.ports import RunQuery
from gatebook.runtime.runs.audit import audit, audit_ledgers
from gatebook.runtime.runs.states import Finished
from gatebook.testing.failpoints import VARIABLE
from tests.crash.fleet import ROOT, wait_until
from tests.crash.spender import POLICY, spender

pytestmark = pytest.mark.crash

EVERY = 10_000
PATIENCE_S = 240.0  # of a thousand runs; nothing here depends on how fast it is


class Company:
    """Worker processes over one store; one that kills itself is followed by the next."""

    def __init__(self, folder: Path, limit: int, deaths: list[str]) -> None:
        self._command = [sys.executable, "-m", "tests.crash.spender", str(folder), str(limit)]
        self._deaths = deaths
        self._folder = folder
        self._workers: list[subprocess.Popen[bytes]] = []
        self.killed = 0

    def hire(self) -> None:
        """Start a worker that dies at the next of the planned deaths, if one is left."""
        death = {VARIABLE: self._deaths.pop(0)} if self._deaths else {}
        with (self._folder / "log").open("ab") as log:
            worker = subprocess.Popen(
                self._command, cwd=ROOT, env=os.environ | death, stdout=log, stderr=log
            )
        self._workers.append(worker)

    def replace_the_dead(self) -> None:
        """Hire for whoever has died, and make sure that it was as planned."""
        for worker in list(self._workers):
            code = worker.poll()
            if code is not None:
                assert code == -9, (self._folder / "log").read_text()
                self._workers.remove(worker)
                self.killed += 1
                self.hire()

    def dismiss(self) -> None:
        """End everybody."""
        for worker in self._workers:
            worker.kill()
            worker.wait()


async def seen(folder: Path, act: Any) -> Any:
    """Do something with a client of the store."""
    async with Client(f"sqlite:///{folder / 'journal.db'}", policy=POLICY) as client:
        return await act(client)


async def start(client: Client, runs: int) -> None:
    """Start so many runs."""
    await asyncio.gather(
        *(client.start(spender, number, run_id=f"r{number}") for number in range(runs))
    )


async def left(client: Client) -> int:
    """How many runs are not over."""
    rows = await client.runs(RunQuery(statuses=("running",), limit=EVERY))
    return len(rows)


async def outcomes(client: Client, runs: int) -> Counter[str]:
    """What the runs say came of their call, after a check of each."""
    found: Counter[str] = Counter()
    for number in range(runs):
        handle = client.handle(f"r{number}", spender)
        state = await handle.settled()
        assert isinstance(state, Finished), state
        found[str(state.output)] += 1
        report = await audit(client.journal, handle.key)
        assert report.ok, report.violation
    return found


async def ledgers(client: Client) -> dict[str, Balance]:
    """The balances, after a check that the events add up to them and that none was overdrawn."""
    reports = await audit_ledgers(client.journal, "default")
    assert all(each.ok for each in reports), [str(each.violation) for each in reports]
    return {each.ledger.partition(":")[0]: each.balance for each in reports}


def spend_it_all(folder: Path, *, runs: int, limit: int, deaths: list[str]) -> None:
    """Let two processes at a time drive all runs; check what they spent."""
    company = Company(folder, limit, deaths)
    asyncio.run(seen(folder, lambda client: start(client, runs)))
    try:
        company.hire()
        company.hire()

        def over() -> bool:
            company.replace_the_dead()
            return asyncio.run(seen(folder, left)) == 0

        wait_until("all runs are over", over, within_s=PATIENCE_S)
    finally:
        company.dismiss()

    found = asyncio.run(seen(folder, lambda client: outcomes(client, runs)))
    balances = asyncio.run(seen(folder, ledgers))
    executed = (folder / "executed").stat().st_size
    spent = balances["tenant"].spent.tool_calls
    assert found["E_LEDGER"] > 0
    assert set(found) <= {"spent", "E_LEDGER"}
    assert executed <= spent <= limit
    assert spent > limit // 2  # it was used, not only kept shut
    assert balances["tenant"].reserved == balances["day"].reserved == NOTHING
    assert balances["day"].spent.tool_calls <= spent
    assert company.killed > 0


def test_runs_of_two_processes_never_spend_more_than_the_ledger_has(tmp_path: Path) -> None:
    """Each finds room for itself; only the append that reserves sees all of them."""
    deaths = ["after:append:5", "before:append:9"]

    spend_it_all(tmp_path, runs=40, limit=12, deaths=deaths)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_thousand_runs_never_spend_more_than_the_ledger_has(tmp_path: Path) -> None:
    """Full size: a ledger of 100 units, retries, and a death every few dozen appends."""
    deaths = [f"{when}:append:{n}" for n in (8, 16, 24, 32) for when in ("after", "before")]

    spend_it_all(tmp_path, runs=1_000, limit=100, deaths=deaths)
