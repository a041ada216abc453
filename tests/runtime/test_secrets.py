"""Secrets by reference: where values come from, who gets them, and that nobody else does."""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.attacks.kit import calls
from tests.runtime.kit import Desk, Model, flow, run, said
from tests.runtime.test_redaction import stored

from gatebook import Agent, Change, Secret, hook, tool
from gatebook.errors import ActionError, ConfigError, InvalidInput, Permanent, RateLimited
from gatebook.kernel.events import ActionDenied, ActionFailed, ActionRequested
from gatebook.kernel.redact import Redactor
from gatebook.kernel.tools import ToolSpec
from gatebook.ports import Invocation
from gatebook.runtime.models.routes import Providers, ProviderSettings
from gatebook.runtime.performing.secrets import KEPT, Secrets, checked_sources
from gatebook.runtime.runs.states import Finished
from gatebook.runtime.settings import load_settings

VALUE = "bank-token-4711-xyzzy"


def asking(used: list[str]) -> Any:
    """A tool that takes a secret."""

    @tool(effect="read")
    async def pay(order: str, token: Secret[str]) -> str:
        used.append(token.reveal())
        return f"paid {order}"

    return pay


async def codes(ctx: Any, *calls: Callable[[], Any]) -> list[str]:
    """The code each call ends with, "" for well."""
    found = []
    for call in calls:
        try:
            await call()
        except ActionError as exc:
            found.append(exc.code)
        else:
            found.append("")
    return found


def test_a_tool_gets_the_value_and_the_journal_the_reference() -> None:
    """That is the whole point."""

    async def scenario() -> None:
        desk, used = Desk(secrets={"bank": lambda: VALUE}), list[str]()
        pay = asking(used)

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(pay, order="7", token=Secret.named("bank"))

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, pay), None, run_id="r"))
            data = await stored(desk)
            request = await desk.only("r", ActionRequested)

        assert (state, used) == (Finished("paid 7"), [VALUE])
        assert request.action.arguments == {"order": "7", "token": "secret://bank"}  # type: ignore[union-attr]
        assert VALUE.encode() not in data

    run(scenario())


def test_a_reference_may_be_written_as_text() -> None:
    """A model writes nothing else."""

    async def scenario() -> None:
        desk, used = Desk(secrets={"bank": lambda: VALUE}), list[str]()
        pay = asking(used)

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(pay, order="7", token="secret://bank")

        async with desk.open() as runtime:
            await desk.settled(await runtime.start(flow(body, pay), None, run_id="r"))

        assert used == [VALUE]

    run(scenario())


def test_a_literal_is_refused_and_not_stored() -> None:
    """Whoever gives one may give a real one."""

    async def scenario() -> None:
        desk, used = Desk(secrets={"bank": lambda: VALUE}), list[str]()
        pay = asking(used)

        async def body(ctx: Any) -> Any:
            return await codes(
                ctx,
                lambda: ctx.call_tool(pay, order="1", token="hunter2hunter2"),
                lambda: ctx.call_tool(pay, order="1", token={"is": "hunter2hunter2"}),
                lambda: ctx.call_tool(pay, order="1", token=Secret("hunter2hunter2")),
                lambda: ctx.call_tool(pay, order=2, token="hunter2hunter2"),
            )

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, pay), None, run_id="r"))
            data = await stored(desk)

        assert (state, used) == (Finished(["E_SECRET_LITERAL"] * 4), [])
        assert b"hunter2" not in data

    run(scenario())


def test_a_name_that_there_is_none_of_is_denied_before_anything_runs() -> None:
    """The denial says which is near, and does not list what there is."""

    async def scenario() -> None:
        sources = {"bank": lambda: VALUE, "other_thing": lambda: VALUE}
        desk, used = Desk(secrets=sources), list[str]()
        pay = asking(used)

        async def body(ctx: Any) -> Any:
            return await codes(ctx, lambda: ctx.call_tool(pay, order="1", token="secret://bnak"))

        async with desk.open() as runtime:
            await desk.settled(await runtime.start(flow(body, pay), None, run_id="r"))
            denied = await desk.only("r", ActionDenied)

        assert used == []
        assert denied.error.code == "E_SECRET_UNKNOWN"
        assert "bank" in denied.error.message
        assert "other_thing" not in denied.error.message

    run(scenario())


