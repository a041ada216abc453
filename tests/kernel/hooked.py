"""What tests of hooks in the kernel share: a hook with every right, and the run it is told of."""

from typing import Any

from gatebook.kernel.hooks.declared import POSSIBLE, Hook, hook

TOLD: dict[str, Any] = {
    "run": "r", "tenant": "default", "program": "p", "labels": {}, "context": None,
    "cancelled": lambda: False,
}  # fmt: skip


def declared(**changes: Any) -> Hook[Any]:
    """A hook with every right, but for what a test changes."""
    options: dict[str, Any] = {
        "point": "before_tool", "rights": ["change", "deny"], "timeout": 1, "on_failure": "closed",
        "name": "cap",
    }  # fmt: skip
    options |= changes
    return hook(options.pop("point"), **options)(lambda call: None)


def all_rights(point: Any) -> Hook[Any]:
    return declared(point=point, rights=POSSIBLE[point] - {"act"}, name="h")
