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