def test_elsewhere_a_reference_is_text() -> None:
    """Else a model could have any tool send any secret anywhere."""

    async def scenario() -> None:
        desk = Desk(secrets={"bank": lambda: VALUE})

        @tool(effect="read")
        async def post(body: str) -> str:
            return body

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(post, body="secret://bank")

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, post), None, run_id="r"))

        assert state == Finished("secret://bank")

    run(scenario())


def test_a_default_is_filled_in_and_nothing_else_may_stand_there() -> None:
    """The host chose the secret; a model that is steered cannot take another."""

    async def scenario() -> None:
        desk, used = Desk(secrets={"bank": lambda: VALUE, "aws": lambda: "x" * 20}), list[str]()

        @tool(effect="read")
        async def pay(order: str, token: Secret[str] = Secret.named("bank")) -> str:  # noqa: B008
            used.append(token.reveal())
            return order

        async def body(ctx: Any) -> Any:
            return await codes(
                ctx,
                lambda: ctx.call_tool(pay, order="1"),
                lambda: ctx.call_tool(pay, order="1", token="secret://aws"),
            )

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, pay), None, run_id="r"))
            (request,) = await desk.all("r", ActionRequested)

        assert (state, used) == (Finished(["", "E_SECRET_LITERAL"]), [VALUE])
        assert request.action.arguments["token"] == "secret://bank"  # type: ignore[union-attr]

    run(scenario())


def test_each_attempt_reads_the_source_anew() -> None:
    """A secret that was rotated is the new one, without a restart."""

    async def scenario() -> None:
        values = iter(["first-value-0001", "second-value-002"])
        desk, used = Desk(secrets={"bank": lambda: next(values)}), list[str]()

        @tool(effect="read")
        async def pay(token: Secret[str]) -> str:
            used.append(token.reveal())
            if len(used) == 1:
                raise ActionError.transient(f"refused {token.reveal()}")
            return f"{used[0]} {used[1]}"

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(pay, token="secret://bank")

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, pay), None, run_id="r"))
            data = await stored(desk)

        assert used == ["first-value-0001", "second-value-002"]
        assert state == Finished("[redacted:registered] [redacted:registered]")
        assert b"value-0" not in data

    run(scenario())


def failing_sources(tmp_path: Path) -> dict[str, Any]:
    """Sources that have no value, by what is said of them."""

    def broken() -> str:
        raise RuntimeError(f"vault said {VALUE}")

    return {
        "is not set": "env:GATEBOOK_TEST_NO_SUCH_VARIABLE",
        "cannot be read": f"file:{tmp_path}/nothing",
        "raised RuntimeError": broken,
        "gave int, not text": lambda: 4711,
        "shorter than 8": lambda: "1234",
        "is no text": lambda: "abcdefgh\udce4",
    }


def test_a_secret_that_cannot_be_had_fails_the_action_and_nothing_was_called(
    tmp_path: Path,
) -> None:
    """The error says which and why, and never what."""

    async def scenario(why: str, source: Any) -> None:
        desk, used = Desk(secrets={"bank": source}), list[str]()
        pay = asking(used)

        async def body(ctx: Any) -> Any:
            return await codes(ctx, lambda: ctx.call_tool(pay, order="1", token="secret://bank"))

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, pay), None, run_id="r"))
            data = await stored(desk)
            failed = await desk.only("r", ActionFailed)

        assert (state, used) == (Finished(["E_SECRET_UNAVAILABLE"]), [])
        assert why in failed.error.message
        assert "bank" in failed.error.message
        assert VALUE.encode() not in data

    for why, source in failing_sources(tmp_path).items():
        run(scenario(why, source))


def test_a_source_may_say_that_a_retry_helps() -> None:
    """A vault that is busy is not a secret that is missing."""

    async def scenario() -> None:
        asked: list[int] = []

        async def vault() -> str:
            asked.append(1)
            if len(asked) < 3:
                raise RateLimited(f"slow down, {VALUE}")
            return VALUE

        desk, used = Desk(secrets={"bank": vault}), list[str]()
        pay = asking(used)

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(pay, order="1", token="secret://bank")

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, pay), None, run_id="r"))
            data = await stored(desk)

        assert (state, used, len(asked)) == (Finished("paid 1"), [VALUE], 3)
        assert VALUE.encode() not in data

    run(scenario())


