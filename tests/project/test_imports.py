"""What `import gatebook` costs, counted in modules: never in time, which depends on the machine."""

import json
import subprocess
import sys

PROBE = "import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
HEAVY = {"pydantic", "httpx2", "click", "rich", "mcp", "asyncpg", "apsw", "docstring_parser"}


def modules_after(statement: str) -> set[str]:
    """Return the modules a fresh interpreter holds after `statement`."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE.format(statement=statement)],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(json.loads(result.stdout))


def packages(modules: set[str]) -> set[str]:
    """Return the top-level packages among `modules` that are neither ours nor Python's."""
    tops = {name.partition(".")[0] for name in modules}
    return tops - sys.stdlib_module_names - {"gatebook"}


def test_importing_gatebook_brings_one_package_at_most() -> None:
    """Start-up stays fast only as long as nobody adds one harmless import after the other."""
    before = modules_after("pass")

    brought = packages(modules_after("import gatebook") - before)

    assert brought <= {"msgspec"}


def test_importing_gatebook_brings_no_heavy_package() -> None:
    """They cost 50 to 900 ms each: whoever needs one waits for it, nobody else."""
    assert packages(modules_after("import gatebook")) & HEAVY == set()


def test_the_contracts_bring_no_heavy_package() -> None:
    """A part written against the contracts alone must not pay for all the others."""
    assert packages(modules_after("import gatebook.ports")) & HEAVY == set()
