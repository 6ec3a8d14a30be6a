"""Suites: task sources with their tools, graders and oracle teachers.

A new suite is one file with a `build() -> Suite` and one line in `SUITES` (`EXTRA_SUITES` when it needs an
extra). A user's own suite is a YAML file.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from pathlib import Path

from mentor_gym.names import nearest
from mentor_gym.suites.base import Suite, load_yaml_suite

SUITES = {
    "math": "mentor_gym.suites.math",
    "facts": "mentor_gym.suites.facts",
    "elements": "mentor_gym.suites.elements",
    "shop": "mentor_gym.suites.shop",
    "wiki": "mentor_gym.suites.wiki",
    "code": "mentor_gym.suites.code",
    "office": "mentor_gym.suites.office",
}
# Those that need more than the core: a package of an extra, or a sandbox of the system's.
EXTRA_SUITES = {
    "code-full": "mentor_gym.suites.code_full",
    "bfcl": "mentor_gym.suites.bfcl",
    "bfcl-multi-turn": "mentor_gym.suites.bfcl_multi_turn",
}
_MODULES = {**SUITES, **EXTRA_SUITES}


def is_suite_name(name: object) -> bool:
    """Tell whether `load_suite` takes a text for a name, whether or not what the suite needs is installed.

    >>> is_suite_name("math"), is_suite_name("bfcl"), is_suite_name("suite.yaml")
    (True, True, False)
    """
    return isinstance(name, str) and name in _MODULES


def load_suite(suite: str | Suite) -> Suite:
    """Return a suite by its name or by the path of its YAML file, or pass one through that a program built.

    A file is read once in a process.

    Raises:
        ValueError: No suite of that name.
        DataError: The YAML file or what it names is broken.

    >>> load_suite("math").splits
    ('train', 'valid', 'test', 'ood-compose', 'ood-tools')
    """
    if isinstance(suite, Suite):
        return suite
    if is_suite_name(suite):
        return _load(suite)
    if isinstance(suite, str) and suite.endswith((".yaml", ".yml")):
        # The whole path, so that the same relative one means another file in another working directory.
        return _load(str(Path(suite).resolve()))
    known = f"{', '.join(_MODULES)}, or the path of a suite.yaml"
    raise ValueError(f"unknown suite {suite!r}; known: {known}{nearest(suite, _MODULES)}")


@lru_cache(maxsize=64)
def _load(suite: str) -> Suite:
    if is_suite_name(suite):
        built: Suite = importlib.import_module(_MODULES[suite]).build()
        return built
    return load_yaml_suite(suite)


__all__ = ["EXTRA_SUITES", "SUITES", "Suite", "is_suite_name", "load_suite"]
