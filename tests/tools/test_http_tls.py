"""`http` over TLS: whose certificate is good."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.runtime.kit import PATIENCE_S
from tests.tools.shipped import ask
from tests.tools.web import names, refused, tools

from gatebook.testing.fault_server import head


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for web.example with its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes certificates, is not installed")
    path = tmp_path_factory.mktemp("tls") / "web.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=web.example",
         "-addext", "subjectAltName=DNS:web.example", "-days", "2", "-keyout", "key.pem",
         "-out", "cert.pem"],
        cwd=path.parent, check=True, capture_output=True,
    )  # fmt: skip
    parts = [(path.parent / name).read_text() for name in ("key.pem", "cert.pem")]
    path.write_text("".join(parts))
    return path


def over_tls(certificate: Path, scenario: Callable[[int, list[bytes]], Awaitable[None]]) -> None:
    """Run a scenario beside a server with a certificate, given its port and what it was sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(head(200, {"content-length": "2"}) + b"ok")
        await writer.drain()
        writer.close()

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
            async with server:
                await scenario(server.sockets[0].getsockname()[1], heard)

    asyncio.run(bounded())


def test_the_certificate_is_checked_for_the_name_though_an_address_is_called(
    certificate: Path,
) -> None:
    """Calling a checked address must not cost what TLS proves."""
    resolve = names(web=["127.0.0.1"], other=["127.0.0.1"])

    async def scenario(port: int, heard: list[bytes]) -> None:
        hosts = [f"web.example:{port}", f"other.example:{port}"]
        tls = ssl.create_default_context(cafile=str(certificate))
        made = tools(hosts, schemes=["https"], resolve=resolve, tls=tls)

        assert (await ask(made["get"], url=f"https://{hosts[0]}/"))["text"] == "ok"
        error = await refused(made["send"], url=f"https://{hosts[1]}/")
        assert error.kind == "permanent"
        assert "certificate of other.example is not good" in str(error)
        assert [b"host: web.example" in request.lower() for request in heard] == [True]

    over_tls(certificate, scenario)


def test_an_unknown_certificate_is_refused(certificate: Path) -> None:
    """Nothing was sent, and no retry makes it good."""
    resolve = names(web=["127.0.0.1"])

    async def scenario(port: int, heard: list[bytes]) -> None:
        host = f"web.example:{port}"
        made = tools([host], schemes=["https"], resolve=resolve)

        assert (await refused(made["get"], url=f"https://{host}/")).kind == "permanent"
        assert heard == []

    over_tls(certificate, scenario)
