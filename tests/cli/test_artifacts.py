"""`gatebook show --artifact`: reading back what a model was not shown."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import ALLOW, Inside

APP = '''"""An app with a tool that says a lot."""

from gatebook import tool, workflow


@tool(effect="read", max_output=100)
async def report(kind: str):
    """Report."""
    return "a line\\x1b[31m\\n" * 50 if kind == "text" else {"rows": list(range(100))}


@workflow(tools=[report])
async def read(ctx, kind: str) -> str:
    await ctx.call_tool(report, kind=kind)
    return "read"
'''


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    """The command, in a folder whose store holds two runs with long results."""
    folder = Inside(tmp_path_factory.mktemp("long"))
    (Path(folder.path) / "app.py").write_text(APP)
    for kind in ("text", "rows"):
        done = folder("run", "app:read", kind, "--run-id", kind, *ALLOW)
        assert done.returncode == 0, done.stderr
    return folder


def artifact(long: Inside, run: str) -> str:
    """The digest of a run's artifact, as `show --json` tells it."""
    (action,) = long.json("show", run)["timeline"]
    digest: str = action["artifact"]["digest"]
    return digest


def test_a_text_is_written_as_it_is(long: Inside) -> None:
    """Piped into a file it must be the file."""
    done = long("show", "text", "--artifact", artifact(long, "text"))

    assert (done.returncode, done.stdout) == (0, "a line\x1b[31m\n" * 50)


def test_other_results_are_written_as_json(long: Inside) -> None:
    """`jq` reads it."""
    done = long("show", "rows", "--artifact", artifact(long, "rows")[:12])

    assert json.loads(done.stdout) == {"rows": list(range(100))}


def test_a_document_holds_the_whole(long: Inside) -> None:
    """With --json there is one document, like everywhere."""
    found = long.json("show", "rows", "--artifact", artifact(long, "rows"))

    assert (found["schema"], found["artifact"]) == (1, {"rows": list(range(100))})


def test_the_timeline_names_it(long: Inside) -> None:
    """Who reads the beginning must see that there is more, and how it is called."""
    row = long("show", "text").stdout

    assert f"(artifact {artifact(long, 'text')[:12]})" in row


def test_a_name_that_is_not_there_is_refused(long: Inside) -> None:
    """And those that are there are named."""
    done = long("show", "text", "--artifact", "0000")

    assert (done.returncode, done.stdout) == (1, "")
    assert "[E_ARTIFACT]" in done.stderr
    assert artifact(long, "text")[:12] in done.stderr
