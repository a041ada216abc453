"""Measures what `import gatebook` costs beside what any program of its kind imports anyway.

Prints medians over fresh interpreters, taken in turns so that a busy machine slows all rows alike,
and fails when the ratio is above the bar. Ratios travel between machines; milliseconds do not.
"""

import statistics
import subprocess
import sys

ROUNDS = 15
BAR = 2.5  # times the yardstick
YARDSTICK = "import asyncio, sqlite3, json"
SUBJECT = "import gatebook"
PROBE = """
import time
start = time.perf_counter_ns()
{statement}
print(time.perf_counter_ns() - start)
"""


def milliseconds(statement: str) -> float:
    """Return how long `statement` takes in a fresh interpreter, its own start left out."""
    command = [sys.executable, "-I", "-c", PROBE.format(statement=statement)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e6


def main() -> int:
    """Print one row per statement; return 1 when the ratio is above the bar."""
    times: dict[str, list[float]] = {YARDSTICK: [], SUBJECT: []}
    for _ in range(ROUNDS + 1):
        for statement, taken in times.items():
            taken.append(milliseconds(statement))
    medians = {name: statistics.median(taken[1:]) for name, taken in times.items()}  # 1st: cold

    for name, median in medians.items():
        print(f"{name:<32} {median:7.1f} ms   {median / medians[YARDSTICK]:5.2f}x")
    ratio = medians[SUBJECT] / medians[YARDSTICK]
    print(f"import ratio {ratio:.2f}x, bar {BAR}x: {'ok' if ratio <= BAR else 'too slow'}")
    return 0 if ratio <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
