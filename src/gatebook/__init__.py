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
    from gatebook.kernel.approvals.terms import ApprovalTerms, DeferTerms
    from gatebook.kernel.budget import Budget, Soft
    from gatebook.kernel.hooks.declared import Change, Deny, hook
    from gatebook.kernel.hooks.views import (
        AfterModel,
        AfterTool,
        BeforeModel,
        BeforeTool,
        OnRunEnd,
        OnRunStart,
    )
    from gatebook.kernel.messages import Message
    from gatebook.kernel.policies import AllowDeclared, AllowListPolicy, RetryWithBackoffPolicy
    from gatebook.kernel.policy import Decision, Fail, PolicyContext, Retry
    from gatebook.kernel.secrets import Secret
    from gatebook.programs.agent import Agent
    from gatebook.programs.context import WorkflowContext
    from gatebook.programs.workflow import Workflow, workflow
    from gatebook.providers.openai_compatible import OpenAICompatible
    from gatebook.providers.scripted import Scripted
    from gatebook.runtime.client import Client
    from gatebook.runtime.policy_files import Policy
    from gatebook.runtime.runs.approvals import Approval
    from gatebook.runtime.runs.handles import RunHandle
    from gatebook.runtime.runs.states import (
        RETRY,
        Cancelled,
        Denied,
        Failed,
        Finished,
        RunResult,
        Succeeded,
        Waiting,
    )
    from gatebook.runtime.runtime import Runtime
    from gatebook.runtime.subscriptions import Reset
    from gatebook.runtime.sync import run_sync
    from gatebook.tools import ToolContext, tool

__version__ = "0.1.0"
__all__ = [
    "RETRY",
    "ActionDenied",
    "ActionError",
    "AfterModel",
    "AfterTool",
    "Agent",
    "AllowDeclared",
    "AllowListPolicy",
    "Approval",
    "ApprovalTerms",
    "BeforeModel",
    "BeforeTool",
    "Budget",
    "CallLLM",
    "CallTool",
    "Cancelled",
    "Change",
    "Client",
    "ConfigError",
    "Decision",
    "DeferTerms",
    "Denied",
    "Deny",
    "Fail",
    "Failed",
    "Finished",
    "GatebookError",
    "InvalidInput",
    "Message",
    "OnRunEnd",
    "OnRunStart",
    "OpenAICompatible",
    "Permanent",
    "Policy",
    "PolicyContext",
    "ProviderError",
    "RateLimited",
    "Reset",
    "Retry",
    "RetryWithBackoffPolicy",
    "RunCancelled",
    "RunConflict",
    "RunDenied",
    "RunFailed",
    "RunHandle",
    "RunIsOver",
    "RunNotFound",
    "RunResult",
    "RunWaiting",
    "Runtime",
    "Scripted",
    "Secret",
    "SignalTimeout",
    "Sleep",
    "Soft",
    "Succeeded",
    "ToolContext",
    "ToolRetry",
    "Transient",
    "WaitSignal",
    "Waiting",
    "Workflow",
    "WorkflowContext",
    "hook",
    "run_sync",
    "tool",
    "workflow",
]

_NAMES = {
    "gatebook.errors": (
        "ActionDenied",
        "ActionError",
        "ConfigError",
        "GatebookError",
        "InvalidInput",
        "Permanent",
        "ProviderError",
        "RateLimited",
        "RunCancelled",
        "RunConflict",
        "RunDenied",
        "RunFailed",
        "RunIsOver",
        "RunNotFound",
        "RunWaiting",
        "SignalTimeout",
        "ToolRetry",
        "Transient",
    ),
    "gatebook.kernel.actions": (
        "CallLLM",
        "CallTool",
        "Sleep",
        "WaitSignal",
    ),
    "gatebook.kernel.approvals.terms": ("ApprovalTerms", "DeferTerms"),
    "gatebook.kernel.budget": ("Budget", "Soft"),
    "gatebook.kernel.hooks.declared": ("Change", "Deny", "hook"),
    "gatebook.kernel.hooks.views": (
        "AfterModel",
        "AfterTool",
        "BeforeModel",
        "BeforeTool",
        "OnRunEnd",
        "OnRunStart",
    ),
    "gatebook.kernel.messages": ("Message",),
    "gatebook.kernel.policies": ("AllowDeclared", "AllowListPolicy", "RetryWithBackoffPolicy"),
    "gatebook.kernel.policy": ("Decision", "Fail", "PolicyContext", "Retry"),
    "gatebook.kernel.secrets": ("Secret",),
    "gatebook.programs.agent": ("Agent",),
    "gatebook.programs.context": ("WorkflowContext",),
    "gatebook.programs.workflow": (
        "Workflow",
        "workflow",
    ),
    "gatebook.providers.openai_compatible": ("OpenAICompatible",),
    "gatebook.providers.scripted": ("Scripted",),
    "gatebook.runtime.client": ("Client",),
    "gatebook.runtime.policy_files": ("Policy",),
    "gatebook.runtime.runs.approvals": ("Approval",),
    "gatebook.runtime.runs.handles": ("RunHandle",),
    "gatebook.runtime.runs.states": (
        "Cancelled",
        "Denied",
        "Failed",
        "Finished",
        "RETRY",
        "RunResult",
        "Succeeded",
        "Waiting",
    ),
    "gatebook.runtime.runtime": ("Runtime",),
    "gatebook.runtime.subscriptions": ("Reset",),
    "gatebook.runtime.sync": ("run_sync",),
    "gatebook.tools": (
        "ToolContext",
        "tool",
    ),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


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
