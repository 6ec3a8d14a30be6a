"""The plan of a study: base models, training data, arms, conditions, and the hypotheses that it decides.

A study is one YAML file (`agents/configs/study.yaml`). It names base models and variants of the training data,
each made once; arms, which are training configurations that differ in what they learn from; conditions, a base
with data and the arms trained on it; and hypotheses, each with the statistic that decides it. Everything is
checked before the first run, so that a mistake costs seconds and not hours. What is run, and how, is
`agents.study`'s.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import yaml

from agents.arms import hash_files, hash_model, merge_settings
from agents.config import CONFIGS, ConfigError, TrainConfig, load_config
from agents.jobs import load_run
from mentor_gym import __version__
from mentor_gym.data import DataError, data_path, read_yaml
from mentor_gym.names import nearest
from mentor_gym.suites import is_suite_name

BASE = "base"  # the arm of a base model that nobody trained
SHIPPED = "math"  # the suite that data without arguments stands for
# Measures with one value a task, and where a run keeps them.
TASK_MEASURES = {
    "sampled": "sampled_success",
    "greedy": "success",
    "tool_use": "sampled_tool_use",
    "greedy_tool_use": "tool_use",
}
# Measures with one value a split: where `evaluate` has it, and its name there.
SPLIT_MEASURES = {
    "tool_f1": ("sampled", "tool_f1"),
    "greedy_tool_f1": ("greedy", "tool_f1"),
    "similarity": ("sampled", "similarity"),
    "greedy_similarity": ("greedy", "similarity"),
    "task_similarity": ("sampled", "task_similarity"),
    "calls": ("sampled", "calls"),
    "invalid": ("sampled", "invalid"),
    "sampled_any": ("sampled", "pass@k"),
}
# Measures of the training itself.
TRAINING_MEASURES = ("zero_variance", "zero_variance_early", "tokens_to_threshold", "train_success", "kl")
MEASURES = (*TASK_MEASURES, *SPLIT_MEASURES, *TRAINING_MEASURES)
# The study sets these itself, so that conditions mean what their names say.
_OWN_KEYS = ("model", "suite", "seed", "output")
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
# A count of samples is kept as one character.
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
Entry = TypeVar("Entry")


class StudyError(ValueError):
    """A study that cannot run, or did not run in full; the message says why and where to look."""


class Split(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where an evaluation takes tasks from.

    Attributes:
        suite: A suite, or the name of one of the study's data variants.
        split: Its split.
        tasks: How many of its tasks; all if there are fewer.
    """

    suite: str
    split: str
    tasks: int


class Rules(msgspec.Struct, forbid_unknown_fields=True):
    """How a trained model is measured.

    Attributes:
        splits: By the label that hypotheses and tables use.
        samples: Sampled episodes a task.
        temperature: Temperature of them.
        max_turns: Turn limit.
        max_new_tokens: Tokens of a turn at most.
        max_context: Tokens of a conversation at most.
        prompt: Prompt style.
    """

    splits: dict[str, Split]
    samples: int
    temperature: float
    max_turns: int
    max_new_tokens: int
    max_context: int
    prompt: Literal["compact", "full"]


class Condition(msgspec.Struct, forbid_unknown_fields=True):
    """A base model, the data it is trained on, and the arms that do it.

    Attributes:
        base: Name of the base.
        data: Name of the data.
        arms: Names of the arms, or `"all"`.
        evaluation: Name of the evaluation.
    """

    base: str
    data: str
    arms: list[str] | Literal["all"]
    evaluation: str


class Level(msgspec.Struct, forbid_unknown_fields=True):
    """One dose of an axis: its label, its value, and the condition that has it."""

    label: str
    value: float
    condition: str


class Axis(msgspec.Struct, forbid_unknown_fields=True):
    """What is turned while all else stays: conditions in the order of the dose, and what is expected of it."""

    name: str
    title: str
    levels: list[Level]
    hypothesis: str


class Term(msgspec.Struct, forbid_unknown_fields=True):
    """One part of a statistic: the mean of an arm in a condition, times a weight."""

    arm: str
    condition: str
    weight: float


