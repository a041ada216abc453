"""OpenAI's Responses: items by output index, and the whole response again in the last event."""

from typing import Any, NamedTuple

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

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}

TROUBLES: dict[Trouble, tuple[int, str, str | None]] = {
    "overloaded": (503, "service_unavailable_error", "server_is_overloaded"),
    "server": (500, "server_error", "server_error"),
    "rate_limited": (429, "requests", "rate_limit_exceeded"),
    "quota": (429, "insufficient_quota", "insufficient_quota"),
    "auth": (401, "invalid_request_error", "invalid_api_key"),
    "not_found": (404, "invalid_request_error", "model_not_found"),
    "invalid": (400, "invalid_request_error", None),
    "context": (400, "invalid_request_error", "context_length_exceeded"),
}


class Responses(Dialect):
    """POST .../responses."""

    name = "responses"

    def streams(self, path: str, body: bytes) -> bool:
        return asks_to_stream(body)

    def opening(self, story: Story) -> list[bytes]:
        begun = _response(story, "in_progress", [])
        return [
            _named("response.created", response=begun),
            _named("response.in_progress", response=begun),
        ]

    def output(self, story: Story) -> list[bytes]:
        return [each for index, part in enumerate(story.parts) for each in _item(index, part)]

    def ending(self, story: Story) -> list[bytes]:
        whole = self.whole(story)
        return [_named(f"response.{whole['status']}", response=whole)]

    def whole(self, story: Story) -> dict[str, Any]:
        status = "incomplete" if story.finish in INCOMPLETE else "completed"
        items = [_whole_item(index, part) for index, part in enumerate(story.parts)]
        body = _response(story, status, items)
        if story.finish in INCOMPLETE:
            body["incomplete_details"] = {"reason": INCOMPLETE[story.finish]}
        body["usage"] = None if story.cost is None else _usage(story.cost)
        return body

    def failure(self, trouble: Trouble) -> Failure:
        return Failure(TROUBLES[trouble][0], {"error": _error(trouble)})

    def error_event(self, trouble: Trouble) -> bytes:
        return _named("error", error=_error(trouble))

    def flat_error_event(self, trouble: Trouble) -> bytes:
        """Return the error event as the vendor's documentation, but not its server, has it."""
        return _named("error", **{**_error(trouble), "type": "error"})

    def failed_event(self, story: Story, trouble: Trouble) -> bytes:
        """Return the event that ends a response as failed."""
        response = _response(story, "failed", [])
        said = _error(trouble)
        response["error"] = {"code": said["code"] or said["type"], "message": said["message"]}
        return _named("response.failed", response=response)


def _named(name: str, **fields: Any) -> bytes:
    return event({"type": name, "sequence_number": 0, **fields}, name)


def _error(trouble: Trouble) -> dict[str, Any]:
    _, kind, code = TROUBLES[trouble]
    told = f"told to fail: {trouble}"
    return {"type": kind, "code": code, "message": told, "param": None}


def _response(story: Story, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": story.id,
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "model": story.model,
        "output": output,
        "error": None,
        "incomplete_details": None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }


def _item(index: int, part: Say | Think | Refuse | Use) -> list[bytes]:
    """Return the events of one output item, from its announcement to its end."""
    whole = _whole_item(index, part)
    at = {"item_id": whole["id"], "output_index": index}
    kind, said, place, end = _streamed(part)
    if place:
        at |= {place: 0}
    middle = [_named(f"{kind}.delta", **at, delta=piece) for piece in said]
    middle.append(_named(f"{kind}.done", **at, **{end: "".join(said)}))
    empty = {**whole, "status": "in_progress"}
    if isinstance(part, Say | Refuse):
        (block,) = whole["content"]
        blank = {**block, end: ""}
        middle.insert(0, _named("response.content_part.added", **at, part=blank))
        middle.append(_named("response.content_part.done", **at, part=block))
        empty["content"] = []
    elif isinstance(part, Think):
        empty["summary"] = []
    else:
        empty["arguments"] = ""
    return [
        _named("response.output_item.added", output_index=index, item=empty),
        *middle,
        _named("response.output_item.done", output_index=index, item=whole),
    ]


class _Streamed(NamedTuple):
    """How a part is streamed: event name, pieces, what its place is called, and its whole."""

    kind: str
    pieces: tuple[str, ...]
    place: str
    end: str


def _streamed(part: Say | Think | Refuse | Use) -> _Streamed:
    match part:
        case Say(pieces):
            return _Streamed("response.output_text", pieces, "content_index", "text")
        case Refuse(text):
            return _Streamed("response.refusal", (text,), "content_index", "refusal")
        case Think(text):
            kind = "response.reasoning_summary_text"
            return _Streamed(kind, (text,), "summary_index", "text")
        case Use(_, _, pieces):
            return _Streamed("response.function_call_arguments", pieces, "", "arguments")


def _whole_item(index: int, part: Say | Think | Refuse | Use) -> dict[str, Any]:
    message = {"type": "message", "id": f"msg_{index}", "role": "assistant", "status": "completed"}
    match part:
        case Say(pieces):
            text = {"type": "output_text", "text": "".join(pieces), "annotations": []}
            return {**message, "content": [text]}
        case Refuse(text):
            return {**message, "content": [{"type": "refusal", "refusal": text}]}
        case Think(text, signature):
            summary = [{"type": "summary_text", "text": text}]
            item = {"type": "reasoning", "id": f"rs_{index}", "summary": summary}
            return {**item, "encrypted_content": signature or None}
        case Use(id, name):
            item = {"type": "function_call", "id": f"fc_{index}", "call_id": id, "name": name}
            return {**item, "arguments": part.arguments, "status": "completed"}


def _usage(cost: Cost) -> dict[str, Any]:
    return {
        "input_tokens": cost.input,
        "input_tokens_details": {"cached_tokens": cost.cached},
        "output_tokens": cost.output,
        "output_tokens_details": {"reasoning_tokens": cost.reasoning},
        "total_tokens": cost.input + cost.output,
    }


RESPONSES = Responses()
