"""`gatebook init`: writes a first policy for an app."""

import os

import click

from gatebook.cli.apps import App, load_app
from gatebook.cli.options import Given, Verb
from gatebook.cli.output import document, say, table
from gatebook.cli.policies.files import as_json, specs_of
from gatebook.errors import ConfigError
from gatebook.kernel.actions import CallLLM, Prompt, split_route
from gatebook.kernel.review.starter import Starter, starter

STDOUT = "-"


@click.command(
    cls=Verb,
    examples=(
        "gatebook init app:support",
        "gatebook init app:support --out policies/support.toml",
        "gatebook init app:support --out - | less",
    ),
)
@click.argument("target", metavar="APP")
@click.option(
    "--out", default="policy.toml", show_default=True, metavar="FILE", help="Where; - prints it."
)
@as_json
def command(target: str, out: str, as_json: bool) -> None:
    """Write a first policy from what an app declares; an existing file is never overwritten.

    APP is MODULE:ATTR: a program, a Runtime or a list of programs. Tools that only read are
    allowed, every other tool is allowed and asks first, models are the declared routes, and
    budgets are set. Each rule has its test in the file.
    """
    app = load_app(target)
    found = _draft(app, target)
    if out == STDOUT and not as_json:
        print(found.text, end="")
        return
    if out != STDOUT:
        _write(out, found.text)
    if as_json:
        document(
            path=None if out == STDOUT else out, rules=list(found.rules),
            verdicts=[{"verdict": verdict, "what": what} for verdict, what in found.verdicts],
            toml=found.text,
        )  # fmt: skip
        return
    table(("VERDICT", "TOOL OR MODEL"), found.verdicts, styled=0)
    say(f"wrote {out}: what it does not name is denied. Next:")
    given = Given()
    say(f"  {given.line('policy', 'check', out, '--app', target)}")
    say(f"  {given.line('policy', 'test', out)}")
    if len(app.programs) == 1:
        say(f"  {given.line('run', target)} INPUT --policy {out}")


def _draft(app: App, target: str) -> Starter:
    routes = [route for program in app.programs.values() for route in program.models]
    names = list(app.programs)
    name = names[0] if len(names) == 1 else target.partition(":")[0]
    return starter(
        name[:64], specs_of(app), routes, target=target,
        unpriced=[route for route in dict.fromkeys(routes) if not _is_priced(route)],
    )  # fmt: skip


def _is_priced(route: str) -> bool:
    """Whether a limit in dollars can be kept for a route."""
    from gatebook.runtime.clock import SystemClock
    from gatebook.runtime.models.prices import Prices

    provider, model = split_route(route)
    prices = Prices(configured=Given().settings.prices, now=SystemClock().now)
    return (
        prices.price(CallLLM(provider=provider, model=model, prompt=Prompt(digest=""))) is not None
    )


def _write(path: str, text: str) -> None:
    """Write a new file. Raises ConfigError E_POLICY_EXISTS or E_POLICY_FILE."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError as exc:
        raise ConfigError("E_POLICY_EXISTS", path=path) from exc
    except OSError as exc:
        why = exc.strerror or type(exc).__name__
        raise ConfigError("E_POLICY_FILE", path=path, detail=why) from exc
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
