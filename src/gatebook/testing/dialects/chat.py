"""Chat completions, as OpenAI and its many followers stream them."""

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
    of,
)

DONE = event("[DONE]")
FINISH = {"refusal": "stop", "pause": "stop"}  # the protocol has no words for these two

# (status, type, code); llama.cpp and vLLM say "overloaded" the first way.
TROUBLES: dict[Trouble, tuple[int, str, str | None]] = {
    "overloaded": (503, "unavailable_error", None),
    "server": (500, "server_error", None),
    "rate_limited": (429, "requests", "rate_limit_exceeded"),
    "quota": (429, "insufficient_quota", "insufficient_quota"),
    "auth": (401, "invalid_request_error", "invalid_api_key"),
    "not_found": (404, "invalid_request_error", "model_not_found"),
    "invalid": (400, "invalid_request_error", None),
    "context": (400, "invalid_request_error", "context_length_exceeded"),
}


def delta(
    *, finish_reason: str | None = None, id: str = "chatcmpl-1", **fields: Any
) -> dict[str, Any]:
    """Return one chat-completion chunk whose delta has these fields."""
    choice = {"index": 0, "delta": fields, "finish_reason": finish_reason}
    return {"id": id, "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def usage_chunk(prompt: int = 3, completion: int = 2) -> dict[str, Any]:
    """Return the chunk that says what the answer cost."""
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    return {"id": "chatcmpl-1", "model": "m", "choices": [], "usage": usage}


def text_events(*pieces: str) -> list[bytes]:
    """Return the events of a complete streamed text answer."""
    return [
        event(delta(role="assistant", content="")),
        *(event(delta(content=piece)) for piece in pieces),
        event(delta(finish_reason="stop")),
        event(usage_chunk()),
        DONE,
    ]


class Chat(Dialect):
    """POST .../chat/completions."""

    name = "chat"

    def streams(self, path: str, body: bytes) -> bool:
        return asks_to_stream(body)

    def opening(self, story: Story) -> list[bytes]:
        return [event(_of(story, delta(role="assistant", content="")))]

    def output(self, story: Story) -> list[bytes]:
        deltas: list[dict[str, Any]] = []
        number = 0
        for part in story.parts:
            match part:
                case Say(pieces):
                    deltas += [delta(content=piece) for piece in pieces]
                case Think(text):
                    deltas.append(delta(reasoning_content=text))
                case Refuse(text):
                    deltas.append(delta(refusal=text))
                case Use():
                    deltas += [delta(tool_calls=[each]) for each in _fragments(part, number)]
                    number += 1
        return [event(_of(story, each)) for each in deltas]

    def ending(self, story: Story) -> list[bytes]:
        finish = FINISH.get(story.finish, story.finish)
        ends = [event(_of(story, delta(finish_reason=finish)))]
        if story.cost is not None:
            chunk = {"id": story.id, "model": story.model, "choices": [], "usage": {}}
            ends.append(event({**chunk, "usage": _usage(story.cost)}))
        return [*ends, DONE]

    def whole(self, story: Story) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": of(story.parts, Say) or None,
            "refusal": of(story.parts, Refuse) or None,
        }
        calls = [part for part in story.parts if isinstance(part, Use)]
        if calls:
            message["tool_calls"] = [_call(part) for part in calls]
        finish = FINISH.get(story.finish, story.finish)
        body = {
            "id": story.id,
            "object": "chat.completion",
            "model": story.model,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        }
        return body if story.cost is None else {**body, "usage": _usage(story.cost)}

    def failure(self, trouble: Trouble) -> Failure:
        return Failure(TROUBLES[trouble][0], _error(trouble))

    def error_event(self, trouble: Trouble) -> bytes:
        return event(_error(trouble))


def _error(trouble: Trouble) -> dict[str, Any]:
    _, kind, code = TROUBLES[trouble]
    return {"error": {"message": f"told to fail: {trouble}", "type": kind, "code": code}}


def _of(story: Story, chunk: dict[str, Any]) -> dict[str, Any]:
    return {**chunk, "id": story.id, "model": story.model}


def _call(part: Use) -> dict[str, Any]:
    function = {"name": part.name, "arguments": part.arguments}
    return {"id": part.id, "type": "function", "function": function}


def _fragments(part: Use, index: int) -> list[dict[str, Any]]:
    first = {"index": index, "id": part.id, "type": "function"}
    return [
        {**first, "function": {"name": part.name, "arguments": ""}},
        *({"index": index, "function": {"arguments": piece}} for piece in part.pieces),
    ]


def _usage(cost: Cost) -> dict[str, Any]:
    return {
        "prompt_tokens": cost.input,
        "completion_tokens": cost.output,
        "total_tokens": cost.input + cost.output,
        "prompt_tokens_details": {"cached_tokens": cost.cached},
        "completion_tokens_details": {"reasoning_tokens": cost.reasoning},
    }


CHAT = Chat()
