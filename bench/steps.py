"""Measures durable steps: Gatebook beside the least that a program written by hand could do.

All cases take turns, in processes of their own and on the same disk. A ratio is the median of the
rounds' own ratios: a disk or a neighbour that is slow for a minute then weighs on both sides of it.
Syncs and bytes are exact; steps per second say little about another machine. By hand each step
waits for the disk, here many runs share a wait: the slower the disk, the larger the ratio. It is
also taken with every sync made a millisecond longer, like those of a disk behind a network. Fails
when a figure misses its bar.

    python bench/steps.py [--quick]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
LONG = 10_000  # steps of the run that is resumed

CASES = {
    "hand-two": ("bench.floors", "two"),
    "hand-one": ("bench.floors", "one"),
    "gatebook": ("bench.subject", "steps"),
}
ONE, MANY, SLOW = "1 run", "50 runs", "50 runs, +1 ms"
RUNS = {ONE: 1, MANY: 50, SLOW: 50}
SLOW_US = 1_000  # how much longer a sync takes
SLOW_CASES = ("hand-two", "gatebook")
RESUMES = {"hand-two": "bench.floors", "gatebook": "bench.subject"}

# (what, figure, setting, case to divide by or "", bar, aim, whether more is better)
BARS = (
    ("steps/s, 1 run : hand-two", "steps_s", ONE, "hand-two", 1.1, 1.3, True),
    ("steps/s, 50 runs : hand-two", "steps_s", MANY, "hand-two", 5.0, 8.0, True),
    ("steps/s, 50 runs, +1 ms : hand-two", "steps_s", SLOW, "hand-two", 20.0, 40.0, True),
    ("syncs a step, 1 run", "syncs", ONE, "", 1.05, 1.01, False),
    ("syncs a step, 50 runs", "syncs", MANY, "", 0.10, 0.03, False),
    ("cpu a step, 50 runs : hand-two", "cpu_us", MANY, "hand-two", 0.6, 0.3, False),
    ("p50 of a step, 1 run : hand-one", "p50_us", ONE, "hand-one", 1.8, 1.45, False),
    ("bytes a step, 50 runs : hand-two", "bytes", MANY, "hand-two", 2.2, 1.6, False),
    ("resume of 10,000 steps : hand-two", "resume_ms", "", "hand-two", 1.5, 1.0, False),
)
COLUMNS = {
    "steps_s": "steps/s",
    "p50_us": "p50 us",
    "cpu_us": "cpu us/step",
    "syncs": "syncs/step",
    "bytes": "bytes/step",
}

Figures = dict[tuple[str, str], dict[str, list[float]]]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure durable steps beside hand-written ones.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and steps")
    quick: bool = parser.parse_args().quick
    rounds, steps = (3, 100) if quick else (9, 200)
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RESULTS) as name:
        place = Path(name)
        counter = counting(place)
        found: Figures = defaultdict(lambda: defaultdict(list))
        for setting in RUNS if counter else (ONE, MANY):
            for case in turns(list(SLOW_CASES if setting == SLOW else CASES), rounds):
                figures = measured(place, case, setting, steps, counter)
                for figure, value in figures.items():
                    found[case, setting][figure].append(value)
        resumes(place, found, rounds)
    show(found, rounds, steps)
    missed = judge(found)
    keep(found, missed)
    return 1 if missed else 0


def turns(cases: list[str], rounds: int) -> list[str]:
    """Return A B C C B A A B C ...: what slows the machine for a while slows all cases alike."""
    return [case for i in range(rounds) for case in (cases if i % 2 == 0 else cases[::-1])]


def counting(place: Path) -> dict[str, str]:
    """Return the environment in which syncs are counted; empty without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    library, count = place / "syncs.so", place / "syncs"
    if compiler is None or sys.platform != "linux":
        print("no C compiler: syncs are not counted, and none is made longer")
        return {}
    source = ROOT / "bench" / "syncs.c"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    count.write_bytes(bytes(8))
    return {"LD_PRELOAD": str(library), "GATEBOOK_SYNCS": str(count)}


