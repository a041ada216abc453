"""The chat-completions wire format, both ways, without any I/O.

Knows the protocol and the ways compatible servers stray from it; knows no HTTP.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from gatebook.errors import ProviderError
from gatebook.kernel.messages import (
    Capabilities,
    ChatRequest,
    FinishReason,
    JsonSchemaFormat,
    Message,
    NamedTool,
    RefusalPart,
    ToolCallPart,
    ToolDefinition,
    ToolResultPart,
)

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
NAME_CHARS = 64
CALL_ID = re.compile(r".{1,40}", re.DOTALL)  # OpenAI's own; its other API makes longer ones

# What may be set beside the neutral request. Everything here changes how a model answers; nothing
# makes the provider act on its own (search, code, files): hosted tools act outside the gate.
OPTIONS = frozenset(
    {
        "cache_prompt",
        "chat_template_kwargs",
        "frequency_penalty",
        "logit_bias",
        "metadata",
        "min_p",
        "presence_penalty",
        "prompt_cache_key",
        "repeat_penalty",
        "repetition_penalty",
        "safety_identifier",
        "service_tier",
        "store",
        "top_k",
        "user",
        "verbosity",
    }
)

FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "completed": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",  # Mistral: the context is full
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "refusal",
    "error": "error",
}


def finish_reason(raw: str) -> FinishReason:
    """Return our word for a finish reason; an unknown one is an error, never a quiet "stop"."""
    return FINISH_REASONS.get(raw.lower(), "error")


class ToolNames:
    """Tool names as the wire allows them, for one request, and back.

    Raises:
        ProviderError: permanent, before anything was sent: two tools would get one wire name.
    """

    def __init__(self, offered: Iterable[str], called: Iterable[str] = ()) -> None:
        """Map the names of tools, and those that a model called, which may be no tool's."""
        self._wire: dict[str, str] = {}
        self._ours: dict[str, str] = {}
        for name in offered:
            wire = wire_name(name)
            taken = self._ours.setdefault(wire, name)
            if taken != name:
                told = f"tools {taken!r} and {name!r} are both {wire!r} on the wire: rename one"
                raise refused(told)
            self._wire[name] = wire
        for name in called:
            self._add_called(name)

    def _add_called(self, name: str) -> None:
        """Map a name that only the model used: what it made up must not end the conversation."""
        if name in self._wire:
            return
        wire = wire_name(name)
        if wire in self._ours:
            wire = _hashed(wire, name)
        self._wire[name] = wire
        self._ours.setdefault(wire, name)

    def wire(self, name: str) -> str:
        """Return the wire name of a tool of this request."""
        return self._wire[name]

    def ours(self, wire: str) -> str:
        """Return the tool a model named; a name we did not offer stays what it is."""
        return self._ours.get(wire, wire)


def wire_name(name: str) -> str:
    """Return `name` if the wire allows it, else one made from it: `a.b` becomes `a__b`."""
    if NAME.fullmatch(name):
        return name
    made = re.sub(r"[^A-Za-z0-9_-]", "_", name.replace(".", "__"), flags=re.ASCII)
    return made if 0 < len(made) <= NAME_CHARS else _hashed(made, name)


def _hashed(made: str, name: str) -> str:
    return f"{made[: NAME_CHARS - 13]}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def call_id(id: str, allowed: re.Pattern[str]) -> str:
    """Return a call's id as an API takes it; the ids of other providers may not fit."""
    return id if allowed.fullmatch(id) else _made_id(id)


def _made_id(seed: str) -> str:
    return f"call_{hashlib.sha256(seed.encode()).hexdigest()[:20]}"


class CallIds:
    """Ids of calls for an API that takes each only once in a conversation, for one request.

    Some servers count anew in every turn; a result belongs to the last call of its id.
    """

    def __init__(self, allowed: re.Pattern[str]) -> None:
        """Begin a conversation."""
        self._allowed = allowed
        self._sent: dict[str, str] = {}
        self._taken: set[str] = set()

    def of_call(self, id: str) -> str:
        """Return the id of the next call."""
        sent = call_id(id, self._allowed)
        while sent in self._taken:
            sent = _made_id(f"{id}:{len(self._taken)}")
        self._taken.add(sent)
        self._sent[id] = sent
        return sent

    def of_result(self, id: str) -> str:
        """Return the id of the call that a result answers."""
        return self._sent.get(id) or call_id(id, self._allowed)


