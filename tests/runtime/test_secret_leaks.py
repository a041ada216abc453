"""Values of secrets are cut wherever they might come out: results, errors, logs, names, models."""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.attacks.kit import calls
from tests.runtime.approving import Asks, Bank
from tests.runtime.approving import asking as asked
from tests.runtime.kit import Desk, Model, flow, handle_of, run, said
from tests.runtime.lending import VALUE, asking, codes

from gatebook import Agent, Secret, tool
from gatebook.errors import ActionDenied, InvalidInput, Permanent
from gatebook.kernel.redact import Redactor
from gatebook.runtime.models.routes import Providers, ProviderSettings
from gatebook.runtime.performing.secrets import KEPT, Secrets
from gatebook.runtime.runs.states import Finished, Waiting


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

        state = await desk.ran(flow(body, printenv))

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


def test_a_wait_for_a_signal_that_is_named_by_a_secret_is_denied() -> None:
    """The name would be stored, and shown as what the run waits for; a later worker agrees."""

    async def scenario() -> None:
        desk = Desk(secrets=[VALUE])

        async def body(ctx: Any) -> str:
            try:
                await ctx.wait_signal(f"paid-{VALUE}")
            except ActionDenied as denied:
                await ctx.wait_signal("go")
                return denied.code
            return "waited"

        program = flow(body)
        waits = await desk.ran(program)
        async with desk.open(program) as runtime:
            await handle_of(runtime).signal("go")
            state = await desk.settled(handle_of(runtime))
            data = await desk.stored()

        assert isinstance(waits, Waiting)
        assert state == Finished("E_NAME_SECRET")
        assert VALUE.encode() not in data

    run(scenario())


def test_what_people_say_of_themselves_keeps_no_secret() -> None:
    """A web handler may pass on more than it means to: a session token among the groups."""

    async def scenario() -> None:
        desk, bank = Desk(Asks(), secrets=[VALUE]), Bank()
        async with desk.open() as runtime:
            handle, _, (approval, _) = await asked(runtime, desk, bank.paying(50, 60))
            await approval.approve(by=VALUE, groups=[VALUE], reason=VALUE)
            await runtime.grant("r", "pay", until=timedelta(days=1), by="bob", groups=[VALUE])
            state = await desk.settled(handle)
            data = await desk.stored()

        assert state == Finished(["paid 50", "paid 60"])
        assert VALUE.encode() not in data

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

        state = await desk.ran(flow(body, pay))
        data = await desk.stored()

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
        state = await desk.ran(agent, "pay", providers={"fake": model})
        data = await desk.stored()

        shown = repr(model.asked)
        assert state == Finished("done")
        assert VALUE not in shown
        assert VALUE.encode() not in data
        assert "paid 7 with [redacted:registered]" in shown

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

        await desk.ran(flow(body, strict))
        data = await desk.stored()

        assert b"long-secret-0123456789" not in data

    run(scenario())
