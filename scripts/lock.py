"""Write the lock files in requirements/ anew from pyproject.toml, for Python 3.11 and newer.

For maintainers: needs uv on the path (`make lock UV=/path/to/uv`). Everything else needs only pip.
"""

import os
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "requirements"
OLDEST = "3.11"
TESTED_EXTRAS = ("openai", "anthropic", "google", "prices")


def compile_lock(name: str, requirements: list[str], *options: str) -> None:
    """Resolve `requirements` and write them, with hashes, to requirements/`name`."""
    command = [
        *(os.environ.get("UV", "uv"), "pip", "compile", "-", "--quiet", "--universal", "--upgrade"),
        *("--python-version", OLDEST, "--generate-hashes", "--no-annotate"),
        *("--custom-compile-command", "make lock", "--output-file", str(LOCKS / name), *options),
    ]
    subprocess.run(command, input="\n".join(requirements), text=True, check=True, cwd=ROOT)
    print(f"wrote requirements/{name}")


def main() -> None:
    """Write the four locks; that of development holds the tested extras and agrees with two."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = project["project"]["dependencies"]
    extras = project["project"]["optional-dependencies"]
    build = project["build-system"]["requires"]
    dev = project["dependency-groups"]["dev"]

    LOCKS.mkdir(exist_ok=True)
    compile_lock("runtime.lock", runtime)
    compile_lock("build.lock", build, "--constraints", str(LOCKS / "runtime.lock"))
    compile_lock("local.lock", extras["local"], "--no-deps")
    compile_lock(
        "dev.lock",
        [*runtime, *build, *dev, *(each for name in TESTED_EXTRAS for each in extras[name])],
        *("--constraints", str(LOCKS / "runtime.lock")),
        *("--constraints", str(LOCKS / "build.lock")),
    )


if __name__ == "__main__":
    main()
