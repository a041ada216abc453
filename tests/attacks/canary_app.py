"""A process that says its secrets wherever it can, and dies without closing its store.

`python canary_app.py STORE`; the secrets come from CANARY_ENV and from the file CANARY_FILE names.
"""

import asyncio
import base64
import json
import logging
import os
import sys
from typing import Any
from urllib.parse import quote

from gatebook import (
    ActionError,
    AllowDeclared,
    Permanent,
    ProviderError,
    RateLimited,
    Runtime,
    Secret,
    ToolContext,
    tool,
)
from gatebook.errors import GatebookError
from gatebook.kernel.messages import (
    Capabilities,
    Message,
    MessageEnd,
    MessageStart,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from gatebook.programs.workflow import Workflow

log = logging.getLogger("app.tools")
ENV = os.environ["CANARY_ENV"]


def spellings(value: str) -> dict[str, str]:
    """Ways in which a value gets written."""
    data = value.encode()
    return {
        "plain": value,
        "json": json.dumps(value),
        "url": f"https://x.test/?key={quote(value)}&more=1",
        "base64": base64.b64encode(b"user:" + data).decode(),
        "urlsafe": base64.urlsafe_b64encode(data).decode(),
        "hex": data.hex(),
        "repr": repr([value]),
        "nested": json.dumps(json.dumps({"key": value})),
    }


@tool(effect="read")
async def results(a: Secret[str], b: Secret[str]) -> dict[str, Any]:
    """Return them, in every spelling, as values and as keys."""
    both = {"a": spellings(a.reveal()), "b": spellings(b.reveal())}
    return {**both, a.reveal(): 1, "list": [b.reveal()] * 2, "line": f"<{a.reveal()}>"}


@tool(effect="read")
async def raises(a: Secret[str]) -> str:
    """Raise it, as a crash whose cause has it too."""
    try:
        raise KeyError(a.reveal())
    except KeyError as exc:
        raise RuntimeError(f"cannot log in with {a.reveal()}") from exc


@tool(effect="read")
async def refuses(a: Secret[str]) -> str:
    """Raise an error of ours, with the secret in each of its fields."""
    value = a.reveal()
    raise Permanent(value, code=f"E_{value}", category=value, partial=value, request_id=value)


@tool(effect="read", retries=1)
async def hints(a: Secret[str]) -> str:
    """Raise a retry hint that is no number."""
    error = RateLimited("slow down")
    error.fields["retry_after_ms"] = a.reveal()
    raise error


@tool(effect="at_most_once", on_error="unknown")
async def doubtful(a: Secret[str]) -> str:
    """End so that nobody knows."""
    raise OSError(f"connection to https://user:{quote(a.reveal())}@bank.test reset")


@tool(effect="read")
def speaks(ctx: ToolContext, a: Secret[str]) -> str:
    """Log it, report it as progress, and show the objects that hold it."""
    log.warning("using %s", a.reveal())
    log.info("context %r, secret %r", ctx, a)
    try:
        raise ValueError(a.reveal())
    except ValueError:
        log.exception("it failed")
    ctx.progress(detail=a.reveal())
    return "spoke"


@tool(effect="read")
async def plain(text: str) -> str:
    """Take text."""
    return text


class Model:
    """A provider that streams secrets in pieces, fails with them, and calls tools with them."""

    name = "canary"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.calls = 0

    def stream(self, request: Any, call: Any) -> Any:
        """Answer the next way."""
        self.calls += 1
        return Attempt(self.calls)

    async def complete(self, request: Any, call: Any) -> Any:
        """Is never asked."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Nothing is open."""


class Attempt:
    """One streamed attempt."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def __aenter__(self) -> Any:
        return self.events()

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""

    async def events(self) -> Any:
        """Say it letter by letter, slowly enough for pieces to be stored."""
        yield MessageStart("m")
        if self.number == 1:
            yield TextDelta(0, "the key is ")
            for letter in ENV:
                yield TextDelta(0, letter)
                await asyncio.sleep(0.03)
            yield TextDelta(0, " and that is it")
            yield MessageEnd("stop", "stop", Usage(input_tokens=1, output_tokens=1))
            return
        if self.number == 2:
            yield TextDelta(0, f"half of it {ENV} and then")
            raise ProviderError(
                f"401: invalid key {ENV}", kind="permanent", category="auth", status=401,
                phase="response", provider_code=ENV, provider_type=ENV, request_id=ENV,
            )  # fmt: skip
        arguments = json.dumps({"text": ENV})
        yield ToolCallStart(0, "c1", "plain")
        yield ToolCallDelta(0, arguments[:9])
        yield ToolCallDelta(0, arguments[9:])
        yield MessageEnd("tool_calls", "tool_calls", Usage(input_tokens=1, output_tokens=1))


async def body(ctx: Any, given: str) -> str:
    """Go every way."""
    a, b = Secret.named("env"), Secret.named("file")
    ctx.log.info(f"given {given} {ENV}")
    ways: list[Any] = [
        lambda: ctx.call_tool(results, a=a, b=b),
        lambda: ctx.call_tool(raises, a=a),
        lambda: ctx.call_tool(refuses, a=a),
        lambda: ctx.call_tool(hints, a=a),
        lambda: ctx.call_tool(speaks, a=a),
        lambda: ctx.call_tool(plain, text=ENV),
        lambda: ctx.call_tool(plain, text={"nested": [ENV]}),
        lambda: ctx.call_tool(results, a=ENV, b=ENV),
        lambda: ctx.call_tool(results, a=a, b=b, extra=ENV),
        lambda: ctx.call_llm("canary:m", f"remember {ENV}"),
        lambda: ctx.call_llm("canary:m", [Message.user("hi")], tools=[plain]),
        lambda: ctx.call_llm("canary:m", "again"),
        lambda: ctx.call_llm("canary:m", "a third time", tools=[plain]),
    ]
    codes = []
    for way in ways:
        try:
            codes.append(type(await way()).__name__)
        except GatebookError as exc:
            codes.append(exc.code)
            ctx.log.info(f"it ended {exc}")
    await ctx.wait_signal("go")
    return f"done: {' '.join(codes)}"


async def doubts(ctx: Any) -> str:
    """End in doubt."""
    return str(await ctx.call_tool(doubtful, a=Secret.named("env")))


async def fails(ctx: Any) -> str:
    """Fail with the secret in the error's text."""
    raise RuntimeError(f"no luck with {ENV}")


async def main(store: str) -> None:
    """Say everything, then die."""
    tools = [results, raises, refuses, hints, speaks, plain]
    main_flow: Workflow[str, str] = Workflow(body, name="says", tools=tools, models=["canary:m"])
    doubt_flow: Workflow[None, str] = Workflow(doubts, name="doubts", tools=[doubtful])
    fail_flow: Workflow[None, str] = Workflow(fails, name="fails")
    sources = {"env": "env:CANARY_ENV", "file": f"file:{os.environ['CANARY_FILE']}"}
    runtime = Runtime(store, policy=AllowDeclared(), secrets=sources, providers={"canary": Model()})
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.addFilter(runtime.log_filter())
    async with runtime:
        run = await runtime.start(
            main_flow, f"key {ENV}", run_id="says", context={"key": ENV}, labels={"l": ENV}
        )
        live = asyncio.ensure_future(listen(run))
        await run.settled()
        await run.signal("go", {"key": ENV}, by=ENV)
        state = await run.settled()
        print(f"says: {state}")
        for flow in (doubt_flow, fail_flow):
            print(f"{flow.name}: {await (await runtime.start(flow, None)).settled()}")
        for name in (ENV, f"run-{ENV}"):
            try:
                await runtime.start(fail_flow, None, run_id=name)
            except (GatebookError, ActionError) as exc:
                print(f"refused: {exc}")
        print(f"runs: {await runtime.runs()}")
        async for event in runtime.handle("says").events(deltas=True):
            print(event)
        live.cancel()
        print("END", flush=True)
        sys.stderr.flush()
        os._exit(9)


async def listen(run: Any) -> None:
    """Print what is said while the run goes on."""
    async for item in run.live():
        print(item, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
