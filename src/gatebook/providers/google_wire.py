"""Neutral requests as the google-genai SDK takes them: contents and a config, plain dictionaries.

Knows the Gemini API's words and how models differ; knows no HTTP and imports no SDK.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import msgspec

from gatebook.kernel.messages import (
    ChatRequest,
    Message,
    NamedTool,
    Part,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolDefinition,
    ToolResultPart,
)
from gatebook.providers.chat_wire import ToolNames, refused, tool_names

# What may be set beside the neutral request, in the SDK's spelling. Hosted tools, MCP servers and
# cached contents (which may hold such tools) act outside the gate, so they are not here.
OPTIONS = frozenset(
    {
        "frequency_penalty",
        "media_resolution",
        "presence_penalty",
        "safety_settings",
        "service_tier",
        "thinking_config",
        "top_k",
    }
)
MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
LEVELS = {effort: effort.upper() for effort in ("minimal", "low", "medium", "high", "xhigh")}
# Models before Gemini 3 count tokens instead: https://ai.google.dev/gemini-api/docs/openai
BUDGETS = {"none": 0, "minimal": 1_024, "low": 1_024, "medium": 8_192, "high": 24_576}
BEFORE_3 = re.compile(r"(?:models/)?gemini-[12]\b")
SINCE_3 = re.compile(r"(?:models/)?gemini-[3-9]\b")
# Gemini 3 refuses a turn whose first call has no signature, so calls that another model made get
# the one Google names for them: https://ai.google.dev/gemini-api/docs/thought-signatures
FOREIGN_CALL = "skip_thought_signature_validator"


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `provider_data` holds: an opaque signature, and what it came on.

    That is the call or the thought itself ("part"), the text just before it ("text"), or a part
    with no text at all ("empty").
    """

    thoughtSignature: str  # noqa: N815 - the name Google gives it
    on: Literal["part", "text", "empty"] = "part"


class Wire(NamedTuple):
    """A request for the SDK, and how to read the tool names of its answer."""

    contents: list[dict[str, Any]]
    config: dict[str, Any]
    names: ToolNames


def wire_request(request: ChatRequest) -> Wire:
    """Return a request as the SDK takes it.

    `parallel_tool_calls` cannot be said to Gemini. A response format is a hint, and left out
    where a model before Gemini 3 is also given tools: it refuses the two together.

    Raises:
        ProviderError: permanent: what cannot be said, such as a result of an unknown call.
    """
    names = tool_names(request)
    config: dict[str, Any] = {
        # One request for one attempt: these two would send more of them on their own.
        "automatic_continuation": False,
        "automatic_function_calling": {"disable": True},
        **_options(request.provider_options),
    }
    plain = {
        "system_instruction": _system(request.messages),
        "max_output_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop_sequences": list(request.stop) or None,
        "seed": request.seed,
    }
    config.update({key: value for key, value in plain.items() if value is not None})
    if request.reasoning_effort is not None:
        thinking = _thinking(request.reasoning_effort, request.model)
        config["thinking_config"] = {**thinking, **config.get("thinking_config", {})}
    if request.tools:
        config.update(_tools(request, names))
    form = request.response_format
    if form is not None and not (request.tools and BEFORE_3.match(request.model)):
        config["response_mime_type"] = "application/json"
        config["response_json_schema"] = msgspec.json.decode(form.schema)
    return Wire(_contents(request, names), config, names)


def kept(provider_data: str | None) -> Kept | None:
    """Return the signature in provider data; None when it is another provider's or none."""
    try:
        return msgspec.json.decode(provider_data or "", type=Kept)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _options(options: dict[str, Any]) -> dict[str, Any]:
    strange = sorted(set(options) - OPTIONS)
    if strange:
        raise refused(
            f"provider option {strange[0]!r} is not on the allow-list: "
            f"use one of {', '.join(sorted(OPTIONS))}"
        )
    return options


def _system(messages: tuple[Message, ...]) -> dict[str, Any] | None:
    parts = [{"text": message.text} for message in messages if message.role == "system"]
    return {"parts": parts} if parts else None


def _thinking(effort: str, model: str) -> dict[str, Any]:
    known: dict[str, Any] = BUDGETS if BEFORE_3.match(model) else {"none": 0, **LEVELS}
    if effort not in known:
        words = ", ".join(known)
        raise refused(f"reasoning effort {effort!r} is not one of {words}, which {model} knows")
    counted = known is BUDGETS or effort == "none"
    return {"thinking_budget" if counted else "thinking_level": known[effort]}


