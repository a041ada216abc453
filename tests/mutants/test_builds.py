"""Each broken build must be noticed: a test that no fault can fail proves nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.approval_builds import APPROVAL_BUILDS
from tests.mutants.builds import BUILDS, Build
from tests.mutants.hook_builds import HOOK_BUILDS
from tests.mutants.ledger_builds import LEDGER_BUILDS
from tests.mutants.model_builds import MODEL_BUILDS
from tests.mutants.review_builds import REVIEW_BUILDS
from tests.mutants.secret_builds import SECRET_BUILDS
from tests.mutants.store_builds import STORE_BUILDS

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "gatebook"
ALL = (
    *BUILDS,
    *HOOK_BUILDS,
    *LEDGER_BUILDS,
    *MODEL_BUILDS,
    *SECRET_BUILDS,
    *APPROVAL_BUILDS,
    *REVIEW_BUILDS,
    *STORE_BUILDS,
)
LIMIT_S = 20  # of one test under a broken build: some of them loop for ever

PARAMS = [
    pytest.param(
        build,
        id=build.name.replace(" ", "-"),
        marks=[] if build.quick else [pytest.mark.soak],
    )
    for build in ALL
]


def broken(build: Build, folder: Path) -> Path:
    """Copy the package into a folder, make the change, and return the folder."""
    package = folder / "gatebook"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
    file = package / build.file
    text = file.read_text(encoding="utf-8")
    assert text.count(build.old) == 1, f"{build.file} no longer holds: {build.old}"
    file.write_text(text.replace(build.old, build.new), encoding="utf-8")
    return folder


def failures(source: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run tests against a copy of the package, up to the first failure.

    A test that takes too long ends the whole process: one that loops does not clean up either.
    """
    paths = [str(source), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [
            sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider",
            "-n0", f"--timeout={LIMIT_S}", "--timeout-method=thread", *tests,
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


def test_every_build_still_has_something_to_change() -> None:
    """The list is run in full by `make soak` only; it must not rot until then."""
    gone = [
        build.name
        for build in ALL
        if (SOURCE / build.file).read_text(encoding="utf-8").count(build.old) != 1
    ]

    assert gone == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize("build", PARAMS)
def test_a_broken_build_is_noticed(build: Build, tmp_path: Path) -> None:
    """One test at least must fail, and fail as a test."""
    done = failures(broken(build, tmp_path), build.tests)

    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout[-2_000:] + done.stderr


@pytest.mark.soak
@pytest.mark.timeout(180)
def test_the_sound_build_passes(tmp_path: Path) -> None:
    """Else a broken one would be noticed for another reason."""
    build = Build("nothing", "__init__.py", '__version__ = "', '__version__ = "', ())
    tests = tuple(sorted({test for each in ALL for test in each.tests}))

    done = failures(broken(build, tmp_path), tests)

    assert done.returncode == 0, done.stdout[-2_000:]


def test_the_copy_is_what_runs(tmp_path: Path) -> None:
    """Not the package that is installed."""
    build = Build("shout", "__init__.py", '__version__ = "', '__version__ = "broken ', ())
    source = broken(build, tmp_path)

    said = subprocess.run(
        [sys.executable, "-c", "import gatebook; print(gatebook.__version__)"],
        env=os.environ | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert said.stdout.startswith("broken ")
