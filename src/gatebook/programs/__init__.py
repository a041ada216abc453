"""How a run decides its next step: agents and workflows, as pure folds over outcomes.

Knows ports and kernel; must not know clocks, loops, stores, or how an effect is performed.
"""

from gatebook.programs.agent import Agent
from gatebook.programs.context import WorkflowContext
from gatebook.programs.workflow import Workflow, workflow

__all__ = ["Agent", "Workflow", "WorkflowContext", "workflow"]
