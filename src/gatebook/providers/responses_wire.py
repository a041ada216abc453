"""The request of OpenAI's Responses API, made from the neutral one. Does no I/O.

What a reasoning model thought goes back to it word for word, in the order it came; without that,
models answer worse and cost more after a tool call.
"""

import re
from typing import Any

import msgspec

from gatebook.kernel.messages import (
    ChatRequest,
    Message,
    NamedTool,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolDefinition,
    ToolResultPart,
)
from gatebook.providers.chat_wire import CallIds, ToolNames, refused, wire_name

# What may be set beside the neutral request: nothing that makes the provider act on its own, or
# that keeps the conversation somewhere else (hosted tools, prompts, conversations, background).
OPTIONS = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_summary",
        "safety_identifier",
        "service_tier",
        "store",
        "truncation",
        "user",
        "verbosity",
    }
)
CALL_ID = re.compile(r".{1,64}", re.DOTALL)
ENCRYPTED = "reasoning.encrypted_content"
# Other models refuse to be asked for it: "Encrypted content is not supported with this model."
REASONS = re.compile(r"(?:ft:)?(?:o\d|gpt-[5-9](?!\d)(?!.*-chat)|codex)")


class SentItem(msgspec.Struct, omit_defaults=True):
    """The item an answer's reasoning led to, as far as it must be named when sent back."""

    type: str = ""
    id: str = ""
    phase: str | None = None


class Thought(msgspec.Struct):
    """What `provider_data` of thinking holds: the item as it came, and the message after it."""

    reasoning: msgspec.Raw
    message: SentItem | None = None


class _Reasoning(msgspec.Struct):
    type: str = ""
    encrypted_content: str | None = None


def request_body(request: ChatRequest, names: ToolNames, *, stream: bool) -> dict[str, Any]:
    """Return the JSON body of a request.

    The answer is not stored at OpenAI unless the option `store` says so; then a reasoning model
    gives its thoughts encrypted, to be sent back.

    Raises:
        ProviderError: permanent: an option that is not on the allow-list, or that this API lacks.
    """
    _check(request)
    options = dict(request.provider_options)
    stored = bool(options.setdefault("store", False))
    ids = CallIds(CALL_ID)
    verbosity, summary = options.pop("verbosity", None), options.pop("reasoning_summary", None)
    body: dict[str, Any] = {
        "model": request.model,
        "input": [
            item for message in request.messages for item in _items(message, names, ids, stored)
        ],
        **options,
    }
    if not stored and (request.reasoning_effort or REASONS.match(request.model)):
        body["include"] = [ENCRYPTED]
    if request.tools:
        body.update(_tools(request, names))
    text: dict[str, Any] = {"verbosity": verbosity} if verbosity is not None else {}
    if request.response_format is not None:
        text["format"] = {
            "type": "json_schema",
            "name": wire_name(request.response_format.name),
            "strict": request.response_format.strict,
            "schema": request.response_format.schema,
        }
    reasoning = {"effort": request.reasoning_effort, "summary": summary}
    optional = {
        "text": text,
        "reasoning": {key: value for key, value in reasoning.items() if value is not None},
        "max_output_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
    }
    body.update({key: value for key, value in optional.items() if value not in (None, {})})
    if stream:
        body["stream"] = True
    return body


def _check(request: ChatRequest) -> None:
    strange = sorted(set(request.provider_options) - OPTIONS)
    if strange:
        raise refused(
            f"provider option {strange[0]!r} is not on the allow-list: "
            f"use one of {', '.join(sorted(OPTIONS))}"
        )
    for field, value in (("stop", request.stop), ("seed", request.seed)):
        if value not in (None, ()):
            raise refused(f"the Responses API has no {field!r}: leave it out, or use openai-chat:")


def _tools(request: ChatRequest, names: ToolNames) -> dict[str, Any]:
    choice: Any = request.tool_choice
    if isinstance(choice, NamedTool):
        if choice.name not in {tool.name for tool in request.tools}:
            raise refused(f"tool_choice names {choice.name!r}, which is not among the tools")
        choice = {"type": "function", "name": names.wire(choice.name)}
    fields = {"tools": [_tool(tool, names) for tool in request.tools], "tool_choice": choice}
    if request.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = request.parallel_tool_calls
    return fields


def _tool(tool: ToolDefinition, names: ToolNames) -> dict[str, Any]:
    """Return a tool; `strict` is on by default in this API and refuses most schemas."""
    wire = {
        "type": "function",
        "name": names.wire(tool.name),
        "parameters": tool.schema,
        "strict": False,
    }
    return {**wire, "description": tool.description} if tool.description else wire


def _items(message: Message, names: ToolNames, ids: CallIds, stored: bool) -> list[Any]:
    """Return the input items of one message, in the order of its parts."""
    if message.role in ("system", "user"):
        results = [_result(p, ids) for p in message.content if isinstance(p, ToolResultPart)]
        if results and not message.text:
            return results
        return [*results, {"role": message.role, "content": message.text}]
    # A thought after which nothing came whole is refused by the API.
    end = max(
        (i for i, p in enumerate(message.content) if not isinstance(p, ThinkingPart)), default=0
    )
    thoughts = {i: thought for i, p in enumerate(message.content[:end]) if (thought := _thought(p))}
    sent = {i for i, thought in thoughts.items() if stored or _is_encrypted(thought)}
    named = bool(sent) and len(sent) == len(
        thoughts
    )  # an item may not be named without its thought
    items: list[Any] = []
    follows: SentItem | None = None  # the message that a thought led to
    for i, part in enumerate(message.content):
        if i in sent:
            items.append(thoughts[i].reasoning)
            follows = thoughts[i].message
        elif isinstance(part, TextPart | RefusalPart):
            items.append(_said(part.text, follows if named else None))
            follows = None
        elif isinstance(part, ToolCallPart):
            items.append(_call(part, names, ids, named=named))
        elif isinstance(part, ToolResultPart):
            items.append(_result(part, ids))
    return items


def _thought(part: Any) -> Thought | None:
    """Return what a thinking part of this API holds; another provider's is not ours to send."""
    if not isinstance(part, ThinkingPart) or part.provider_data is None:
        return None
    try:
        thought = msgspec.json.decode(part.provider_data, type=Thought)
        item = msgspec.json.decode(thought.reasoning, type=_Reasoning)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return thought if item.type == "reasoning" else None


def _is_encrypted(thought: Thought) -> bool:
    """Whether a thought can be read from itself: one that is not stored is known by that only."""
    return bool(msgspec.json.decode(thought.reasoning, type=_Reasoning).encrypted_content)


def _said(text: str, sent: SentItem | None) -> dict[str, Any]:
    """Return what the model said, in the one form that llama.cpp's server reads too."""
    wire = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text}],
    }
    if sent is not None and sent.id:
        wire.update(id=sent.id, status="completed")
    return {**wire, "phase": sent.phase} if sent and sent.phase else wire


def _call(part: ToolCallPart, names: ToolNames, ids: CallIds, *, named: bool) -> dict[str, Any]:
    wire = {
        "type": "function_call",
        "call_id": ids.of_call(part.id),
        "name": names.wire(part.name),
        "arguments": part.arguments,
    }
    if named and part.provider_data is not None:
        try:
            sent = msgspec.json.decode(part.provider_data, type=SentItem)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return wire
        if sent.type == "function_call" and sent.id:
            wire["id"] = sent.id
    return wire


def _result(part: ToolResultPart, ids: CallIds) -> dict[str, Any]:
    return {
        "type": "function_call_output",
        "call_id": ids.of_result(part.tool_call_id),
        "output": part.content,
    }
