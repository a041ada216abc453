"""While a workflow is stepped: its code may want actions, and must not perform them itself."""

from contextvars import Context, ContextVar, copy_context

from gatebook.errors import ConfigError

# The workflow whose code runs in this context, "" for none.
STEPPED: ContextVar[str] = ContextVar("gatebook_stepped", default="")


def stepping(program: str) -> Context:
    """Return a copy of the caller's context variables for a workflow's code to run in."""
    context = copy_context()
    context.run(STEPPED.set, program)
    return context


def refuse_calls(tool: str) -> None:
    """Refuse a call of a tool's own function by a workflow's code: no gate would know of it.

    Raises:
        ConfigError: E_WORKFLOW_TOOL.
    """
    if program := STEPPED.get():
        raise ConfigError("E_WORKFLOW_TOOL", program=program, tool=tool)
