"""The replay corpus: journals written by earlier versions must fold to the same states for ever."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatebook.kernel.events import KINDS, kind_of
from gatebook.kernel.state import RunState
from gatebook.kernel.stored import GENESIS, chain, decode

HERE = Path(__file__).parent
RUNS = sorted(HERE.glob("v*/*.jsonl"))
UNSEEN = {"definition_changed", "interrupted", "resumed", "budget_raised"}
UNSEEN |= {"hook_answered", "ledgers_declared", "label_endorsed"}  # kinds that came later
UNSEEN |= {"approval_asked", "approval_answered", "approval_expired", "granted", "grant_revoked"}
UNSEEN |= {"action_deferred", "deferral_ended"}

FOLD = """
import sys
from pathlib import Path
from gatebook.kernel.stored import decode
from gatebook.kernel.state import RunState
state = RunState()
for seq, body in enumerate(Path(sys.argv[1]).read_bytes().splitlines(), 1):
    state.apply(decode(body, run="r", seq=seq))
print(state.digest())
"""


def expected(path: Path) -> dict[str, str]:
    states: dict[str, dict[str, str]] = json.loads((path.parent / "states.json").read_text())
    return states[path.stem]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_stored_journal_folds_to_the_state_it_had(path: Path) -> None:
    """Promise 6: the same state on any machine, any supported Python, any later version."""
    state, hashed = RunState(), GENESIS

    for seq, body in enumerate(path.read_bytes().splitlines(), 1):
        state.apply(decode(body, run=path.stem, seq=seq))
        hashed = chain(hashed, seq, body)

    assert {"state": state.digest(), "head": hashed.hex()} == expected(path)


@pytest.mark.parametrize("seed", ["0", "1", "2", "3", "4"])
def test_no_hash_seed_changes_a_state(seed: str) -> None:
    """Sets and dicts iterate differently from process to process; states must not."""
    env = os.environ | {"PYTHONHASHSEED": seed}

    for path in RUNS:
        done = subprocess.run(
            [sys.executable, "-c", FOLD, str(path)],
            capture_output=True, text=True, check=True, env=env,
        )  # fmt: skip
        assert done.stdout.strip() == expected(path)["state"]


def test_the_corpus_holds_nearly_every_kind_of_event() -> None:
    """A kind that no stored journal holds could change without anybody noticing."""
    seen = {
        kind_of(decode(body, run="r", seq=1))
        for path in RUNS
        for body in path.read_bytes().splitlines()
    }

    assert seen == KINDS - UNSEEN
