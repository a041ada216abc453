"""What tests of `files` share: its tools, and what stands where they must not look."""

from pathlib import Path
from typing import Any

from gatebook.tools import files

SECRET = "what lies outside"


def tools(root: Path, **options: Any) -> dict[str, Any]:
    """The tools of a folder by the last part of their names."""
    made = files(root, write=True, **options)
    return {tool.name.rpartition(".")[2]: tool for tool in made}
