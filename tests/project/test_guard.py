"""The guard that keeps the suite on this machine, tested in processes of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_only import is_local

ELSEWHERE = "192.0.2.1"  # TEST-NET-1, RFC 5737: nobody has this address
HIDDEN = f"""
import socket

def test_hides_its_error():
    try:
        socket.socket().connect(("{ELSEWHERE}", 80))
    except Exception:
        pass
"""


def python(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a Python that inherits what this suite hands to every process it starts."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)


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


def test_a_test_fails_even_if_it_hides_the_refusal(tmp_path: Path) -> None:
    """Code that turns every error into 'try again later' would hide the guard's as well."""
    (tmp_path / "test_hidden.py").write_text(HIDDEN)

    done = python("-m", "pytest", "-p", "loopback_plugin", "-q", str(tmp_path), folder=tmp_path)

    assert "tried to leave this machine: socket.connect" in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED


def test_started_processes_find_the_guard() -> None:
    """The guard reaches them by PYTHONPATH; without it the tests above would test nothing."""
    guard = Path(__file__).parents[1] / "guard"

    assert str(guard) in os.environ["PYTHONPATH"].split(os.pathsep)
