"""What an agent may do: functions as tools, and the context they are given.

Must not know runs, journals or who calls; pydantic is imported at a tool's first use.
"""

from gatebook.tools.context import ToolContext
from gatebook.tools.function import FunctionTool, tool
from gatebook.tools.table import tool_table

__all__ = ["FunctionTool", "ToolContext", "tool", "tool_table"]
