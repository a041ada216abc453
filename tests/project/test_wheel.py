"""The wheel that users install, built here and looked into."""

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.project.repository import ROOT, SOURCE, tracked_files


def wheel_names(folder: Path) -> set[str]:
    """Build the wheel into `folder` and return the names of the files in it."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_file_of_the_package_and_no_other(tmp_path: Path) -> None:
    """SQL files, pages and py.typed are missed by installs, not by tests run from the source."""
    expected = {
        str(file.relative_to(ROOT / "src")) for file in tracked_files() if SOURCE in file.parents
    }

    names = wheel_names(tmp_path)

    assert expected - names == set()
    assert {name for name in names if not name.startswith(("gatebook/", "gatebook-"))} == set()
    assert "gatebook/py.typed" in names