def test_values_of_variables_and_files_are_known_before_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool that prints its environment prints them too."""

    async def scenario() -> None:
        (tmp_path / "key").write_text("file-secret-0815\n")
        monkeypatch.setenv("GATEBOOK_TEST_KEY", VALUE)
        sources = {"one": "env:GATEBOOK_TEST_KEY", "two": f"file:{tmp_path}/key"}
        desk = Desk(secrets=sources)

        @tool(effect="read")
        async def printenv() -> str:
            return f"{VALUE} file-secret-0815"

        async def body(ctx: Any) -> Any:
            return await ctx.call_tool(printenv)

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, printenv), None, run_id="r"))

        assert state == Finished("[redacted:registered] [redacted:registered]")

    run(scenario())


def test_each_line_of_a_key_is_known() -> None:
    """A tool that shows one line of it shows enough."""
    redactor = Redactor()
    lines = "\n".join(["begin", "MIIEvQIBADANBgkqhkiG9w0B", "AQEFAASCBKcwggSjAgEAAoIB", "end"])

    async def scenario() -> None:
        secrets = Secrets({"key": lambda: lines}, redactor)
        await secrets.lend(b'{"token":"secret://key"}', asking([]).spec)

    run(scenario())

    assert redactor.text("line 2: AQEFAASCBKcwggSjAgEAAoIB") == "line 2: [redacted:registered]"


def test_of_rotated_values_the_latest_and_those_in_use_stay_known() -> None:
    """The redactor must not grow for ever, nor forget what a running tool may still say."""
    values = iter(range(1000))
    redactor = Redactor()

    async def scenario() -> None:
        secrets = Secrets({"t": lambda: f"token-number-{next(values):04}"}, redactor)
        spec, args = asking([]).spec, b'{"token":"secret://t"}'
        held = await secrets.lend(args, spec)
        for _ in range(3 * KEPT):
            secrets.end(await secrets.lend(args, spec))

        assert redactor.text(held["t"].reveal()) == "[redacted:registered]"
        assert redactor.text(f"token-number-{3 * KEPT:04}") == "[redacted:registered]"
        assert redactor.text("token-number-0001") == "token-number-0001"

    run(scenario())


def test_a_secret_shows_itself_to_nobody() -> None:
    """Logs, f-strings, debuggers, pickles and copies."""
    import copy
    import pickle

    secret = Secret(VALUE, name="bank")

    assert VALUE not in f"{secret} {secret!r} {[secret]} {vars(type(secret))}"
    assert copy.deepcopy(secret) is secret
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_a_secret_without_its_value_says_so() -> None:
    """A workflow may name secrets; only a tool that runs has them."""
    with pytest.raises(InvalidInput) as caught:
        Secret.named("bank").reveal()

    assert caught.value.code == "E_SECRET_UNRESOLVED"


@pytest.mark.parametrize(
    "sources",
    [
        {"a b": "env:X"},
        {1: "env:X"},
        {"bank": VALUE},
        {"bank": "env:"},
        {"bank": "vault:x"},
        {"bank": 7},
    ],
)
def test_sources_are_checked_when_they_are_given(sources: Any) -> None:
    """A value by mistake is refused, and not repeated."""
    with pytest.raises(ConfigError) as caught:
        checked_sources(sources)

    assert caught.value.code == "E_SECRET_SOURCE"
    assert VALUE not in str(caught.value)


def test_gatebook_toml_names_sources(tmp_path: Path) -> None:
    """The command line has no other place to say them."""
    (tmp_path / "gatebook.toml").write_text('[secrets]\nbank = "env:BANK"\nkey = "file:key"\n')

    settings = load_settings(folder=tmp_path, environ={})

    assert settings.secrets == {"bank": "env:BANK", "key": f"file:{tmp_path}/key"}


def test_gatebook_toml_refuses_a_value(tmp_path: Path) -> None:
    """Files are committed."""
    (tmp_path / "gatebook.toml").write_text(f'[secrets]\nbank = "{VALUE}"\n')

    with pytest.raises(ConfigError) as caught:
        load_settings(folder=tmp_path, environ={})

    assert "gatebook.toml:2" in str(caught.value)
    assert VALUE not in str(caught.value)


@pytest.mark.parametrize(
    "declare",
    [
        lambda: tool()(_nested),
        lambda: tool()(_returned),
        lambda: tool()(_number),
        lambda: tool()(_valued),
    ],
)
def test_secrets_stand_only_where_they_can_be_kept(declare: Callable[[], Any]) -> None:
    """Within other types nobody could tell them from values; results are stored."""
    with pytest.raises(ConfigError) as caught:
        _ = declare().spec

    assert caught.value.code == "E_TOOL_DECLARATION"
    assert VALUE not in str(caught.value)


async def _nested(tokens: list[Secret[str]]) -> None: ...


async def _returned() -> Secret[str]:
    return Secret(VALUE)


async def _number(token: Secret[int]) -> None: ...


async def _valued(token: Secret[str] = Secret(VALUE)) -> None: ...  # noqa: B008


def test_names_that_hold_a_secret_are_refused() -> None:
    """Run ids, labels and signals are stored and shown as they are."""

    async def scenario() -> None:
        desk = Desk(secrets=[VALUE])

        async def body(ctx: Any) -> None: ...

        program = flow(body)
        async with desk.open() as runtime:
            with pytest.raises(InvalidInput) as as_id:
                await runtime.start(program, None, run_id=VALUE)
            with pytest.raises(InvalidInput) as as_label:
                await runtime.start(program, None, labels={VALUE: "x"})
            handle = await runtime.start(program, None, run_id="r")
            with pytest.raises(InvalidInput) as as_signal:
                await handle.signal(VALUE)

        for caught in (as_id, as_label, as_signal):
            assert caught.value.code == "E_NAME_SECRET"
            assert VALUE not in str(caught.value)

    run(scenario())


def test_a_slow_source_counts_against_the_deadline_and_nothing_was_called() -> None:
    """A vault that hangs must not hang the run, nor leave an outcome unknown."""

    async def scenario() -> None:
        async def vault() -> str:
            await asyncio.sleep(3600)
            return VALUE

        desk, used = Desk(secrets={"bank": vault}), list[str]()

        @tool(timeout=0.05)
        async def pay(token: Secret[str]) -> None:
            used.append(token.reveal())

        async def body(ctx: Any) -> Any:
            return await codes(ctx, lambda: ctx.call_tool(pay, token="secret://bank"))

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, pay), None, run_id="r"))

        assert (state, used) == (Finished(["E_SECRET_UNAVAILABLE"]), [])

    run(scenario())


def test_a_permanent_error_of_a_tool_keeps_no_secret_in_its_code_or_category() -> None:
    """Tools may put anything into an error."""

    async def scenario() -> None:
        desk = Desk(secrets={"bank": lambda: VALUE})

        @tool(effect="read")
        async def pay(token: Secret[str]) -> None:
            value = token.reveal()
            raise Permanent(value, code=f"E_{value}", category=value, partial=value)

        async def body(ctx: Any) -> Any:
            return await codes(ctx, lambda: ctx.call_tool(pay, token="secret://bank"))

        async with desk.open() as runtime:
            state = await desk.settled(await runtime.start(flow(body, pay), None, run_id="r"))
            data = await stored(desk)

        assert state == Finished(["E_ACTION"])
        assert VALUE.encode() not in data

    run(scenario())


def test_a_model_sees_references_and_marks_and_never_a_value() -> None:
    """In the schema, in its own call, and in what the tool brought back."""

    async def scenario() -> None:
        desk = Desk(secrets={"bank": lambda: VALUE})

        @tool(effect="read")
        async def pay(order: str, token: Secret[str]) -> str:
            return f"paid {order} with {token.reveal()}"

        asked = calls(("pay", {"order": "7", "token": "secret://bank"}))
        model = Model(asked, said("done"))
        agent = Agent(name="a", model="fake:m", tools=[pay])
        async with desk.open(providers={"fake": model}) as runtime:
            state = await desk.settled(await runtime.start(agent, "pay", run_id="r"))
            data = await stored(desk)

        shown = repr(model.asked)
        assert state == Finished("done")
        assert VALUE not in shown
        assert VALUE.encode() not in data
        assert "paid 7 with [redacted:registered]" in shown

    run(scenario())


class Foreign:
    """A tool of another's making that takes a secret."""

    def __init__(self, used: list[str]) -> None:
        self.used = used
        schema = msgspec.Raw(b'{"type":"object"}')
        self.spec = ToolSpec(
            name="crm.find", description="", schema=schema, effect="read", secrets=("key",)
        )

    def validate(self, args: bytes) -> bytes:
        """Take anything."""
        return args

    async def call(self, args: bytes, invocation: Invocation) -> bytes:
        """Use the secret that its arguments name."""
        name = json.loads(args)["key"].removeprefix("secret://")
        self.used.append(invocation.secrets[name].reveal())
        assert VALUE not in repr(invocation)
        return json.dumps(VALUE).encode()

    def decode(self, output: bytes) -> Any:
        """Read plain JSON."""
        return json.loads(output)


