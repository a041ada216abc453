"""The tools that ship, called by a model that was talked into it: what it reads, what is left."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gatebook.kernel.events import ActionFailed
from gatebook.testing.fault_server import FaultServer, answer
from gatebook.tools import files, http, shell
from tests.catalogue.kit import Asked, legible
from tests.runtime.kit import run

CANARY = "canary-7f3e91d2b4"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder beside a secret, with a link to it."""
    (tmp_path / "secret").write_text(CANARY)
    path = tmp_path / "folder"
    path.mkdir()
    (path / "link").symlink_to("../secret")
    (path / "up").symlink_to("..")
    return path


async def read_back(tool: str, *tools: Any, **args: Any) -> tuple[str, Asked]:
    """What a model reads when it calls a tool with these arguments."""
    asked = Asked((tool, json.dumps(args)))
    (result,) = await asked.play(*tools)
    return result, asked


@pytest.mark.parametrize("path", ["../secret", "link", "up/secret", "/etc/passwd", "a\x00b"])
def test_a_path_that_leads_out_is_an_error_the_model_reads(path: str, folder: Path) -> None:
    """A9: it can choose another path; what lies outside stands nowhere."""

    async def scenario() -> None:
        result, asked = await read_back("fs.read", *files(folder), path=path)

        legible(result, "E_PATH", "below the folder")
        await asked.desk.only("r", ActionFailed)
        assert CANARY not in str(await asked.desk.events("r"))

    run(scenario())


def test_a_path_that_leads_out_is_not_written(folder: Path) -> None:
    """A9: neither to what is there nor to what is not."""

    async def scenario() -> None:
        for path in ("link", "up/secret", "up/new"):
            made = files(folder, write=True)
            result, _ = await read_back("fs.write", *made, path=path, text="x", overwrite=True)
            legible(result, "E_PATH")

    run(scenario())

    assert (folder.parent / "secret").read_text() == CANARY
    assert not (folder.parent / "new").exists()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1:{port}/", "E_HTTP_ADDRESS"),
        ("http://2130706433:{port}/", "E_HTTP_URL"),
        ("http://0x7f000001:{port}/", "E_HTTP_URL"),
        ("http://[::ffff:127.0.0.1]:{port}/", "E_HTTP_ADDRESS"),
        ("http://localhost:{port}/", "E_HTTP_ADDRESS"),
        ("http://user@127.0.0.1:{port}/", "E_HTTP_URL"),
        ("http://169.254.169.254/latest/meta-data/", "E_HTTP_HOST"),
    ],
)
def test_an_address_of_ours_is_an_error_the_model_reads(url: str, code: str) -> None:
    """A10: even where whoever declared the tool was careless enough to list the name."""

    async def scenario() -> None:
        async with FaultServer(answer(200, CANARY)) as server:
            port = server.url.rpartition(":")[2]
            made = http(["127.0.0.1:*", "localhost:*"], schemes=["http"])
            result, asked = await read_back("http.get", *made, url=url.format(port=port))

            legible(result, code)
            assert server.connections == 0
            assert CANARY not in str(await asked.desk.events("r"))

    run(scenario())


def test_a_command_in_an_argument_is_text(folder: Path) -> None:
    """A11: no character of an argument has a meaning."""

    async def scenario() -> None:
        hostile = ["echo", "$(cat ../secret)", ";", "cat", "../secret", "`cat ../secret`"]
        result, _ = await read_back("shell.run", shell(["echo"], cwd=folder), argv=hostile)

        assert json.loads(result)["stdout"] == " ".join(hostile[1:]) + "\n"

    run(scenario())


@pytest.mark.parametrize("argv", [["sh", "-c", "cat ../secret"], ["/bin/cat", "../secret"]])
def test_a_program_that_is_not_listed_is_an_error_the_model_reads(
    argv: list[str], folder: Path
) -> None:
    """It reads which are, and can choose one."""

    async def scenario() -> None:
        result, asked = await read_back("shell.run", shell(["echo"], cwd=folder), argv=argv)

        legible(result, "E_SHELL_PROGRAM", "echo")
        assert CANARY not in str(await asked.desk.events("r"))

    run(scenario())


def test_a_flood_of_output_is_cut_for_the_model(folder: Path) -> None:
    """A17: it reads the beginning, and how it ended."""

    async def scenario() -> None:
        made = shell(["head"], cwd=folder)
        argv = ["head", "-c", "5000000", "/dev/zero"]
        result, _ = await read_back("shell.run", made, argv=argv)

        assert len(result) < 70_000
        assert result.startswith('{"exit_code":0,')
        assert "the whole is kept as artifact" in result

    run(scenario())


def test_calls_of_one_turn_run_at_once(folder: Path) -> None:
    """Reads overlap, as of any tool."""

    async def scenario() -> None:
        async with FaultServer(answer(200, "x")) as server:
            made = http(["127.0.0.1:*"], schemes=["http"], private=["127.0.0.1"])
            calls = [("http.get", json.dumps({"url": f"{server.url}/{n}"})) for n in range(5)]
            results = await Asked(*calls).play(*made)

            assert len(results) == server.count == 5

    asyncio.run(scenario())
