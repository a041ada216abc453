"""The real local model behind each adapter that its server can answer: real tokens, real deaths."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from gatebook import Runtime, Workflow
from gatebook.errors import ProviderError
from gatebook.journals import MemoryJournal
from gatebook.kernel.events import ActionSucceeded, AnyEvent, AttemptFailed
from gatebook.kernel.messages import TextDelta, ToolDefinition
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.ports import RunKey
from gatebook.runtime.runs.states import Failed, Finished, Settled
from tests.conformance.adapters import (
    ANTHROPIC_ADAPTER,
    CHAT_ADAPTER,
    RESPONSES_ADAPTER,
    Adapter,
    on,
)
from tests.conformance.cases import case
from tests.conformance.kit import refuses, run
from tests.providers.calls import CALL, asking, attempt

pytestmark = pytest.mark.local_model

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 170.0
SPOKEN_BY_LLAMA = on(CHAT_ADAPTER, RESPONSES_ADAPTER, ANTHROPIC_ADAPTER)
SERVERS = ("talks", "calls")
PACE = 20  # tokens that tell how fast the model is
FEW = 15  # tokens: 100 ms at 148 a second, measured on one thread
LONG = 1_500  # tokens: ten seconds of work for nobody, were the server not told
NUMBERS = msgspec.Raw(
    b'{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},'
    b'"required":["a","b"]}'
)
ADD = ToolDefinition("add", "Add two numbers", NUMBERS)
EAGER = RetryWithBackoffPolicy(AllowDeclared(), 99, 50, 500)


class Model:
    """The process of the model's two servers.

    Attributes:
        talks: the address of the server that talks and knows schemas.
        calls: the address of the server that calls tools and ignores schemas.
    """

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.conformance.model_server"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        self.talks, self.calls = self.process.stdout.readline().split()

    def until_ready(self) -> None:
        """Wait while the servers are loading."""
        deadline = time.monotonic() + 60
        for url in (self.talks, self.calls):
            while httpx2.get(f"{url}/health", trust_env=False).status_code != 200:
                assert time.monotonic() < deadline, "the model does not load"
                time.sleep(0.05)

    def kill(self) -> None:
        """End the process with SIGKILL, unless that was done."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    """A model that is ready, for all tests of this module."""
    made = Model()
    try:
        made.until_ready()
        yield made
    finally:
        made.kill()


@pytest.fixture
def mortal() -> Iterator[Model]:
    """A model of the test's own, perhaps not ready yet."""
    made = Model()
    try:
        yield made
    finally:
        made.kill()


def live(scenario: Any) -> None:
    """Run a scenario with patience for a busy machine."""
    run(scenario, patience_s=PATIENCE_S)


async def asked(
    adapter: Adapter, url: str, text: str, **options: Any
) -> tuple[Settled, list[AnyEvent]]:
    """Run one model call to its end; return that and the run's events."""

    async def body(ctx: Any) -> Any:
        answer = await ctx.call_llm("it:smollm2", text, temperature=0.0, **options)
        return answer.text if hasattr(answer, "text") else vars(answer)

    journal = MemoryJournal()
    program: Workflow[Any, Any] = Workflow(body, models=["it:smollm2"], name="asks")
    provider = adapter.make(url)
    async with Runtime(journal, policy=EAGER, providers={"it": provider}) as runtime:
        handle = await runtime.start(program, None, run_id="r")
        state = await handle.settled()
        events = [each.event for each in await journal.read(RunKey("default", "r"))]
    await provider.aclose()
    return state, events


@case(17)
@SPOKEN_BY_LLAMA
def test_a_model_that_is_still_loading_answers_in_the_end(mortal: Model, adapter: Adapter) -> None:
    """Case 17: asked at once, it says 503 Loading model for a while, and then it answers."""

    async def scenario() -> None:
        _, events = await asked(adapter, mortal.talks, "Say hello.", max_output_tokens=16)

        assert len([event for event in events if isinstance(event, ActionSucceeded)]) == 1
        failed = [event.error for event in events if isinstance(event, AttemptFailed)]
        assert {error.category for error in failed} <= {"overloaded"}
        assert {error.status for error in failed} <= {503}

    live(scenario())


async def busy(client: httpx2.AsyncClient, url: str) -> int:
    """Return how many answers the server works on."""
    return sum(slot["is_processing"] for slot in (await client.get(f"{url}/slots")).json())


@case(21)
@SPOKEN_BY_LLAMA
def test_a_cancelled_stream_frees_its_slot(model: Model, adapter: Adapter) -> None:
    """Case 21: long before the answer would have been whole, the server stops computing it."""

    async def scenario() -> None:
        provider: Any = adapter.make(model.talks)
        spoken = asyncio.Event()

        async def read() -> None:
            request = asking("Count to a thousand.", max_output_tokens=LONG, temperature=0.0)
            async with provider.stream(request, CALL) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        spoken.set()

        async with httpx2.AsyncClient(trust_env=False) as client:
            reading = asyncio.create_task(read())
            await spoken.wait()
            before = await busy(client, model.talks)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            async with asyncio.timeout(8):
                while await busy(client, model.talks):  # noqa: ASYNC110 - only asking tells
                    await asyncio.sleep(0.01)

        assert reading.cancelled()
        assert before == 1
        await provider.aclose()

    live(scenario())


