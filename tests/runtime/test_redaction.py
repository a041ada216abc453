"""Secrets: what enters a run is cut before it is stored, decided about or shown."""

from typing import Any

from tests.runtime.kit import Desk, Model, flow, run, said

from gatebook import tool
from gatebook.errors import ActionDenied, ActionError, Permanent
from gatebook.kernel.events import ActionDenied as ActionDeniedEvent
from gatebook.kernel.policy import Decision, Policy
from gatebook.runtime.performing.cleaning import MAX_ERROR_TEXT
from gatebook.runtime.runs.states import Failed, Finished

CANARY = "canary-7f3e91d2b4"
KEY = "sk-ant-" + "a1b2" * 8


def test_an_action_with_a_secret_in_its_arguments_is_denied() -> None:
    """A redacted argument would do something else than was asked for."""

    async def scenario() -> None:
        desk, ran = Desk(), list[str]()

        @tool
        async def send(text: str) -> None:
            ran.append(text)

        async def body(ctx: Any) -> str:
            try:
                await ctx.call_tool(send, text=f"my key is {KEY}")
            except ActionDenied as exc:
                return exc.code
            return ""

        state = await desk.ran(flow(body, send))
        data = await desk.stored()

        assert (state, ran) == (Finished("E_ARGS_SECRET"), [])
        assert KEY.encode() not in data
        assert b"[redacted:api-key]" in data

    run(scenario())


def test_results_are_cut_before_journal_and_program_see_them() -> None:
    """What a tool reads may hold secrets nobody asked for."""

    async def scenario() -> None:
        desk = Desk(secrets=[CANARY])

        @tool(effect="read")
        async def fetch() -> dict[str, str]:
            return {"text": f"a {CANARY} b", "password": "hunter2", "other": KEY}

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(fetch)

        state = await desk.ran(flow(body, fetch))
        data = await desk.stored()

        assert state == Finished({
            "text": "a [redacted:registered] b",
            "password": "[redacted:password]",
            "other": "[redacted:api-key]",
        })  # fmt: skip
        assert not any(secret in data for secret in (CANARY.encode(), KEY.encode(), b"hunter2"))

    run(scenario())


def test_a_secret_appears_nowhere_in_the_journal_whatever_went_wrong() -> None:
    """Refusals, errors, denials, signals, inputs and labels are stored as well."""

    class Wordy(Policy):
        def authorize(self, action: Any, context: Any) -> Decision:
            if getattr(action, "tool", "") == "refused":
                return Decision.deny(f"because of {CANARY}")
            return Decision.allow()

    async def scenario() -> None:
        desk = Desk(policy=Wordy(), secrets=[CANARY])

        @tool(effect="read")
        async def crash() -> None:
            width = MAX_ERROR_TEXT - len("crash failed: RuntimeError: ") - 8  # cut in the secret
            raise RuntimeError("x" * width + CANARY)

        @tool(effect="read")
        async def sulk() -> None:
            raise Permanent(f"no {CANARY}", code="E_MINE")

        @tool(effect="read")
        async def strict(n: int) -> int:
            return n

        @tool(effect="read")
        async def refused() -> None:
            """Refuse."""

        async def body(ctx: Any, given: str) -> str:
            ctx.log.info(f"given {given} {CANARY}")
            made: list[Any] = [
                lambda: ctx.call_tool(crash),
                lambda: ctx.call_tool(sulk),
                lambda: ctx.call_tool(strict, n=CANARY),
                lambda: ctx.call_tool(strict, n=1, extra=CANARY),
                lambda: ctx.call_tool(refused),
            ]
            for make in made:
                try:
                    await make()
                except ActionError:
                    continue
            await ctx.wait_signal("go")
            raise RuntimeError(CANARY)

        program = flow(body, crash, sulk, strict, refused)
        async with desk.open() as runtime:
            handle = await runtime.start(
                program, CANARY, run_id="r", context={"k": CANARY}, labels={"l": CANARY}
            )
            await handle.signal("go", {"k": CANARY})
            state = await desk.settled(handle)
            await handle.row()
            data = await desk.stored()

        assert isinstance(state, Failed)
        assert state.error.code == "E_WORKFLOW"
        assert CANARY[:8].encode() not in data

    run(scenario())


def test_an_error_is_redacted_before_it_is_cut() -> None:
    """Of a key that is cut first, what stays is too short to be known for a key."""

    async def scenario() -> None:
        desk, begin = Desk(), KEY[:12]

        @tool(effect="read")
        async def crash() -> None:
            before = len("crash failed: RuntimeError: ") + len(begin)
            raise RuntimeError(" " * (MAX_ERROR_TEXT - before) + KEY)

        async def body(ctx: Any) -> None:
            await ctx.call_tool(crash)

        state = await desk.ran(flow(body, crash))
        data = await desk.stored()

        assert isinstance(state, Failed)
        assert begin.encode() not in data
        assert b"[redacted:a" in data

    run(scenario())


def test_an_unknown_tools_arguments_are_cut_too() -> None:
    """A refusal is stored with what was asked for."""

    async def scenario() -> None:
        desk = Desk()

        @tool(effect="read")
        async def known() -> None:
            """Known."""

        @tool(effect="read")
        async def stranger(text: str) -> str:
            return text

        async def body(ctx: Any) -> None:
            await ctx.call_tool(stranger, text=KEY)

        await desk.ran(flow(body, known))
        data = await desk.stored()

        assert KEY.encode() not in data
        await desk.journal.open()
        assert (await desk.only("r", ActionDeniedEvent)).error.code == "E_TOOL_UNKNOWN"

    run(scenario())


def test_a_field_called_password_in_a_schema_is_no_secret() -> None:
    """A key name is only a hint: what is not text under it stays."""

    async def scenario() -> None:
        desk = Desk()
        model = Model(said("yes"))

        async def body(ctx: Any) -> str:
            options = {"provider_options": {"form": {"password": {"type": "string"}}}}
            return (await ctx.call_llm("fake:m", "hi", **options)).text

        async with desk.open(providers={"fake": model}) as runtime:
            program = flow(body, models=["fake:m"])
            state = await desk.settled(await runtime.start(program, None, run_id="r"))

        assert state == Finished("yes")

    run(scenario())


def test_a_models_answer_is_cut_before_it_is_stored() -> None:
    """Models repeat what they were shown."""

    async def scenario() -> None:
        desk = Desk(secrets=[CANARY])
        model = Model(said(f"it is {CANARY}"))

        async def body(ctx: Any) -> str:
            return (await ctx.call_llm("fake:m", "hi")).text

        async with desk.open(providers={"fake": model}) as runtime:
            program = flow(body, models=["fake:m"])
            state = await desk.settled(await runtime.start(program, None, run_id="r"))
            data = await desk.stored()

        assert state == Finished("it is [redacted:registered]")
        assert CANARY.encode() not in data

    run(scenario())


def test_a_model_call_with_a_secret_in_its_prompt_is_denied() -> None:
    """The program sees a denial, as for a tool, and the run goes on."""

    async def scenario() -> None:
        desk = Desk(secrets=[CANARY])

        async def body(ctx: Any) -> str:
            try:
                await ctx.call_llm("fake:m", f"say {CANARY}")
            except ActionDenied as exc:
                return exc.code
            return ""

        async with desk.open(providers={"fake": Model()}) as runtime:
            program = flow(body, models=["fake:m"])
            state = await desk.settled(await runtime.start(program, None, run_id="r"))
            data = await desk.stored()

        assert state == Finished("E_ARGS_SECRET")
        assert CANARY.encode() not in data

    run(scenario())
