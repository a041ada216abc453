"""What a policy wants before it lets an action through: a person's word, or a later time."""

from typing import Final, Literal

import msgspec

Choice = Literal["approve", "edit", "deny"]
Silence = Literal["deny", "interrupt"]

DEFAULT_EXPIRES_MS: Final = 24 * 3_600_000  # an approval nobody gave in a day is forgotten
DEFAULT_DEFER_MS: Final = 60_000  # for a defer that names neither a time nor a signal
MIN_DEFER_MS: Final = 1_000  # a policy that always defers must not fill a journal in a minute


class ApprovalTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What one asker wants: who may answer (() is anybody but the requester), and by when.

    Attributes:
        rule: the rule that asks, "" for none.
        message: the question, for people.
        approvers: names and groups; one of them must answer.
        choices: the answers it takes.
        expires_ms, on_expiry: how long it waits, and what silence means.
    """

    rule: str = ""
    message: str = ""
    approvers: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ("approve", "deny")
    expires_ms: int = DEFAULT_EXPIRES_MS
    on_expiry: Silence = "deny"


class DeferTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """When one `defer` rule wants to be asked again: after a time, at a signal, or the first."""

    rule: str = ""
    after_ms: int | None = None
    signal: str | None = None
