"""Fails every test that tried to reach another machine, even if the error was swallowed."""

import os
from collections.abc import Generator
from pathlib import Path

import loopback_only
import pytest

GUARD = str(Path(__file__).parent)

loopback_only.install()
for name in list(os.environ):  # a proxy on this machine would carry calls to others
    if name.lower().endswith("_proxy"):
        del os.environ[name]
if GUARD not in os.environ.get("PYTHONPATH", "").split(
    os.pathsep
):  # for processes that tests start
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [GUARD, os.environ.get("PYTHONPATH", "")])
    )


def _refused() -> Generator[None, object, object]:
    before = len(loopback_only.REFUSED)
    result = yield
    if contacts := loopback_only.REFUSED[before:]:
        text = f"tried to leave this machine: {', '.join(contacts)}; {loopback_only.REMEDY}"
        pytest.fail(text, pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    """Watch the fixtures of a test."""
    return (yield from _refused())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Watch a test."""
    return (yield from _refused())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, object, object]:
    """Watch what a test leaves behind."""
    return (yield from _refused())
