"""What every measured process measures of itself, and how it tells the process that started it."""

import argparse
import gc
import json
import os
import statistics
import struct
import time
from operator import sub
from pathlib import Path
from typing import Any

from bench.lowlat import ask_for_short_slices

SYNCS = "GATEBOOK_SYNCS"  # the file in which syncs.c counts


class Meter:
    """Time, processor time, syncs and store size between `begin` and `end`."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def begin(self) -> None:
        """Start counting."""
        gc.collect()
        self._syncs = syncs()
        self._cpu_s = time.process_time()
        self._began = time.perf_counter()

    def end(self, steps: int) -> None:
        """Stop counting; these many steps were made."""
        wall_s = time.perf_counter() - self._began
        self._counted = {
            "steps_s": steps / wall_s,
            "cpu_us": (time.process_time() - self._cpu_s) / steps * 1e6,
            "syncs": (syncs() - self._syncs) / steps,
        }

    def report(self, steps: int, entries: list[float]) -> None:
        """Print what was counted; call when the store is closed.

        Args:
            steps: of the whole life of the store: its size is divided by them.
            entries: when the steps of a lone run began, in seconds.
        """
        facts = {"bytes": self._store.stat().st_size / steps}
        if entries:
            facts["p50_us"] = statistics.median(map(sub, entries[1:], entries)) * 1e6
        print(json.dumps(self._counted | facts))


def syncs() -> int:
    """Return how often this process has synced so far; 0 when nothing counts."""
    path = os.environ.get(SYNCS)
    return int(struct.unpack("Q", Path(path).read_bytes())[0]) if path else 0


def arguments(*names: str) -> Any:
    """Return the command line of a measured process: the case, the store, and two numbers."""
    ask_for_short_slices()
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=names)
    parser.add_argument("store", type=Path)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200)
    return parser.parse_args()
