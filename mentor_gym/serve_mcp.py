"""Serve a suite's tools over MCP, so that any MCP client, a desktop assistant for example, can use them.

This is the other way round of `mentor_gym.tools.mcp`: `mentor-gym serve-mcp --suite shop` is a server that talks
over its standard input and output. Calls go through `Tool.call`: they are validated, and their results cut, as in
an environment. Needs the extra `mcp`.
"""

from __future__ import annotations

import importlib.util
import signal
import threading
from importlib import metadata
from typing import TYPE_CHECKING, Any

from mentor_gym.suites import load_suite
from mentor_gym.suites.base import Suite
from mentor_gym.types import Task

if TYPE_CHECKING:
    from mcp.server import Server


def serve(suite: str | Suite, task_id: str | None = None, split: str | None = None) -> None:
    """Serve the tools of a suite over standard input and output, until the client closes them.

    Without `task_id` all tools of the suite are offered. Tools with state start from that of the split's first
    task, which may forbid what a tool is for: a task that only asks lets nothing be changed. The client is told.

    Args:
        suite: A suite's name, the path of a user's `suite.yaml`, or a `Suite`.
        task_id: Offers what this task offers, from its state, and tells the client its question.
        split: Where to look for the task; None takes the suite's first split.

    Raises:
        ValueError: Unknown suite, split or task.
        ModuleNotFoundError: The extra is not installed.
    """
    server = make_server(suite, task_id, split)
    import anyio
    from mcp.server.stdio import stdio_server

    async def run() -> None:
        async with stdio_server() as (from_client, to_client):
            await server.run(from_client, to_client, server.create_initialization_options())

    if threading.current_thread() is threading.main_thread():
        # A thread of the SDK's waits for input and cannot be interrupted: Python's own handler would wait for it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    anyio.run(run)


def make_server(suite: str | Suite, task_id: str | None = None, split: str | None = None) -> Server[Any]:
    """Make the server that `serve` runs; every client that connects finds the state as the one before left it.

    Without `task_id` all tools of the suite are offered, and tools with state start from the split's first task;
    its instructions to the client say so.

    Args:
        suite: As for `serve`.
        task_id: As for `serve`.
        split: As for `serve`.

    Raises:
        ValueError: Unknown suite, split or task.
        ModuleNotFoundError: The extra is not installed.

    >>> from mentor_gym.tools.mcp import McpBox
    >>> box = McpBox(make_server("math"))
    >>> box.tools["add"].call({"a": 1, "b": 2}).output
    '3'
    >>> box.tools["divide"].call({"a": 1, "b": 0}).output
    'error: divide: cannot divide by zero'
    """
    if importlib.util.find_spec("mcp") is None:
        message = "to serve tools over MCP needs the package mcp: pip install 'mentor-gym[mcp]'"
        raise ModuleNotFoundError(message, name="mcp")
    import mcp_types
    from mcp.server import Server
    from mcp.shared.exceptions import MCPError

    suite = load_suite(suite)
    box = suite.new_box()
    task: Task | None = None
    if task_id is not None or box.has_state:
        tasks = suite.tasks(suite.splits[0] if split is None else split)
        try:
            task = tasks[0 if task_id is None else task_id]
        except KeyError as error:
            raise ValueError(error.args[0]) from None
    box.open(task.state if task else None)
    tools = box.tools
    schemas = {name: tool.schema["function"] for name, tool in tools.items()}
    if task is not None and task_id is not None:
        offered = [{"function": schemas[entry]} if isinstance(entry, str) else entry for entry in task.tools]
        schemas = {entry["function"]["name"]: entry["function"] for entry in offered}
    described = [
        mcp_types.Tool(
            name=name,
            description=schema.get("description"),
            input_schema=schema.get("parameters", {"type": "object"}),
        )
        for name, schema in schemas.items()
    ]

    async def list_tools(context: Any, params: Any) -> mcp_types.ListToolsResult:
        return mcp_types.ListToolsResult(tools=described)

    # The call holds the loop while it runs: tools are called one at a time, and in the thread that called `serve`.
    async def call_tool(context: Any, params: mcp_types.CallToolRequestParams) -> mcp_types.CallToolResult:
        if params.name not in schemas:
            raise MCPError(mcp_types.INVALID_PARAMS, f"unknown tool; the tools are {', '.join(schemas)}")
        result = tools[params.name].call(params.arguments or {})
        # That it is an error, and of which tool, the protocol says.
        text = result.output if result.ok else result.output.removeprefix(f"error: {params.name}: ")
        content = mcp_types.TextContent(type="text", text=text)
        return mcp_types.CallToolResult(content=[content], is_error=not result.ok)

    instructions = suite.description or ""
    if task is not None:
        about = f"The state is that of the task {task.id}; what this task does not allow, its tools refuse."
        instructions = task.prompt if task_id is not None else f"{instructions}\n{about}".strip()
    return Server(
        f"mentor-gym-{suite.name}",
        version=metadata.version("mentor-gym"),
        instructions=instructions or None,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
