"""Variants of the `math` suite's splits in which one thing is turned: for controlled studies of rewards.

A variant has the problems of a shipped split, in their order and wordings; three knobs change them:

- *notes*: a share of the prompts ends with a note of the answer, right in a given share of the cases. Whoever
  copies it needs no tools; where the note is missing or stale, that is of no use.
- *paths*: each task is offered either the tools of one way alone, or also those of another way that is as good.
  Only problems for which both can be had are kept, so that the tasks at every share of this knob are the same.
  Where there are several ways, the teacher takes any of them.
- *noise*: a share of the teacher's traces is spoilt, by a wrong tool, a wrong argument, or a call too many. A
  teacher that goes wrong goes on with what it got, so that its answer is wrong too: nobody has filtered them.

    from mentor_gym.suites.math_variants import write_variant
    write_variant(Path("runs/notes"), notes=0.5, reliability=0.9)    # then suite=runs/notes/suite.yaml
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from mentor_gym.suites.math import (
    LOWERINGS,
    PAPER_NAMES,
    build,
    kind_of,
    math_box_tools,
    parse_formula,
    ways,
)
from mentor_gym.suites.plans import Call, PlanFailed, calls_of, count_paths, lower, orders, run, teacher_messages
from mentor_gym.types import Task

NOTES = ("An old list gives {0}.", "A page gives {0}.", "An old record gives {0}.", "A list has the answer {0}.")
PATHS = ("one", "several")
CORRUPTIONS = ("wrong tool", "wrong argument", "redundant call")
_ATTEMPTS = 40


def write_variant(
    out: Path,
    split: str = "train",
    rows: int | None = None,
    calls: Sequence[int] | None = None,
    notes: float = 0.0,
    reliability: float = 1.0,
    paths: float | None = None,
    noise: float = 0.0,
    seed: int = 0,
) -> Path:
    """Write a variant of a split of `math` as a suite of its own, with one split of the same name.

    Args:
        out: The folder to write into.
        split: The split whose problems are taken.
        rows: How many tasks to keep of all that come of this, from the first; None keeps all. The shares are those
            of all.
        calls: Only problems whose teacher makes so many calls; None takes all.
        notes: Share of the prompts with a note.
        reliability: Share of the notes that are right.
        paths: Share of the tasks with several ways; None leaves the offered tools and the teacher as they are.
        noise: Share of the teacher's traces that are spoilt.
        seed: Of everything that is drawn.

    Returns:
        The path of its `suite.yaml`.

    Raises:
        ValueError: A share is not between 0 and 1, there is no such split, or no task is left.

    >>> import tempfile
    >>> from mentor_gym.suites import load_suite
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_variant(Path(folder, "stale"), "test", rows=3, notes=1.0, reliability=0.0)
    ...     tasks = load_suite(str(file)).tasks("test")
    >>> [task.meta["note"] for task in tasks]
    ['stale', 'stale', 'stale']
    """
    for name, share in (("notes", notes), ("reliability", reliability), ("paths", paths), ("noise", noise)):
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"{name} must be between 0 and 1, got {share!r}")
    if rows is not None and rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    tasks = [task for task in build().tasks(split) if calls is None or task.meta["calls"] in calls]
    if paths is not None:
        tasks = vary_paths(tasks, paths, seed)
    if noise:
        tasks = spoil_teachers(tasks, noise, seed)
    if notes:
        tasks = add_notes(tasks, notes, reliability, seed)
    tasks = tasks[:rows]
    if not tasks:
        raise ValueError(f"no task of split {split!r} is left: calls={calls!r}, rows={rows!r}")
    out.mkdir(parents=True, exist_ok=True)
    name = f"math-{out.name}"
    written = [msgspec.structs.replace(task, suite=name) for task in tasks]
    (out / f"{split}.jsonl").write_bytes(b"".join(msgspec.json.encode(task) + b"\n" for task in written))
    (out / "tools.py").write_text(
        '"""The tools of the math suite."""\n\n'
        "from mentor_gym.tools.math import math_box as make_box\n\n"
        '__all__ = ["make_box"]\n'
    )
    file = out / "suite.yaml"
    file.write_text(f"name: {name}\ntools: tools.py\nsplits:\n  {split}: {split}.jsonl\n")
    return file


def add_note(prompt: str, answer: str, rng: random.Random) -> str:
    """Put a note of the answer behind a prompt.

    >>> add_note("What is 1 plus 2?", "3", random.Random(1))
    'What is 1 plus 2? A page gives 3.'
    """
    return f"{prompt} {rng.choice(NOTES).format(answer)}"


def add_notes(tasks: Sequence[Task], share: float, reliability: float, seed: int = 0) -> list[Task]:
    """Put notes into a share of the prompts; `meta["note"]` says which: `"right"`, `"stale"` or `"none"`.

    A stale note is the answer of another task of the same kind. Both shares are met to the task.
    """
    rng = random.Random(f"{seed}/notes")
    noted = _pick(len(tasks), share, rng)
    right = {noted[place] for place in _pick(len(noted), reliability, rng)}
    with_note = set(noted)
    answers: dict[str, list[str]] = {}
    for task in tasks:
        answers.setdefault(task.meta["kind"], []).append(task.answer)
    found = list(tasks)
    for place, task in enumerate(tasks):
        prompt, note = task.prompt, "none"
        if place in with_note:
            note, shown = "right", task.answer
            if place not in right:
                others = [answer for answer in answers[task.meta["kind"]] if answer != task.answer]
                note, shown = "stale", rng.choice(others) if others else f"{task.answer}0"
            prompt = add_note(prompt, shown, rng)
        found[place] = msgspec.structs.replace(task, prompt=prompt, meta={**task.meta, "note": note})
    return found


def vary_paths(tasks: Sequence[Task], share: float, seed: int = 0) -> list[Task]:
    """Offer a share of the tasks the tools of several ways, the others those of one way alone.

    Both forms of a task offer as many tools. Tasks for which both cannot be had are left out.
    """
    rng = random.Random(f"{seed}/paths")
    forms = [found for task in tasks if (found := _two_forms(task, rng)) is not None]
    several = set(_pick(len(forms), share, rng))
    return [both[place in several] for place, both in enumerate(forms)]


def _two_forms(task: Task, rng: random.Random) -> tuple[Task, Task] | None:
    """Return a task with the tools of one way, and with those of several; None when one cannot be had."""
    formula = parse_formula(kind_of(task).formula, task.meta["numbers"])
    everything = lower(formula, LOWERINGS, PAPER_NAMES)
    first = everything[0]
    own = {item.tool for item in calls_of(first)}
    others = [way for way in everything[1:] if {item.tool for item in calls_of(way)} - own]
    if not others or count_paths(lower(formula, LOWERINGS, sorted(own))) != 1:
        return None
    added = {item.tool for item in calls_of(rng.choice(others))} - own
    if len(own | added) > 5:
        return None
    size = max(len(own | added), rng.randint(3, 5))
    forms = []
    for base in (own, own | added):
        for _ in range(_ATTEMPTS):
            offered = [*sorted(base), *rng.sample(sorted(set(PAPER_NAMES) - base), size - len(base))]
            rng.shuffle(offered)
            possible = lower(formula, LOWERINGS, offered)
            if (count_paths(possible) == 1) == (base is own):
                break
        else:
            return None
        way = possible[0] if base is own else rng.choice(possible)
        try:
            steps = run(rng.choice(list(orders(way))), math_box_tools())
        except PlanFailed:
            return None
        forms.append(
            msgspec.structs.replace(
                task,
                tools=list(offered),
                teacher=teacher_messages(steps, task.answer),
                meta={**task.meta, "calls": len(steps), "paths": count_paths(possible)},
            )
        )
    return forms[0], forms[1]


def spoil_teachers(tasks: Sequence[Task], share: float, seed: int = 0) -> list[Task]:
    """Spoil a share of the teacher's traces; `meta["noise"]` says how: one of `CORRUPTIONS`, or `"none"`."""
    rng = random.Random(f"{seed}/noise")
    chosen = set(_pick(len(tasks), share, rng))
    found = []
    for place, task in enumerate(tasks):
        if place not in chosen:
            found.append(msgspec.structs.replace(task, meta={**task.meta, "noise": "none"}))
            continue
        kind = CORRUPTIONS[rng.randrange(len(CORRUPTIONS))]
        spoilt = _spoil(task, kind, rng)
        while spoilt is None:
            kind = rng.choice(CORRUPTIONS)
            spoilt = _spoil(task, kind, rng)
        steps, answer = spoilt
        teacher = teacher_messages(steps, answer)
        found.append(msgspec.structs.replace(task, teacher=teacher, meta={**task.meta, "noise": kind}))
    return found


