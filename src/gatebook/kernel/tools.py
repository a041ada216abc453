"""What the kernel knows of a tool: name, schema, effect class and limits. Not how to call it."""

from typing import Literal

import msgspec

from gatebook.kernel.codec import canonical, digest, plain

Effect = Literal["read", "idempotent", "at_most_once"]
OnError = Literal["failed", "unknown"]

TOOL_TIMEOUT_MS = 60_000  # every action has a finite deadline; docs/design.md, "Limits"
MAX_OUTPUT = 256 * 1024  # bytes of one tool result


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What may be decided about a tool without running it.

    Attributes:
        name: as policy, model and journal see it.
        description: text for the model.
        schema: JSON Schema of the arguments, canonical bytes.
        effect: what a second start would do: nothing (`read`), nothing new with the same key
            (`idempotent`), or harm (`at_most_once`).
        timeout_ms: deadline of one attempt.
        retries: how often an attempt may be repeated; None leaves it to the policy.
        on_error: what an exception other than ActionError means for an `at_most_once` tool.
        max_output: bytes of a result.
        digest: sha256 over name, description, schema and effect.
    """

    name: str
    description: str
    schema: msgspec.Raw
    effect: Effect = "at_most_once"
    timeout_ms: int = TOOL_TIMEOUT_MS
    retries: int | None = None
    on_error: OnError = "failed"
    max_output: int = MAX_OUTPUT
    digest: str = ""

    @property
    def repeatable(self) -> bool:
        """Whether a started attempt may be started again without asking anybody."""
        return self.effect != "at_most_once"


def tool_digest(*, name: str, description: str, schema: bytes, effect: Effect) -> str:
    """Return the digest that pins a tool's definition."""
    facts = {"name": name, "description": description, "schema": plain(schema), "effect": effect}
    return digest(canonical(facts))
