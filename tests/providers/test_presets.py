"""Providers by name, and what importing them costs."""

import subprocess
import sys

import pytest

from gatebook.errors import ConfigError
from gatebook.providers import PRESETS, preset

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


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_a_provider(name: str) -> None:
    """A misspelt URL in the table would be found by a user."""
    key = PRESETS[name].key_variable

    provider = preset(name, {key: "sk-secret"} if key else {})

    assert provider.name == name
    assert "sk-secret" not in repr(provider)


def test_a_missing_key_is_told_by_the_name_of_its_variable() -> None:
    """Found at the first call, it would cost a run."""
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
        preset("openai", {})

    assert caught.value.code == "E_KEY_MISSING"


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    """A typing mistake must not become a request to somewhere."""
    with pytest.raises(ConfigError, match="groq") as caught:
        preset("opnai", {})

    assert caught.value.code == "E_PROVIDER_UNKNOWN"


def test_a_missing_extra_is_told_with_the_command_that_installs_it() -> None:
    """Most people have not installed the local model."""
    told = subprocess.run(
        [sys.executable, "-c", NO_EXTRA], check=True, capture_output=True, text=True
    ).stdout

    assert told.startswith("E_EXTRA_MISSING")
    assert 'pip install "gatebook[local]"' in told


def test_importing_the_providers_brings_no_transport() -> None:
    """httpx2 costs 100 ms, which a scripted run never needs."""
    probe = (
        "import sys, gatebook.providers; print('httpx2' in sys.modules, 'xllamacpp' in sys.modules)"
    )

    told = subprocess.run(
        [sys.executable, "-c", probe], check=True, capture_output=True, text=True
    ).stdout

    assert told.strip() == "False False"
