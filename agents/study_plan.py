"""The plan of a study: base models, training data, arms, conditions, and the hypotheses that it decides.

A study names base models and variants of the training data, each made once; arms, which are training
configurations that differ in what they learn from; conditions, a base with data and the arms trained on it; and
hypotheses, each with the statistic that decides it. Its file is read by `agents.study_reader`; what is run, and
how, is `agents.study`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from agents.arms import hash_files, hash_model
from agents.config import TrainConfig, load_config
from agents.jobs import load_run
from mentor_gym import __version__
from mentor_gym.data import data_path
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
OWN_KEYS = ("model", "suite", "seed", "output")
# A count of samples is kept as one character.
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


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


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps({**content, "version": __version__}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _hash_shipped() -> str:
    return hash_files([data_path("manifest.json")])


def _hash_suite(suite: str) -> str:
    return _hash_shipped() if is_suite_name(suite) else hash_files(sorted(Path(suite).parent.glob("*")))
