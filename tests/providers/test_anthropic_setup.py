"""What the adapter over the official SDK needs before its first call, and what it says without."""

import os
import subprocess
import sys

import pytest

from gatebook.errors import ConfigError
from gatebook.providers.anthropic import BASE_URL, Anthropic
from tests.providers.anthropic_events import KEY

pytest.importorskip("anthropic", reason="the extra anthropic is not installed")


def without_variables(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "ANTHROPIC" not in name}
    return {**kept, **variables}


def told_by(code: str, **variables: str) -> str:
    """Return what a fresh process prints, which has only these ANTHROPIC variables."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=without_variables(**variables),
    )
    return done.stdout.strip()


def test_without_a_key_the_variable_is_named() -> None:
    """The first error everybody meets."""
    told = told_by(
        "from gatebook.errors import ConfigError\n"
        "from gatebook.providers.anthropic import Anthropic\n"
        "try:\n    Anthropic()\n"
        "except ConfigError as error:\n    print(error.code, error)"
    )

    assert told.startswith("E_KEY_MISSING")
    assert "ANTHROPIC_API_KEY" in told


def test_the_key_in_the_environment_goes_to_the_vendor_only() -> None:
    """A server on another address would learn it."""
    probe = (
        "import asyncio\n"
        "from gatebook.providers.anthropic import Anthropic\n"
        "from gatebook.testing.fault_server import FaultServer, answer\n"
        "from tests.providers.calls import CALL, asking\n"
        "from tests.providers.anthropic_events import whole\n"
        "async def main():\n"
        "    print(Anthropic())\n"
        "    async with FaultServer(answer(200, whole())) as server:\n"
        "        provider = Anthropic(base_url=server.url)\n"
        "        await provider.complete(asking(), CALL)\n"
        "        names = server.requests[0].headers\n"
        "        print(sorted(name for name in names if 'key' in name or 'auth' in name))\n"
        "        await provider.aclose()\n"
        "asyncio.run(main())"
    )

    told = told_by(
        probe, ANTHROPIC_API_KEY=KEY, ANTHROPIC_AUTH_TOKEN=KEY, ANTHROPIC_BASE_URL="http://x.test"
    )

    assert told.splitlines() == [
        f"Anthropic({BASE_URL!r}, name='anthropic')",
        "['idempotency-key']",
    ]


def test_nothing_is_imported_before_the_first_call() -> None:
    """The SDK takes a second to import, which a run on another model never needs."""
    told = told_by(
        "import sys\nfrom gatebook.providers.anthropic import Anthropic\n"
        "Anthropic('k')\n"
        "print([m for m in ('anthropic', 'httpx2', 'pydantic') if m in sys.modules])"
    )

    assert told == "[]"


def test_a_missing_extra_is_told_with_the_command_that_installs_it() -> None:
    """Most people have not installed it."""
    told = told_by(
        "import sys\nfrom importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "class Without:\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        if name != 'anthropic':\n            return find(name, path, target)\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if f is not PathFinder] + [Without]\n"
        "from gatebook.errors import ConfigError\n"
        "from gatebook.providers.anthropic import Anthropic\n"
        "try:\n    Anthropic('k')\n"
        "except ConfigError as error:\n    print(error.code, error)"
    )

    assert told.startswith("E_EXTRA_MISSING")
    assert 'pip install "gatebook[anthropic]"' in told


@pytest.mark.parametrize("url", ["ftp://x.test", "api.anthropic.com", "https://u:p@x.test"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """A password in it would be shown in every error."""
    with pytest.raises(ConfigError) as caught:
        Anthropic(KEY, base_url=url)

    assert caught.value.code == "E_CONFIG"
