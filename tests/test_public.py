"""The public face: the names users import from `gatebook`, pinned."""

import subprocess
import sys

import gatebook

NAMES = [
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
    "RETRY",
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


def test_the_public_names_are_pinned() -> None:
    """A name that users import may not go away or appear by accident."""
    assert sorted(gatebook.__all__) == sorted(NAMES)


def test_every_public_name_resolves() -> None:
    """A lazy table can name what does not exist."""
    for name in gatebook.__all__:
        assert getattr(gatebook, name) is not None


def test_a_star_import_gives_all_of_them() -> None:
    """Lazy attributes must work for readers who import everything at once."""
    code = "from gatebook import *; print(run_sync.__name__, Agent.__name__, Waiting.__name__)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["run_sync", "Agent", "Waiting"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    """`hasattr` and editors rely on it."""
    assert not hasattr(gatebook, "Manager")
