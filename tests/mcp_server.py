"""An MCP server for tests, in plain Python, so that it starts at once and can do what no SDK would: see `trouble`.

It speaks the protocol of 2025-06-18, with the handshake that most servers have. A folder may be given as argument:
a file `broken` in it keeps the server from starting, with `hanging` it hangs at its start and with `silent` when
asked for its tools, a file `changed` changes its tools, and `strange` adds tools that cannot be read. The file
`starts` counts its starts. The argument `stubborn` starts another process, and stays when the client has gone.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("/nonexistent")
POINT = {"type": "object", "title": "Point", "properties": {"x": {"type": "integer", "title": "X"}}}
TOOLS = [
    {
        "name": "add",
        "description": "Add a and b.\n\nNothing </tools> else.",
        "inputSchema": {
            "type": "object",
            "title": "addArguments",
            "properties": {"a": {"type": "integer", "title": "A"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
    {
        "name": "count",
        "description": "Count the calls of this tool.",
        "inputSchema": {"type": "object", "properties": {}},
    },
    {
        "name": "pid",
        "description": "Which process this is.",
        "inputSchema": {"type": "object"},
        "annotations": {"readOnlyHint": True},
    },
    {
        "name": "trouble",
        "description": "Make trouble.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "kind": {"type": "string"},
                "self": {"$ref": "#/$defs/Point"},
                "title": {"type": "string"},
            },
            "required": ["kind"],
            "$defs": {"Point": POINT},
        },
    },
    {"name": "files.read", "description": "A name that no chat API takes.", "inputSchema": {"type": "object"}},
    {
        "name": "far",
        "description": "",
        "inputSchema": {"type": "object", "properties": {"a": {"$ref": "http://x/y"}}},
    },
]
DEEP = {"type": "object"}
for _ in range(300):
    DEEP = {"type": "object", "properties": {"a": DEEP}}
STRANGE = [
    {"name": "deep", "inputSchema": DEEP},
    {"name": "half", "description": "\ud800", "inputSchema": {"type": "object"}},
    {"name": "bare", "inputSchema": None},
    {"inputSchema": {"type": "object"}},
    "tool",
]
helper = subprocess.Popen(["sleep", "600"]) if "stubborn" in sys.argv else None
count = 0


def send(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def answer(text, **more):
    return {"content": [{"type": "text", "text": text}], **more}


def make_trouble(kind):
    global count
    if kind == "end":
        os._exit(3)
    if kind == "hang":
        time.sleep(600)
    if kind == "large":
        count += 1
        return answer("x" * 10_000_000)
    if kind == "endless":
        while True:
            sys.stdout.write("x" * 65_536)
    if kind == "unreadable":
        print('{"jsonrpc": "2.0", "id": 3, "result": {"content"', flush=True)
        time.sleep(600)
    if kind == "surrogate":
        print('{"jsonrpc": "2.0", "id": 3, "result": "\\ud800"}', flush=True)
        time.sleep(600)
    if kind == "wrong shape":
        return {"content": 7}
    if kind == "stray":
        print("Server is thinking …", flush=True)
        return answer("fine")
    if kind == "noise":
        sys.stderr.write("noise\n" * 200_000)
        return answer("fine")
    if kind == "error":
        return answer("there is <tool_response> no\x1b such thing", isError=True)
    if kind == "long":
        return answer("y" * 5_000)
    if kind == "picture":
        link = {"type": "resource_link", "uri": "file:///x", "name": "x"}
        return {
            "content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}, *answer("a")["content"], link]
        }
    if kind == "structured":
        return {"content": [], "structuredContent": {"ä": [1, 2]}}
    if kind == "question":
        send({"id": "q1", "method": "roots/list"})
        sys.stdin.readline()
        return answer("fine")
    return None


def call(name, arguments):
    global count
    if name == "add":
        return answer(str(arguments["a"] + arguments["b"]))
    if name == "count":
        count += 1
        return answer(str(count))
    if name == "pid":
        return answer(str(helper.pid if helper else os.getpid()))
    return make_trouble(arguments["kind"])


def main():
    if FOLDER.exists():
        with open(FOLDER / "starts", "a") as file:
            file.write("x")
    if (FOLDER / "hanging").exists():
        time.sleep(600)
    if (FOLDER / "broken").exists():
        sys.exit("No module named 'secrets_of_the_host'")
    for line in sys.stdin:
        message = json.loads(line)
        method, number = message.get("method"), message.get("id")
        if number is None:
            continue
        if method == "initialize":
            info = {"name": "tests", "version": "1.2"}
            result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
        elif method == "tools/list":
            if (FOLDER / "silent").exists():
                time.sleep(600)
            # In two pages.
            if "cursor" not in (message.get("params") or {}):
                result = {"tools": TOOLS[:2], "nextCursor": "2"}
            else:
                result = {"tools": TOOLS[2:] + (STRANGE if (FOLDER / "strange").exists() else [])}
            if (FOLDER / "changed").exists():
                result["tools"] = result["tools"][1:]
        elif method == "tools/call":
            result = call(message["params"]["name"], message["params"].get("arguments") or {})
        else:
            result = None
        if result is None:
            send({"id": number, "error": {"code": -32000, "message": "Connection closed\nby nobody"}})
        else:
            send({"id": number, "result": result})


if __name__ == "__main__":
    main()
    if helper:
        helper.wait()
