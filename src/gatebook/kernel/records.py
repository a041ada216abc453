"""What events are made of: the base of all kinds, and the records several of them hold."""

from typing import Final, Literal

import msgspec

from gatebook.errors import GatebookError
from gatebook.kernel.codec import NULL, Raw

Verdict = Literal["allow", "deny", "modify", "ask", "defer", "interrupt"]
STRICTNESS: Final[tuple[Verdict, ...]] = ("allow", "modify", "defer", "ask", "interrupt", "deny")

DOUBTFUL = "doubtful"  # category of an attempt that may have taken effect; nobody knows


class ErrorRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An error as the journal keeps it: code, kind and text; never a stack trace."""

    code: str
    message: str
    kind: str = "permanent"
    category: str = ""
    retry_after_ms: int | None = None
    status: int | None = None
    partial: str = ""

    @classmethod
    def of(cls, error: GatebookError) -> "ErrorRecord":
        """Return an error as its code and text alone."""
        return cls(error.code, str(error))


class DecisionRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What policy said: its verdict, the rule and reason, and the policy when it has changed.

    Attributes:
        verdict: what was done.
        shadow: what the rules said, where a policy in shadow mode did not enforce it.
        facts: what rules that were not a plain allow asked, by name: short, redacted.
        patch: how rules changed the action: a JSON Patch (RFC 6902), b"null" for not at all.
        hidden: tools of a model call that the model was not offered.
        approval: what the approval that lets it through is bound to; this request uses it up.
        grant: the seq of the grant that lets it through instead.
        policy_name: of the policy, where `policy` says that it has changed.
    """

    verdict: Verdict = "allow"
    rule: str = ""
    reason: str = ""
    code: str = ""
    policy: str = ""
    shadow: Verdict | None = None
    facts: dict[str, str] = {}
    patch: Raw = NULL
    hidden: tuple[str, ...] = ()
    approval: str = ""
    grant: int = 0
    policy_name: str = ""

    @property
    def withholds(self) -> bool:
        """Of a result: whether it is kept from everybody."""
        return self.verdict not in ("allow", "modify")

    @property
    def told(self) -> ErrorRecord:
        """Of a result that is withheld: what a program is told in its place."""
        return ErrorRecord(self.code, self.reason)


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind",
            forbid_unknown_fields=True, gc=False):  # fmt: skip
    """What all events share; `time` and `epoch` are stamped by the append.

    No collector (`gc=False`, here and in what events hold): immutable trees have no cycles.
    """

    v: Literal[1] = 1  # every kind is at its first version
    time: int = 0
    epoch: int = 0

    def __repr__(self) -> str:
        """Show an event as JSON, like it is stored: without what is at its default."""
        try:
            return f"{type(self).__name__}({msgspec.json.encode(self).decode()})"
        except (TypeError, ValueError):  # whoever looks at it wants to see why it cannot be stored
            return super().__repr__()
