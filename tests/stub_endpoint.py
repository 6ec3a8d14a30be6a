"""A chat-completions server on loopback: it plays the teachers of tasks, and every fault that it is told to."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from mentor_gym.types import Task

USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


def completion(message: dict[str, Any], finish_reason: str = "stop") -> dict[str, Any]:
    """Write the body of an answer around an assistant message."""
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": USAGE}


def calls(*functions: tuple[str, str], content: str | None = None) -> dict[str, Any]:
    """Write an assistant message that calls functions, each a name and the text of its arguments."""
    tool_calls = [
        {"id": f"id{position}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for position, (name, arguments) in enumerate(functions)
    ]
    return {"role": "assistant", "content": content, "tool_calls": tool_calls}


def says(content: str | None) -> dict[str, Any]:
    """Write an assistant message without calls."""
    return {"role": "assistant", "content": content}


# What the server does in place of an answer: a status with a body and headers, or one of the words below.
Fault = tuple[int, dict[str, Any] | str, dict[str, str]] | str
RATE_LIMIT: Fault = (429, {"error": {"message": "slow down", "type": "requests"}}, {"Retry-After": "0.02"})
SERVER_ERROR: Fault = (500, {"error": {"message": "out of memory"}}, {})
NOT_JSON: Fault = (200, '{"choices": [', {})
NO_CHOICES: Fault = (200, {"choices": []}, {})
HANG, RESET, TRICKLE = "hang", "reset", "trickle"


class StubEndpoint:
    """The server; a context manager.

    Args:
        reply: Makes an answer's body, or a fault, of a request's body. May be called by several threads at once.

    Attributes:
        requests: The bodies of the requests, in the order in which they came.
        headers: Their headers, the names in small letters.
        paths: Their paths, with queries.
    """

    def __init__(self, reply: Callable[[dict[str, Any]], dict[str, Any] | Fault]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        stub = self
        self._closing = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body are two writes: the second must not wait for the client's acknowledgement.
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.requests.append(body)
                stub.headers.append({name.lower(): value for name, value in self.headers.items()})
                stub.paths.append(self.path)
                answer = reply(body)
                if isinstance(answer, dict):
                    answer = (200, answer, {})
                if isinstance(answer, str):
                    self.misbehave(answer)
                    return
                status, content, headers = answer
                data = (content if isinstance(content, str) else json.dumps(content)).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def misbehave(self, fault: str) -> None:
                self.close_connection = True
                if fault == TRICKLE:
                    # A byte now and then: no single read of it ever times out.
                    self.send_response(200)
                    self.end_headers()
                    while not stub._closing.wait(0.02):
                        try:
                            self.wfile.write(b" ")
                        except OSError:
                            return
                elif fault == HANG:
                    stub._closing.wait(30)
                elif fault == RESET:
                    # With nothing to linger for, closing sends a reset.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def finish(self) -> None:
                # The connection may have been reset on purpose.
                with contextlib.suppress(OSError, ValueError):
                    super().finish()

        class Server(ThreadingHTTPServer):
            # With the default of 5, some of many connections at once wait a second for their second attempt.
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def base_url(self) -> str:
        """Its address, as `Endpoint` wants it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Oracle:
    """Answers as the teachers of the tasks do, after the faults that are planned.

    Args:
        tasks: The tasks, their prompts all different.
        plan: Of tasks, by prompt: what comes in place of an answer, one item a request, from the task's first on;
            None is the teacher's answer.
    """

    def __init__(
        self, tasks: Iterable[Task], plan: dict[str, Sequence[dict[str, Any] | Fault | None]] | None = None
    ):
        self._teachers: dict[str, list[dict[str, Any]]] = {}
        for task in tasks:
            assert task.prompt not in self._teachers
            self._teachers[task.prompt] = [m for m in task.teacher if m["role"] == "assistant"]
        self._plan = plan or {}
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, body: dict[str, Any]) -> dict[str, Any] | Fault:
        (prompt,) = (message["content"] for message in body["messages"] if message["role"] == "user")
        with self._lock:
            number = self._asked[prompt]
            self._asked[prompt] += 1
        planned = self._plan.get(prompt, ())
        item = planned[number] if number < len(planned) else None
        if item is not None:
            return item
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        message = self._teachers[prompt][turn]
        return completion(message, "tool_calls" if message.get("tool_calls") else "stop")
