"""Numbers that change with the training step, from a mapping as it stands in YAML."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

from mentor_gym.names import nearest
from mentor_gym.rewards.base import is_finite_number

# Kind -> its keys, with what they are when left out; None for those that must be given.
_KEYS: dict[str, dict[str, Any]] = {
    "constant": {"value": None},
    "linear": {"start": None, "end": None, "steps": None, "after": 0},
    "cosine": {"start": None, "end": None, "steps": None, "after": 0},
    "sigmoid": {"midpoint": None, "rate": None, "start": 0.0, "end": 1.0},
    "step": {"at": None, "values": None},
}
_COUNTS = ("steps", "after")
SCHEDULES = tuple(_KEYS)


@dataclass(frozen=True)
class Schedule:
    """A number for every training step; made by `make_schedule`, which checks and describes the keys.

    Attributes:
        kind: One of `SCHEDULES`.
        keys: What the kind asks for, all of it.
    """

    kind: str
    keys: dict[str, Any]

    def __call__(self, step: int) -> float:
        """Return the number of a training step, the first of which is 0."""
        keys = self.keys
        if self.kind == "constant":
            return float(keys["value"])
        if self.kind == "step":
            return float(keys["values"][bisect_right(keys["at"], step)])
        if self.kind == "sigmoid":
            share = _sigmoid(keys["rate"] * (step - keys["midpoint"]))
        else:
            share = min(max((step - keys["after"]) / keys["steps"], 0.0), 1.0)
            if self.kind == "cosine":
                share = (1.0 - math.cos(math.pi * share)) / 2.0
        # Exact at both ends, which start + share * (end - start) is not.
        return float((1.0 - share) * keys["start"] + share * keys["end"])

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest number that it comes to, or, for a sigmoid, close to.

        >>> make_schedule({"schedule": "linear", "start": 0.5, "end": 0, "steps": 9}).bounds
        (0.0, 0.5)
        """
        if self.kind == "constant":
            ends = [self.keys["value"]]
        else:
            ends = self.keys["values"] if self.kind == "step" else [self.keys["start"], self.keys["end"]]
        return float(min(ends)), float(max(ends))


def make_schedule(value: Any, where: str = "schedule") -> Schedule:
    """Build a schedule from a number, which stays as it is, or from a mapping.

    - `{schedule: constant, value: v}`
    - `{schedule: linear, start: a, end: b, steps: n}`: from a to b in n steps, b after them. With `after: k` the
      first of them is step k, and a before it.
    - `{schedule: cosine, start: a, end: b, steps: n}`: the same ends along half a wave, slow at both.
    - `{schedule: sigmoid, midpoint: m, rate: k}`: a + (b - a) / (1 + exp(-k (step - m))), from `start` a, 0 when
      left out, to `end` b, 1 when left out.
    - `{schedule: step, at: [s1, s2], values: [v0, v1, v2]}`: v0, from step s1 on v1, from s2 on v2.

    Args:
        value: The number, the mapping, or a `Schedule`, which is passed through.
        where: What it is for, named in errors.

    Raises:
        ValueError: Names the key that is unknown, missing or wrong.

    >>> weight = make_schedule({"schedule": "linear", "start": 0, "end": 0.2, "steps": 60})
    >>> weight(0), weight(30), weight(1000)
    (0.0, 0.1, 0.2)
    >>> make_schedule({"schedule": "linear", "start": 0, "end": 0.2, "step": 60})
    Traceback (most recent call last):
    ValueError: schedule: linear has no key 'step'; its keys are start, end, steps, after; did you mean 'steps'?
    """
    if isinstance(value, Schedule):
        return value
    if not isinstance(value, dict):
        _check_number(value, where)
        return Schedule("constant", {"value": value})
    given = dict(value)
    kind = given.pop("schedule", None)
    if not isinstance(kind, str) or kind not in _KEYS:
        known = ", ".join(_KEYS)
        raise ValueError(f"{where}: unknown schedule {kind!r}; known: {known}{nearest(kind, _KEYS)}")
    known_keys = _KEYS[kind]
    for key in given:
        if key not in known_keys:
            hint = nearest(key, known_keys)
            raise ValueError(f"{where}: {kind} has no key {key!r}; its keys are {', '.join(known_keys)}{hint}")
    keys = {**known_keys, **given}
    for key, entry in keys.items():
        if key not in given and entry is None:
            raise ValueError(f"{where}: {kind} needs the key {key!r}")
        if kind == "step":
            continue
        _check_number(entry, f"{where}: {key}")
        if key in _COUNTS and (type(entry) is not int or entry < (key == "steps")):
            least = "at least 1" if key == "steps" else "0 or more"
            raise ValueError(f"{where}: {key} must be a whole number, {least}, got {entry!r}")
    if kind == "step":
        keys = _check_steps(keys, where)
    return Schedule(kind, keys)


def _check_steps(keys: dict[str, Any], where: str) -> dict[str, Any]:
    at = keys["at"] if isinstance(keys["at"], list) else [keys["at"]]
    values = keys["values"]
    rises = all(type(step) is int and step >= 0 for step in at) and at == sorted(set(at))
    if not at or not rises:
        raise ValueError(f"{where}: at must be rising whole numbers of at least 0, got {keys['at']!r}")
    if not isinstance(values, list) or len(values) != len(at) + 1:
        raise ValueError(
            f"{where}: values must be a list of {len(at) + 1} numbers, one more than at, got {values!r}"
        )
    for entry in values:
        _check_number(entry, f"{where}: values")
    return {"at": list(at), "values": list(values)}


def _check_number(value: Any, where: str) -> None:
    if not is_finite_number(value):
        raise ValueError(f"{where} must be a finite number, got {value!r}")


def _sigmoid(x: float) -> float:
    # In the form that cannot overflow.
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    return math.exp(x) / (1.0 + math.exp(x))
