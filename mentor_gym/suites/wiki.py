"""The `wiki` suite: questions that one, two or three articles of a small encyclopaedia answer together.

## Splits
`train`; `valid`, for every choice, and `test`, each with entities, ways to ask and names of fields that no other
split shows. Countries are parted by a checksum of their code, with their cities and airports; elements by that of
their year of discovery. All splits search the same corpus, which has the articles on everything.

## Tools
`search` and `open` over a corpus of 2,500 short articles, written from the tables of the `facts` suite when it is
first needed (`mentor_gym.suites.wiki_corpus`). One article after the other says what to look for next.

## Teacher
For every article on the way a search, made of what the question or the articles before have told, and opening it;
executed with the real tools, one call a turn. Answers are what the tables say; they are dated (see
`envs_data/README.md`).
"""

from __future__ import annotations

import random
import re
from functools import lru_cache
from typing import Any

from mentor_gym.grading import normalise_text
from mentor_gym.suites.base import Suite
from mentor_gym.suites.plans import teacher_messages
from mentor_gym.suites.wiki_corpus import load_library, load_world, wiki_corpus
from mentor_gym.suites.wiki_kinds import KINDS, Answer, Draw, Hop, Kind, phrases
from mentor_gym.tools.base import Tool, ToolBox
from mentor_gym.tools.facts import fold
from mentor_gym.tools.search import search_box
from mentor_gym.types import Task

ROWS = {"train": 900, "valid": 150, "test": 150}
# Draws of one kind in a row that may fail before the kind counts as exhausted.
_PATIENCE = 500


def build() -> Suite:
    """Build the suite.

    >>> build().splits
    ('train', 'valid', 'test')
    """
    return Suite(
        "wiki",
        tuple(ROWS),
        make_box=wiki_box,
        generate=generate,
        description="questions answered by one to three articles of a small encyclopaedia, found by search",
    )


def wiki_box() -> ToolBox:
    """Build the suite's search box; the corpus is written at the first search.

    >>> wiki_box().tools["search"].call({"query": "capital of Peru", "top_n": 1}).output.split(" | ")[1]
    'Peru'
    """
    return search_box(wiki_corpus)


def generate(split: str, seed: int, rows: int | None = None) -> list[Task]:
    """Generate a split; the same seed gives the same rows on every machine.

    Args:
        split: Name of the split.
        seed: Seed of the whole suite.
        rows: How many; None takes the shipped number.

    Raises:
        RuntimeError: The split has no more different questions.

    >>> [task.id for task in generate("valid", seed=0, rows=2)]
    ['wiki-valid-00000', 'wiki-valid-00001']
    """
    rng = random.Random(f"{seed}/wiki/{split}")
    tasks: list[Task] = []
    seen: set[str] = set()
    kinds = list(KINDS)
    turn = 0
    while len(tasks) < (ROWS[split] if rows is None else rows):
        if not kinds:
            raise RuntimeError(f"split {split!r} has no more than {len(tasks)} questions")
        # Kinds in turn; one with few entities, as the elements of one year, runs out before the others.
        kind = kinds[turn % len(kinds)]
        task = _draw_new(kind, split, rng, f"wiki-{split}-{len(tasks):05d}", seen)
        if task is None:
            kinds.remove(kind)
        else:
            seen.add(task.prompt)
            tasks.append(task)
            turn += 1
    return tasks


def _draw_new(kind: Kind, split: str, rng: random.Random, task_id: str, seen: set[str]) -> Task | None:
    for _ in range(_PATIENCE):
        task = _draw(kind, split, rng, task_id)
        if task is not None and task.prompt not in seen:
            return task
    return None


def _draw(kind: Kind, split: str, rng: random.Random, task_id: str) -> Task | None:
    world = load_world()
    slots = kind.draw(Draw(rng, split))
    if slots is None:
        return None
    prompt = rng.choice(kind.wordings[split]).format(**phrases(slots, split))
    prompt = prompt[0].upper() + prompt[1:]
    answer = kind.answer(world, slots)
    is_choice = "larger" in slots
    if answer.grader == "text" and not is_choice and _stands_in(answer.text, prompt):
        return None
    steps = _play(kind.hops(world, slots))
    if steps is None:
        return None
    return Task(
        id=task_id,
        suite="wiki",
        split=split,
        prompt=prompt,
        tools=["search", "open"],
        answer=answer.text,
        grader=_grader(answer),
        state=None,
        teacher=teacher_messages(steps, answer.text),
        meta={"kind": kind.name, "calls": len(steps), "hops": len(steps) // 2, "slots": slots},
    )


def _play(hops: list[Hop]) -> list[tuple[str, dict[str, Any], str]] | None:
    """Search for and open every article on the way; None when a search does not find it."""
    steps = []
    for hop in hops:
        document = load_library().documents[hop.key]
        query = {"query": hop.query}
        found = _tools()["search"].call(query).output
        if not re.search(rf"^{document.id} \|", found, re.MULTILINE):
            return None
        steps.append(("search", query, found))
        chosen = {"id": document.id}
        steps.append(("open", chosen, _tools()["open"].call(chosen).output))
    return steps


def _stands_in(answer: str, prompt: str) -> bool:
    return f" {normalise_text(fold(answer))} " in f" {normalise_text(fold(prompt))} "


def _grader(answer: Answer) -> dict[str, Any]:
    if answer.grader == "set":
        return {"kind": "set", "separator": ","}
    if answer.grader == "number":
        return {"kind": "number"}
    # The grader ignores case but not accents.
    texts = (fold(answer.text), *answer.aliases)
    forms = {normalise_text(form): form for form in texts}
    forms.pop(normalise_text(answer.text), None)
    return {"kind": "text", "aliases": list(forms.values())} if forms else {"kind": "text"}


@lru_cache(maxsize=1)
def _tools() -> dict[str, Tool]:
    return wiki_box().tools