def run(module: str, *arguments: object, environment: dict[str, str] | None = None) -> str:
    """Run a measured process to its end and return what it printed."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    env = os.environ | (environment or {})
    done = subprocess.run(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=300
    )
    return done.stdout


def measured(
    place: Path, case: str, setting: str, steps: int, counter: dict[str, str]
) -> dict[str, float]:
    """Measure one case once, on a fresh store."""
    module, loop = CASES[case]
    environment = counter
    if setting == SLOW:
        environment = counter | {"GATEBOOK_SYNC_US": str(SLOW_US)}
        if case == "hand-two":
            steps //= 4  # enough: its rate does not depend on how many
    with tempfile.TemporaryDirectory(dir=place) as folder:
        command = module, loop, Path(folder, "store.db"), "--runs", RUNS[setting], "--steps", steps
        printed = run(*command, environment=environment)
    figures: dict[str, float] = json.loads(printed)
    if not counter:
        del figures["syncs"]
    return figures


def resumes(place: Path, found: Figures, rounds: int) -> None:
    """Measure how long a long run takes from its stored steps to its next one."""
    filled = {}
    for case, module in RESUMES.items():
        filled[case] = place / f"{case}-long"
        filled[case].mkdir()
        run(module, "fill", filled[case] / "store.db", "--steps", LONG)
    for case in turns(list(RESUMES), rounds):
        folder = place / "resumed"
        shutil.copytree(filled[case], folder)
        printed = run(RESUMES[case], "resume", folder / "store.db")
        found[case, ""]["resume_ms"].append(json.loads(printed)["resume_ms"])
        shutil.rmtree(folder)


def show(found: Figures, rounds: int, steps: int) -> None:
    """Print the figures of all cases."""
    medians = {
        key: {figure: statistics.median(values) for figure, values in figures.items()}
        for key, figures in found.items()
    }
    print(f"medians of {rounds} rounds, {steps} steps a run, synced SQLite file")
    print(f"{'':<26}" + "".join(f"{title:>13}" for title in COLUMNS.values()))
    for (case, setting), figures in medians.items():
        if setting:
            row = "".join(_cell(figures.get(figure)) for figure in COLUMNS)
            print(f"{f'{case}, {setting}':<26}{row}")
    for case in RESUMES:
        resumed = medians[case, ""]
        print(f"{case}, resume of {LONG:,} steps: {resumed['resume_ms']:.0f} ms")


def _cell(value: float | None) -> str:
    if value is None:
        return f"{'-':>13}"
    return f"{value:>13,.0f}" if value >= 10 else f"{value:>13.3f}"


def judge(found: Figures) -> list[str]:
    """Print each figure beside its bar and its aim; return those that missed the bar."""
    missed = []
    print(f"\n{'':<36}{'gatebook':>10}{'rounds':>16}{'bar':>8}{'aim':>8}")
    for what, figure, setting, other, bar, aim, more in BARS:
        values = found["gatebook", setting].get(figure, [])
        if other:
            values = [a / b for a, b in zip(values, found[other, setting][figure], strict=True)]
        if not values:
            continue
        value = statistics.median(values)
        met = value >= bar if more else value <= bar
        reached = value >= aim if more else value <= aim
        verdict = "aim" if reached else "ok" if met else "MISSED"
        spread = f"{min(values):.3g} - {max(values):.3g}"
        print(f"{what:<36}{value:>10.3g}{spread:>16}{bar:>8g}{aim:>8g}  {verdict}")
        if not met:
            missed.append(what)
    return missed


def keep(found: Figures, missed: list[str]) -> None:
    """Write all rounds to bench/results, which git ignores."""
    rows = [
        {"case": case, "setting": setting, "figures": figures}
        for (case, setting), figures in found.items()
    ]
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = RESULTS / f"steps-{stamp}.json"
    path.write_text(json.dumps({"rounds": rows, "missed": missed}, indent=1))
    print(f"\nall rounds: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
