"""Gatebook: the runtime through which every effect of an LLM agent passes.

One gate, one journal, one owner of retries. Everything here is imported when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatebook.errors import (
        ActionDenied,
        ActionError,
        ConfigError,
        GatebookError,
        InvalidInput,
        Permanent,
        ProviderError,
        RateLimited,
        RunCancelled,
        RunConflict,
        RunDenied,
        RunFailed,
        RunIsOver,
        RunNotFound,
        RunWaiting,
        SignalTimeout,
        ToolRetry,
        Transient,
    )
    from gatebook.kernel.actions import CallLLM, CallTool, Sleep, WaitSignal
    from gatebook.kernel.budget import Budget
    from gatebook.kernel.messages import Message
    from gatebook.kernel.policy import (
        AllowDeclared,
        AllowListPolicy,
        Decision,
        Fail,
        Policy,
        PolicyContext,
        Retry,
        RetryWithBackoffPolicy,
    )
    from gatebook.programs import Agent, Workflow, WorkflowContext, workflow
    from gatebook.providers.openai_compatible import OpenAICompatible
    from gatebook.providers.scripted import Scripted
    from gatebook.runtime.client import Client
    from gatebook.runtime.handles import (
        RETRY,
        Cancelled,
        Denied,
        Failed,
        Finished,
        RunHandle,
        RunResult,
        Succeeded,
        Waiting,
    )
    from gatebook.runtime.runtime import Runtime
    from gatebook.runtime.subscriptions import Reset
    from gatebook.runtime.sync import run_sync
    from gatebook.tools import ToolContext, tool

_ERRORS = "gatebook.errors"
_POLICY = "gatebook.kernel.policy"
_ACTIONS = "gatebook.kernel.actions"
_HANDLES = "gatebook.runtime.handles"

_HOMES = {
    "ActionDenied": _ERRORS,
    "ActionError": _ERRORS,
    "Agent": "gatebook.programs",
    "AllowDeclared": _POLICY,
    "AllowListPolicy": _POLICY,
    "Budget": "gatebook.kernel.budget",
    "CallLLM": _ACTIONS,
    "CallTool": _ACTIONS,
    "Cancelled": _HANDLES,
    "Client": "gatebook.runtime.client",
    "ConfigError": _ERRORS,
    "Decision": _POLICY,
    "Denied": _HANDLES,
    "Fail": _POLICY,
    "Failed": _HANDLES,
    "Finished": _HANDLES,
    "GatebookError": _ERRORS,
    "InvalidInput": _ERRORS,
    "Message": "gatebook.kernel.messages",
    "OpenAICompatible": "gatebook.providers.openai_compatible",
    "Permanent": _ERRORS,
    "Policy": _POLICY,
    "PolicyContext": _POLICY,
    "ProviderError": _ERRORS,
    "RETRY": _HANDLES,
    "RateLimited": _ERRORS,
    "Reset": "gatebook.runtime.subscriptions",
    "Retry": _POLICY,
    "RetryWithBackoffPolicy": _POLICY,
    "RunCancelled": _ERRORS,
    "RunConflict": _ERRORS,
    "RunDenied": _ERRORS,
    "RunFailed": _ERRORS,
    "RunHandle": _HANDLES,
    "RunIsOver": _ERRORS,
    "RunNotFound": _ERRORS,
    "RunResult": _HANDLES,
    "RunWaiting": _ERRORS,
    "Runtime": "gatebook.runtime.runtime",
    "Scripted": "gatebook.providers.scripted",
    "SignalTimeout": _ERRORS,
    "Sleep": _ACTIONS,
    "Succeeded": _HANDLES,
    "ToolContext": "gatebook.tools",
    "ToolRetry": _ERRORS,
    "Transient": _ERRORS,
    "WaitSignal": _ACTIONS,
    "Waiting": _HANDLES,
    "Workflow": "gatebook.programs",
    "WorkflowContext": "gatebook.programs",
    "run_sync": "gatebook.runtime.sync",
    "tool": "gatebook.tools",
    "workflow": "gatebook.programs",
}

__version__ = "0.1.0"
__all__ = sorted(_HOMES)  # noqa: PLE0605 - the table is the list


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gatebook' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
