"""The request of Anthropic's Messages API, made from the neutral one. Does no I/O.

Thinking goes back word for word with its signature: the model refuses a changed or missing one
after a tool call.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from gatebook.kernel.budget import OUTPUT_TOKENS
from gatebook.kernel.messages import (
    ChatRequest,
    JsonSchemaFormat,
    Message,
    NamedTool,
    Part,
    RefusalPart,
    Role,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolDefinition,
    ToolResultPart,
)
from gatebook.kernel.streams.blocks import arguments_fault
from gatebook.providers.chat_wire import CallIds, ToolNames, in_words, refused

# What may be set beside the neutral request. Nothing here makes the provider act on its own:
# hosted tools, containers and remote tool servers act outside the gate.
OPTIONS = frozenset(
    {
        "cache_control",
        "inference_geo",
        "metadata",
        "service_tier",
        "speed",
        "thinking",
        "top_k",
    }
)
SAMPLING = ("temperature", "top_p", "top_k")  # removed from API version 2026-10-21
HOLDERS = ("items", "prefixItems", "anyOf", "oneOf", "allOf")  # what holds schemas in a schema
CALL_ID = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)  # "functions.f:0" of another model is refused
THOUGHTS = ("thinking", "redacted_thinking")
EFFORTS = {"minimal": "low"}  # what other vendors call it

FitSchema = Callable[[dict[str, Any]], dict[str, Any]]


def request_body(
    request: ChatRequest, names: ToolNames, *, fit_schema: FitSchema, stream: bool
) -> dict[str, Any]:
    """Return the body of a request, for `msgspec.json`; `seed` has no field and is left out.

    Args:
        request: the request.
        names: the wire names of its tools.
        stream: whether the answer is to come in events.
        fit_schema: returns a schema in the words the API allows; raises when it has none.

    Raises:
        ProviderError: permanent: a provider option that is not on the allow-list, a tool choice
            that is not among the tools, a call whose arguments are no JSON object.
    """
    native, told = answer_format(request.response_format, fit_schema)
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_output_tokens or OUTPUT_TOKENS,
        "messages": _conversation(request.messages, names),
    }
    if system := [*_system(request.messages), *told]:
        body["system"] = system
    body.update(_options(request.provider_options))
    if request.tools:
        body["tools"] = [_tool(tool, names) for tool in request.tools]
        body["tool_choice"] = _tool_choice(request, names)
    if output := {**_effort(request, body), **native}:
        body["output_config"] = output
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    sampling = {"temperature": request.temperature, "top_p": request.top_p}
    body.update({name: value for name, value in sampling.items() if value is not None})
    if stream:
        body["stream"] = True
    return body


def answer_format(
    form: JsonSchemaFormat | None, fit_schema: FitSchema
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return how an answer's schema is said: natively, or in words where the API has none.

    The API closes every object, so one with keys of any name would always come back empty; a
    schema that holds itself it refuses.
    """
    if form is None:
        return {}, []
    schema = msgspec.json.decode(form.schema)
    if not (_has_free_keys(schema) or _holds_itself(schema)):
        try:
            return {"format": {"type": "json_schema", "schema": fit_schema(schema)}}, []
        except Exception:  # noqa: BLE001 - asserts and raises for the schemas it does not know
            pass
    return {}, [_text(in_words(form))]


def _has_free_keys(schema: Any) -> bool:
    """Whether some object in a schema has keys that the schema does not name."""
    if isinstance(schema, list):
        return any(map(_has_free_keys, schema))
    if not isinstance(schema, dict):
        return False
    named, extra = schema.get("properties") or {}, schema.get("additionalProperties")
    unnamed = isinstance(extra, dict) or (not named and extra is not False)
    if "patternProperties" in schema or (schema.get("type") == "object" and unnamed):
        return True
    inner = [schema[holder] for holder in HOLDERS if holder in schema]
    return _has_free_keys([*named.values(), *schema.get("$defs", {}).values(), *inner])


def _holds_itself(schema: Any) -> bool:
    """Whether some definition leads back to itself, or to the whole schema."""
    held = schema.get("$defs", {}) if isinstance(schema, dict) else {}
    links = {f"#/$defs/{name}": _references(inner) for name, inner in held.items()}
    while ended := [name for name, to in links.items() if not to & links.keys()]:
        for name in ended:
            del links[name]
    return bool(links) or "#" in _references(schema)


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(_references, value.values()))
    return set().union(*map(_references, value)) if isinstance(value, list) else set()


