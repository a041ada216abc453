"""An attempt's invocation as a plain value, for tests that call tools by themselves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from gatebook.kernel.secrets import Secret


def nothing(done: float | None, total: float | None, detail: str, /) -> None:
    """Hear of progress and forget it."""


@dataclass(kw_only=True)
class Given:
    """An `Invocation` that says what it was made with."""

    deps: Any = None
    attempt: int = 0
    deadline: float = 1e12
    secrets: Mapping[str, Secret[str]] = field(default_factory=dict)
    context: Callable[[], Any] = dict
    idempotency_key: Callable[[], str] = lambda: "gb1-key"
    cancelled: Callable[[], bool] = lambda: False
    monotonic: Callable[[], float] = monotonic
    progress: Callable[[float | None, float | None, str], None] = nothing
