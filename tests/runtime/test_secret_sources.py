"""Where the values of secrets come from, and what happens when one cannot be had."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.kit import Desk, flow, run
from tests.runtime.lending import VALUE, asking, codes

from gatebook import Secret, tool
from gatebook.errors import ActionError, ConfigError, RateLimited
from gatebook.kernel.events import ActionFailed
from gatebook.runtime.performing.secrets import checked_sources
from gatebook.runtime.runs.states import Finished
from gatebook.runtime.settings import load_settings


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

        state = await desk.ran(flow(body, pay))
        data = await desk.stored()

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

        state = await desk.ran(flow(body, pay))
        data = await desk.stored()
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

        state = await desk.ran(flow(body, pay))
        data = await desk.stored()

        assert (state, used, len(asked)) == (Finished("paid 1"), [VALUE], 3)
        assert VALUE.encode() not in data

    run(scenario())


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

        state = await desk.ran(flow(body, pay))

        assert (state, used) == (Finished(["E_SECRET_UNAVAILABLE"]), [])

    run(scenario())
