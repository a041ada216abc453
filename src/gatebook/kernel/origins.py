"""Which provider the opaque parts of an answer are bound to, and what another one may be sent.

Signatures, encrypted thoughts and ids mean something only to the provider that made them: another
refuses them, or is shown what is not its own. Answers from before this was recorded name no
origin; their parts go through, and the adapters leave out what they can tell is foreign.
"""

from collections.abc import Sequence

import msgspec

from gatebook.kernel.messages import ChatResponse, Message, Part, ThinkingPart, ToolCallPart


def bound(response: ChatResponse, provider: str) -> ChatResponse:
    """Return an answer whose opaque parts name the provider it came from."""
    content = response.message.content
    if not any(map(_is_opaque, content)):
        return response
    parts = tuple(
        msgspec.structs.replace(part, origin=provider) if _is_opaque(part) else part
        for part in content
    )
    return msgspec.structs.replace(response, message=Message(response.message.role, parts))


def sendable(messages: Sequence[Message], provider: str) -> tuple[Message, ...]:
    """Return a conversation as a provider may see it.

    Thinking of another provider is left out, and so are the opaque data of a call that it asked
    for. A message of which nothing is left is no message.
    """
    seen = []
    for message in messages:
        if not any(_is_foreign(part, provider) for part in message.content):
            seen.append(message)
            continue
        parts = [_plain(p) if _is_foreign(p, provider) else p for p in message.content]
        kept = tuple(part for part in parts if part is not None)
        if kept:
            seen.append(Message(message.role, kept))
    return tuple(seen)


def _is_opaque(part: Part) -> bool:
    if isinstance(part, ThinkingPart):
        return part.signature is not None or part.provider_data is not None
    return isinstance(part, ToolCallPart) and part.provider_data is not None


def _is_foreign(part: Part, provider: str) -> bool:
    if not isinstance(part, ThinkingPart | ToolCallPart):
        return False
    return part.origin not in ("", provider)


def _plain(part: Part) -> Part | None:
    """Return what of a foreign part anybody may read."""
    if isinstance(part, ToolCallPart):
        return ToolCallPart(part.id, part.name, part.arguments)
    return None
