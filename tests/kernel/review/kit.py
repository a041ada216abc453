"""What these tests share: tools, events of a run, and the decisions found in them."""

from typing import Any

import msgspec

from gatebook.kernel.actions import Action, CallLLM, CallTool, Prompt
from gatebook.kernel.codec import Raw, canonical
from gatebook.kernel.events import (
    ActionDenied,
    ActionRequested,
    ActionSucceeded,
    AnyEvent,
    DecisionRecord,
    ErrorRecord,
    RunStarted,
)
from gatebook.kernel.review.decisions import Decided, Told, decisions
from gatebook.kernel.rules.document import Document
from gatebook.kernel.rules.reading import load
from gatebook.kernel.tools import ToolSpec
from gatebook.testing.journal_facts.kit import started

ALLOW = DecisionRecord()


def spec(name: str, effect: Any = "at_most_once", *, sends: bool = False, **args: Any) -> ToolSpec:
    """A tool with arguments by name, each with its JSON Schema."""
    schema = {"type": "object", "properties": args, "additionalProperties": False}
    return ToolSpec(
        name=name,
        description="",
        schema=msgspec.Raw(canonical(schema)),
        effect=effect,
        sends=sends,
    )


def tools(*specs: ToolSpec) -> dict[str, ToolSpec]:
    """Tools by name."""
    return {each.name: each for each in specs}


def policy(*rules: str, top: str = "") -> Document:
    """A policy of rules given as lines."""
    return load(f"version = 1\n{top}" + "".join(f"\n[[rule]]\n{rule}\n" for rule in rules))


def begun(**fields: Any) -> RunStarted:
    """The first event of a run of "pay"."""
    return started(**{"program": "pay", "input": Raw(b'"17"'), "policy": "p1"} | fields)


def call(tool: str = "refund", **args: Any) -> CallTool:
    """A call of a tool."""
    return CallTool(tool, Raw(canonical(args)))


def ask_model(*fallbacks: str) -> CallLLM:
    """A model call of 400 bytes, which is 100 tokens, and 50 of an answer."""
    prompt = Prompt("d" * 64, size=400)
    return CallLLM("openai", "mini", prompt, max_output_tokens=50, fallbacks=fallbacks)


def asked(address: str, action: Action, **fields: Any) -> ActionRequested:
    """A request."""
    return ActionRequested(address=address, action=action, **fields)


def denied(address: str, action: Action, record: DecisionRecord) -> ActionDenied:
    """A denial."""
    error = ErrorRecord(record.code, "no")
    return ActionDenied(address=address, action=action, decision=record, error=error)


def done(address: str, output: bytes = b"1", **fields: Any) -> ActionSucceeded:
    """An outcome."""
    return ActionSucceeded(address=address, output=Raw(output), **fields)


def found(*events: AnyEvent, **told: Any) -> list[Decided]:
    """The decisions of a run that begins as `begun` says, its start left out."""
    facts = Told(run_id="r", **told)
    return [each for each in decisions([begun(), *events], facts) if each.kind != "start"]
