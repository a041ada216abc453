"""The contracts between the rooms: journal, program, provider, tool, engine and clock."""

from gatebook.ports.effects import Invocation, Provider, Tool
from gatebook.ports.engines import Clock, Drive, Engine, Parked
from gatebook.ports.journal import (
    DEFAULT_TENANT,
    Appended,
    Journal,
    Lease,
    ParkedReason,
    Piece,
    Recorded,
    RunKey,
    RunQuery,
    RunRow,
    Stretch,
)
from gatebook.ports.programs import (
    MAX_FANOUT,
    Complete,
    Fail,
    Outcome,
    Program,
    Step,
    Stepper,
    Want,
    is_program,
)

__all__ = [
    "DEFAULT_TENANT",
    "MAX_FANOUT",
    "Appended",
    "Clock",
    "Complete",
    "Drive",
    "Engine",
    "Fail",
    "Invocation",
    "Journal",
    "Lease",
    "Outcome",
    "Parked",
    "ParkedReason",
    "Piece",
    "Program",
    "Provider",
    "Recorded",
    "RunKey",
    "RunQuery",
    "RunRow",
    "Step",
    "Stepper",
    "Stretch",
    "Tool",
    "Want",
    "is_program",
]
