"""Anthropic's Messages: content blocks by index, cumulative usage, `message_stop` at the end."""

import json
from typing import Any

from gatebook.testing.dialects.story import (
    Cost,
    Dialect,
    Failure,
    Refuse,
    Say,
    Story,
    Think,
    Trouble,
    Use,
    asks_to_stream,
    event,
)

STOP_REASONS = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
}
TROUBLES: dict[Trouble, tuple[int, str]] = {
    "overloaded": (529, "overloaded_error"),
    "server": (500, "api_error"),
    "rate_limited": (429, "rate_limit_error"),
    "quota": (402, "billing_error"),
    "auth": (401, "authentication_error"),
    "not_found": (404, "not_found_error"),
    "invalid": (400, "invalid_request_error"),
    "context": (400, "invalid_request_error"),
}


class Messages(Dialect):
    """POST .../v1/messages."""

    name = "messages"

    def streams(self, path: str, body: bytes) -> bool:
        return asks_to_stream(body)

    def opening(self, story: Story) -> list[bytes]:
        message = {**_message(story), "content": [], "stop_reason": None}
        if story.cost is not None:
            message["usage"] = {**_input(story.cost), "output_tokens": 1}
        events = [_named("message_start", message=message)]
        if story.parts:
            events.append(_start(0, story.parts[0]))
        return [*events, self.noise()]

    def output(self, story: Story) -> list[bytes]:
        events: list[bytes] = []
        for index, part in enumerate(story.parts):
            if index:
                events.append(_start(index, part))
            events += [
                _named("content_block_delta", index=index, delta=each) for each in _deltas(part)
            ]
            events.append(_named("content_block_stop", index=index))
        return events

    def ending(self, story: Story) -> list[bytes]:
        said: dict[str, Any] = {
            "delta": {"stop_reason": STOP_REASONS[story.finish], "stop_sequence": None},
        }
        if story.cost is not None:
            said["usage"] = {**_input(story.cost), "output_tokens": story.cost.output}
        return [_named("message_delta", **said), _named("message_stop")]

    def whole(self, story: Story) -> dict[str, Any]:
        body = {
            **_message(story),
            "content": [_block(part) for part in story.parts],
            "stop_reason": STOP_REASONS[story.finish],
        }
        if story.cost is not None:
            body["usage"] = {**_input(story.cost), "output_tokens": story.cost.output}
        return body

    def failure(self, trouble: Trouble) -> Failure:
        return Failure(TROUBLES[trouble][0], _error(trouble))

    def error_event(self, trouble: Trouble) -> bytes:
        return event(_error(trouble), "error")

    def noise(self) -> bytes:
        return event({"type": "ping"}, "ping")


def _named(name: str, **fields: Any) -> bytes:
    return event({"type": name, **fields}, name)


def _error(trouble: Trouble) -> dict[str, Any]:
    told = "prompt is too long" if trouble == "context" else f"told to fail: {trouble}"
    return {"type": "error", "error": {"type": TROUBLES[trouble][1], "message": told}}


def _message(story: Story) -> dict[str, Any]:
    said = {"id": story.id, "type": "message", "role": "assistant", "model": story.model}
    return {**said, "stop_sequence": None}


def _input(cost: Cost) -> dict[str, int]:
    """Anthropic's input leaves out what was read from the cache."""
    return {
        "input_tokens": cost.input - cost.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cost.cached,
    }


def _start(index: int, part: Say | Think | Refuse | Use) -> bytes:
    block: dict[str, Any] = {"type": "text", "text": ""}
    if isinstance(part, Think):
        block = {"type": "thinking", "thinking": "", "signature": ""}
    elif isinstance(part, Use):
        block = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
    return _named("content_block_start", index=index, content_block=block)


def _deltas(part: Say | Think | Refuse | Use) -> list[dict[str, str]]:
    match part:
        case Say(pieces):
            return [{"type": "text_delta", "text": piece} for piece in pieces]
        case Refuse(text):
            return [{"type": "text_delta", "text": text}]
        case Think(text, signature):
            thought = [{"type": "thinking_delta", "thinking": text}]
            signed = [{"type": "signature_delta", "signature": signature}] if signature else []
            return [*thought, *signed]
        case Use(_, _, pieces):
            first = {"type": "input_json_delta", "partial_json": ""}
            return [first, *({**first, "partial_json": piece} for piece in pieces)]


def _block(part: Say | Think | Refuse | Use) -> dict[str, Any]:
    match part:
        case Say(pieces):
            return {"type": "text", "text": "".join(pieces)}
        case Refuse(text):
            return {"type": "text", "text": text}
        case Think(text, signature):
            return {"type": "thinking", "thinking": text, "signature": signature}
        case Use(id, name):
            arguments = json.loads(part.arguments or "{}")
            return {"type": "tool_use", "id": id, "name": name, "input": arguments}


MESSAGES = Messages()