class Hypothesis(msgspec.Struct, forbid_unknown_fields=True):
    """A statement, and the weighted sum of means whose interval decides it.

    Attributes:
        name: A short name.
        axis: The axis that it belongs to.
        statement: What is claimed, for a reader.
        measure: One of `MEASURES`.
        terms: The sum.
        expect: The sign that the statement predicts; `"zero"` needs a margin.
        split: Label of the split; none for measures of the training.
        margin: Half width of the range that counts as zero.
    """

    name: str
    axis: str
    statement: str
    measure: str
    terms: list[Term]
    expect: Literal["positive", "negative", "zero"]
    split: str = ""
    margin: float = 0.0


class Training(msgspec.Struct, forbid_unknown_fields=True):
    """Training settings: of all arms, of those that learn from rewards, and of supervised fine-tuning."""

    shared: dict[str, Any]
    rl: dict[str, Any]
    sft: dict[str, Any]


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """A study, as its file gives it.

    Attributes:
        title: Heading of the report.
        seeds: One run of every arm and condition for each.
        bases: Base models: the arguments of `agents.pretrain.pretrain`, or the name of a model that exists.
        data: Training data: the arguments of `write_variant`; none for the shipped suite `math`.
        training: Training settings.
        arms: What each arm has of its own, as fields of `TrainConfig`.
        conditions: What is trained on what.
        evaluations: How it is measured.
        axes: Which conditions are compared as doses of one thing.
        hypotheses: What is decided.
        threshold: Success of sampled training episodes whose first reaching is timed.
        may_differ: Fields besides the reward in which arms that learn from rewards may differ.
        references: Arms that every other one is compared with, where they are trained.
        limits: What a reader of the report must know besides what it says by itself.
    """

    title: str
    seeds: list[int]
    bases: dict[str, dict[str, Any] | str]
    data: dict[str, dict[str, Any]]
    training: Training
    arms: dict[str, dict[str, Any]]
    conditions: dict[str, Condition]
    evaluations: dict[str, Rules]
    axes: list[Axis]
    hypotheses: list[Hypothesis]
    threshold: float = 0.8
    may_differ: list[str] = []
    references: list[str] = msgspec.field(default_factory=lambda: ["sparse", "mentor"])
    limits: list[str] = []


@dataclass(frozen=True)
class Run:
    """One run of the study.

    Attributes:
        condition: The condition; empty where a base is measured as it is.
        arm: The arm, or `BASE`.
        seed: Seed of training and sampling.
        base: The base model's name.
        data: The training data's name; empty for a base.
        evaluation: The evaluation's name.
    """

    condition: str
    arm: str
    seed: int
    base: str
    data: str
    evaluation: str

    @property
    def key(self) -> str:
        """Its name in messages, and its folder below the folder of runs."""
        if self.arm == BASE:
            return f"{BASE}/{self.base}-{self.evaluation}"
        return f"{self.condition}/{self.arm}-seed{self.seed}"


@dataclass(frozen=True)
class Folders:
    """Where a study keeps what; a quick one apart, so that it throws nothing of the full one away."""

    out: Path
    quick: bool

    def base(self, name: str) -> Path:
        """Where a base model is made."""
        return self._of("bases") / name

    def data(self, name: str) -> Path:
        """Where a data variant is made."""
        return self._of("data") / name

    def run(self, run: Run) -> Path:
        """Where a run writes."""
        return self._of("runs") / run.key

    @property
    def settings(self) -> Path:
        """The settings as the runs read them: a file that is edited meanwhile changes none of them."""
        return self.out / ("settings-quick.json" if self.quick else "settings.json")

    def _of(self, kind: str) -> Path:
        return self.out / (f"{kind}-quick" if self.quick else kind)


