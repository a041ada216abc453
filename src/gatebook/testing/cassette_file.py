"""Cassettes on disk: readable JSON, one stream event a line, no secret and no idempotency key.

Knows what is kept of a request and of an answer; does not know who asks or answers.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gatebook.errors import ConfigError, ProviderError
from gatebook.kernel.codec import canonical, plain
from gatebook.kernel.messages import (
    ChatRequest,
    ChatResponse,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    Timeouts,
    ToolCallDelta,
)
from gatebook.kernel.redact import Redactor

FORMAT = 1
LINE = 100  # characters up to which a JSON value stays on one line
SECRET_NAMES = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")  # ends of variables' names
MIN_SECRET = 16  # characters; shorter variables hold settings as often as secrets

_TEXT_OF: dict[type, str] = {
    TextDelta: "text", ThinkingDelta: "text", RefusalDelta: "text", ToolCallDelta: "arguments",
}  # fmt: skip


class Recording(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """One model call: what was asked, and all that came back.

    Attributes:
        request: what `asked` returns.
        events: of a streamed call, as they came.
        response: of a call that was answered whole.
        error: how the call failed, after the events if there are any.
    """

    request: dict[str, Any]
    events: list[StreamEvent] | None = None
    response: ChatResponse | None = None
    error: dict[str, Any] | None = None

    @property
    def streamed(self) -> bool:
        """Whether the answer came event by event."""
        return self.events is not None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    cassette: int
    recordings: list[Recording]


def asked(request: ChatRequest, redactor: Redactor) -> dict[str, Any]:
    """Return what identifies a request: all it says but its timeouts, without secrets."""
    bare = msgspec.structs.replace(request, timeouts=Timeouts())
    data = canonical(plain(msgspec.json.encode(bare)), what="request")
    found: dict[str, Any] = plain(redactor.json(data))
    return found


def cleaned(events: Sequence[StreamEvent], redactor: Redactor) -> list[StreamEvent]:
    """Return events without secrets; a text that holds one comes whole in its first event."""
    texts: dict[tuple[type, int], str] = {}
    for event in events:
        if name := _TEXT_OF.get(type(event)):
            texts[_place(event)] = texts.get(_place(event), "") + getattr(event, name)
    tainted = {place: redactor.text(text) for place, text in texts.items()}
    tainted = {place: text for place, text in tainted.items() if text != texts[place]}
    kept = []
    for event in events:
        if (place := _place(event)) in tainted:
            change = {_TEXT_OF[type(event)]: tainted[place]}
            tainted[place] = ""
            kept.append(msgspec.structs.replace(event, **change))
        else:
            data = redactor.json(canonical(msgspec.to_builtins(event)))
            kept.append(msgspec.json.decode(data, type=StreamEvent))
    return kept


def _place(event: StreamEvent) -> tuple[type, int]:
    return type(event), getattr(event, "index", -1)


def cleaned_response(response: ChatResponse, redactor: Redactor) -> ChatResponse:
    """Return an answer without secrets."""
    data = redactor.json(canonical(msgspec.to_builtins(response)))
    return msgspec.json.decode(data, type=ChatResponse)


def error_fields(error: ProviderError, redactor: Redactor) -> dict[str, Any]:
    """Return all that an error says, without secrets."""
    fields = {name: value for name, value in error.fields.items() if value is not None}
    data = canonical({"message": error.message, "kind": error.kind, **fields}, what="error")
    found: dict[str, Any] = plain(redactor.json(data))
    return found


def error_of(fields: Mapping[str, Any]) -> ProviderError:
    """Return the error that was recorded."""
    return ProviderError(**fields)


def environment_secrets(environ: Mapping[str, str]) -> list[str]:
    """Return the values of variables that are named like secrets."""
    values = ((name, value.strip()) for name, value in environ.items())
    return [
        value
        for name, value in values
        if name.upper().endswith(SECRET_NAMES) and len(value) >= MIN_SECRET
    ]


def read(path: Path) -> list[Recording]:
    """Return the recordings of a file, none when it is not there.

    Raises:
        ConfigError: E_CONFIG, it is not a cassette.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
        detail = f"it has format {found.cassette}"
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        found, detail = None, str(exc)
    if found is None or found.cassette != FORMAT:
        fix = "record it again"
        raise ConfigError("E_CONFIG", name="cassette", path=str(path), detail=detail, fix=fix)
    return found.recordings


def write(path: Path, recordings: Sequence[Recording]) -> None:
    """Replace a file at once, making its folder if need be."""
    stored = {"cassette": FORMAT, "recordings": [_plainly(each) for each in recordings]}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(laid_out(stored) + "\n", encoding="utf-8")
    os.replace(draft, path)


def _plainly(recording: Recording) -> dict[str, Any]:
    return {
        name: value for name, value in msgspec.to_builtins(recording).items() if value is not None
    }


def laid_out(value: Any, indent: str = "") -> str:
    """Return JSON with every value on one line that fits there, and the others spread out."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= LINE or not isinstance(value, dict | list) or not value:
        return line
    deeper = f"{indent}  "
    if isinstance(value, dict):
        items = [
            f"{deeper}{json.dumps(key, ensure_ascii=False)}: {laid_out(item, deeper)}"
            for key, item in value.items()
        ]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    return "[\n" + ",\n".join(deeper + laid_out(item, deeper) for item in value) + f"\n{indent}]"
