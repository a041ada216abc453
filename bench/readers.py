"""One reader of a streamed answer, measured in a process of its own.

The floors are a bare HTTP client that splits lines, and the official SDK. Beside them is
Gatebook with everything on: a run on a synced file with policy, budget and redaction, whose text
a subscriber reads as it comes. `first` is the time to the first word, of the adapter alone, of a
call in a run, and of a new run.

    python -m bench.readers CASE PORT STORE --chunks N
"""

import argparse
import asyncio
import gc
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from bench.lowlat import ask_for_short_slices

from gatebook import Agent, AllowDeclared, Runtime, WorkflowContext, tool, workflow
from gatebook.journals.sqlite import SqliteJournal
from gatebook.kernel.messages import Call, ChatRequest, Message, TextDelta
from gatebook.ports import Provider
from gatebook.providers import OpenAICompatible, OpenAIResponses
from gatebook.runtime.runs.handles import RunHandle
from gatebook.runtime.subscriptions import Delta, Reset

ROUTE = "bench:fake"
ASKED = "hi"
CHAT = {"model": "fake", "stream": True, "messages": [{"role": "user", "content": ASKED}]}
REPEATS = 2  # measured readings of one process, after one that warms it up
TURNS = 40  # of the time to the first word, after ten that warm up
WARM = 10

reader = Agent(name="reader", model=ROUTE)

Read = Callable[[], Awaitable[int]]  # reads one answer, returns how many chunks of text it had


@asynccontextmanager
async def http_lines(url: str, _: Path) -> AsyncIterator[Read]:
    """Yield the least a client can do: split the body into lines, look at their beginning."""
    import httpx2

    async with httpx2.AsyncClient(timeout=120) as client:

        async def read() -> int:
            count = 0
            async with client.stream("POST", f"{url}/v1/chat/completions", json=CHAT) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith('data: {"id"'):
                        count += 1
            return count - 3  # the role, the finish reason and the usage are no text

        yield read


@asynccontextmanager
async def sdk_chat(url: str, _: Path) -> AsyncIterator[Read]:
    """Yield the official SDK's chat completions."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:

        async def read() -> int:
            answer = await client.chat.completions.create(
                model="fake", stream=True, messages=[{"role": "user", "content": ASKED}]
            )
            return sum([1 async for c in answer if c.choices and c.choices[0].delta.content])

        yield read


@asynccontextmanager
async def sdk_responses(url: str, _: Path) -> AsyncIterator[Read]:
    """Yield the official SDK's Responses."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:

        async def read() -> int:
            answer = await client.responses.create(model="fake", stream=True, input=ASKED)
            return sum([1 async for e in answer if e.type == "response.output_text.delta"])

        yield read


@asynccontextmanager
async def runtime(provider: Provider, store: Path) -> AsyncIterator[Runtime]:
    """Yield a runtime on a file with this provider."""
    runtime = Runtime(
        SqliteJournal(store),
        programs=[reader, talk],
        policy=AllowDeclared(),
        providers={"bench": provider},
    )
    try:
        async with runtime:
            yield runtime
    finally:
        await provider.aclose()


async def subscribed(run: RunHandle[str]) -> int:
    """Read a run's text to its end; return how many pieces came."""
    count = 0
    async for part in run.text():
        if isinstance(part, Reset):
            raise SystemExit("the subscriber lost some of the text")
        count += 1
    await run.result()
    return count


@asynccontextmanager
async def gatebook_compatible(url: str, store: Path) -> AsyncIterator[Read]:
    """Yield a run through `openai_compatible`, read by a subscriber."""
    async with runtime(OpenAICompatible(f"{url}/v1"), store) as worker:

        async def read() -> int:
            return await subscribed(await worker.start(reader, ASKED))

        yield read


@asynccontextmanager
async def gatebook_openai(url: str, store: Path) -> AsyncIterator[Read]:
    """Yield a run through the `openai` adapter, read by a subscriber."""
    async with runtime(OpenAIResponses(base_url=f"{url}/v1"), store) as worker:

        async def read() -> int:
            return await subscribed(await worker.start(reader, ASKED))

        yield read


