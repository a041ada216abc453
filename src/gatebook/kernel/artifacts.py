"""Results that are too long for a model: what it reads of them, and the name of the whole.

The journal keeps a result whole, apart from its row. Only what a conversation shows is cut, by
fixed rules: every replay must cut alike. Pure; knows no stores.
"""

import hashlib
from typing import Any

import msgspec

from gatebook.errors import InvalidInput
from gatebook.kernel.codec import MAX_PAYLOAD

LONG = 256  # bytes of a text in JSON; shorter ones are not cut to make room

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode


class Artifact(msgspec.Struct, frozen=True, gc=False):
    """A result of which a model reads the beginning only.

    Attributes:
        digest: sha256 (hex) of the result as it is stored: canonical JSON, redacted.
        size: its bytes.
        shown: bytes of it that a model may read.
    """

    digest: str
    size: int
    shown: int


def too_large(output: bytes, *, tool: str) -> InvalidInput:
    """Return the refusal of a result that is too long to be kept."""
    return InvalidInput("E_RESULT_TOO_LARGE", tool=tool, size=len(output), limit=MAX_PAYLOAD)


def artifact_of(output: bytes, *, limit: int) -> Artifact:
    """Return the artifact that a result is of which a model reads `limit` bytes."""
    return Artifact(hashlib.sha256(output).hexdigest(), len(output), limit)


def beginning(output: bytes, artifact: Artifact) -> str:
    """Return what a model reads of a result: its beginning, and how much there is.

    A text is cut at its end. Of an object with long texts each text is cut at its end, so that
    what stands after it is still read. Any other JSON is cut as text.
    """
    value = _decode(output)
    if isinstance(value, str):
        text = _cut(value.encode(), artifact.shown)
    else:
        text = _fitted(value, artifact.shown) or _cut(output, artifact.shown)
    return f"{text}\n[{_told(artifact)}]"


def _told(artifact: Artifact) -> str:
    return (
        f"too long: this is the beginning, at most {artifact.shown} of {artifact.size} bytes; "
        f"the whole is kept as artifact {artifact.digest}"
    )


def _cut(data: bytes, limit: int) -> str:
    return data[:limit].decode("utf-8", "ignore")  # half a character at the cut is left out


def _fitted(value: Any, limit: int) -> str:
    """Return an object whose long texts are cut so that it fits, "" when that is not enough."""
    if not isinstance(value, dict):
        return ""
    long = {key: size for key, text in value.items() if (size := _size_of(text)) > LONG}
    room = limit - len(_encode(value | dict.fromkeys(long, "")))
    cut = {}
    for left, key in enumerate(sorted(long, key=lambda key: (long[key], key)), start=-len(long)):
        share = max(0, room) // -left  # what a short one leaves over goes to the longer ones
        cut[key] = _shortened(value[key], share)
        room -= len(_encode(cut[key])) - 2  # its quotes are counted already
    fitted = _encode(value | cut)
    return fitted.decode() if long and len(fitted) <= limit else ""


def _size_of(value: Any) -> int:
    return len(_encode(value)) if isinstance(value, str) else 0


def _shortened(text: str, limit: int) -> str:
    """Return the beginning of a text that takes at most `limit` bytes in JSON."""
    text = text[:limit]
    while text and (size := len(_encode(text)) - 2) > limit:
        text = text[: min(len(text) - 1, len(text) * limit // size)]
    return text