def _spoil(task: Task, kind: str, rng: random.Random) -> tuple[list[tuple[str, dict[str, Any], str]], str] | None:
    """Spoil the teacher's own way of a task; None when what was drawn is no such mistake."""
    tools = math_box_tools()
    plan = calls_of(ways(task)[0])
    place = rng.randrange(len(plan))
    if kind == "redundant call":
        steps = run(plan, tools)
        name, arguments, _ = steps[place]
        if rng.random() < 0.5:
            name = rng.choice([str(tool) for tool in task.tools])
            drawn = _arguments_for(name, [value for step in steps for value in _numbers(step[1])], rng)
            if drawn is None:
                return None
            arguments = drawn
        extra = (name, arguments, tools[name].call(arguments).output)
        steps.insert(rng.randint(0, len(steps)), extra)
        return steps, task.answer
    before = plan[place]
    if kind == "wrong tool":
        name = rng.choice([str(tool) for tool in task.tools])
        values = [value for _, argument in before.arguments for value in _flat(argument)]
        keys = list(tools[name].parameters["properties"])
        if name == before.tool or (keys != ["numbers"] and len(values) < len(keys)):
            return None
        after = Call(name, (("numbers", tuple(values)),) if keys == ["numbers"] else tuple(zip(keys, values)))
    else:
        slot = rng.randrange(len(before.arguments))
        key, value = before.arguments[slot]
        if isinstance(value, tuple):
            item = rng.randrange(len(value))
            changed: Any = (*value[:item], _another(value[item], task, rng), *value[item + 1 :])
        else:
            changed = _another(value, task, rng)
        after = Call(before.tool, (*before.arguments[:slot], (key, changed), *before.arguments[slot + 1 :]))
    if after == before:
        return None
    try:
        steps = run(calls_of(_replace(plan[-1], before, after)), tools)
    except PlanFailed:
        return None
    answer = steps[-1][2]
    return None if answer == task.answer else (steps, answer)


