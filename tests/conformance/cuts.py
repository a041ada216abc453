"""What tests of streams share: answers up to a point, and how one attempt on them fails."""

from typing import Any

from gatebook.errors import ProviderError
from gatebook.kernel.streams.machine import retryable
from gatebook.testing.dialects import Dialect
from gatebook.testing.fault_server import Play
from tests.conformance.adapters import Adapter
from tests.conformance.kit import HELLO, answering, served
from tests.providers.calls import asking, attempt, failing

TRUNCATED = ("transient", "truncated")


def opening(dialect: Dialect) -> list[bytes]:
    """Return the events of an answer before its first word."""
    return dialect.opening(HELLO)


def started(dialect: Dialect) -> list[bytes]:
    """Return the events of an answer up to its first word."""
    output = dialect.output(HELLO)
    first = next(i for i, part in enumerate(output) if b'"hel"' in part)
    return [*opening(dialect), *output[: first + 1]]


def spoken(dialect: Dialect) -> list[bytes]:
    """Return the events of an answer up to its last word, without its terminal marker."""
    return [*opening(dialect), *dialect.output(HELLO)]


BEFORE = {"nothing": lambda _: [], "preamble": opening}
AFTER = {"one word": started, "all words": spoken}


async def fails_with(
    adapter: Adapter, play: Play, *, timeouts: Any = None, **options: Any
) -> ProviderError:
    """Return the error of one streamed attempt, which was one request.

    Before an attempt that is to time out there is one that is answered: what a client does once,
    at its first request, is not what is timed.
    """
    async with served(adapter, *([answering(adapter)] if timeouts else []), play, **options) as it:
        if timeouts is None:
            error = await failing(it.provider, asking())
        else:
            await attempt(it.provider, asking())
            error = await failing(it.provider, asking(timeouts=timeouts))
        assert it.server.count == (1 if timeouts is None else 2)
        return error


def emitted(error: ProviderError) -> bool:
    """Whether a reader saw output before the error, so that nothing may be retried."""
    assert retryable(error) is (error.kind != "permanent" and not error.fields.get("emitted"))
    return bool(error.fields.get("emitted"))