def refused(message: str) -> ProviderError:
    """Return the error for a request that cannot be sent as it is."""
    return ProviderError(message, kind="permanent", category="invalid_request", phase="pool")


def tool_names(request: ChatRequest) -> ToolNames:
    """Return the names of a request's tools and of the calls in its conversation."""
    called = (c.name for message in request.messages for c in message.tool_calls)
    return ToolNames((tool.name for tool in request.tools), called)


def request_body(
    request: ChatRequest,
    names: ToolNames,
    *,
    capabilities: Capabilities,
    max_tokens_field: str,
    stream: bool,
) -> bytes:
    """Return the JSON body of a request.

    Raises:
        ProviderError: permanent: a provider option that is not on the allow-list.
    """
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [wire for message in request.messages for wire in _message(message, names)],
    }
    body.update(_options(request.provider_options))
    if request.tools:
        body.update(_tools(request, names, capabilities))
    form = request.response_format
    if form is not None and not capabilities.json_schema:
        body["messages"].append({"role": "system", "content": in_words(form)})
    elif form is not None:
        schema = {"name": form.name, "strict": form.strict, "schema": form.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    plain = {
        max_tokens_field: request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": list(request.stop) or None,
        "seed": request.seed,
        "reasoning_effort": request.reasoning_effort,
    }
    body.update({key: value for key, value in plain.items() if value is not None})
    if stream:
        body["stream"] = True
        if capabilities.reports_usage_in_stream:
            body["stream_options"] = {"include_usage": True}
    return msgspec.json.encode(body)


def in_words(form: JsonSchemaFormat) -> str:
    """Return what a model is told of a response format where the API has no field for it."""
    told = "Answer with one JSON value and nothing else. It must fit this JSON Schema:\n"
    return told + bytes(form.schema).decode()


def _options(options: dict[str, Any]) -> dict[str, Any]:
    strange = sorted(set(options) - OPTIONS)
    if strange:
        raise refused(
            f"provider option {strange[0]!r} is not on the allow-list: "
            f"use one of {', '.join(sorted(OPTIONS))}"
        )
    return options


def _tools(request: ChatRequest, names: ToolNames, capabilities: Capabilities) -> dict[str, Any]:
    tools, choice = request.tools, request.tool_choice
    said: Any = choice
    if isinstance(choice, NamedTool):
        tools = tuple(tool for tool in tools if tool.name == choice.name)
        if not tools:
            raise refused(f"tool_choice names {choice.name!r}, which is not among the tools")
        said = {"type": "function", "function": {"name": names.wire(choice.name)}}
        if not capabilities.forced_tool_choice:
            said = "required"  # llama-server reads the object form as "auto"
        else:
            tools = request.tools
    fields: dict[str, Any] = {"tools": [_tool(t, names) for t in tools], "tool_choice": said}
    if request.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = request.parallel_tool_calls
    return fields


def _tool(tool: ToolDefinition, names: ToolNames) -> dict[str, Any]:
    function: dict[str, Any] = {"name": names.wire(tool.name), "parameters": tool.schema}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _message(message: Message, names: ToolNames) -> list[dict[str, Any]]:
    """Return one wire message, or one for each tool result."""
    results = [
        {
            "role": "tool",
            "tool_call_id": call_id(part.tool_call_id, CALL_ID),
            "content": part.content,
        }
        for part in message.content
        if isinstance(part, ToolResultPart)
    ]
    if message.role == "tool" or (results and not message.text):
        return results
    wire: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.role == "assistant":
        calls = [_call(part, names) for part in message.tool_calls]
        refusal = "".join(p.text for p in message.content if isinstance(p, RefusalPart))
        if calls:
            wire["tool_calls"] = calls
        if refusal:
            wire["refusal"] = refusal
        if not message.text:
            if not (calls or refusal):
                return results  # nothing but thinking: some servers refuse a turn of nothing
            wire["content"] = None
    return [*results, wire]


def _call(call: ToolCallPart, names: ToolNames) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "id": call_id(call.id, CALL_ID),
        "type": "function",
        "function": {"name": names.wire(call.name), "arguments": call.arguments},
    }
    if call.provider_data is not None:
        wire["extra_content"] = msgspec.Raw(call.provider_data.encode())
    return wire
