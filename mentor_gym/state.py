"""An environment's state as bytes: a version, a checksum and JSON. Never pickle: a state may come from anywhere.

The layout is `MAGIC`, the format's version (2 bytes), a SHA-256 of version and content (32 bytes), and the
content, the JSON text of an `EnvState`. What the environment does with one is in `mentor_gym.env`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import numpy as np

from mentor_gym.types import StopReason, Task, Turn

MAGIC = b"mentor_gym\n"
VERSION = 1
_DIGEST = hashlib.sha256().digest_size
_HEADER = len(MAGIC) + 2 + _DIGEST
# Generators that a state may name; what it names is made, so that the list must be closed.
_BIT_GENERATORS = {kind.__name__: kind for kind in (np.random.PCG64, np.random.PCG64DXSM, np.random.SFC64)}


class StateError(ValueError):
    """A state that cannot be taken: damaged, foreign, or written by a newer version. Says which."""


class EnvState(msgspec.Struct, forbid_unknown_fields=True):
    """What `MentorToolEnv.get_state` holds.

    Attributes:
        made_with: Arguments of the environment and digests of its tasks and tools; a state is taken only by an
            environment that agrees.
        rng: State of the environment's generator, as JSON text: its integers have 128 bits.
        seed: The seed of the last seeded reset; None before one.
        closed: Whether the environment was closed.
        task: The task being played; None before the first reset, and then the fields below mean nothing.
        turns: The turns so far.
        replayed: How many of them `reset(options={"teacher_turns": …})` played.
        stop_reason: As in `Transcript`.
        answer: As in `Transcript`.
        is_success: As in `Transcript`.
        reward_terms: What a reward wrapper has shown at the end.
        forced: The reason with which the next step is to end the episode.
        tools: Snapshot of the tool box; empty when the episode is over.
    """

    made_with: dict[str, Any]
    rng: str
    seed: int | None
    closed: bool
    task: Task | None
    turns: list[Turn]
    replayed: int
    stop_reason: StopReason | None
    answer: str | None
    is_success: bool
    reward_terms: dict[str, float] | None
    forced: StopReason | None
    tools: bytes


def pack(state: EnvState) -> bytes:
    """Write a state as bytes; `unpack` is its inverse."""
    body = msgspec.json.encode(state)
    versioned = VERSION.to_bytes(2, "big")
    return MAGIC + versioned + hashlib.sha256(versioned + body).digest() + body


def unpack(data: bytes) -> EnvState:
    """Read a state.

    Raises:
        StateError: It is damaged, no state at all, or of a newer version.

    >>> unpack(b"GIF89a")
    Traceback (most recent call last):
    mentor_gym.state.StateError: this is not a state of a mentor_gym environment
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise StateError(f"a state is bytes, as get_state() returns them, got {type(data).__name__}")
    data = bytes(data)
    if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
        raise StateError("this is not a state of a mentor_gym environment")
    if len(data) < _HEADER:
        raise StateError("the state is truncated: its header is incomplete")
    version = int.from_bytes(data[len(MAGIC) : len(MAGIC) + 2], "big")
    body = data[_HEADER:]
    if version != VERSION:
        raise StateError(f"the state has format {version}, this version of mentor_gym reads format {VERSION}")
    if hashlib.sha256(data[len(MAGIC) : len(MAGIC) + 2] + body).digest() != data[_HEADER - _DIGEST : _HEADER]:
        raise StateError("the state is damaged or truncated: its checksum does not match")
    try:
        return msgspec.json.decode(body, type=EnvState)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StateError(f"the state is not one of this version of mentor_gym: {str(error)[:200]}") from None


def pack_rng(generator: np.random.Generator) -> str:
    """Write the state of a generator as JSON text.

    Raises:
        StateError: A generator of a kind that states do not hold.
    """
    state: Any = generator.bit_generator.state
    if state["bit_generator"] not in _BIT_GENERATORS:
        raise StateError(f"a state cannot hold a {state['bit_generator']} generator")
    return json.dumps(state, default=np.ndarray.tolist)


def unpack_rng(text: str) -> np.random.Generator:
    """Make the generator that `pack_rng` wrote.

    Raises:
        StateError: The text is no such state.

    >>> generator = np.random.default_rng(0)
    >>> twin = unpack_rng(pack_rng(generator))
    >>> bool(twin.random() == generator.random())
    True
    """
    try:
        state = json.loads(text)
        bits = _BIT_GENERATORS[state["bit_generator"]]()
        if state["bit_generator"] == "SFC64":
            # NumPy reads four of them, without looking how many there are.
            state["state"]["state"] = np.array(state["state"]["state"], np.uint64).reshape(4)
        # With an even increment a generator repeats itself at once, and drawing from it may never return.
        if "inc" in state["state"] and state["state"]["inc"] % 2 != 1:
            raise ValueError("an even increment")
        bits.state = state
        if json.loads(json.dumps(bits.state, default=np.ndarray.tolist)) != json.loads(text):
            raise ValueError("it was not taken as it is")
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise StateError(f"the generator's state cannot be read: {type(error).__name__}") from None
    return np.random.Generator(bits)


def digest(value: Any) -> str:
    """Return a short digest of anything that JSON holds."""
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:16]
