"""The rules of a scripted model: when a rule applies, and what it says or calls. Pure."""

import hashlib
import re
from typing import Any

import msgspec

from gatebook.errors import ConfigError, ProviderError
from gatebook.kernel.messages import (
    ChatRequest,
    FinishReason,
    Message,
    TextPart,
    ToolResultPart,
    Usage,
)

HOLE = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")
LAST = "last."
BYTES_PER_TOKEN = 4  # the same estimate that budgets reserve by
SHOWN = 120


class ToolUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool call of an answer; strings in `args` may have holes: `{{order}}`."""

    tool: str
    args: dict[str, Any] = {}

    def arguments(self) -> str:
        """Return the arguments as the JSON text a model would write."""
        return msgspec.json.encode(self.args).decode()


class Reply(msgspec.Struct, frozen=True):
    """An answer: text, tool calls, or both. `finish_reason` follows from them unless given."""

    say: str = ""
    call: tuple[ToolUse, ...] = ()
    finish_reason: FinishReason | None = None


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a rule applies: all that is set must hold. Text is compared without case.

    Attributes:
        user: text that the last user message contains.
        user_matches: a regular expression found in it; its named groups fill holes.
        system: text that the instructions contain.
        turns: how many answers the model has given so far.
        last_tool: the tool whose result came last.
        result: tool name -> text that its last result contains.
        called: tools that have been called before.
        not_called: tools that have not.
    """

    user: str | None = None
    user_matches: str | None = None
    system: str | None = None
    turns: int | None = None
    last_tool: str | None = None
    result: dict[str, str] = {}
    called: tuple[str, ...] = ()
    not_called: tuple[str, ...] = ()


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule: when it applies, and its answer."""

    when: When = When()
    say: str = ""
    call: tuple[ToolUse, ...] = ()
    finish_reason: FinishReason | None = None


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules in order: the first that applies answers."""

    rules: tuple[Rule, ...]
    about: str = ""

    def answer(self, request: ChatRequest) -> Reply:
        """Return the answer to a request.

        Holes: `{{name}}` is a named group of `user_matches`; `{{last.TOOL}}` is the last result
        of a tool and `{{last.TOOL.field.0}}` a value in its JSON. A string that is nothing but
        one hole takes the value with its type.

        Raises:
            ProviderError: permanent: no rule applies, or a hole has no value.
        """
        facts = _Facts(request)
        for number, rule in enumerate(self.rules):
            groups = facts.match(rule.when)
            if groups is not None:
                where = f"rule {number + 1} of the script"
                return Reply(
                    say=str(facts.fill(rule.say, groups, where)),
                    call=tuple(
                        ToolUse(use.tool, facts.fill(use.args, groups, where)) for use in rule.call
                    ),
                    finish_reason=rule.finish_reason,
                )
        raise _no_answer(
            f"no rule applies to {facts.summary()}; rules: "
            + "; ".join(f"{n + 1} {_described(r.when)}" for n, r in enumerate(self.rules))
        )


def read_script(data: bytes, path: str) -> Script:
    """Return the script in a JSON file.

    Raises:
        ConfigError: E_CONFIG, with the place in the file that is wrong.
    """
    try:
        script = msgspec.json.decode(data, type=Script)
        for rule in script.rules:
            re.compile(rule.when.user_matches or "")
    except (msgspec.MsgspecError, re.error, UnicodeError) as exc:
        raise ConfigError(
            "E_CONFIG",
            name="script",
            path=path,
            detail=str(exc),
            fix='write {"rules": [{"when": {"user": "hello"}, "say": "Hi!"}]}',
        ) from exc
    return script


def call_id(request: ChatRequest, what: str) -> str:
    """Return an id that follows from the request alone: from where it stands and what came last.

    Not from the whole conversation: that would cost more with every turn.
    """
    last = msgspec.json.encode(request.messages[-1]) if request.messages else b""
    seed = f"{request.model}\0{len(request.messages)}\0{what}\0".encode() + last
    return "call_" + hashlib.sha256(seed).hexdigest()[:24]