CASES = {
    "httpx2 lines": http_lines,
    "openai sdk, chat": sdk_chat,
    "openai sdk, responses": sdk_responses,
    "gatebook, openai_compatible": gatebook_compatible,
    "gatebook, openai": gatebook_openai,
}


async def rates(case: str, url: str, store: Path, chunks: int) -> dict[str, list[float]]:
    """Return chunks a second, and the processor's time for each."""
    found: dict[str, list[float]] = {"chunks_s": [], "cpu_us": []}
    async with CASES[case](url, store) as read:
        await read()
        for _ in range(REPEATS):
            gc.collect()
            cpu_s, began = time.process_time(), time.perf_counter()
            count = await read()
            found["chunks_s"].append(chunks / (time.perf_counter() - began))
            found["cpu_us"].append((time.process_time() - cpu_s) / chunks * 1e6)
            if count != chunks:
                raise SystemExit(f"{case}: {count} chunks came, {chunks} were sent")
    return found


asked_at: list[float] = []  # when the program of `first` was about to ask


@tool(effect="read")
async def stamp(turn: int) -> int:
    """Note the time: what comes next is the call that is measured."""
    asked_at.append(time.perf_counter())
    return turn


@workflow(tools=[stamp], models=[ROUTE])
async def talk(ctx: WorkflowContext, turns: int) -> None:
    """Ask again and again, each time right after a tool."""
    for turn in range(turns):
        await ctx.call_tool(stamp, turn=turn)
        await ctx.call_llm(ROUTE, ASKED)


async def first_words(url: str, store: Path) -> dict[str, list[float]]:
    """Return the time to the first word in ms: of the adapter, of a call in a run, of a new run.

    A call begins where the tool before it ends, and ends at a reader of the run's events; a new
    run begins before `start`, so that it also has to be created, claimed and loaded.
    """
    provider = OpenAICompatible(f"{url}/short")
    async with runtime(provider, store) as worker:
        alone = [await _alone(provider, turn) for turn in range(WARM + TURNS)]
        handle = await worker.start(talk, WARM + TURNS)
        heard: dict[str, float] = {}
        async for item in handle.events(deltas=True):
            if isinstance(item, Delta) and isinstance(item.event, TextDelta):
                heard.setdefault(item.address, time.perf_counter())
        pairs = zip(asked_at, heard.values(), strict=True)
        call = [(first - begun) * 1e3 for begun, first in pairs]
        run = [await _in_new_run(worker) for _ in range(WARM + TURNS)]
    medians = [statistics.median(times[WARM:]) for times in (alone, call, run)]
    return {
        "alone_ms": medians[:1],
        "call_ms": medians[1:2],
        "run_ms": medians[2:],
        "added_ms": [medians[1] - medians[0]],
    }


async def _alone(provider: Provider, turn: int) -> float:
    asked = ChatRequest(provider="bench", model="fake", messages=(Message.user(ASKED),))
    began, first = time.perf_counter(), 0.0
    async with provider.stream(asked, Call(f"call-{turn}", 1)) as events:
        async for event in events:
            if isinstance(event, TextDelta) and not first:
                first = time.perf_counter()
    return (first - began) * 1e3


async def _in_new_run(worker: Runtime) -> float:
    began = time.perf_counter()
    handle = await worker.start(reader, ASKED)
    async for _ in handle.text():
        break
    took_ms = (time.perf_counter() - began) * 1e3
    await handle.result()
    return took_ms


def main() -> None:
    ask_for_short_slices()
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=[*CASES, "first"])
    parser.add_argument("port", type=int)
    parser.add_argument("store", type=Path)
    parser.add_argument("--chunks", type=int, default=0)
    chosen = parser.parse_args()
    url = f"http://127.0.0.1:{chosen.port}"
    if chosen.case == "first":
        print(json.dumps(asyncio.run(first_words(url, chosen.store))))
    else:
        found = asyncio.run(rates(chosen.case, url, chosen.store, chosen.chunks))
        print(json.dumps(found))


if __name__ == "__main__":
    main()