def load_study(path: Path | str, quick: bool = False) -> Settings:
    """Read and check a study.

    Args:
        path: A YAML file; one that does not exist is looked up among the shipped configurations.
        quick: Apply the file's `quick` section.

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
    return settings


def read_settings(path: Path) -> Settings:
    """Read settings that were checked before, as the processes of the runs find them.

    Raises:
        StudyError: They cannot be read.
    """
    try:
        return msgspec.convert(json.loads(path.read_text()), Settings)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: {error}") from None


def list_runs(settings: Settings, only: Sequence[str] = ()) -> list[Run]:
    """List the runs in the order in which they are started: bases first, then seed by seed.

    A study that is cut short so has complete seeds, in all conditions and arms.

    Args:
        settings: The study.
        only: Conditions to run; none for all.

    Raises:
        StudyError: There is no such condition.
    """
    for name in only:
        if name not in settings.conditions:
            raise StudyError(f"--only {name}: no such condition{nearest(name, settings.conditions)}")
    chosen = {name: one for name, one in settings.conditions.items() if not only or name in only}
    measured = dict.fromkeys((one.base, one.evaluation) for one in chosen.values())
    first = settings.seeds[0]
    return [Run("", BASE, first, base, "", evaluation) for base, evaluation in measured] + [
        Run(name, arm, seed, one.base, one.data, one.evaluation)
        for seed in settings.seeds
        for name, one in chosen.items()
        for arm in get_arms(settings, name)
    ]


def get_arms(settings: Settings, condition: str) -> list[str]:
    """Return the arms that are trained in a condition, in the order of the study."""
    arms = settings.conditions[condition].arms
    return [arm for arm in settings.arms if arms == "all" or arm in arms]


def is_rl(settings: Settings, arm: str) -> bool:
    """Tell whether an arm learns from rewards."""
    return get_algorithm(settings, arm) != "sft"


def get_algorithm(settings: Settings, arm: str) -> str:
    """Return the learner of an arm."""
    own = settings.arms[arm]
    return str(own.get("algorithm", settings.training.shared.get("algorithm", TrainConfig.algorithm)))


def make_config(settings: Settings, arm: str, **own: Any) -> TrainConfig:
    """Build the training configuration of an arm.

    Args:
        settings: The study.
        arm: The arm.
        own: What the study sets for one run: `model`, `suite`, `seed`, `output`.

    Raises:
        ConfigError: A field is unknown, or a value does not fit.
    """
    training = settings.training
    kind = training.rl if is_rl(settings, arm) else training.sft
    values = {**training.shared, **kind, **settings.arms[arm], **own}
    # JSON is YAML in which nothing is ambiguous: a path stays text whatever is in its name.
    return load_config(None, [f"{key}={json.dumps(value)}" for key, value in values.items()])


def find_suite(settings: Settings, name: str, folders: Folders) -> str:
    """Return what `load_suite` takes for the name of data, or of a suite."""
    if not settings.data.get(name):
        return SHIPPED if name in settings.data else name
    return str(folders.data(name) / name / "suite.yaml")


def find_model(settings: Settings, name: str, folders: Folders) -> str:
    """Return what `load_agent` takes for the name of a base."""
    base = settings.bases[name]
    return base if isinstance(base, str) else str(folders.base(name) / "model")


def list_made(settings: Settings, runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """Return the bases and the data that have to be made for these runs."""
    bases = dict.fromkeys(run.base for run in runs)
    suites = dict.fromkeys(
        name
        for run in runs
        for name in (run.data, *(split.suite for split in settings.evaluations[run.evaluation].splits.values()))
    )
    return (
        [name for name in bases if isinstance(settings.bases[name], dict)],
        [name for name in suites if settings.data.get(name)],
    )


def fingerprint_base(settings: Settings, name: str) -> str:
    """Hash what a base model depends on."""
    arguments = settings.bases[name]
    assert isinstance(arguments, dict)
    start = arguments.get("start")
    return _digest({"base": arguments, "start": hash_model(start) if start else None})


def fingerprint_data(settings: Settings, name: str) -> str:
    """Hash what a data variant depends on."""
    return _digest({"data": settings.data[name], "shipped": _hash_shipped()})


class Fingerprints:
    """Hashes of everything that runs depend on, wherever it is kept: settings, base, data, evaluation, version.

    Files that many runs have in common are read once. What changes afterwards is not noticed: for another look,
    make another one.

    Args:
        settings: The study.
        folders: Where its bases and data are.
    """

    def __init__(self, settings: Settings, folders: Folders) -> None:
        self.settings = settings
        self.folders = folders
        self._bases: dict[str, str] = {}
        self._suites: dict[str, str] = {}

    def of(self, run: Run) -> str:
        """Return the fingerprint of a run; empty while its base or data is not made as the settings say."""
        rules = self.settings.evaluations[run.evaluation]
        names = [run.data, *(split.suite for split in rules.splits.values())]
        base, suites = self._base(run.base), [self._suite(name) for name in names if name]
        if not base or not all(suites):
            return ""
        config = None
        if run.arm != BASE:
            config = asdict(make_config(self.settings, run.arm, seed=run.seed))
            config = {key: value for key, value in config.items() if key not in ("output", "model", "suite")}
        evaluation = msgspec.to_builtins(rules)
        return _digest(
            {"config": config, "seed": run.seed, "model": base, "suites": suites, "evaluation": evaluation}
        )

    def _base(self, name: str) -> str:
        if name not in self._bases:
            self._bases[name] = hash_model(find_model(self.settings, name, self.folders))
            if isinstance(self.settings.bases[name], dict):
                made = load_run(self.folders.base(name), fingerprint_base(self.settings, name))
                self._bases[name] = self._bases[name] if made else ""
        return self._bases[name]

    def _suite(self, name: str) -> str:
        if name not in self._suites:
            self._suites[name] = _hash_suite(find_suite(self.settings, name, self.folders))
            if self.settings.data.get(name):
                made = load_run(self.folders.data(name), fingerprint_data(self.settings, name))
                self._suites[name] = self._suites[name] if made else ""
        return self._suites[name]


def check_fair(settings: Settings) -> None:
    """Refuse arms that learn from rewards and differ in more than these.

    Raises:
        StudyError: Names the setting and its values.
    """
    arms = [arm for arm in settings.arms if is_rl(settings, arm)]
    configs = {arm: asdict(make_config(settings, arm)) for arm in arms}
    for key in configs[arms[0]] if arms else ():
        values = {arm: configs[arm][key] for arm in arms}
        if key in ("reward", "dense", *settings.may_differ):
            continue
        if any(value != values[arms[0]] for value in values.values()):
            listed = ", ".join(f"{arm} {value!r}" for arm, value in values.items())
            raise StudyError(
                f"arms that learn from rewards must differ in reward and dense alone, but {key} differs: "
                f"{listed}; list it in may_differ if it is meant"
            )


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
                raise self.fail(section, "expected a list")
            values[section] = [self._convert(one, kind, f"{section}/{i}") for i, one in enumerate(found)]
        for section in ("bases", "data", "arms"):
            values[section] = {
                name: self._convert(one, dict[str, Any] | str if section == "bases" else dict, f"{section}/{name}")
                for name, one in self._mapping(values, section)
            }
        settings = self._convert(values, Settings, "")
        self._check(settings)
        return settings

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
        for key in settings.may_differ:
            if key not in TrainConfig.__dataclass_fields__:
                raise self.fail("may_differ", f"{key!r} is no training setting")
        try:
            check_fair(settings)
        except StudyError as error:
            raise self.fail("arms", str(error)) from None
        for name, rules in settings.evaluations.items():
            self._check_rules(settings, name, rules)
        self._check_arguments(settings)
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
            for place, level in enumerate(axis.levels):
                where = f"axes/{index}/levels/{place}/condition"
                self._check_known(level.condition, settings.conditions, where, "condition")

    def _check_known(self, name: str, known: Mapping[str, Any], field: str, what: str) -> None:
        if name not in known:
            raise self.fail(field, f"no {what} named {name!r}{nearest(name, known)}")

    def _check_training(self, values: Mapping[str, Any], field: str) -> None:
        for key in values:
            if key in _OWN_KEYS:
                raise self.fail(f"{field}/{key}", "is set by the study itself")
            if key not in TrainConfig.__dataclass_fields__:
                hint = nearest(key, TrainConfig.__dataclass_fields__)
                raise self.fail(f"{field}/{key}", f"no such training setting{hint}")

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

    def _check_arguments(self, settings: Settings) -> None:
        made = {name: one for name, one in settings.bases.items() if isinstance(one, dict)}
        if made:
            from agents.pretrain import pretrain

            self._check_call(pretrain, made, "bases")
        variants = {name: one for name, one in settings.data.items() if one}
        if variants:
            from mentor_gym.suites.math_variants import write_variant

            self._check_call(write_variant, variants, "data")

    def _check_call(self, function: Any, entries: Mapping[str, Mapping[str, Any]], section: str) -> None:
        known = [name for name in inspect.signature(function).parameters if name != "out"]
        for name, arguments in entries.items():
            for key in arguments:
                if key not in known:
                    hint = nearest(key, known) or f"; known: {', '.join(known)}"
                    raise self.fail(f"{section}/{name}/{key}", f"no such argument{hint}")

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
    if shipped.is_file():
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


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps({**content, "version": __version__}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _hash_shipped() -> str:
    return hash_files([data_path("manifest.json")])


def _hash_suite(suite: str) -> str:
    return _hash_shipped() if is_suite_name(suite) else hash_files(sorted(Path(suite).parent.glob("*")))
