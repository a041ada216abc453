"""What `gatebook.tools` offers, and when it is imported."""

import json
import subprocess
import sys

import gatebook.tools

NAMES = [
    "FunctionTool", "ShellLimits", "ToolContext", "files", "http", "shell", "tool",
]  # fmt: skip


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter holds after a statement."""
    code = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_public_names_are_pinned() -> None:
    """A name that users import may not go away or appear by accident."""
    assert sorted(gatebook.tools.__all__) == sorted(NAMES)
    assert all(getattr(gatebook.tools, name) is not None for name in NAMES)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """`hasattr` and editors rely on it."""
    assert not hasattr(gatebook.tools, "browser")


def test_tools_that_ship_are_imported_when_they_are_asked_for() -> None:
    """Whoever has tools of their own waits for none of them."""
    found = modules_after("import gatebook; from gatebook import tool")

    assert not found & {
        "gatebook.tools.file_tools", "gatebook.tools.http_tools", "gatebook.tools.shell_tool",
        "httpx2", "pydantic",
    }  # fmt: skip


def test_declaring_requests_imports_no_client() -> None:
    """It costs 100 ms, and many runs make no request."""
    found = modules_after("from gatebook.tools import http; http(['a.example'])")

    assert not found & {"httpx2", "httpcore2", "anyio"}