def test_a_foreign_tool_takes_references_by_its_spec() -> None:
    """Its own validation need not know what a secret is: the gate checks."""

    async def scenario() -> None:
        desk, used = Desk(secrets={"crm": lambda: VALUE}), list[str]()
        foreign = Foreign(used)

        async def body(ctx: Any) -> Any:
            found = await ctx.call_tool(foreign, key="secret://crm")
            return [found, *await codes(ctx, lambda: ctx.call_tool(foreign, key="hunter2hunter2"))]

        async with desk.open() as runtime:
            program = flow(body, foreign)
            state = await desk.settled(await runtime.start(program, None, run_id="r"))
            data = await stored(desk)

        assert state == Finished(["[redacted:registered]", "E_SECRET_LITERAL"])
        assert used == [VALUE]
        assert b"hunter2" not in data
        assert VALUE.encode() not in data

    run(scenario())


def test_a_log_filter_cuts_messages_tracebacks_and_what_cannot_be_written() -> None:
    """Whatever a tool or a library logs."""
    desk = Desk(secrets=[VALUE])
    told = desk.runtime().log_filter()
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(logging.Formatter("%(message)s").format(record))

    handler = Kept()
    handler.addFilter(told)
    logger = logging.getLogger("tests.secrets")
    logger.propagate = False
    logger.addHandler(handler)
    try:
        raise ValueError(VALUE)
    except ValueError:
        logger.exception("it broke with %s", VALUE)
    logger.warning("%d", VALUE)
    logger.removeHandler(handler)

    assert len(lines) == 2
    assert VALUE not in "".join(lines)
    assert "ValueError: [redacted:registered]" in lines[0]


