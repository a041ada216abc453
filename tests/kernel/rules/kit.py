"""What these tests share: policies written as short texts, and requests decided by them."""

from typing import Any

from gatebook.kernel.rules.document import Document
from gatebook.kernel.rules.facts import MISSING, History, Request, RunFacts, ToolFacts
from gatebook.kernel.rules.match import Rulebook, Ruling
from gatebook.kernel.rules.reading import load, read

__all__ = ["MISSING", "History", "RunFacts", "ToolFacts"]


def policy(*rules: str, top: str = "") -> Document:
    """A policy of rules given as the lines between two `[[rule]]` headers."""
    return load(text(*rules, top=top))


def text(*rules: str, top: str = "") -> str:
    """The text of such a policy; its first rule's header stands on line 3."""
    body = "".join(f"\n[[rule]]\n{rule}\n" for rule in rules)
    return f"version = 1\n{top}{body}"


def rule(identity: str, then: str, where: str = "", *more: str, tool: str = '"t"') -> str:
    """The lines of one rule about a tool."""
    lines = [f'id = "{identity}"', f'then = "{then}"', f"tool = {tool}", *more]
    return "\n".join([*lines, *([f"where = {{ {where} }}"] if where else [])])


def request(tool: str = "t", args: Any = None, **facts: Any) -> Request:
    """A tool call of a run in which nothing has happened yet."""
    known: dict[str, Any] = {"history": History(), "labels": {}, "left": {}}
    return Request(tool=tool, args={} if args is None else args, **{**known, **facts})


def ruled(document: Document, asked: Request) -> Ruling:
    """One round of a decision."""
    return Rulebook(document).decide(asked)


def verdict(document: Document, asked: Request) -> str:
    """The verdict of one round."""
    return ruled(document, asked).verdict


def problems(given: str) -> list[tuple[str, int]]:
    """(code, line) of every error in a policy text."""
    return [(error.code, error.fields["line"]) for error in read(given)[1]]
