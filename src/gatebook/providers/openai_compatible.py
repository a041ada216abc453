"""Chat completions over raw HTTP: the reference adapter, for OpenAI and all that speak like it.

One call is one request: it never retries and never sleeps. It knows connections, deadlines and
keys; the wire format is `chat_wire` and `chat_answer`, what an error means is `kernel.classify`.
"""

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from gatebook.errors import ProviderError
from gatebook.kernel.classify import classify_exception, malformed, request_id
from gatebook.kernel.messages import Call, Capabilities, ChatRequest, ChatResponse, Timeouts
from gatebook.kernel.streams.machine import StreamMachine
from gatebook.providers.chat_answer import AnswerReader
from gatebook.providers.chat_stream import ChatStream, Sent
from gatebook.providers.chat_wire import request_body, tool_names
from gatebook.providers.clients import Clients
from gatebook.providers.transport import (
    ApiKey,
    checked_url,
    connect_limit,
    current_key,
    host_of,
    located,
    pool,
    refusal_of,
    timed_out,
    whole_body,
    without_key,
)

if TYPE_CHECKING:
    import httpx2


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How one server strays from the protocol.

    Attributes:
        max_tokens_field: where the output limit goes; OpenAI's own models want
            `max_completion_tokens`, most others know `max_tokens` only.
        headers: sent with every request; not for secrets, which belong in the key.
    """

    max_tokens_field: str = "max_tokens"
    headers: dict[str, str] = {}


OPENAI = Dialect(max_tokens_field="max_completion_tokens")


class OpenAICompatible:
    """A provider behind `base_url`/chat/completions.

    The key may be a function, asked before every request, so that it can be rotated. It is never
    shown: not in `repr`, not in errors, even when the server repeats it.
    """

    def __init__(
        self,
        base_url: str,
        api_key: ApiKey = None,
        *,
        name: str = "openai",
        capabilities: Capabilities | None = None,
        dialect: Dialect | None = None,
        max_connections: int = 100,
    ) -> None:
        """Describe an endpoint; nothing is opened before the first call.

        Raises:
            ConfigError: E_CONFIG, the base URL is not http or https, or holds a password.
        """
        self.base_url = checked_url(base_url)
        self._host = host_of(self.base_url)
        self.name = name
        self.capabilities = capabilities or Capabilities()
        self.dialect = dialect or (OPENAI if "//api.openai.com" in base_url else Dialect())
        self.max_connections = max_connections
        self._api_key = api_key
        self._clients: Clients[httpx2.AsyncClient] = Clients(
            "httpx2", self._client, lambda made: made.aclose()
        )

    def __repr__(self) -> str:
        """Show the endpoint, never the key."""
        return f"OpenAICompatible({self.base_url!r}, name={self.name!r})"

    def stream(self, request: ChatRequest, call: Call) -> ChatStream:
        """Return one streamed attempt: `async with` it, then iterate. Raises ProviderError only."""

        async def send(deadline: float) -> Sent:
            return await self._send(request, call, deadline=deadline, stream=True)

        return ChatStream(send, request.timeouts, self.capabilities.terminal, ready=self._ready)

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Make one blocking attempt. Raises ProviderError only."""
        await self._ready()
        deadline = asyncio.get_running_loop().time() + request.timeouts.total_ms / 1000
        sent = await self._send(request, call, deadline=deadline, stream=False)
        try:
            body = await whole_body(sent.response, deadline)
            return self._read_whole(request, sent, body)
        except ProviderError as error:
            raise located(without_key(error, sent.key), self._host) from error.__cause__

    async def aclose(self) -> None:
        """Close the connections of the running loop; the provider can be used again."""
        await self._clients.aclose()

    async def _ready(self) -> None:
        """Make the client of this loop, at the first call."""
        try:
            await self._clients.get()
        except Exception as exc:
            raise classify_exception(exc) from exc

    async def _send(
        self, request: ChatRequest, call: Call, *, deadline: float, stream: bool
    ) -> Sent:
        """Send the request; return when its 200 has come. Anything else is closed and raised."""
        names, key = tool_names(request), current_key(self._api_key)
        content = request_body(
            request,
            names,
            capabilities=self.capabilities,
            max_tokens_field=self.dialect.max_tokens_field,
            stream=stream,
        )
        headers = {
            **self.dialect.headers,
            "content-type": "application/json",
            "accept": "text/event-stream" if stream else "application/json",
            "idempotency-key": call.idempotency_key,
        }
        if stream:
            headers["accept-encoding"] = "identity"  # a compressor would hold deltas back
        if key:
            headers["authorization"] = f"Bearer {key}"
        try:
            response = await self._post(content, headers, request.timeouts, deadline)
            if response.status_code != 200:
                raise await refusal_of(response, deadline)
        except ProviderError as error:
            raise located(without_key(error, key), self._host) from error.__cause__
        return Sent(response, names, key, self._host)

    async def _post(
        self, content: bytes, headers: dict[str, str], timeouts: Timeouts, deadline: float
    ) -> "httpx2.Response":
        url = f"{self.base_url}/chat/completions"
        try:
            async with asyncio.timeout_at(deadline):
                client = await self._clients.get()
                limits = connect_limit(timeouts)
                message = client.build_request(
                    "POST", url, content=content, headers=headers, timeout=limits
                )
                return await client.send(message, stream=True)
        except TimeoutError as exc:
            raise timed_out("no response came in time") from exc
        except Exception as exc:
            raise classify_exception(exc) from exc

    def _client(self, _: Any) -> "httpx2.AsyncClient":
        import httpx2

        return httpx2.AsyncClient(limits=pool(self.max_connections), follow_redirects=False)

    def _read_whole(self, request: ChatRequest, sent: Sent, body: bytes) -> ChatResponse:
        served_as = request_id(sent.response.headers)
        answer = AnswerReader(sent.names, request_id=served_as)
        machine = StreamMachine(must_call=request.must_call)
        machine.open()
        for event in answer.read(body):
            machine.feed(event)
        if not answer.finished:
            raise malformed("the answer has no finished choice", request_id=served_as)
        for event in answer.end():
            machine.feed(event)
        return machine.response
