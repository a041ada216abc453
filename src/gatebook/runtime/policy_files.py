"""Policies that live in files: read once, checked alone, and checked against programs.

Knows files and the policy language; must not know where policies are asked.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gatebook.errors import ConfigError
from gatebook.kernel.policies import RetryWithBackoffPolicy
from gatebook.kernel.policy import Policy
from gatebook.kernel.redact import Redactor
from gatebook.kernel.rules.check import check
from gatebook.kernel.rules.document import Document, Label, Rule
from gatebook.kernel.rules.globs import any_glob
from gatebook.kernel.rules.policy import RulesPolicy, policy_from
from gatebook.ports import Program

__all__ = [
    "Policy",
    "PolicyFiles",
    "are_files",
    "check_fit",
    "document_of",
    "in_force",
    "load_policy",
]

PolicyFile = str | os.PathLike[str]
PolicyFiles = PolicyFile | Sequence[PolicyFile]
FIT = ("E_POLICY_TOOL", "E_POLICY_PATH", "W_POLICY_TOOL")  # what needs the declared tools

_log = logging.getLogger(__name__)


def load_policy(*files: PolicyFile) -> RulesPolicy:
    """Return the policy that files make together: every rule counts, the smallest limit wins.

    The files are read once: a change counts for the next runtime that is opened.

    Raises:
        ConfigError: E_POLICY_MISSING when a file cannot be read; by file and line E_POLICY_SYNTAX,
            E_POLICY_KEY, E_POLICY_VALUE, E_POLICY_FACT, E_POLICY_DUPLICATE, and
            E_POLICY_UNREACHABLE and E_POLICY_PATH for rules that can never decide.
    """
    policy = policy_from(*((_place(file), text_of(file)) for file in files))
    _refuse(check(policy.document))
    return policy


# The kernel reads no files, so its `Policy.load` comes from here, wherever a runtime is.
Policy.load = staticmethod(load_policy)


def _place(file: PolicyFile) -> str:
    """Return how errors name a file: seen from here, if it lies below."""
    path, here = os.path.abspath(file), os.path.join(os.getcwd(), "")
    return path.removeprefix(here) if path.startswith(here) else os.fspath(file)


def text_of(file: PolicyFile) -> str:
    """Return the text of a policy file. Raises ConfigError E_POLICY_MISSING."""
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as exc:
        why = exc.strerror or type(exc).__name__
    except UnicodeDecodeError:
        why = "it is not UTF-8 text"
    detail = f"can be read at {os.fspath(file)} ({why})"
    raise ConfigError("E_POLICY_MISSING", detail=detail)


def are_files(policy: Any) -> bool:
    """Whether what was given as a policy names files: a path, or a list of paths."""
    if isinstance(policy, list | tuple):
        return bool(policy) and all(isinstance(part, str | os.PathLike) for part in policy)
    return isinstance(policy, str | os.PathLike)


def in_force(policy: Any, redactor: Redactor) -> Any:
    """Return the policy that was given, read from its files, with what is secret here.

    Raises:
        ConfigError: E_POLICY_SHAPE for what is no policy, a class in the place of one included; see
            `load_policy`.
    """
    if are_files(policy):
        files: Sequence[PolicyFile] = policy if isinstance(policy, list | tuple) else [policy]
        policy = load_policy(*files)
    decides = callable(getattr(policy, "authorize", None)) and not isinstance(policy, type)
    if policy is not None and not decides:
        raise ConfigError("E_POLICY_SHAPE", value=policy)
    return _knowing(policy, redactor)


def _knowing(policy: Any, redactor: Redactor) -> Any:
    if type(policy) is RetryWithBackoffPolicy:
        inner = _knowing(policy.inner, redactor)
        settings = (policy.max_retries, policy.base_ms, policy.cap_ms, policy.jitter_ratio)
        return RetryWithBackoffPolicy(inner, *settings)
    return policy.knowing(redactor) if isinstance(policy, RulesPolicy) else policy


def document_of(policy: Any) -> Document | None:
    """Return the document a policy decides by, None for one that is code."""
    while isinstance(policy, RetryWithBackoffPolicy):
        policy = policy.inner
    return policy.document if isinstance(policy, RulesPolicy) else None


def check_fit(policy: Any, programs: Iterable[Program[Any, Any]]) -> None:
    """Refuse a policy that names tools or arguments which none of these programs has.

    Rules for other agents are not looked at. Warnings are logged.

    Raises:
        ConfigError: the first error, by file and line: E_POLICY_TOOL, E_POLICY_PATH.
    """
    document = document_of(policy)
    if document is None:
        return
    known = list(programs)
    names = [program.name for program in known]
    tools = {name: tool.spec for program in known for name, tool in program.tools.items()}
    ours = msgspec.structs.replace(
        document,
        rules=tuple(rule for rule in document.rules if _concerns(rule, names)),
        labels=tuple(label for label in document.labels if _concerns(label, names)),
    )
    _refuse(error for error in check(ours, tools) if error.code in FIT)


def _concerns(part: Rule | Label, programs: Iterable[str]) -> bool:
    agents = part.select.agents
    return not agents or any(map(any_glob(agents), programs))


def _refuse(found: Iterable[ConfigError]) -> None:
    for error in found:
        if not error.code.startswith("W_"):
            raise error
        _log.warning("%s", error)
