"""Tools: what a model may call."""

from agents.tools.builtin import builtin_tools
from agents.tools.registry import Registry, Tool, ToolContext, tool

__all__ = ["Registry", "Tool", "ToolContext", "builtin_tools", "tool"]
