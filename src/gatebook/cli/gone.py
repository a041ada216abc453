"""The program of a run that was cancelled and whose app cannot be loaded any more.

Such a run only has to end, and no program is asked for that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gatebook.cli.apps import App
from gatebook.errors import ConfigError
from gatebook.kernel.codec import plain
from gatebook.kernel.events import RunStarted
from gatebook.ports import Stepper, Tool


@dataclass(frozen=True)
class Gone:
    """A name without a program: it declares nothing and begins nothing."""

    name: str
    kind: Literal["agent", "workflow"] = "workflow"
    digest: str = ""
    tools: Mapping[str, Tool] = field(default_factory=dict)
    models: Sequence[str] = ()

    def accept(self, value: Any) -> bytes:
        """Refuse every input. Raises ConfigError E_PROGRAM_UNKNOWN."""
        raise self._unknown()

    def decode(self, output: bytes) -> Any:
        """Return an output as plain JSON."""
        return plain(output)

    def begin(self, started: RunStarted) -> Stepper:
        """Refuse to go on with a run. Raises ConfigError E_PROGRAM_UNKNOWN."""
        raise self._unknown()

    def _unknown(self) -> ConfigError:
        return ConfigError("E_PROGRAM_UNKNOWN", program=self.name, names="none")


def app_without(program: str) -> App:
    """Return an app of one program that is gone."""
    return App({program: Gone(program)})
