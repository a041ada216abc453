"""Measures streamed answers: Gatebook beside a bare HTTP client and the official SDK.

Every reader gets the same small chunks from the same loopback server and takes turns with the
others, each in a process of its own. Rates travel between machines as ratios only. Fails when a
figure misses its bar.

    python -m bench.streams [--quick]
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from bench.lowlat import ask_for_short_slices
from bench.steps import RESULTS, ROOT, run, turns

CHUNKS = 20_000
LINES, CHAT, RESPONSES = "httpx2 lines", "openai sdk, chat", "openai sdk, responses"
COMPATIBLE, OPENAI = "gatebook, openai_compatible", "gatebook, openai"
CASES = [LINES, CHAT, RESPONSES, COMPATIBLE, OPENAI]
FIRST = "first"  # the time to the first word, of both in one process

# (what, case, case to divide by, bar, aim)
RATES = (
    ("openai_compatible : httpx2 lines", COMPATIBLE, LINES, 0.6, 0.9),
    ("openai_compatible : bare openai sdk", COMPATIBLE, CHAT, 6.0, 9.0),
    ("openai : bare openai sdk", OPENAI, RESPONSES, 0.85, 0.95),
)
ADDED_BAR_MS, ADDED_AIM_MS = 3.0, 2.0

Figures = dict[str, dict[str, list[float]]]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure streamed answers beside bare clients.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 3 if parser.parse_args().quick else 7
    ask_for_short_slices()
    RESULTS.mkdir(exist_ok=True)
    found: Figures = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory(dir=RESULTS) as name, server() as port:
        for number, case in enumerate(turns([*CASES, FIRST], rounds)):
            store = Path(name, f"{number}.db")
            printed = run("bench.readers", case, port, store, "--chunks", CHUNKS)
            for figure, values in json.loads(printed).items():
                found[case][figure] += values
    medians = {
        case: {figure: statistics.median(values) for figure, values in figures.items()}
        for case, figures in found.items()
    }
    show(medians, rounds)
    missed = judge(medians)
    keep(found, missed)
    return 1 if missed else 0


@contextlib.contextmanager
def server() -> Iterator[int]:
    """Run the server in a process of its own; yield its port."""
    command = [sys.executable, "-m", "bench.chunks", str(CHUNKS)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def show(medians: dict[str, dict[str, float]], rounds: int) -> None:
    """Print the figures of all cases."""
    print(f"medians of {rounds} rounds, {CHUNKS:,} chunks of an answer, loopback")
    print(f"{'':<30}{'chunks/s':>12}{'cpu us/chunk':>14}")
    for case in CASES:
        figures = medians[case]
        print(f"{case:<30}{figures['chunks_s']:>12,.0f}{figures['cpu_us']:>14.1f}")
    first = medians[FIRST]
    print(
        f"first word: {first['alone_ms']:.2f} ms from the adapter alone, "
        f"{first['call_ms']:.2f} ms from a call in a run: {first['added_ms']:.2f} ms added; "
        f"{first['run_ms']:.2f} ms from the start of a new run"
    )


def judge(medians: dict[str, dict[str, float]]) -> list[str]:
    """Print each figure beside its bar and its aim; return those that missed the bar."""
    missed = []
    print(f"\n{'':<38}{'gatebook':>10}{'bar':>8}{'aim':>8}")
    for what, case, other, bar, aim in RATES:
        ratio = medians[case]["chunks_s"] / medians[other]["chunks_s"]
        verdict = "aim" if ratio >= aim else "ok" if ratio >= bar else "MISSED"
        print(f"{what:<38}{ratio:>10.3g}{bar:>8g}{aim:>8g}  {verdict}")
        if ratio < bar:
            missed.append(what)
    what, added = "ms added to the first word", medians[FIRST]["added_ms"]
    verdict = "aim" if added <= ADDED_AIM_MS else "ok" if added < ADDED_BAR_MS else "MISSED"
    print(f"{what:<38}{added:>10.3g}{ADDED_BAR_MS:>8g}{ADDED_AIM_MS:>8g}  {verdict}")
    return missed if added < ADDED_BAR_MS else [*missed, what]


def keep(found: Figures, missed: list[str]) -> None:
    """Write all rounds to bench/results, which git ignores."""
    rows = [{"case": case, "figures": figures} for case, figures in found.items()]
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = RESULTS / f"streams-{stamp}.json"
    path.write_text(json.dumps({"rounds": rows, "missed": missed}, indent=1))
    print(f"\nall rounds: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
