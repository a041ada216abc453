"""Measures what a decision by 20 rules costs, alone and beside a durable step.

A step is that of `bench/steps.py`: a trivial tool in a lone run on a synced file. All cases take
turns. Fails when a figure misses its bar.

    python -m bench.policy [--quick]
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from bench.steps import RESULTS, run, turns

CASES = ("all", "named", "step")
MOST_US = 50.0  # of a decision
MOST_OF_STEP = 0.05
TITLES = {
    "all": "a decision, all 20 rules about the tool",
    "named": "a decision, 2 of 20 rules about the tool",
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure decisions beside durable steps.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and steps")
    quick: bool = parser.parse_args().quick
    rounds, steps = (3, 100) if quick else (7, 200)
    RESULTS.mkdir(exist_ok=True)
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(dir=RESULTS) as place:
        for number, case in enumerate(turns(list(CASES), rounds)):
            store = Path(place, f"{number}.db")
            found[case].append(step_us(store, steps) if case == "step" else decision_us(case))
    return judge({case: statistics.median(values) for case, values in found.items()})


def decision_us(case: str) -> float:
    """Measure decisions once."""
    figures: dict[str, float] = json.loads(run("bench.decisions", case))
    return figures["decision_us"]


def step_us(store: Path, steps: int) -> float:
    """Measure durable steps once."""
    figures: dict[str, float] = json.loads(
        run("bench.subject", "steps", store, "--runs", 1, "--steps", steps)
    )
    return figures["p50_us"]


def judge(medians: dict[str, float]) -> int:
    """Print each figure beside its bar; return 1 when one is missed."""
    step = medians["step"]
    print(f"p50 of a durable step: {step:,.0f} us\n")
    print(f"{'':<44}{'measured':>10}{'bar':>8}")
    missed = 0
    for case, title in TITLES.items():
        for what, value, bar in (
            (f"{title}, us", medians[case], MOST_US),
            (f"{title} : step", medians[case] / step, MOST_OF_STEP),
        ):
            verdict = "ok" if value < bar else "MISSED"
            missed += value >= bar
            print(f"{what:<48}{value:>8.3g}{bar:>8g}  {verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
