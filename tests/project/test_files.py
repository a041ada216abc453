"""What the repository holds: nobody's workplace in it, and locks that fit the requirements."""

import re
import stat
import tomllib
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.project.repository import ROOT, tracked_files

# In two halves each, so that this file does not name them.
WORKPLACE = tuple(
    "".join(halves)
    for halves in (
        ("/wo", "rk/"),
        ("/tmp", "/w/"),
        (".lib", "rary"),
        ("/opt/", "pypi"),
        ("/opt/", "wheels"),
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("HELP", "ER.md"),
        ("ARCHI", "TECTURE.md"),
        ("RUL", "ES.md"),
        ("INTER", "FACES.md"),
        ("RELIA", "BILITY.md"),
        ("PROVI", "DERS.md"),
        ("PERFOR", "MANCE.md"),
    )
)
PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", re.MULTILINE)


def project() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins(lock: str) -> dict[str, str]:
    """Return name -> version of a lock file."""
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    return {canonicalize_name(name): version for name, version in PINNED.findall(text)}


def unmet(requirements: list[str], lock: str) -> list[str]:
    """Return the requirements that a lock does not pin, or pins outside their range."""
    pinned = pins(lock)
    parsed = [Requirement(text) for text in requirements]
    return [
        str(requirement)
        for requirement in parsed
        if (version := pinned.get(canonicalize_name(requirement.name))) is None
        or not requirement.specifier.contains(version, prereleases=True)
    ]


def test_no_file_names_the_machine_it_was_written_on() -> None:
    """A path or page that only its author has is a dead end for everybody else."""
    found = [
        f"{file.relative_to(ROOT)}: {word}"
        for file in tracked_files()
        for word in WORKPLACE
        if word in file.read_bytes().decode("utf-8", "replace")
    ]

    assert found == []


def test_the_runtime_lock_fits_the_requirements() -> None:
    """A requirement added without `make lock` would be installed at any version, or not at all."""
    assert unmet(project()["project"]["dependencies"], "runtime.lock") == []


def test_the_build_lock_fits_the_build_requirements() -> None:
    """The build backend runs without isolation, so it must be locked as well."""
    assert unmet(project()["build-system"]["requires"], "build.lock") == []


def test_the_development_lock_fits_its_group() -> None:
    """Linters of two versions disagree about the same file."""
    assert unmet(project()["dependency-groups"]["dev"], "dev.lock") == []


def test_the_local_model_lock_fits_its_extra() -> None:
    """Another model file gives other answers."""
    assert unmet(project()["project"]["optional-dependencies"]["local"], "local.lock") == []


def test_the_development_lock_contains_the_runtime_lock() -> None:
    """Tests must run against the versions that users get."""
    dev = pins("dev.lock")

    different = {
        name: version for name, version in pins("runtime.lock").items() if dev.get(name) != version
    }

    assert different == {}


def test_every_pin_has_a_hash() -> None:
    """Hashes are checked by pip for all packages or for none."""
    naked = [
        f"{lock.name}: {line}"
        for lock in (ROOT / "requirements").glob("*.lock")
        for line in lock.read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.endswith("\\")
    ]

    assert naked == []


def test_the_gate_can_be_run() -> None:
    """A gate without its executable bit is skipped or fails, on every machine but its author's."""
    assert (ROOT / ".ci" / "run").stat().st_mode & stat.S_IXUSR


def test_the_licence_is_there_in_full() -> None:
    """Apache-2.0 asks that every copy carries its text."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")

    assert "Version 2.0, January 2004" in text
    assert "9. Accepting Warranty or Additional Liability." in text
