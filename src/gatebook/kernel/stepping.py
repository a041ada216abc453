"""While a workflow is stepped: its code may want actions, and must not perform them itself."""

from contextvars import ContextVar, Token

from gatebook.errors import ConfigError

_stepped: ContextVar[str] = ContextVar("gatebook_stepped", default="")


class stepping:  # noqa: N801 - read as `with stepping(name):`
    """Marks that the code of a workflow runs, in this context."""

    __slots__ = ("_name", "_token")

    def __init__(self, name: str) -> None:
        self._name = name
        self._token: Token[str]

    def __enter__(self) -> None:
        self._token = _stepped.set(self._name)

    def __exit__(self, *_: object) -> None:
        _stepped.reset(self._token)


def refuse_calls(tool: str) -> None:
    """Refuse a call of a tool's own function by a workflow's code: no gate would know of it.

    Raises:
        ConfigError: E_WORKFLOW_TOOL.
    """
    if program := _stepped.get():
        raise ConfigError("E_WORKFLOW_TOOL", program=program, tool=tool)
