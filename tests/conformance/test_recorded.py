"""Recorded errors of real providers, through the runtime: requests counted, waits measured."""

from pathlib import Path

import pytest

pytest.importorskip("yaml", reason="recordings are YAML: PyYAML is not installed")

from gatebook.runtime.runs.states import Failed, Finished
from gatebook.testing.fault_server import Play, answer
from tests.conformance.adapters import (
    ANTHROPIC_ADAPTER,
    CHAT_ADAPTER,
    GOOGLE_ADAPTER,
    RESPONSES_ADAPTER,
    Adapter,
)
from tests.conformance.cases import case
from tests.conformance.kit import POLICY, answering, driven, run
from tests.providers.test_recordings import body_of, headers_of, interactions, status_of

pytestmark = pytest.mark.recordings

CARRIED = ("retry-after", "retry-after-ms", "x-should-retry", "content-type")

PERMANENT = [
    (RESPONSES_ADAPTER, "openai_401_invalid_key.yaml", "auth"),
    (CHAT_ADAPTER, "openai_400_context_length_exceeded.yml", "context_length"),
    (ANTHROPIC_ADAPTER, "anthropic_401_x_should_retry_false.yaml", "auth"),
    (CHAT_ADAPTER, "huggingface_402_payment_required.yaml", "quota"),
]
PASSING = [
    (GOOGLE_ADAPTER, "gemini_429_retryinfo_in_body.yml", 48_000),
    (GOOGLE_ADAPTER, "gemini_429_no_retry_hint.yaml", POLICY.base_ms),
    (CHAT_ADAPTER, "huggingface_500_with_retry_after.yaml", 2_000),
    (CHAT_ADAPTER, "openrouter_429_three_hidden_sdk_attempts.yaml", POLICY.base_ms),
]


def recorded(file: Path) -> Play:
    """Return the play of the last answer of a recording, with the headers that matter."""
    response = interactions(file)[-1]["response"]
    headers = {name.lower(): value for name, value in headers_of(response).items()}
    kept = {name.replace("-", "_"): headers[name] for name in CARRIED if name in headers}
    return answer(status_of(response), body_of(response), **kept)


@case(1, 13, 14, 15)
@pytest.mark.parametrize(("adapter", "name", "category"), PERMANENT, ids=str)
def test_a_recorded_error_that_no_retry_mends_is_one_request(
    recordings: Path, adapter: Adapter, name: str, category: str
) -> None:
    """Cases 1, 13, 14, 15: what the vendors really answered, counted at the server."""

    async def scenario() -> None:
        async with driven(adapter, recorded(recordings / name)) as it:
            state = await it.end(await it.start())

            assert isinstance(state, Failed)
            error = (await it.failure()).error
            assert (error.kind, error.category) == ("permanent", category)
            assert it.server.count == 1

    run(scenario())


@case(2, 9, 10)
@pytest.mark.parametrize(("adapter", "name", "wait_ms"), PASSING, ids=str)
def test_a_recorded_error_that_passes_is_waited_for(
    recordings: Path, adapter: Adapter, name: str, wait_ms: int
) -> None:
    """Cases 2, 9, 10: as long as its body or header asks; one recording holds three attempts."""

    async def scenario() -> None:
        async with driven(adapter, recorded(recordings / name), answering(adapter)) as it:
            state = await it.end(await it.start())

            assert state == Finished("hello")
            assert [each.delay_ms for each in await it.failures()] == [wait_ms]
            assert it.server.count == 2

    run(scenario())
