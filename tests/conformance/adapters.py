"""The adapters under test: how each is made, and which dialect its server speaks."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from gatebook.ports import Provider
from gatebook.testing.dialects import CHAT, GEMINI, MESSAGES, RESPONSES, Dialect

KEY = "test-key-0123456789"


@dataclass(frozen=True)
class Adapter:
    """One adapter and its server.

    Attributes:
        sdk: the package it is built on; imported before a test measures anything.
        path: what follows the server's address in its base URL.
    """

    name: str
    module: str
    cls: str
    sdk: str
    dialect: Dialect
    path: str = ""

    def __str__(self) -> str:
        return self.name

    def make(self, url: str, **options: Any) -> Provider:
        """Return a provider for the server at `url`; fails where the adapter is not there."""
        importlib.import_module(self.sdk)
        cls: Callable[..., Any] = getattr(importlib.import_module(self.module), self.cls)
        settings = {"api_key": KEY, "name": "it", "base_url": url + self.path}
        provider: Provider = cls(**settings | options)
        return provider


HOME = "gatebook.providers"
CHAT_ADAPTER = Adapter(
    "openai_compatible", f"{HOME}.openai_compatible", "OpenAICompatible", "httpx2", CHAT, "/v1"
)
RESPONSES_ADAPTER = Adapter(
    "openai_responses", f"{HOME}.openai_responses", "OpenAIResponses", "openai", RESPONSES, "/v1"
)
ANTHROPIC_ADAPTER = Adapter("anthropic", f"{HOME}.anthropic", "Anthropic", "anthropic", MESSAGES)
GOOGLE_ADAPTER = Adapter("google", f"{HOME}.google", "Google", "google.genai", GEMINI)

ADAPTERS = (CHAT_ADAPTER, RESPONSES_ADAPTER, ANTHROPIC_ADAPTER, GOOGLE_ADAPTER)


def on(*adapters: Adapter) -> pytest.MarkDecorator:
    """Run a test on these adapters: those its case applies to."""
    return pytest.mark.parametrize("adapter", adapters, ids=str)


every_adapter = on(*ADAPTERS)