def _replace(node: Any, before: Call, after: Call) -> Any:
    """Put another call in the place of one, wherever its result is used."""
    if node == before:
        return after
    if isinstance(node, tuple):
        return tuple(_replace(item, before, after) for item in node)
    if isinstance(node, Call):
        return Call(node.tool, tuple((key, _replace(value, before, after)) for key, value in node.arguments))
    return node


def _another(value: Any, task: Task, rng: random.Random) -> Any:
    """Return a number that stands in the problem, or one close by, in place of an argument."""
    numbers = [number for number in task.meta["numbers"].values() if number != value]
    if numbers and rng.random() < 0.7:
        return rng.choice(numbers)
    return value + rng.choice((-10, -1, 1, 10)) if isinstance(value, int | float) else rng.randint(2, 99)


def _arguments_for(tool: str, numbers: Sequence[Any], rng: random.Random) -> dict[str, Any] | None:
    arguments: dict[str, Any] = {}
    for key, schema in math_box_tools()[tool].parameters["properties"].items():
        if schema["type"] == "array":
            arguments[key] = [rng.choice(numbers) for _ in range(2)]
        else:
            arguments[key] = rng.choice((0, 1, 2)) if schema["type"] == "integer" else rng.choice(numbers)
    return arguments if math_box_tools()[tool].call(arguments).ok else None


def _numbers(arguments: dict[str, Any]) -> list[Any]:
    return [item for value in arguments.values() for item in (value if isinstance(value, list) else [value])]


def _flat(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _pick(count: int, share: float, rng: random.Random) -> list[int]:
    """Draw a share of the numbers up to `count`, rounded to a whole number of them, in order."""
    return sorted(rng.sample(range(count), round(count * share)))


__all__ = ["CORRUPTIONS", "NOTES", "add_note", "add_notes", "spoil_teachers", "vary_paths", "write_variant"]