def _system(messages: Iterable[Message]) -> list[dict[str, Any]]:
    return [
        _text(part.text)
        for message in messages
        if message.role == "system"
        for part in message.content
        if isinstance(part, TextPart) and part.text
    ]


def _conversation(messages: Iterable[Message], names: ToolNames) -> list[dict[str, Any]]:
    """Return the turns: all results of one turn of calls must stand in one user message."""
    turns: list[dict[str, Any]] = []
    ids = CallIds(CALL_ID)
    for message in messages:
        if message.role == "system":
            continue
        blocks = [
            block
            for part in message.content
            if (block := _block(part, message.role, names, ids)) is not None
        ]
        while blocks and blocks[-1]["type"] in THOUGHTS:
            blocks.pop()  # what they led to did not come whole; the API refuses a turn of such end
        role = "assistant" if message.role == "assistant" else "user"
        if not blocks:
            continue  # an empty turn is refused, and says nothing
        if turns and role == "user" and turns[-1]["role"] == "user":
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _block(part: Part, role: Role, names: ToolNames, ids: CallIds) -> dict[str, Any] | None:
    """Return a part's block, or None for what the API would refuse."""
    match part:
        case TextPart(text) | RefusalPart(text):
            said = text.strip() if role == "assistant" else text  # models do send lone line ends
            return _text(text) if said else None
        case ThinkingPart():
            return _thinking(part)
        case ToolCallPart():
            return {
                "type": "tool_use",
                "id": ids.of_call(part.id),
                "name": names.wire(part.name),
                "input": _arguments(part),
            }
        case ToolResultPart():
            block = {"type": "tool_result", "tool_use_id": ids.of_result(part.tool_call_id)}
            if part.content:
                block["content"] = part.content
            return {**block, "is_error": True} if part.is_error else block


def _thinking(part: ThinkingPart) -> dict[str, Any] | None:
    """Return thinking as it came; another vendor's is left out, as its signature would not fit."""
    if part.provider_data is not None:
        try:
            block = msgspec.json.decode(part.provider_data)
        except msgspec.DecodeError:
            return None
        ours = isinstance(block, dict) and block.get("type") == "redacted_thinking"
        return block if ours else None
    if part.signature is None:
        return None
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _arguments(call: ToolCallPart) -> msgspec.Raw:
    if arguments_fault(call.arguments) is not None:
        raise refused(f"the arguments of call {call.id!r} to {call.name!r} are no JSON object")
    return msgspec.Raw(call.arguments.encode())


def _options(options: dict[str, Any]) -> dict[str, Any]:
    strange = sorted(set(options) - OPTIONS)
    if strange:
        raise refused(
            f"provider option {strange[0]!r} is not on the allow-list: "
            f"use one of {', '.join(sorted(OPTIONS))}"
        )
    return options


def _effort(request: ChatRequest, body: dict[str, Any]) -> dict[str, Any]:
    """Return the effort; "none" switches thinking off. Whether to think is the model's default
    or the option `thinking`.
    """
    effort = request.reasoning_effort
    if effort == "none":
        body.setdefault("thinking", {"type": "disabled"})
        return {}
    return {} if effort is None else {"effort": EFFORTS.get(effort, effort)}


def _tool(tool: ToolDefinition, names: ToolNames) -> dict[str, Any]:
    wire: dict[str, Any] = {"name": names.wire(tool.name), "input_schema": tool.schema}
    if tool.description:
        wire["description"] = tool.description
    return wire


def _tool_choice(request: ChatRequest, names: ToolNames) -> dict[str, Any]:
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        if all(tool.name != choice.name for tool in request.tools):
            raise refused(f"tool_choice names {choice.name!r}, which is not among the tools")
        said: dict[str, Any] = {"type": "tool", "name": names.wire(choice.name)}
    else:
        said = {"type": "any" if choice == "required" else choice}
    if request.parallel_tool_calls is False and choice != "none":
        said["disable_parallel_tool_use"] = True
    return said


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
