"""What attacks share: a model that does what it is told, and what a journal says of decisions."""

import json
from collections.abc import Sequence
from typing import Any

from gatebook.kernel.events import ActionDenied, ActionRequested, AnyEvent, kind_of
from gatebook.kernel.messages import MessageEnd, MessageStart, ToolCallDelta, ToolCallStart
from tests.runtime.kit import USAGE, Said

built: list[str] = []  # by `Boom`, should anything make one of data


class Boom:
    """A class that data might name; to make one is to be caught."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        built.append(f"{args}{kwargs}")


def calls(*asked: tuple[str, dict[str, Any]]) -> Said:
    """An answer that calls tools."""
    events: list[Any] = [MessageStart("m")]
    for index, (name, args) in enumerate(asked):
        events += [ToolCallStart(index, f"c{index}", name), ToolCallDelta(index, json.dumps(args))]
    return [*events, MessageEnd("tool_calls", "tool_calls", USAGE)]


def verdicts(events: Sequence[AnyEvent]) -> list[tuple[str, str]]:
    """What was decided about tools: (tool, verdict), "ask" for what a person is asked."""
    found: list[tuple[str, str]] = []
    for event in events:
        if isinstance(event, ActionRequested | ActionDenied) and hasattr(event.action, "tool"):
            found.append((event.action.tool, event.decision.verdict))
        elif kind_of(event) == "approval_asked":
            found.append((getattr(event.action, "tool", ""), "ask"))  # type: ignore[union-attr]
    return found
