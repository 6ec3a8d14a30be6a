"""Penalties: rewards of at most 0, to be terms of a sum (`mentor_gym.rewards.composite`).

They count in every episode, however it ends, so that nothing is saved by being cut off.
"""

from __future__ import annotations

from mentor_gym.names import nearest
from mentor_gym.rewards.base import check_count
from mentor_gym.rewards.matching import canonical, normalise_calls, student_calls
from mentor_gym.types import Transcript

# What is counted -> over how much beyond the free number the penalty grows to 1, when nobody says.
_UNITS = {"calls": 8, "characters": 4_000}


class LengthPenalty:
    """0 up to a free length, then falling in a straight line to -1, and not further.

    The form of DAPO's soft overlong punishment (arXiv 2503.14476), on what an episode's record shows: calls, or
    the characters of the policy's turns. Tokens are the agent's and are not in it.

    Args:
        unit: What is counted: `calls`, the malformed and unknown ones too, or `characters` of all turns, those
            that the teacher played in the policy's place included.
        free: How many cost nothing.
        scale: How many beyond `free` cost 1; None takes 8 calls or 4,000 characters.

    Raises:
        ValueError: Unknown unit, or a number that is not a whole one.

    >>> LengthPenalty(free=4).minimum, LengthPenalty().maximum
    (-1.0, 0.0)
    """

    maximum = 0.0
    minimum = -1.0
    right_beats_wrong = False

    def __init__(self, unit: str = "calls", free: int = 0, scale: int | None = None) -> None:
        if not isinstance(unit, str) or unit not in _UNITS:
            raise ValueError(f"unit must be one of {', '.join(_UNITS)}, got {unit!r}{nearest(unit, _UNITS)}")
        check_count(free=free)
        if scale is not None:
            check_count(1, scale=scale)
        self.unit = unit
        self.free = free
        self.scale = _UNITS[unit] if scale is None else scale

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the term `length`."""
        if self.unit == "calls":
            count = sum(len(turn.action.calls) for turn in transcript.turns)
        else:
            count = sum(len(turn.text) for turn in transcript.turns)
        return {"length": 0.0 - min(max(count - self.free, 0) / self.scale, 1.0)}


class RepeatPenalty:
    """0 without repeated calls, falling in a straight line to -1.

    A call counts as repeated when an equal one was made before, by name and normalised arguments. Reading again
    what was changed in between is no repetition: a call that is not read-only makes the readings before it count
    as never made. (Where `transcript.tools` says nothing of a tool, its calls are not read-only.)

    Args:
        free: How many cost nothing.
        scale: How many beyond `free` cost 1.

    Raises:
        ValueError: A number that is not a whole one.

    >>> RepeatPenalty().minimum, RepeatPenalty().maximum
    (-1.0, 0.0)
    """

    maximum = 0.0
    minimum = -1.0
    right_beats_wrong = False

    def __init__(self, free: int = 0, scale: int = 4) -> None:
        check_count(free=free)
        check_count(1, scale=scale)
        self.free = free
        self.scale = scale

    def __call__(self, transcript: Transcript) -> dict[str, float]:
        """Return the term `repeats`."""
        repeats = count_repeats(transcript)
        return {"repeats": 0.0 - min(max(repeats - self.free, 0) / self.scale, 1.0)}


def count_repeats(transcript: Transcript) -> int:
    """Return how many calls of an episode repeat an earlier one, as `RepeatPenalty` says.

    >>> from mentor_gym.protocol import render_call
    >>> from mentor_gym.testing.transcripts import play_turns
    >>> import mentor_gym
    >>> env = mentor_gym.MentorToolEnv("math")
    >>> add, same = render_call("add", {"a": 1, "b": 2}), render_call("add", {"b": 2.0, "a": 1})
    >>> task = next(task for task in env.tasks if "add" in task.tools)
    >>> count_repeats(play_turns(env, task.id, [add, same, add]))
    2
    """
    readings, changes, repeats = set(), set(), 0
    for name, arguments in normalise_calls(student_calls(transcript), transcript):
        call = (name, canonical(arguments))
        facts = transcript.tools.get(name)
        if facts is not None and facts.read_only:
            repeats += call in readings
            readings.add(call)
        else:
            repeats += call in changes
            changes.add(call)
            readings.clear()
    return repeats