def estimated_usage(request: ChatRequest, reply: Reply) -> Usage:
    """Return the usage that bytes / 4 gives, marked as not measured."""
    told = sum(_size(message) for message in request.messages)
    told += sum(len(tool.description) + len(bytes(tool.schema)) for tool in request.tools)
    made = len(reply.say.encode()) + sum(len(use.arguments()) for use in reply.call)
    sent, answered = -(-told // BYTES_PER_TOKEN), -(-made // BYTES_PER_TOKEN)
    return Usage(
        input_tokens=sent,
        output_tokens=answered,
        total_tokens=sent + answered,
        measured=False,
    )


def _size(message: Message) -> int:
    size = 0
    for part in message.content:
        if isinstance(part, TextPart):
            size += len(part.text)
        elif isinstance(part, ToolResultPart):
            size += len(part.content)
    return size + sum(len(call.arguments) for call in message.tool_calls)


class _Facts:
    """What the rules may ask about a request."""

    def __init__(self, request: ChatRequest) -> None:
        self.user = self.system = self.last_tool = ""
        self.turns = 0
        self.called: set[str] = set()
        self.results: dict[str, str] = {}
        tools: dict[str, str] = {}
        for message in request.messages:
            if message.role == "user":
                self.user = message.text
            elif message.role == "system":
                self.system += message.text
            elif message.role == "assistant":
                self.turns += 1
            for call in message.tool_calls:
                tools[call.id] = call.name
                self.called.add(call.name)
            for part in message.content:
                if isinstance(part, ToolResultPart):
                    self.last_tool = tools.get(part.tool_call_id, "")
                    self.results[self.last_tool] = part.content

    def match(self, when: When) -> dict[str, str] | None:
        """Return the named groups when the rule applies, else None."""
        holds = (
            _contains(self.user, when.user)
            and _contains(self.system, when.system)
            and when.turns in (None, self.turns)
            and when.last_tool in (None, self.last_tool)
            and all(
                tool in self.results and _contains(self.results[tool], text)
                for tool, text in when.result.items()
            )
            and self.called.issuperset(when.called)
            and self.called.isdisjoint(when.not_called)
        )
        if not holds:
            return None
        if when.user_matches is None:
            return {}
        found = re.search(when.user_matches, self.user, re.IGNORECASE)
        return {k: v for k, v in found.groupdict().items() if v is not None} if found else None

    def fill(self, value: Any, groups: dict[str, str], where: str) -> Any:
        """Return a copy of `value` with every hole filled."""
        if isinstance(value, dict):
            return {key: self.fill(inner, groups, where) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner, groups, where) for inner in value]
        if not isinstance(value, str):
            return value
        whole = HOLE.fullmatch(value)
        if whole:
            return self._value(whole[1], groups, where)
        return HOLE.sub(lambda hole: _as_text(self._value(hole[1], groups, where)), value)

    def summary(self) -> str:
        """Return what was asked, in short, for the error that no rule applies."""
        said = f"user {self.user[:SHOWN]!r}, {self.turns} answers so far"
        if not self.last_tool:
            return said
        return f"{said}, last result {self.last_tool}: {self.results[self.last_tool][:SHOWN]!r}"

    def _value(self, name: str, groups: dict[str, str], where: str) -> Any:
        if not name.startswith(LAST):
            if name in groups:
                return groups[name]
            raise _no_answer(f"{where} has a hole {name!r}, which user_matches does not name")
        path = name.removeprefix(LAST)
        tool = _longest(path, self.results)
        if tool is None:
            raise _no_answer(f"{where} has a hole {name!r}, but no such tool has answered")
        content = self.results[tool]
        rest = path[len(tool) + 1 :]
        if not rest:
            return content
        try:
            value = msgspec.json.decode(content)
            for key in rest.split("."):
                value = value[int(key)] if isinstance(value, list) else value[key]
        except (msgspec.DecodeError, LookupError, TypeError, ValueError):
            raise _no_answer(
                f"{where} has a hole {name!r}, but {tool} answered {content[:SHOWN]!r}"
            ) from None
        return value


def _longest(path: str, tools: dict[str, str]) -> str | None:
    """Return the longest tool name that `path` begins with: tool names may have dots."""
    fitting = [tool for tool in tools if path == tool or path.startswith(tool + ".")]
    return max(fitting, key=len, default=None)


def _contains(text: str, wanted: str | None) -> bool:
    return wanted is None or wanted.casefold() in text.casefold()


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _described(when: When) -> str:
    told = msgspec.to_builtins(when)
    parts = [f"{key}={value!r}" for key, value in told.items() if value not in (None, {}, ())]
    return "(" + (", ".join(parts) or "always") + ")"


def _no_answer(message: str) -> ProviderError:
    return ProviderError(message, kind="permanent", category="invalid_request", phase="pool")
