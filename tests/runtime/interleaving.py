"""A run of everything at once: tools of every kind, hooks, rules and a model that is busy."""

import asyncio
import json
from typing import Any

from tests.runtime.kit import Model, flow
from tests.runtime.policies import MODELS, TOOLS, rule, ruled
from tests.runtime.results import PHONE, on_result

from gatebook import Agent, Change, ToolContext, Transient, hook, tool
from gatebook.errors import ActionError, ProviderError
from gatebook.kernel.messages import Call, ChatRequest
from gatebook.kernel.policies import RetryWithBackoffPolicy
from gatebook.kernel.tools import Effect
from gatebook.providers.script import Reply, ToolUse
from gatebook.providers.scripted import Scripted

STEPS = (
    "look", "find", "put", "pay", "lend", "owe", "odd", "wire", "send", "later", "stow",  # tools
    "ask", "hear", "log", "nap",
)  # fmt: skip
FAN_OUT = 2
KEY = "sk-ant-" + "api03-abcdefghijklmnopqrstuvwxyz0123456789abcdefgh"

POLICY = RetryWithBackoffPolicy(
    ruled(
        TOOLS,
        MODELS,
        rule("ask", 'tool = ["owe", "score"]'),
        rule("defer", 'tool = "later"', 'where = { deferred = { lt = 1 } }\nafter = "3s"'),
        rule("deny", 'tool = "send"', 'where = { "seen.label" = { has = "personal" } }'),
        '[[label]]\ntool = "find"\nadd = "personal"\n'
        'where = { "result.0.phone" = { glob = "+*" } }\n',
        on_result("modify", more='redact = { "result.*.phone" = "all" }'),
        on_result("interrupt", "odd"),
    ),
    2,
    100,
)


def turns(request: ChatRequest) -> Reply | str:
    """What the model of an agent says: a turn for each branch, which its user wrote down."""
    said_before = [message for message in request.messages if message.role == "assistant"]
    branches = json.loads(request.messages[0].text) if request.tools else []
    if len(said_before) >= len(branches):
        return "and so on"
    b = len(said_before)
    return Reply(call=tuple(ToolUse(t, {"n": 10 * b + n}) for n, t in enumerate(branches[b])))


class Halting(Scripted):
    """A model that is busy when a call comes first."""

    def stream(self, request: ChatRequest, call: Call) -> Any:
        if call.attempt:
            return super().stream(request, call)
        error = ProviderError("busy", kind="transient", category="overloaded")
        return Model([error]).stream(request, call)


class World:
    """What tools do to it.

    Attributes:
        done: effects that were had, in order: idempotency key, tool.
        paid: amounts that were paid, by idempotency key.
    """

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.paid: dict[str, int] = {}


def did(ctx: ToolContext[World], name: str) -> bool:
    """Note an effect; return whether it is the first of its action."""
    key = ctx.idempotency_key
    first = all(known != key for known, _ in ctx.deps.done)
    ctx.deps.done.append((key, name))
    return first


def plain(name: str, effect: Effect, **options: Any) -> Any:
    """A tool that gives back what it is given."""

    @tool(name=name, effect=effect, **options)
    async def act(ctx: ToolContext[World], n: int) -> int:
        did(ctx, name)
        return n

    return act


@tool(effect="read")
async def look(ctx: ToolContext[World], n: int) -> int:
    if did(ctx, "look") and n % 2:
        raise Transient("busy")
    return n


@tool(effect="read")
async def find(ctx: ToolContext[World], n: int) -> list[dict[str, str]]:
    did(ctx, "find")
    return [{"phone": PHONE}]


@tool(effect="idempotent")
async def put(ctx: ToolContext[World], n: int) -> int:
    if did(ctx, "put"):
        raise Transient("busy")
    return n


@tool
async def pay(ctx: ToolContext[World], n: int) -> int:
    did(ctx, "pay")
    ctx.deps.paid[ctx.idempotency_key] = n
    return n


@tool
async def wire(ctx: ToolContext[World], n: int) -> int:
    if did(ctx, "wire"):
        raise OSError("cut off")  # nobody knows what it did
    return n


odd, later, score = (plain(name, "read") for name in ("odd", "later", "score"))
lend, owe, stow = (plain(name, "at_most_once") for name in ("lend", "owe", "stow"))
send = plain("send", "at_most_once", sends=True)
TOOLBOX = {
    each.name: each
    for each in (look, find, put, pay, wire, odd, later, score, lend, owe, send, stow)
}  # fmt: skip


async def step(ctx: Any, name: str, n: int) -> Any:
    """One step of a branch; what is refused is its code."""
    try:
        if name == "log":
            return ctx.log.info(f"line {n} {KEY if n % 2 else ''}")
        if name == "nap":
            return await ctx.sleep(1)
        if name == "ask":
            return (await ctx.call_llm("fake:m", f"what of {n}")).text
        if name == "hear":
            return await ctx.wait_signal("go", timeout=5)
        return await ctx.call_tool(TOOLBOX[name], n=n)
    except ActionError as exc:
        return exc.code


async def playing(ctx: Any, branches: list[list[str]]) -> Any:
    async def branch(b: int, steps: list[str]) -> list[Any]:
        return [await step(ctx, name, 10 * b + n) for n, name in enumerate(steps)]

    return await ctx.gather(*(branch(b, steps) for b, steps in enumerate(branches)))


PROGRAM = flow(playing, *TOOLBOX.values(), models=["fake:m"])
AGENT = Agent(name="agent", model="fake:m", tools=list(TOOLBOX.values()))


def hooked(point: Any, *tools: Any, rights: Any = ("observe",)) -> Any:
    """A hook that fails closed, and has time."""
    about: Any = {"tools": list(tools)} if tools else {}
    return hook(point, rights=list(rights), timeout=60, on_failure="closed", **about)


@hooked("before_tool", pay, rights=["change", "act"])
async def more(call: Any) -> Change:
    return Change({"n": await call.call_tool(look, n=call.args["n"]) + 1})


@hooked("before_tool", lend, rights=["act"])
async def sure(call: Any) -> None:
    await call.call_tool(score, n=call.args["n"])


@hooked("after_tool", find, pay)
async def seen(done: Any) -> None:
    await asyncio.sleep(0)


@hooked("after_tool", stow, rights=["act"])
async def tidy(done: Any) -> None:
    await done.call_tool(look, n=1)


@hooked("before_model")
async def asked(call: Any) -> None:
    await asyncio.sleep(0)


@hooked("on_run_end")
async def over(end: Any) -> None:
    await asyncio.sleep(0)


HOOKS = [more, sure, seen, tidy, asked, over]