async def tokens_after_cancel(provider: Any, client: httpx2.AsyncClient, url: str) -> float:
    """Return how long a cancelled stream held its slot, in tokens at the pace it had."""
    times: list[float] = []
    spoken = asyncio.Event()

    async def read() -> None:
        request = asking("Count to a thousand.", max_output_tokens=LONG, temperature=0.0)
        async with provider.stream(request, CALL) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    times.append(time.monotonic())
                    if len(times) == PACE:
                        spoken.set()

    reading = asyncio.create_task(read())
    await spoken.wait()
    reading.cancel()
    left = time.monotonic()
    await asyncio.gather(reading, return_exceptions=True)
    while await busy(client, url):
        pass
    return (time.monotonic() - left) * (PACE - 1) / (times[PACE - 1] - times[0])


@case(21)
@SPOKEN_BY_LLAMA
def test_a_slot_is_free_within_the_time_of_a_few_tokens(model: Model, adapter: Adapter) -> None:
    """Case 21: 15 tokens are 100 ms where nothing else runs; the best of five, at its own pace."""

    async def scenario() -> None:
        provider: Any = adapter.make(model.talks)
        async with httpx2.AsyncClient(trust_env=False) as client:
            await busy(client, model.talks)  # its connection is not what is timed
            held = [await tokens_after_cancel(provider, client, model.talks) for _ in range(5)]
        await provider.aclose()

        assert min(held) < FEW, held

    live(scenario())


@case(33)
@SPOKEN_BY_LLAMA
def test_a_server_that_is_killed_in_mid_stream_is_a_lost_connection(
    mortal: Model, adapter: Adapter
) -> None:
    """Case 33: after output it is final, and nothing takes it for the end of the answer."""
    mortal.until_ready()

    async def scenario() -> None:
        provider: Any = adapter.make(mortal.talks)
        request = asking("Count to a thousand.", max_output_tokens=LONG, temperature=0.0)
        read = 0
        with pytest.raises(ProviderError) as caught:
            async with provider.stream(request, CALL) as events:
                async for event in events:
                    read += isinstance(event, TextDelta)
                    if read == 5:
                        mortal.kill()

        assert read >= 5
        assert refuses(caught.value) == ("transient", "connection")
        assert caught.value.fields["in_stream"]
        await provider.aclose()

    live(scenario())


@case(35)
@SPOKEN_BY_LLAMA
def test_a_real_call_that_the_limit_cut_off_is_not_in_the_answer(
    model: Model, adapter: Adapter
) -> None:
    """Case 35: arguments that a real model had not finished."""

    async def scenario() -> None:
        provider: Any = adapter.make(model.calls)
        request = asking(
            "Add 2 and 40.",
            tools=(ADD,),
            tool_choice="required",
            max_output_tokens=6,
            temperature=0.0,
        )
        got, _ = await attempt(provider, request)
        await provider.aclose()

        assert got.tool_calls == ()
        (call,) = got.invalid_tool_calls
        if adapter is RESPONSES_ADAPTER:  # where this server says "completed" of a cut answer
            assert call.reason == "not_json"
        else:
            assert (got.finish_reason, got.state, call.reason) == (
                "length",
                "incomplete",
                "cut_off",
            )

    live(scenario())


@case(36)
@SPOKEN_BY_LLAMA
def test_a_real_model_that_ignores_a_required_tool_has_not_succeeded(
    model: Model, adapter: Adapter
) -> None:
    """Case 36: with its own template this model talks, whatever is required of it."""

    async def scenario() -> None:
        provider: Any = adapter.make(model.talks)
        request = asking(
            "Say hello.",
            tools=(ADD,),
            tool_choice="required",
            max_output_tokens=24,
            temperature=0.0,
        )
        got, _ = await attempt(provider, request)
        await provider.aclose()

        assert got.tool_calls == ()
        assert [each.reason for each in got.invalid_tool_calls] == ["not_called"]

    live(scenario())


@dataclass(frozen=True)
class City:
    """What the model is asked for."""

    name: str
    people: int


PARIS = "Paris has 2102650 people. Answer in JSON."


@case(39)
@on(CHAT_ADAPTER)
def test_a_real_typed_answer_validates(model: Model, adapter: Adapter) -> None:
    """Case 39: the schema reached the server, and the answer is checked here."""

    async def scenario() -> None:
        state, _ = await asked(adapter, model.talks, PARIS, output=City, max_output_tokens=64)

        assert isinstance(state, Finished)
        assert set(state.output) == {"name", "people"}

    live(scenario())


IGNORANT = [
    (CHAT_ADAPTER, "calls"),
    *((each, server) for each in (RESPONSES_ADAPTER, ANTHROPIC_ADAPTER) for server in SERVERS),
]


@case(39)
@pytest.mark.parametrize(("adapter", "server"), IGNORANT, ids=str)
def test_a_server_that_ignores_the_schema_does_not_succeed(
    model: Model, adapter: Adapter, server: str
) -> None:
    """Case 39: dropped without a word by the template for tools, and by two of the endpoints."""

    async def scenario() -> None:
        url: str = getattr(model, server)
        state, _ = await asked(adapter, url, PARIS, output=City, max_output_tokens=32)

        assert isinstance(state, Failed)
        assert state.error.code in ("E_ANSWER_UNFIT", "E_ANSWER_INCOMPLETE")

    live(scenario())
