"""What is said to a worker of Monty and what it answers: the part of its wire protocol that a sandbox needs.

`monty subprocess` reads requests and writes events, each a protobuf message after four bytes of length. A request
is answered by any number of `Print` events and one event that ends the turn, or one that asks for something
outside, which is refused here. The messages are those of protocol 6 (`monty.v1` in the crate `monty-proto`), which
release 1.4.0 speaks; a worker that speaks another says so when it is configured.

The protocol is spoken here, and not by the package `pydantic-monty`, because the client in that package keeps
threads, with which a process cannot be forked, and costs several times what the programs of tasks cost.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

PROTOCOL = 6
RELEASE = "1.4.0"
LENGTH = struct.Struct("<I")

# Kinds of events; those in the first line ask for something outside.
FUNCTION_CALL, OS_CALL, NAME_LOOKUP = 2, 3, 4
PRINT, COMPLETE, ERROR, OK = 1, 6, 7, 10
_IMPORT = 31

Value = int | bytes


class WireError(Exception):
    """Bytes that are no message of the protocol."""


@dataclass
class Failure:
    """An exception that ended a program.

    Attributes:
        kind: Its type.
        message: Its message.
        frames: File name and line of each frame, outermost first.
    """

    kind: str
    message: str
    frames: list[tuple[str, int]]


def configure(seed: int, memory_bytes: int, recursion: int, seconds: float, now: datetime) -> bytes:
    """Return the request that begins a session: its limits, a clock that stands, sleep that takes no time.

    Args:
        seed: Of `random`.
        memory_bytes: Limit of what its programs hold.
        recursion: Limit of the depth of calls.
        seconds: Limit by the clock for each program.
        now: What the clock shows, in UTC.
    """
    limits = _field(2, memory_bytes) + _field(4, recursion) + _field(6, round(seconds * 1e6))
    integer = seed.to_bytes(seed.bit_length() // 8 + 1, "little", signed=True)
    stands = _field(3, _field(1, int(now.timestamp())))
    utc, no_sleep = _field(4, _field(1, b"")), _field(5, _field(3, b""))
    system = stands + utc + no_sleep + _field(8, _field(1, integer)) + _field(9, b"")
    session = _field(1, b"main.py") + _field(2, limits) + _field(5, RELEASE.encode())
    return _request(1, session + _field(9, PROTOCOL) + _field(11, system))


def feed(code: str) -> bytes:
    """Return the request that runs a program in the session."""
    return _request(3, _field(1, code.encode()))


def reset() -> bytes:
    r"""Return the request that ends the session.

    >>> reset()
    b'\x02\x00\x00\x00J\x00'
    """
    return _request(9, b"")


def refuse(kind: int, body: bytes) -> bytes | None:
    """Return the request that answers a question for something outside with no; None for what is no such event."""
    if kind == NAME_LOOKUP:
        return _request(5, _field(3, b""))
    if kind not in (FUNCTION_CALL, OS_CALL):
        return None
    asked = dict(fields(body))
    if kind == FUNCTION_CALL:
        call_id, answer = asked.get(4, 0), _field(4, asked.get(1, b""))
    else:
        # An import is answered like a missing function, and fails as one of a missing module.
        call_id, answer = asked.get(1, 0), _field(4, b"import") if _IMPORT in asked else _field(5, b"")
    return _request(4, _field(1, call_id) + _field(2, answer))


def read_event(message: bytes) -> tuple[int, bytes]:
    """Return the kind of an event and its body.

    Raises:
        WireError: It is none.
    """
    for number, value in fields(message):
        if number < 20 and isinstance(value, bytes):
            return number, value
    raise WireError("an event of no kind")


def read_print(body: bytes) -> str:
    """Return the text of a `PRINT` event."""
    segments = [dict(fields(value)) for value in _all(body, 1)]
    return "".join(_text(segment.get(2, b"")) for segment in segments)


def read_failure(body: bytes) -> Failure:
    """Return the exception of an `ERROR` event."""
    raised = _all(body, 1)[0] if _all(body, 1) else b""
    own = dict(fields(raised))
    frames = []
    for frame in _all(raised, 3):
        parts = dict(fields(frame))
        start = parts.get(2, b"")
        line = dict(fields(start)).get(1, 0) if isinstance(start, bytes) else 0
        frames.append((_text(parts.get(1, b"")), line if isinstance(line, int) else 0))
    return Failure(_text(own.get(1, b"")), _text(own.get(2, b"")), frames)


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    r"""Yield number and value of each field of a message.

    Raises:
        WireError: It is no message.

    >>> list(fields(b"\x08\x96\x01\x12\x02hi"))
    [(1, 150), (2, b'hi')]
    """
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == 2:
            size, position = _varint(message, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise WireError(f"a field of kind {kind}")
        if size > end - position:
            raise WireError("a field beyond the end")
        content = message[position : position + size]
        yield number, content if kind == 2 else int.from_bytes(content, "little")
        position += size


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise WireError("a number without an end")


def _all(message: bytes, number: int) -> list[bytes]:
    return [value for found, value in fields(message) if found == number and isinstance(value, bytes)]


def _text(value: Value) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _number(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _field(number: int, value: Value) -> bytes:
    if isinstance(value, int):
        return _number(number << 3) + _number(value)
    return _number(number << 3 | 2) + _number(len(value)) + value


def _request(kind: int, body: bytes) -> bytes:
    message = _field(kind, body)
    return LENGTH.pack(len(message)) + message
