"""The guard that keeps the suite on this machine, tested in processes of its own."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from loopback_only import is_local

from gatebook.providers import PRESETS

ELSEWHERE = "192.0.2.1"  # TEST-NET-1, RFC 5737: nobody has this address
HIDDEN = f"""
import socket

def test_hides_its_error():
    try:
        socket.socket().connect(("{ELSEWHERE}", 80))
    except Exception:
        pass
"""

MODEL_CALL = """
import contextlib
from gatebook import Agent, AllowDeclared, RetryWithBackoffPolicy, run_sync
from gatebook.errors import RunStopped

def test_asks_a_model():
    agent = Agent(name="a", model="{route}")
    with contextlib.suppress(RunStopped):
        policy = RetryWithBackoffPolicy(AllowDeclared(), 0, 0)
        run_sync(agent, "hi", store=":memory:", policy=policy)
"""
ROUTES = [
    f"{name}:m"
    for name, preset in PRESETS.items()
    if not is_local(urlsplit(preset.base_url).hostname)
]
PROXIED = """
import os

def test_has_no_proxy():
    assert not [name for name in os.environ if name.lower().endswith("_proxy")]
"""


def python(
    *arguments: str, folder: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a Python that inherits what this suite hands to every process it starts."""
    command = [sys.executable, *arguments]
    environ = os.environ | variables
    return subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=folder, env=environ
    )


def pytest_of(text: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one test file under the guard."""
    (folder / "test_it.py").write_text(text)
    return python(
        "-m", "pytest", "-p", "loopback_plugin", "-q", str(folder), folder=folder, **variables
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", b"localhost", None])
def test_this_machine_may_be_reached(host: object) -> None:
    """The suite talks to servers it started itself."""
    assert is_local(host)


@pytest.mark.parametrize("host", [ELSEWHERE, "10.0.0.1", "fe80::1%eth0", "example.org", "0.0.0.0"])
def test_another_machine_may_not_be_reached(host: str) -> None:
    """A private address can be a model server just as well as a public one."""
    assert not is_local(host)


def test_a_started_process_cannot_connect_elsewhere() -> None:
    """Crash tests run the code under test in processes of their own."""
    done = python("-c", f"import socket; socket.create_connection(('{ELSEWHERE}', 80), timeout=1)")

    assert "OutsideContact" in done.stderr


def test_a_started_process_cannot_look_names_up() -> None:
    """A look-up already tells somebody else what is running here."""
    done = python("-c", "import socket; socket.getaddrinfo('example.org', 443)")

    assert "OutsideContact" in done.stderr


@pytest.mark.parametrize(
    "call", ["gethostbyname('example.org')", f"gethostbyaddr('{ELSEWHERE}')",
             f"getnameinfo(('{ELSEWHERE}', 80), 0)"],
)  # fmt: skip
def test_no_other_look_up_gets_out(call: str) -> None:
    """The socket module has four ways to ask a name server."""
    done = python("-c", f"import socket; socket.{call}")

    assert "OutsideContact" in done.stderr


@pytest.mark.parametrize("route", ROUTES)
def test_a_model_call_fails_its_test_and_says_what_to_use(route: str, tmp_path: Path) -> None:
    """A suite that calls real models costs money and fails when they are down."""
    key = next(iter(PRESETS[route.partition(":")[0]].key_variables), "NO_KEY")

    done = pytest_of(MODEL_CALL.format(route=route), tmp_path, **{key: "a-key-of-nobody"})

    assert "tried to leave this machine: socket.getaddrinfo" in done.stdout
    assert "gatebook.testing.cassette" in done.stdout


def test_a_proxy_on_this_machine_is_not_used(tmp_path: Path) -> None:
    """Loopback may be reached, and what a proxy there carries on would not be seen."""
    done = pytest_of(
        PROXIED, tmp_path, HTTPS_PROXY="http://127.0.0.1:9", all_proxy="http://[::1]:9"
    )

    assert done.returncode == pytest.ExitCode.OK, done.stdout


def test_a_test_fails_even_if_it_hides_the_refusal(tmp_path: Path) -> None:
    """Code that turns every error into 'try again later' would hide the guard's as well."""
    done = pytest_of(HIDDEN, tmp_path)

    assert "tried to leave this machine: socket.connect" in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED


def test_started_processes_find_the_guard() -> None:
    """The guard reaches them by PYTHONPATH; without it the tests above would test nothing."""
    guard = Path(__file__).parents[1] / "guard"

    assert str(guard) in os.environ["PYTHONPATH"].split(os.pathsep)
