"""Gemini's generateContent: each event is a whole response, tool calls come in one piece."""

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
    event,
)

FINISH_REASONS = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "refusal": "PROHIBITED_CONTENT",
    "pause": "OTHER",
}
TROUBLES: dict[Trouble, tuple[int, str]] = {
    "overloaded": (503, "UNAVAILABLE"),
    "server": (500, "INTERNAL"),
    "rate_limited": (429, "RESOURCE_EXHAUSTED"),
    "quota": (429, "RESOURCE_EXHAUSTED"),
    "auth": (401, "UNAUTHENTICATED"),
    "not_found": (404, "NOT_FOUND"),
    "invalid": (400, "INVALID_ARGUMENT"),
    "context": (400, "INVALID_ARGUMENT"),
}
DAILY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
}


class Gemini(Dialect):
    """POST .../models/NAME:generateContent and :streamGenerateContent?alt=sse."""

    name = "gemini"

    def streams(self, path: str, body: bytes) -> bool:
        return ":streamGenerateContent" in path

    def opening(self, story: Story) -> list[bytes]:
        return [event(_response(story, [{"text": ""}]))]

    def output(self, story: Story) -> list[bytes]:
        parts: list[dict[str, Any]] = []
        for part in story.parts:
            if isinstance(part, Say):
                parts += [{"text": piece} for piece in part.pieces]
            else:
                parts.append(_part(part))
        return [event(_response(story, [part])) for part in parts]

    def ending(self, story: Story) -> list[bytes]:
        return [event(_ended(story, [{"text": ""}]))]

    def whole(self, story: Story) -> dict[str, Any]:
        return _ended(story, [_part(part) for part in story.parts])

    def failure(self, trouble: Trouble) -> Failure:
        return Failure(TROUBLES[trouble][0], _error(trouble))

    def error_event(self, trouble: Trouble) -> bytes:
        return event(_error(trouble))


def retry_info(delay: str) -> dict[str, str]:
    """Return the error detail that asks to come back after a delay like "48s"."""
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def exhausted(*details: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a 429 with these error details."""
    told = {"code": 429, "message": "You exceeded your current quota", "details": list(details)}
    return {"error": {**told, "status": "RESOURCE_EXHAUSTED"}}


def _error(trouble: Trouble) -> dict[str, Any]:
    code, status = TROUBLES[trouble]
    if trouble == "quota":
        return exhausted(DAILY)
    message = f"told to fail: {trouble}"
    if trouble == "context":  # told in prose only
        message += ". The input token count (9) exceeds the maximum number of tokens allowed (8)."
    return {"error": {"code": code, "message": message, "status": status}}


def _response(story: Story, parts: list[dict[str, Any]]) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
    said = {"candidates": [candidate], "modelVersion": story.model, "responseId": story.id}
    return said if story.cost is None else {**said, "usageMetadata": _usage(story.cost)}


def _ended(story: Story, parts: list[dict[str, Any]]) -> dict[str, Any]:
    said = _response(story, parts)
    said["candidates"][0]["finishReason"] = FINISH_REASONS[story.finish]
    return said


def _part(part: Say | Think | Refuse | Use) -> dict[str, Any]:
    match part:
        case Say(pieces):
            return {"text": "".join(pieces)}
        case Refuse(text):
            return {"text": text}
        case Think(text, signature):
            return {"text": text, "thought": True, **_signed(signature)}
        case Use(id, name, _, signature):
            call = {"id": id, "name": name, "args": json.loads(part.arguments or "{}")}
            return {"functionCall": call, **_signed(signature)}


def _signed(signature: str) -> dict[str, str]:
    return {"thoughtSignature": signature} if signature else {}


def _usage(cost: Cost) -> dict[str, int]:
    """Gemini counts thoughts beside the candidates."""
    return {
        "promptTokenCount": cost.input,
        "cachedContentTokenCount": cost.cached,
        "candidatesTokenCount": cost.output - cost.reasoning,
        "thoughtsTokenCount": cost.reasoning,
        "totalTokenCount": cost.input + cost.output,
    }


GEMINI = Gemini()
