"""What tests of fallback share: three providers that fail as told, a call along all of them."""

from typing import Any

from tests.runtime.kit import Desk, Model, flow

from gatebook.errors import ActionDenied, ActionError, ProviderError
from gatebook.kernel.policies import AllowDeclared, RetryWithBackoffPolicy
from gatebook.kernel.policy import Policy
from gatebook.runtime.runs.handles import RunHandle

ROUTES = ["a:m", "b:n", "c:o"]


def error(category: str, kind: str = "transient", **fields: Any) -> ProviderError:
    return ProviderError("no", kind=kind, category=category, **{"phase": "response"} | fields)


async def asking(ctx: Any) -> str:
    try:
        return str((await ctx.call_llm(ROUTES, "hi")).text)
    except ActionDenied as exc:
        return exc.code
    except ActionError as exc:
        return f"{exc.code} {exc.fields.get('category')}"


PROGRAM = flow(asking, models=ROUTES)


class Models:
    """Three providers, a, b and c; what each says, attempt by attempt."""

    def __init__(self, a: list[Any], b: list[Any] | None = None, c: list[Any] | None = None):
        self.of = {"a": Model(*a), "b": Model(*b or []), "c": Model(*c or [])}

    @property
    def asked(self) -> dict[str, int]:
        """How often each was asked."""
        return {name: len(model.asked) for name, model in self.of.items() if model.asked}


def quick(retries: int = 1) -> Policy:
    return RetryWithBackoffPolicy(AllowDeclared(), retries, 0)


async def output_of(desk: Desk, handle: RunHandle[Any]) -> Any:
    return (await desk.clock.until(handle.result())).output


async def ending(models: Models, policy: Policy | None = None) -> tuple[Any, Desk]:
    """What a run gave that asks along the three routes, and where its journal is."""
    desk = Desk(policy=policy or quick())
    async with desk.open(providers=models.of) as runtime:
        output = await output_of(desk, await runtime.start(PROGRAM, None, run_id="r"))
    await desk.journal.open()
    return output, desk
