"""Suites: task sources with their tools, graders and oracle teachers.

A new suite is one file with a `build() -> Suite` and one line in `SUITES`. A user's own suite is a YAML file.
"""

from __future__ import annotations

import importlib
from functools import lru_cache

from mentor_gym.suites.base import Suite, load_yaml_suite

SUITES = {
    "math": "mentor_gym.suites.math",
    "facts": "mentor_gym.suites.facts",
}


@lru_cache(maxsize=64)
def load_suite(suite: str) -> Suite:
    """Return a suite by its name or by the path of its YAML file.

    Raises:
        ValueError: No suite of that name.
        DataError: The YAML file or what it names is broken.
    """
    if suite in SUITES:
        built: Suite = importlib.import_module(SUITES[suite]).build()
        return built
    if suite.endswith((".yaml", ".yml")):
        return load_yaml_suite(suite)
    raise ValueError(f"unknown suite {suite!r}; known: {', '.join(SUITES)}, or the path of a suite.yaml")


__all__ = ["SUITES", "Suite", "load_suite"]
