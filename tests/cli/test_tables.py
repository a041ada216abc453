"""Tables on terminals of every width: what matters is never cut off."""

import re

import pytest

from tests.cli.conftest import ALLOW, Folder, Inside
from tests.cli.test_terminal import COLOUR, on_a_terminal


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    """The command, in a folder with a run that waits and one that failed, both with long ids."""
    folder = Inside(tmp_path_factory.mktemp("tables"))
    folder("run", "app:ask", *ALLOW)
    folder("run", "app:pay", "17", "--run-id", "paid", *ALLOW)
    return folder


def screen(folder: Folder, width: int, *args: str) -> str:
    return COLOUR.sub("", on_a_terminal(folder, *args, COLUMNS=str(width)))


WIDTHS = (40, 60, 80, 120)


@pytest.mark.parametrize("width", WIDTHS)
def test_list_says_what_a_run_waits_for(width: int, kept: Inside) -> None:
    """It is the column that tells people what to do."""
    shown = screen(kept, width, "list")
    run = kept.json("list")["runs"][1]["run"]

    assert "signal go" in shown
    assert run in shown or width < len(run) + 20
    assert re.search(r"^RUN +PROGRAM +STATUS", shown)
    assert max(map(len, shown.splitlines())) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_show_says_what_went_in_and_out(width: int, kept: Inside) -> None:
    """A narrow terminal has it below the row, and no column of four characters."""
    shown = screen(kept, width, "show", "paid").split("\n\n")[1]

    assert '{"order":"17"}→{"amount":20}' in "".join(shown.split())
    assert len(shown.splitlines()) <= 8
    assert max(map(len, shown.splitlines())) <= width


def test_a_wide_terminal_has_every_column(kept: Inside) -> None:
    """Columns go only where there is no room."""
    shown = screen(kept, 120, "show", "paid")

    assert re.search(
        r"^ADDRESS +KIND +ACTION +STATUS +TRIES +STARTED +TOOK +TOKENS +D", shown, re.M
    )


@pytest.mark.parametrize(
    ("args", "has"),
    [
        (("list",), "EVENTS +LAST EVENT"),
        (("verify", "--all"), "STATUS +EVENTS"),
        (("show", "@last", "--cost"), "COST +TIME"),
    ],
)
def test_a_name_of_a_column_is_not_broken(
    args: tuple[str, ...], has: str, gatebook: Inside
) -> None:
    """Where nothing stands in a column there is no need for it; the names of others fit."""
    gatebook("run", "app:support", "What does it cost?", *ALLOW)

    head, rule, *rows = screen(gatebook, 80, *args).split("\n\n")[-1].splitlines()

    assert re.search(has, head)
    assert set(rule) == {"─"}
    assert max(map(len, [head, *rows])) <= 80


@pytest.mark.parametrize("verb", ["doctor", "approvals", "verify"])
def test_other_tables_fit_too(verb: str, kept: Inside) -> None:
    """They are drawn by the same hand."""
    args = ("verify", "--all") if verb == "verify" else (verb,)
    table = screen(kept, 60, *args).splitlines()

    assert max(map(len, table)) <= 60
