"""Secrets on the command line: what gatebook.toml names is known to every command."""

from tests.cli.conftest import ALLOW, Inside

VALUE = "t0k3n-of-the-command-line"
SECRETS = '[secrets]\nbank = "file:bank.key"\n'


def test_what_is_typed_is_cut_by_what_the_settings_name(gatebook: Inside) -> None:
    """A signal's payload is stored and shown like anything else."""
    (gatebook.path / "gatebook.toml").write_text(SECRETS)
    (gatebook.path / "bank.key").write_text(VALUE + "\n")
    gatebook("run", "app:ask", "--run-id", "r", *ALLOW)

    sent = gatebook("signal", "r", "go", f'{{"key": "{VALUE}"}}')
    shown = gatebook("show", "r", "--events").stdout
    stored = b"".join(path.read_bytes() for path in gatebook.path.rglob("*.db*") if path.is_file())

    assert sent.returncode == 0, sent.stderr
    assert "[redacted:registered]" in shown
    assert VALUE not in shown
    assert stored
    assert VALUE.encode() not in stored


def test_a_value_in_the_settings_is_refused_and_not_repeated(gatebook: Inside) -> None:
    """The file is committed, and the error is pasted into a ticket."""
    (gatebook.path / "gatebook.toml").write_text(f'[secrets]\nbank = "{VALUE}"\n')

    done = gatebook("list")

    assert done.returncode != 0
    assert "gatebook.toml:2" in done.stderr
    assert VALUE not in done.stderr


BANK = '''"""A bank whose key stands in the settings."""

from gatebook import AllowDeclared, Runtime, Secret, tool, workflow


@tool(effect="read")
async def balance(token: Secret[str]) -> str:
    return f"{len(token.reveal())} characters: {token.reveal()}"


@workflow(tools=[balance])
async def look(ctx) -> str:
    return await ctx.call_tool(balance, token=Secret.named("bank"))


runtime = Runtime(programs=[look], policy=AllowDeclared())
'''


def test_a_run_of_the_command_line_gets_the_secrets_of_the_settings(gatebook: Inside) -> None:
    """There is no other place to name them."""
    (gatebook.path / "gatebook.toml").write_text(SECRETS)
    (gatebook.path / "bank.key").write_text(VALUE + "\n")
    (gatebook.path / "bank.py").write_text(BANK)

    done = gatebook("run", "look", "--app", "bank:runtime")

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{len(VALUE)} characters: [redacted:registered]"
