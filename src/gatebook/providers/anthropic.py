"""Anthropic's Messages API over the official SDK (extra `anthropic`), its retries switched off.

One call is one request. The SDK makes and sends it; the answer is read from its response
undecoded, because the SDK passes over events it cannot read and ends a cut stream like a whole one.
"""

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from gatebook.kernel.classify import request_id
from gatebook.kernel.messages import Call, Capabilities, ChatRequest, ChatResponse, StreamEvent
from gatebook.providers.anthropic_stream import MessageReader
from gatebook.providers.anthropic_wire import SAMPLING, request_body
from gatebook.providers.chat_wire import ToolNames, tool_names
from gatebook.providers.clients import Clients
from gatebook.providers.sdk import (
    Opened,
    SdkStream,
    completed,
    http_client,
    require_extra,
    vendor_key,
)
from gatebook.providers.sdk_sse import opened_sse
from gatebook.providers.transport import ApiKey, checked_url, connect_limit, host_of, whole_body

if TYPE_CHECKING:
    import httpx2

BASE_URL = "https://api.anthropic.com"
KEY_VARIABLE = "ANTHROPIC_API_KEY"
LAST_VERSION_WITH_SAMPLING = "2023-06-01"  # 2026-10-21 refuses temperature, top_p and top_k
CAPABILITIES = Capabilities(terminal="event")


class Anthropic:
    """A provider behind Anthropic's Messages API, or a server that speaks it.

    The key may be a function, asked before every request, so that it can be rotated. It is never
    shown: not in `repr`, not in errors, even when the server repeats it.
    """

    def __init__(
        self,
        api_key: ApiKey = None,
        *,
        base_url: str | None = None,
        name: str = "anthropic",
        max_connections: int = 100,
    ) -> None:
        """Describe an endpoint; nothing is imported or opened before the first call.

        Args:
            api_key: None for the one in ANTHROPIC_API_KEY, or, with a `base_url`, for none.
            base_url: without "/v1"; None for Anthropic's own.
            name: for errors and events.
            max_connections: how many calls may be under way at once.

        Raises:
            ConfigError: E_EXTRA_MISSING, E_KEY_MISSING, or E_CONFIG: the base URL is not http or
                https, or holds a password.
        """
        require_extra("anthropic", "anthropic")
        self.base_url = BASE_URL if base_url is None else checked_url(base_url)
        self._host = host_of(self.base_url)
        self.name = name
        self.capabilities = CAPABILITIES
        self.max_connections = max_connections
        self._api_key = vendor_key(api_key, KEY_VARIABLE, base_url=base_url, provider=name)
        self._clients: Clients[Any] = Clients("anthropic", self._make, lambda made: made.close())

    def __repr__(self) -> str:
        """Show the endpoint, never the key."""
        return f"Anthropic({self.base_url!r}, name={self.name!r})"

    def stream(self, request: ChatRequest, call: Call) -> SdkStream:
        """Return one streamed attempt: `async with` it, then iterate. Raises ProviderError only."""

        async def send(key: str) -> Opened:
            names = tool_names(request)
            response = await self._send(request, call, names, key, stream=True)
            served_as = request_id(response.headers)
            reader = MessageReader(names, request_id=served_as)
            return opened_sse(response, reader, request_id=served_as)

        return SdkStream(
            send, request.timeouts, self._api_key, ready=self._clients.get, host=self._host
        )

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Make one blocking attempt. Raises ProviderError only."""
        deadline = asyncio.get_running_loop().time() + request.timeouts.total_ms / 1000

        async def ask(key: str) -> list[StreamEvent]:
            names = tool_names(request)
            response = await self._send(request, call, names, key, stream=False)
            body = await whole_body(response, deadline)
            reader = MessageReader(names, request_id=request_id(response.headers))
            return [*reader.read(body), *reader.end()]

        return await completed(
            ask, request, self._api_key, ready=self._clients.get, host=self._host
        )

    async def aclose(self) -> None:
        """Close the connections of the running loop; the provider can be used again."""
        await self._clients.aclose()

    def _make(self, module: Any) -> Any:
        """Return the SDK's client. Its key is a placeholder: each request brings the real one."""
        return module.AsyncAnthropic(
            api_key="unset",
            base_url=self.base_url,
            max_retries=0,
            http_client=http_client(self.max_connections),
        )

    async def _send(
        self, request: ChatRequest, call: Call, names: ToolNames, key: str, *, stream: bool
    ) -> "httpx2.Response":
        """Send the request; return the SDK's response when its 200 has come, the body unread."""
        import httpx2

        client = await self._clients.get()
        import anthropic

        body = request_body(request, names, fit_schema=anthropic.transform_schema, stream=stream)
        headers: dict[str, Any] = {
            "accept": "text/event-stream" if stream else "application/json",
            "authorization": f"Bearer {key}" if key else anthropic.Omit(),
            "idempotency-key": call.idempotency_key,
        }
        if stream:
            headers["accept-encoding"] = "identity"  # a compressor would hold deltas back
        if any(name in body for name in SAMPLING):
            headers["anthropic-version"] = LAST_VERSION_WITH_SAMPLING
        response: httpx2.Response = await client.post(
            "/v1/messages",
            cast_to=httpx2.Response,
            content=msgspec.json.encode(body),
            options={"headers": headers, "timeout": connect_limit(request.timeouts)},
            stream=True,
            stream_cls=anthropic.AsyncStream[Any],
        )
        return response
