"""First runs: everything that is declared is allowed, and a person is asked before it hurts."""

from typing import Any

import pytest
from tests.runtime.approving import asking
from tests.runtime.kit import Desk, flow, run

from gatebook import AllowDeclared, RetryWithBackoffPolicy, tool
from gatebook.errors import ConfigError, InvalidInput
from gatebook.runtime.production import check_policy
from gatebook.runtime.runs.states import Finished


def test_what_cannot_be_taken_back_is_asked_about() -> None:
    """Reads run; the first payment of a new agent does not run by itself."""

    async def scenario() -> None:
        desk, done = Desk(AllowDeclared(ask_before={"at_most_once"})), list[str]()

        @tool(effect="read")
        async def look() -> None:
            """Look."""
            done.append("look")

        @tool
        async def pay() -> None:
            """Pay."""
            done.append("pay")

        async def body(ctx: Any) -> None:
            await ctx.gather(ctx.call_tool(look), ctx.call_tool(pay))

        async with desk.open() as runtime:
            handle, _, (approval,) = await asking(runtime, desk, flow(body, look, pay))
            before = list(done)
            await approval.approve(by="dev")

            assert (before, approval.what, approval.rule) == (["look"], "pay", "ask-before")
            assert approval.message == "pay?"
            assert await desk.settled(handle) == Finished(None)
            assert done == ["look", "pay"]

    run(scenario())


def test_without_it_nothing_changes() -> None:
    """Journals of earlier versions hold its digest."""
    assert AllowDeclared(ask_before=()).digest == AllowDeclared().digest
    assert AllowDeclared(ask_before={"read"}).digest != AllowDeclared().digest


@pytest.mark.parametrize("value", [{"all"}, "at_most_once", {1}])
def test_only_effect_classes_can_be_asked_about(value: Any) -> None:
    """A misspelt one would ask nobody."""
    with pytest.raises(InvalidInput) as caught:
        AllowDeclared(ask_before=value)

    assert caught.value.code == "E_POLICY_LIST"


@pytest.mark.parametrize("where", ["production", "Production", " production "])
@pytest.mark.parametrize("policy", [AllowDeclared(), RetryWithBackoffPolicy(AllowDeclared(), 1, 1)])
def test_a_development_policy_is_refused_in_production(policy: Any, where: str) -> None:
    """Also within another one."""
    with pytest.raises(ConfigError) as caught:
        check_policy(policy, {"GATEBOOK_ENV": where})

    assert caught.value.code == "E_POLICY_DEVELOPMENT"


@pytest.mark.parametrize("where", ["", "staging", "development"])
def test_it_is_fine_elsewhere(where: str) -> None:
    """Nothing is guessed from other names."""
    check_policy(AllowDeclared(), {"GATEBOOK_ENV": where})


def test_no_worker_drives_with_it_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was started elsewhere must not go on under it either."""
    monkeypatch.setenv("GATEBOOK_ENV", "production")

    async def scenario() -> None:
        with pytest.raises(ConfigError) as caught:
            async with Desk(AllowDeclared()).open():
                pass

        assert caught.value.code == "E_POLICY_DEVELOPMENT"

    run(scenario())
