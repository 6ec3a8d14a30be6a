"""Tool boxes: typed Python functions that a policy may call."""

from mentor_gym.tools.base import Tool, ToolBox, ToolError, tool

__all__ = ["Tool", "ToolBox", "ToolError", "tool"]
