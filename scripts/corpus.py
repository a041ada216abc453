"""Write runs of a store as a replay corpus: `python scripts/corpus.py STORE FOLDER RUN...`.

Each run becomes FOLDER/RUN.jsonl, one stored body a line, and its end state a line of
FOLDER/states.json. A release adds a folder; later versions must fold every folder to the same
states.
"""

import asyncio
import json
import sys
from pathlib import Path

from gatebook import Client
from gatebook.kernel.events import decode
from gatebook.kernel.state import RunState


async def write(store: str, folder: Path, runs: list[str]) -> None:
    """Write the runs' bodies and their states."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "states.json"
    states = json.loads(place.read_text()) if place.exists() else {}
    async with Client(store) as client:
        for run in runs:
            state = RunState()
            lines = []
            for seq, _, digest, body in await client.journal.raw(client.handle(run).key):
                state.apply(decode(body, run=run, seq=seq))
                lines.append(body.decode())
            (folder / f"{run}.jsonl").write_text("\n".join(lines) + "\n")
            states[run] = {"state": state.digest(), "head": digest.hex()}
    place.write_text(json.dumps(states, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
