"""Write runs of a store as a replay corpus: `python scripts/corpus.py STORE FOLDER RUN...`.

Each run becomes FOLDER/RUN.jsonl, one stored body a line, and its end state an entry of
FOLDER/states.json. A release adds a folder; later versions must fold every folder to the same
states.
"""

import asyncio
import json
import sys
from pathlib import Path

from gatebook import Client
from gatebook.kernel.state import RunState
from gatebook.kernel.stored import decode

Stored = list[tuple[int, bytes, bytes, bytes]]


async def stored(store: str, runs: list[str]) -> dict[str, Stored]:
    """Return the stored rows of the runs."""
    async with Client(store) as client:
        return {run: await client.journal.raw(client.handle(run).key) for run in runs}


def write(folder: Path, rows: dict[str, Stored]) -> None:
    """Write the runs' bodies and their states."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "states.json"
    states = json.loads(place.read_text()) if place.exists() else {}
    for run, events in rows.items():
        state = RunState()
        for seq, _, _, body in events:
            state.apply(decode(body, run=run, seq=seq))
        lines = [body.decode() + "\n" for _, _, _, body in events]
        (folder / f"{run}.jsonl").write_text("".join(lines))
        states[run] = {"state": state.digest(), "head": events[-1][2].hex()}
    place.write_text(json.dumps(states, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[2]), asyncio.run(stored(sys.argv[1], sys.argv[3:])))