def test_a_hook_cannot_put_a_value_in_a_references_place() -> None:
    """Its answer is journaled before the gate sees what it made."""

    async def scenario() -> None:
        desk, used = Desk(secrets={"bank": lambda: VALUE}), list[str]()
        pay = asking(used)

        @hook("before_tool", rights=["change"], timeout=5, on_failure="closed", name="helpful")
        async def helpful(view: Any) -> Any:
            return Change({**view.args, "token": "hunter2hunter2"})

        async def body(ctx: Any) -> Any:
            return await codes(ctx, lambda: ctx.call_tool(pay, order="1", token="secret://bank"))

        async with desk.open(hooks=[helpful]) as runtime:
            state = await desk.settled(await runtime.start(flow(body, pay), None, run_id="r"))
            data = await stored(desk)

        assert (state, used) == (Finished(["E_HOOK_ANSWER"]), [])
        assert b"hunter2" not in data

    run(scenario())


def test_a_providers_key_is_known_also_where_no_run_was_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that only goes on with others' runs makes its providers at their first call."""

    async def scenario() -> None:
        monkeypatch.setenv("HOUSE_KEY", "house-key-without-a-known-format")
        table = ProviderSettings("http://127.0.0.1:9/v1", "env:HOUSE_KEY")
        redactor = Redactor()
        providers = Providers({}, {"house": table}, learn=lambda key: redactor.add([key]))

        providers.resolve("house:m")
        await providers.aclose()

        assert redactor.text("house-key-without-a-known-format") == "[redacted:registered]"

    run(scenario())


def test_an_error_that_shows_the_beginning_of_a_value_is_cut_too() -> None:
    """Messages cut what they show; half a secret must not stay at the end of one."""

    async def scenario() -> None:
        long = "long-secret-" + "0123456789abcdef" * 3
        desk = Desk(secrets=[long])

        @tool(effect="read")
        async def strict(n: int) -> int:
            return n

        async def body(ctx: Any) -> Any:
            return await codes(ctx, lambda: ctx.call_tool(strict, n="x" * 40 + long))

        async with desk.open() as runtime:
            await desk.settled(await runtime.start(flow(body, strict), None, run_id="r"))
            data = await stored(desk)

        assert b"long-secret-0123456789" not in data

    run(scenario())
