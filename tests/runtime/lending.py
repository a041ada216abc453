"""What tests of secrets share: a value, a tool that takes it, and the codes that calls end with."""

from collections.abc import Callable
from typing import Any

from gatebook import Secret, tool
from gatebook.errors import ActionError

VALUE = "bank-token-4711-xyzzy"


def asking(used: list[str]) -> Any:
    """A tool that takes a secret."""

    @tool(effect="read")
    async def pay(order: str, token: Secret[str]) -> str:
        used.append(token.reveal())
        return f"paid {order}"

    return pay


async def codes(ctx: Any, *calls: Callable[[], Any]) -> list[str]:
    """The code each call ends with, "" for well."""
    found = []
    for call in calls:
        try:
            await call()
        except ActionError as exc:
            found.append(exc.code)
        else:
            found.append("")
    return found
