"""Cassettes: what is recorded, what is replayed, and how loudly the two fail to fit."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.providers.calls import CALL, asking, attempt, failing

from gatebook import Agent, AllowDeclared, run_sync, tool
from gatebook.errors import ActionError, ConfigError, ProviderError
from gatebook.kernel.messages import (
    ChatRequest,
    ChatResponse,
    MessageStart,
    StreamEvent,
    TextDelta,
    Timeouts,
    ToolDefinition,
)
from gatebook.providers import OpenAICompatible, Reply, Scripted, ToolUse
from gatebook.testing.cassette import (
    VARIABLE,
    Cassette,
    CassetteMiss,
    CassetteUnused,
    cassette,
)
from gatebook.testing.fault_server import (
    Cut,
    FaultServer,
    answer,
    delta,
    event,
    streamed,
    text_stream,
)

KEY = "sk-proj-0123456789abcdefghijklmnop"
SECRET = "correct-horse-battery-staple"


@pytest.fixture(autouse=True)
def _nowhere_special(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the suite may do so on a build server, or while recording."""
    for name in ("CI", VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the cassette of a test lies; its folder is not there yet."""
    return tmp_path / "cassettes" / "one.json"


def echo() -> Scripted:
    """Return a provider that says what it was told."""
    return Scripted(lambda request: f"you said {request.messages[-1].text}")


def refusing(error: ProviderError) -> Scripted:
    """Return a provider that fails."""

    def refuse(_: ChatRequest) -> Reply:
        raise error

    return Scripted(refuse)


def record(path: Path, *requests: ChatRequest, provider: Any = None, **options: Any) -> None:
    """Record requests, whatever becomes of them."""
    deck = Cassette(path, provider=provider or echo(), mode="record", **options)

    async def scenario() -> None:
        for request in requests:
            with contextlib.suppress(ProviderError):
                await attempt(deck, request)

    asyncio.run(scenario())


def answered(deck: Any, request: ChatRequest) -> ChatResponse:
    """Return the answer of one attempt."""
    return asyncio.run(attempt(deck, request))[0]


def shown(deck: Any, request: ChatRequest) -> list[StreamEvent]:
    """Return what a reader of one attempt saw."""
    return asyncio.run(attempt(deck, request))[1]


def failed(deck: Any, request: ChatRequest) -> ProviderError:
    """Return the error of one attempt."""
    return asyncio.run(failing(deck, request))


def stored(path: Path) -> list[dict[str, Any]]:
    """Return the recordings in a file."""
    found: list[dict[str, Any]] = json.loads(path.read_text())["recordings"]
    return found


# ---- replaying ----


def test_a_replayed_stream_comes_as_it_was_recorded(path: Path) -> None:
    """A program under test must not be able to tell the difference, delta by delta."""
    live = shown(echo(), asking("two words"))
    record(path, asking("two words"))

    replayed = shown(Cassette(path), asking("two words"))

    assert replayed == live
    assert len([each for each in live if isinstance(each, TextDelta)]) > 1


def test_a_whole_answer_is_replayed(path: Path) -> None:
    """The port has two ways to ask; a cassette plays both."""
    live = asyncio.run(
        Cassette(path, provider=echo(), mode="record").complete(asking(), CALL),
    )

    replayed = asyncio.run(Cassette(path).complete(asking(), CALL))

    assert replayed == live


def test_a_recorded_failure_is_raised_again(path: Path) -> None:
    """Retry rules are tested with what a provider really answered, hint and all."""
    error = ProviderError(
        "slow down", kind="rate_limited", category="rate_limited", retry_after_ms=1500,
        status=429, phase="response", request_id="req_1",
    )  # fmt: skip
    facts = error.message, error.kind, dict(error.fields)
    record(path, asking(), provider=refusing(error))

    replayed = failed(Cassette(path), asking())

    assert (replayed.message, replayed.kind, replayed.fields) == facts


def test_a_whole_call_that_failed_is_raised_again(path: Path) -> None:
    """A failure has no answer to hang on."""
    error = ProviderError("no", kind="permanent", category="auth", status=401)
    with pytest.raises(ProviderError):
        asyncio.run(
            Cassette(path, provider=refusing(error), mode="record").complete(asking(), CALL)
        )

    with pytest.raises(ProviderError) as caught:
        asyncio.run(Cassette(path).complete(asking(), CALL))

    assert (caught.value.category, caught.value.fields["status"]) == ("auth", 401)


def test_a_stream_that_broke_is_replayed_up_to_the_break(path: Path) -> None:
    """What a reader saw before a connection died is half of what there is to test."""

    async def scenario() -> None:
        cut = streamed([event(delta(content="half an an"))], Cut())
        async with FaultServer(cut) as server:
            provider = OpenAICompatible(server.url)
            await failing(Cassette(path, provider=provider, mode="record"), asking())
            await provider.aclose()

    asyncio.run(scenario())

    replayed = failed(Cassette(path), asking())

    assert replayed.fields["emitted"]
    assert any("half an an" in str(each) for each in stored(path)[0]["events"])


def test_equal_requests_are_answered_in_turn(path: Path) -> None:
    """A retry asks the same again and hopes for another answer."""
    busy = ProviderError("busy", kind="transient", category="overloaded")
    refusals = [busy]

    def next_reply(_: ChatRequest) -> str:
        if refusals:
            raise refusals.pop()
        return "now"

    record(path, asking(), asking(), provider=Scripted(next_reply))
    deck = Cassette(path)

    first, second = failed(deck, asking()), answered(deck, asking())

    assert (first.category, second.text) == ("overloaded", "now")


def test_the_timeouts_of_a_request_do_not_matter(path: Path) -> None:
    """They follow from what is left of a budget of time, which no two runs have alike."""
    record(path, asking(timeouts=Timeouts(total_ms=5_000)))

    replayed = answered(Cassette(path), asking(timeouts=Timeouts(total_ms=4_000)))

    assert replayed.text == "you said hi"


def test_no_provider_is_made_to_replay(path: Path) -> None:
    """A build server has neither keys nor the vendors' packages."""
    record(path, asking())

    def make() -> Scripted:
        raise AssertionError("a provider was made")

    assert answered(Cassette(path, provider=make), asking()).text == "you said hi"


# ---- misses ----


def test_a_miss_says_what_differs_from_the_nearest_recording(path: Path) -> None:
    """Nobody can see one changed word in two requests of a hundred lines."""
    record(path, asking("Where is order 16?"), asking("Refund order 17, please."))

    text = failed(Cassette(path), asking("Refund order 18, please.")).message

    assert "the nearest (number 2 of 2)" in text
    assert (
        "messages[0].content[0].text: "
        "'Refund order 17, please.' -> 'Refund order 18, please.'" in text
    )


def test_a_miss_is_permanent_and_free(path: Path) -> None:
    """Asking again cannot help, and nothing was sent that could be billed."""
    error = failed(Cassette(path), asking())

    assert (error.kind, error.sent) == ("permanent", False)


def test_a_miss_says_that_the_recordings_are_used_up(path: Path) -> None:
    """A program that asks twice where it asked once has changed."""
    record(path, asking())
    deck = Cassette(path)
    answered(deck, asking())

    assert "holds this request 1 time(s), all used" in failed(deck, asking()).message


def test_a_miss_says_that_the_answer_was_recorded_in_another_way(path: Path) -> None:
    """The request alone would look the same."""
    record(path, asking())

    with pytest.raises(ProviderError) as caught:
        asyncio.run(Cassette(path).complete(asking(), CALL))

    assert "holds this request streamed only" in caught.value.message


def test_a_miss_names_a_file_that_is_not_there(path: Path) -> None:
    """A mistyped path looks like an empty cassette."""
    assert failed(Cassette(path), asking()).message.startswith(f"{path} holds no recording;")


def test_a_swallowed_miss_still_fails_the_test(path: Path) -> None:
    """Agents and workflows may go on without an answer, and the test would pass for nothing."""
    record(path, asking("a"))

    with (
        pytest.raises(CassetteMiss, match=r"text: 'a' -> 'b'"),
        cassette(path, all_used=False) as deck,
    ):
        failed(deck, asking("b"))


def test_a_miss_is_the_reason_when_the_body_fails_of_it(path: Path) -> None:
    """What follows from a miss hides what differed."""
    with pytest.raises(CassetteMiss) as caught, cassette(path) as deck:
        answered(deck, asking())

    assert isinstance(caught.value.__cause__, ActionError)


def test_a_failure_without_a_miss_stays_itself(path: Path) -> None:
    """An assertion of the test is what its author wants to read."""
    record(path, asking())

    with pytest.raises(ZeroDivisionError), cassette(path):
        raise ZeroDivisionError


def test_unused_recordings_fail_the_test(path: Path) -> None:
    """A recording nobody plays is a behaviour nobody tests any more."""
    record(path, asking("a"), asking("b"))

    with pytest.raises(CassetteUnused, match="openai:m 'b'"), cassette(path) as deck:
        answered(deck, asking("a"))


def test_unused_recordings_can_be_allowed(path: Path) -> None:
    """Several tests may share one file."""
    record(path, asking("a"), asking("b"))

    with cassette(path, all_used=False) as deck:
        answered(deck, asking("a"))

    assert [request["messages"][0]["content"][0]["text"] for request in deck.unused] == ["b"]


# ---- recording ----


def test_recording_replaces_the_file(path: Path) -> None:
    """What is not asked any more must go."""
    record(path, asking("old"))

    record(path, asking("new"))

    assert [each["events"][1]["text"] for each in stored(path)] == ["you "]
    assert "old" not in path.read_text()


def test_auto_asks_only_what_is_new(path: Path) -> None:
    """A test that grows should not be recorded, and paid for, anew."""
    record(path, asking("a"))
    deck = Cassette(path, provider=Scripted(lambda _: "fresh"), mode="auto")

    texts = [answered(deck, asking(text)).text for text in ("a", "b")]

    assert texts == ["you said a", "fresh"]
    assert answered(Cassette(path), asking("b")).text == "fresh"


def test_recordings_stand_in_the_order_they_were_asked_for(path: Path) -> None:
    """Two answers that overtake each other would make a diff out of nothing."""
    slow = asyncio.Event()

    class Overtaking(Scripted):
        async def complete(self, request: ChatRequest, call: Any) -> ChatResponse:
            if request.messages[-1].text == "first":
                await slow.wait()
            else:
                slow.set()
            return await super().complete(request, call)

    async def scenario() -> None:
        deck = Cassette(path, provider=Overtaking(lambda _: "ok"), mode="record")
        async with asyncio.TaskGroup() as group:
            group.create_task(deck.complete(asking("first"), CALL))
            group.create_task(deck.complete(asking("second"), CALL))

    asyncio.run(scenario())

    asked = [each["request"]["messages"][0]["content"][0]["text"] for each in stored(path)]
    assert asked == ["first", "second"]


def test_recording_twice_gives_the_same_bytes(path: Path) -> None:
    """A diff should show what changed, and nothing else."""
    tool = ToolDefinition("add", schema=b'{"type":"object", "properties":{"b":{},"a":{}}}')  # type: ignore[arg-type]
    record(path, asking("a", provider_options={"z": 1, "a": 2}, tools=(tool,)))
    first = path.read_bytes()

    record(path, asking("a", provider_options={"a": 2, "z": 1}, tools=(tool,)))

    assert path.read_bytes() == first


def test_every_stream_event_has_its_line(path: Path) -> None:
    """One changed word should be one changed line."""
    record(path, asking("one two"))

    lines = [line.strip() for line in path.read_text().splitlines()]

    assert '{"type": "text_delta", "index": 0, "text": "said "},' in lines


def test_an_abandoned_stream_is_not_recorded(path: Path) -> None:
    """Its recording would replay as an answer that was cut off."""

    async def scenario() -> None:
        deck = Cassette(path, provider=echo(), mode="record")
        async with deck.stream(asking(), CALL) as events:
            async for said in events:
                if not isinstance(said, MessageStart):
                    break

    asyncio.run(scenario())

    assert not path.exists()


def test_a_recorded_stream_is_closed_with_its_reader(path: Path) -> None:
    """A cassette that leaks connections would change what it watches."""

    async def scenario() -> None:
        endless = streamed([event(delta(content="a"))] * 1_000)
        async with FaultServer(endless) as server:
            provider = OpenAICompatible(server.url, max_connections=1)
            deck = Cassette(path, provider=provider, mode="record")
            for _ in range(3):
                async with deck.stream(asking(), CALL) as events:
                    await anext(events)
            await provider.aclose()

    asyncio.run(scenario())


def test_the_configured_provider_is_asked_when_none_is_given(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recording should need nothing that running does not need."""

    async def scenario() -> str:
        async with FaultServer(text_stream("from the server")) as server:
            (tmp_path / "gatebook.toml").write_text(
                f'[providers.openai]\nbase_url = "{server.url}"\napi_key = "env:THE_SERVERS_KEY"\n'
            )
            monkeypatch.chdir(tmp_path)
            monkeypatch.setenv("THE_SERVERS_KEY", SECRET)
            deck = Cassette(path, mode="record")
            response, _ = await attempt(deck, asking(f"my key is {SECRET}"))
            await deck.aclose()
            return response.text

    assert asyncio.run(scenario()) == "from the server"
    assert SECRET not in path.read_text()


# ---- secrets ----


def test_a_request_is_stored_without_secrets(path: Path) -> None:
    """Cassettes are committed, and read by everybody."""
    record(path, asking(f"my key is {KEY}, my word {SECRET}"), secrets=[SECRET])

    assert KEY not in path.read_text()
    assert SECRET not in path.read_text()


def test_a_request_with_a_secret_is_found_again(path: Path) -> None:
    """The key of whoever replays is another one than that of whoever recorded."""
    record(path, asking(f"my key is {KEY}"))

    replayed = answered(Cassette(path), asking(f"my key is {KEY}x"))

    assert replayed.text == "you said my key is [redacted:api-key]"


def test_a_secret_that_comes_in_pieces_is_not_stored(path: Path) -> None:
    """A model that repeats a key does so token by token."""

    async def scenario() -> None:
        pieces = [f"it is {KEY[:9]}", KEY[9:20], f"{KEY[20:]} yes"]
        async with FaultServer(text_stream(*pieces)) as server:
            provider = OpenAICompatible(server.url)
            await attempt(Cassette(path, provider=provider, mode="record"), asking())
            await provider.aclose()

    asyncio.run(scenario())

    assert answered(Cassette(path), asking()).text == "it is [redacted:api-key] yes"
    assert not any(KEY[n : n + 9] in path.read_text() for n in range(len(KEY) - 9))


def test_an_error_is_stored_without_secrets(path: Path) -> None:
    """Servers repeat the key they refuse."""

    async def scenario() -> None:
        refusal = answer(401, {"error": {"message": f"bad key {KEY}"}})
        async with FaultServer(refusal) as server:
            provider = OpenAICompatible(server.url, KEY)
            await failing(Cassette(path, provider=provider, mode="record"), asking())
            await provider.aclose()

    asyncio.run(scenario())

    assert stored(path)[0]["error"]["status"] == 401
    assert KEY not in path.read_text()


def test_a_variable_named_like_a_secret_is_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of services we do not know have no format we could find them by."""
    monkeypatch.setenv("WEATHER_API_KEY", SECRET)

    record(path, asking(SECRET))

    assert SECRET not in path.read_text()


def test_an_idempotency_key_is_not_stored(path: Path) -> None:
    """It is another one in every run."""
    record(path, asking())

    assert CALL.idempotency_key not in path.read_text()


# ---- modes and files ----


def test_the_variable_chooses_the_mode(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording anew should not need an edit of every test."""
    monkeypatch.setenv(VARIABLE, "record")

    answered(Cassette(path, provider=echo()), asking())

    assert len(stored(path)) == 1


def test_recording_is_refused_on_a_build_server(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that calls real models is neither repeatable nor free."""
    monkeypatch.setenv("CI", "true")

    with pytest.raises(ConfigError, match="nothing is recorded where CI is set"):
        Cassette(path, provider=echo(), mode="record")


def test_auto_replays_only_on_a_build_server(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing there must fail, not be paid for."""
    monkeypatch.setenv("CI", "1")

    error = failed(Cassette(path, provider=echo(), mode="auto"), asking())

    assert "holds no recording" in error.message


def test_an_unknown_mode_is_refused(path: Path) -> None:
    """A typing error must not record."""
    with pytest.raises(ConfigError, match="there is no mode 'reply'"):
        Cassette(path, mode="reply")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "[]", '{"cassette": 2, "recordings": []}', '{"a": 1}'])
def test_a_file_that_is_no_cassette_is_refused(path: Path, text: str) -> None:
    """Playing nothing from it would look like a test that asks nothing."""
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(ConfigError, match="E_CONFIG"):
        Cassette(path)


# ---- with a runtime ----


@tool(effect="read")
def price(item: str) -> int:
    """Return the price of an item."""
    return len(item)


def shop(request: ChatRequest) -> Reply | str:
    """Ask for a price once, then tell it."""
    if request.messages[-1].role == "tool":
        return "It costs 3."
    return Reply(call=(ToolUse("price", {"item": "tea"}),))


def test_an_agent_runs_from_a_cassette(path: Path) -> None:
    """This is what a cassette is for."""
    agent = Agent(name="shop", model="openai:gpt-5-mini", tools=[price])
    with cassette(path, provider=Scripted(shop), mode="record") as model:
        run_sync(agent, "How much is tea?", policy=AllowDeclared(), providers={"openai": model})

    with cassette(path) as model:
        result = run_sync(
            agent, "How much is tea?", policy=AllowDeclared(), providers={"openai": model}
        )

    assert result.output == "It costs 3."


def test_an_agent_that_changed_is_told_where(path: Path) -> None:
    """The path leads to the changed word, wherever it stands in the request."""
    agent = Agent(name="shop", model="openai:gpt-5-mini", tools=[price])
    with cassette(path, provider=Scripted(shop), mode="record") as model:
        run_sync(agent, "How much is tea?", policy=AllowDeclared(), providers={"openai": model})
    agent = Agent(name="shop", model="openai:gpt-5-nano", tools=[price])

    with (
        pytest.raises(CassetteMiss, match="model: 'gpt-5-mini' -> 'gpt-5-nano'"),
        cassette(path) as model,
    ):
        run_sync(agent, "How much is tea?", policy=AllowDeclared(), providers={"openai": model})