def _tools(request: ChatRequest, names: ToolNames) -> dict[str, Any]:
    choice = request.tool_choice
    calling: dict[str, Any]
    if isinstance(choice, NamedTool):
        if all(tool.name != choice.name for tool in request.tools):
            raise refused(f"tool_choice names {choice.name!r}, which is not among the tools")
        calling = {"mode": "ANY", "allowed_function_names": [names.wire(choice.name)]}
    else:
        calling = {"mode": MODES[choice]}
    return {
        "tools": [{"function_declarations": [_tool(tool, names) for tool in request.tools]}],
        "tool_config": {"function_calling_config": calling},
    }


def _tool(tool: ToolDefinition, names: ToolNames) -> dict[str, Any]:
    declared = {
        "name": names.wire(tool.name),
        "parameters_json_schema": msgspec.json.decode(tool.schema),
    }
    if tool.description:
        declared["description"] = tool.description
    return declared


def _contents(request: ChatRequest, names: ToolNames) -> list[dict[str, Any]]:
    """Return the conversation without its system messages.

    The results of one turn are one content, as Gemini counts them against the turn's calls.
    """
    contents: list[dict[str, Any]] = []
    called: dict[str, str] = {}  # the wire name of each call: a result must repeat it
    gathering = False
    for message in request.messages:
        called.update((call.id, names.wire(call.name)) for call in message.tool_calls)
        if message.role == "system":
            continue
        parts = list(_parts(message.content, called))
        results = all("function_response" in part for part in parts)
        if message.role == "assistant" and SINCE_3.match(request.model):
            _vouch(parts)
        if gathering and results:
            contents[-1]["parts"] += parts
        elif parts:
            role = "model" if message.role == "assistant" else "user"
            contents.append({"role": role, "parts": parts})
            gathering = results
    return contents


def _parts(content: tuple[Part, ...], called: dict[str, str]) -> Iterable[dict[str, Any]]:
    """Yield the parts of a message; thinking goes back only with the signature that it came with.

    Thinking of another provider, or a mere summary, says nothing to Gemini.
    """
    before: dict[str, Any] | None = None
    for part in content:
        if isinstance(part, ThinkingPart):
            signed = kept(part.provider_data)
            if signed is None:
                continue
            if signed.on == "text" and before is not None:
                before["thought_signature"] = _signature(signed)
                continue
            made: dict[str, Any] = {"text": part.text, "thought_signature": _signature(signed)}
            if signed.on == "part":
                made["thought"] = True
        elif isinstance(part, ToolCallPart):
            made = _call(part, called)
        elif isinstance(part, ToolResultPart):
            made = _result(part, called)
        else:
            made = {"text": part.text}
        yield made
        before = made if isinstance(part, TextPart | RefusalPart) else None


def _call(call: ToolCallPart, called: dict[str, str]) -> dict[str, Any]:
    try:
        args = msgspec.json.decode(call.arguments, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise refused(f"the arguments of call {call.id!r} are not a JSON object") from exc
    made: dict[str, Any] = {"function_call": {"id": call.id, "name": called[call.id], "args": args}}
    signed = kept(call.provider_data)
    if signed is not None:
        made["thought_signature"] = _signature(signed)
    return made


def _result(result: ToolResultPart, called: dict[str, str]) -> dict[str, Any]:
    name = called.get(result.tool_call_id)
    if name is None:
        raise refused(f"a tool result answers call {result.tool_call_id!r}, which nobody made")
    response = {"error" if result.is_error else "output": result.content}
    return {"function_response": {"id": result.tool_call_id, "name": name, "response": response}}


def _vouch(parts: list[dict[str, Any]]) -> None:
    """Give the first call of a turn a signature if it has none."""
    first = next((part for part in parts if "function_call" in part), None)
    if first is not None:
        first.setdefault("thought_signature", _signature(Kept(FOREIGN_CALL)))


def _signature(signed: Kept) -> bytes:
    """Return a signature as the SDK takes it; it goes out in the URL-safe alphabet."""
    text = signed.thoughtSignature.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as exc:
        raise refused("a thought signature in the conversation is not base64") from exc
