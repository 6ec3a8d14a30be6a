"""Reading a study: one YAML file, and every mistake in it that can be found without running anything.

Errors name the file, the line and the field. Whatever is found here costs seconds; in the middle of a study it
would cost hours.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from agents.arms import merge_settings
from agents.config import CONFIGS, ConfigError, TrainConfig
from agents.study_plan import (
    BASE,
    DIGITS,
    MEASURES,
    OWN_KEYS,
    SHIPPED,
    TRAINING_MEASURES,
    Axis,
    Condition,
    Hypothesis,
    Rules,
    Settings,
    StudyError,
    check_fair,
    get_arms,
    is_rl,
    make_config,
)
from mentor_gym.data import DataError, read_yaml
from mentor_gym.names import nearest
from mentor_gym.rewards import make_reward
from mentor_gym.suites import is_suite_name, load_suite

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


def load_study(path: Path | str, quick: bool = False, find_models: bool = True) -> Settings:
    """Read and check a study.

    Args:
        path: A YAML file; one that does not exist is looked up among the shipped configurations.
        quick: Apply the file's `quick` section.
        find_models: Whether base models must be there, on the Hugging Face hub for example; to show what has run
            they need not.

    Raises:
        StudyError: The file cannot be read, or something in it does not fit; names file, line and field.
    """
    source = _find(Path(path))
    try:
        content, _ = read_yaml(source)
        lines = _find_lines(source)
    except DataError as error:
        raise StudyError(str(error)) from None
    if not isinstance(content, dict):
        raise StudyError(f"{source}: expected a mapping of settings")
    changes = content.pop("quick", {})
    if not isinstance(changes, dict):
        raise StudyError(f"{source}, line {lines['quick']}: quick: expected a mapping of settings")
    reader = _Reader(source, lines)
    settings = reader.read(content)
    if quick:
        # The file is right without them, so what is wrong now stands in the section of changes.
        changed = {key.removeprefix("quick."): line for key, line in lines.items() if key.startswith("quick.")}
        reader = _Reader(source, {**dict.fromkeys(lines, lines.get("quick", 1)), **changed})
        settings = reader.read(merge_settings(content, changes))
    if find_models:
        reader.find_models(settings)
    return settings


class _Reader:
    """Turns the content of a file into settings; every error names file, line and field."""

    def __init__(self, source: Path, lines: Mapping[str, int]) -> None:
        self.source = source
        self.lines = lines

    def fail(self, field: str, message: str) -> StudyError:
        """Return the error of a field, with the line of the nearest part that stands in the file."""
        parts = field.split("/")
        while parts and ".".join(parts) not in self.lines:
            parts.pop()
        where = f"{self.source}, line {self.lines['.'.join(parts)]}" if parts else str(self.source)
        return StudyError(f"{where}: {field.replace('/', '.')}: {message}")

    def read(self, content: dict[str, Any]) -> Settings:
        """Convert and check everything."""
        values = dict(content)
        # One by one, since msgspec does not say in which entry of a mapping or list an error is.
        kinds: dict[str, Any] = {"conditions": Condition, "evaluations": Rules}
        for section, kind in kinds.items():
            entries = self._mapping(values, section)
            values[section] = {name: self._convert(one, kind, f"{section}/{name}") for name, one in entries}
        kinds = {"axes": Axis, "hypotheses": Hypothesis}
        for section, kind in kinds.items():
            found = values.get(section)
            if not isinstance(found, list):
                raise self.fail(section, "expected a list" if section in values else "is missing")
            values[section] = [self._convert(one, kind, f"{section}/{i}") for i, one in enumerate(found)]
        for section in ("bases", "data", "arms"):
            values[section] = {
                name: self._convert(one, dict[str, Any] | str if section == "bases" else dict, f"{section}/{name}")
                for name, one in self._mapping(values, section)
            }
        settings = self._convert(values, Settings, "")
        self._check(settings)
        return settings

    def find_models(self, settings: Settings) -> None:
        """Refuse a base, or what one begins with, that does not exist: its runs would say so hours later."""
        from agents.models import check_model

        models = {f"bases/{name}": base for name, base in settings.bases.items() if isinstance(base, str)}
        for name, base in settings.bases.items():
            # Without a start, `pretrain` begins from nothing.
            if isinstance(base, dict) and base.get("start"):
                models[f"bases/{name}/start"] = base["start"]
        for field, model in models.items():
            try:
                check_model(model)
            except ValueError as error:
                raise self.fail(field, str(error)) from None

    def _mapping(self, values: dict[str, Any], section: str) -> list[tuple[str, Any]]:
        found = values.get(section)
        if not isinstance(found, dict):
            raise self.fail(section, "expected a mapping of names" if section in values else "is missing")
        for name in found:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise self.fail(f"{section}/{name}", "a name is letters, digits, and . _ + - behind the first")
        # A mapping without entries is written as nothing at all.
        return [(name, {} if one is None and section != "bases" else one) for name, one in found.items()]

    def _convert(self, value: Any, kind: Any, field: str) -> Any:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            text = str(error)
            found = re.search(r" - at `\$\.?(.*)`$", text)
            inner = re.sub(r"\[(\d+)\]", r".\1", found[1]).replace(".", "/") if found else ""
            named = re.search(r"unknown field `(\w+)`", text)
            parts = [part for part in (field, inner, named[1] if named else "") if part and part != "[/]"]
            raise self.fail("/".join(parts) or "settings", text[: found.start()] if found else text) from None

    def _check(self, settings: Settings) -> None:
        self._check_names(settings)
        if not settings.seeds or len(settings.seeds) != len(set(settings.seeds)):
            raise self.fail("seeds", "needs at least one seed, and none twice")
        if not 0 < settings.threshold <= 1:
            raise self.fail("threshold", f"must be a share above 0, got {settings.threshold}")
        for section in ("shared", "rl", "sft"):
            self._check_training(getattr(settings.training, section), f"training/{section}")
        for arm, own in settings.arms.items():
            self._check_training(own, f"arms/{arm}")
            try:
                make_config(settings, arm)
            except ConfigError as error:
                key, message = _strip_override(str(error))
                kind = "rl" if is_rl(settings, arm) else "sft"
                places = {f"arms/{arm}": own, f"training/{kind}": getattr(settings.training, kind)}
                where = next((place for place, values in places.items() if key in values), "training/shared")
                raise self.fail(f"{where}/{key}" if key else f"arms/{arm}", message) from None
            if is_rl(settings, arm):
                self._check_reward(make_config(settings, arm).reward, f"arms/{arm}/reward")
        for key in settings.may_differ:
            if key not in TrainConfig.__dataclass_fields__:
                raise self.fail("may_differ", f"{key!r} is no training setting")
        try:
            check_fair(settings)
        except StudyError as error:
            raise self.fail("arms", str(error)) from None
        self._check_arguments(settings)
        for name, rules in settings.evaluations.items():
            self._check_rules(settings, name, rules)
        for name, condition in settings.conditions.items():
            for arm in get_arms(settings, name):
                config = make_config(settings, arm)
                self._check_split(settings, condition.data, config.split, f"conditions/{name}/data")
        for index, hypothesis in enumerate(settings.hypotheses):
            self._check_hypothesis(settings, hypothesis, f"hypotheses/{index}")

    def _check_names(self, settings: Settings) -> None:
        if not settings.conditions or not settings.arms:
            raise self.fail("conditions", "a study needs at least one condition and one arm")
        if BASE in settings.arms:
            raise self.fail(f"arms/{BASE}", "this is the name of the model that nobody trained")
        for name, condition in settings.conditions.items():
            where = f"conditions/{name}"
            self._check_known(condition.base, settings.bases, f"{where}/base", "base")
            self._check_known(condition.data, settings.data, f"{where}/data", "data")
            self._check_known(condition.evaluation, settings.evaluations, f"{where}/evaluation", "evaluation")
            for arm in condition.arms if isinstance(condition.arms, list) else ():
                self._check_known(arm, settings.arms, f"{where}/arms", "arm")
        for section in ("axes", "hypotheses"):
            names = [one.name for one in getattr(settings, section)]
            for index, name in enumerate(names):
                if name in names[:index]:
                    raise self.fail(f"{section}/{index}/name", f"{name!r} stands twice")
        for index, axis in enumerate(settings.axes):
            if not axis.levels:
                raise self.fail(f"axes/{index}/levels", "needs at least one level")
            for place, level in enumerate(axis.levels):
                where = f"axes/{index}/levels/{place}/condition"
                self._check_known(level.condition, settings.conditions, where, "condition")

    def _check_known(self, name: str, known: Mapping[str, Any], field: str, what: str) -> None:
        if name not in known:
            raise self.fail(field, f"no {what} named {name!r}{nearest(name, known)}")

    def _check_training(self, values: Mapping[str, Any], field: str) -> None:
        for key in values:
            if key in OWN_KEYS:
                raise self.fail(f"{field}/{key}", "is set by the study itself")
            if key not in TrainConfig.__dataclass_fields__:
                hint = nearest(key, TrainConfig.__dataclass_fields__)
                raise self.fail(f"{field}/{key}", f"no such training setting{hint}")

    def _check_reward(self, reward: Any, field: str) -> None:
        try:
            make_reward(reward)
        except ValueError as error:
            raise self.fail(field, str(error)) from None

    def _check_rules(self, settings: Settings, name: str, rules: Rules) -> None:
        where = f"evaluations/{name}"
        if not rules.splits:
            raise self.fail(f"{where}/splits", "needs at least one split")
        if not 1 <= rules.samples < len(DIGITS):
            raise self.fail(f"{where}/samples", f"must be 1 to {len(DIGITS) - 1}, got {rules.samples}")
        for label, split in rules.splits.items():
            field = f"{where}/splits/{label}"
            if split.suite not in settings.data and not is_suite_name(split.suite):
                raise self.fail(f"{field}/suite", f"{split.suite!r} is neither a suite nor data of this study")
            if split.tasks < 1:
                raise self.fail(f"{field}/tasks", f"must be at least 1, got {split.tasks}")
            self._check_split(settings, split.suite, split.split, f"{field}/split")

    def _check_split(self, settings: Settings, name: str, split: str, field: str) -> None:
        """Refuse a split that a suite, or data of the study, does not have."""
        made = settings.data.get(name)
        if made:
            from mentor_gym.suites.math_variants import write_variant

            # A variant has one split, with the name of the one that it is taken from.
            known = [str(made.get("split", inspect.signature(write_variant).parameters["split"].default))]
        else:
            known = list(load_suite(SHIPPED if name in settings.data else name).splits)
        if split not in known:
            raise self.fail(field, f"{name!r} has no split {split!r}; it has {', '.join(known)}")

    def _check_arguments(self, settings: Settings) -> None:
        made = {name: one for name, one in settings.bases.items() if isinstance(one, dict)}
        if made:
            from agents.pretrain import pretrain

            self._check_call(pretrain, made, "bases")
        variants = {name: one for name, one in settings.data.items() if one}
        if variants:
            from mentor_gym.suites.math_variants import write_variant

            self._check_call(write_variant, variants, "data")
        for name, arguments in variants.items():
            if "split" in arguments:
                self._check_split(settings, SHIPPED, arguments["split"], f"data/{name}/split")

    def _check_call(self, function: Any, entries: Mapping[str, Mapping[str, Any]], section: str) -> None:
        kinds = typing.get_type_hints(function)
        known = [name for name in inspect.signature(function).parameters if name != "out"]
        for name, arguments in entries.items():
            for key in arguments:
                if key not in known:
                    hint = nearest(key, known) or f"; known: {', '.join(known)}"
                    raise self.fail(f"{section}/{name}/{key}", f"no such argument{hint}")
                self._convert(arguments[key], kinds[key], f"{section}/{name}/{key}")

    def _check_hypothesis(self, settings: Settings, one: Hypothesis, field: str) -> None:
        self._check_known(one.axis, {axis.name: axis for axis in settings.axes}, f"{field}/axis", "axis")
        self._check_known(one.measure, dict.fromkeys(MEASURES), f"{field}/measure", "measure")
        if not one.terms:
            raise self.fail(f"{field}/terms", "needs at least one term")
        if (one.expect == "zero") != (one.margin > 0):
            raise self.fail(f"{field}/margin", "expect: zero needs a margin above 0, and only it has one")
        if (one.measure in TRAINING_MEASURES) != (one.split == ""):
            raise self.fail(f"{field}/split", f"{one.measure} has {'no' if one.split else 'a'} split")
        for index, term in enumerate(one.terms):
            where = f"{field}/terms/{index}"
            self._check_known(term.condition, settings.conditions, f"{where}/condition", "condition")
            arms = get_arms(settings, term.condition) + ([BASE] if one.split else [])
            if term.arm not in arms:
                raise self.fail(f"{where}/arm", f"{term.arm!r} is not trained in {term.condition!r}")
            if one.measure in TRAINING_MEASURES and not is_rl(settings, term.arm):
                raise self.fail(f"{where}/arm", f"{term.arm!r} samples no episodes, so it has no {one.measure}")
            labels = settings.evaluations[settings.conditions[term.condition].evaluation].splits
            if one.split and one.split not in labels:
                raise self.fail(f"{field}/split", f"{term.condition!r} is not measured on {one.split!r}")


def _strip_override(message: str) -> tuple[str, str]:
    """Return key and complaint of an error of `load_config`, without the text that the study gave it.

    >>> _strip_override("override 'steps=0': steps: must be at least 1, got 0")
    ('steps', 'must be at least 1, got 0')
    """
    found = re.match(r"override .*?['\"]: (\w+): (.*)", message, re.DOTALL)
    return (found[1], found[2]) if found else ("", message)


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    shipped = CONFIGS / path.name
    if not shipped.suffix:
        shipped = shipped.with_suffix(".yaml")
    # Not from any folder: who mistypes the folder of a study of his own must not get hours of another one.
    if str(path.parent) in (".", CONFIGS.name) and shipped.is_file():
        return shipped
    raise StudyError(f"{path}: no such file, and no shipped configuration of that name")


def _find_lines(path: Path) -> dict[str, int]:
    """Return the line of every key and list entry, by its path (`arms.mentor.reward`, `axes.0`).

    Raises:
        DataError: A key stands twice in its mapping, at any depth: the later one would win in silence.
    """
    lines: dict[str, int] = {}

    def walk(node: Any, prefix: str) -> None:
        for key, line, value in _children(node):
            name = f"{prefix}{key}"
            if name in lines:
                raise DataError(f'{path}, line {line}: field "{name}" stands twice, first in line {lines[name]}')
            lines[name] = line
            walk(value, f"{name}.")

    walk(yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader), "")
    return lines


def _children(node: Any) -> Iterator[tuple[str, int, Any]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            # An anchor's merge key may stand beside keys of the same names.
            if key.tag != "tag:yaml.org,2002:merge":
                yield str(key.value), key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield str(index), value.start_mark.line + 1, value
