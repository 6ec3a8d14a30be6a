"""Whether our judges of BFCL's tasks agree with BFCL's own: over its solutions, and over solutions made wrong.

For the single-turn categories, `mentor_gym.expected_calls` beside `ast_checker`; for `multi_turn_base`, what
the tools end with beside `multi_turn_checker`. Both checkers are those of the installed package `bfcl-eval`.

Run with `python tests/benchmarks/bfcl_agreement.py`; it takes some ten seconds.
"""

from __future__ import annotations

import copy
import importlib
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import ModuleType, SimpleNamespace
from typing import Any

from mentor_gym.expected_calls import LEFT_OUT, calls_match
from mentor_gym.grading import grade
from mentor_gym.suites import bfcl, bfcl_multi_turn
from mentor_gym.tools.bfcl import NEXT_REQUEST, ApiBox, attributes, read_lines
from mentor_gym.types import Task

Calls = list[dict[str, Any]]
Requests = list[list[tuple[str, dict[str, Any]]]]
_CHECKERS = "bfcl_eval.eval_checker"
_CRASHED = "crashed"


@lru_cache(maxsize=1)
def ast_checker() -> tuple[Callable[..., dict[str, Any]], Any]:
    """Load BFCL's checker of single turns, and its name for Python.

    It imports the clients of all model providers, for one question: whether points in names become underscores.
    And parsers of Java and JavaScript. Empty modules stand in for them while it is imported.
    """
    every_model = type("", (dict,), {"__missing__": lambda self, name: SimpleNamespace(underscore_to_dot=True)})()
    converters = f"{_CHECKERS}.ast_eval.type_convertor"
    stand_ins = {
        "bfcl_eval.constants.model_config": {"MODEL_CONFIG_MAPPING": every_model},
        f"{converters}.java_type_converter": {"java_type_converter": None},
        f"{converters}.js_type_converter": {"js_type_converter": None},
    }
    before = {name: sys.modules.get(name) for name in stand_ins}
    for name, content in stand_ins.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(content)
    try:
        checker = importlib.import_module(f"{_CHECKERS}.ast_eval.ast_checker")
        language = importlib.import_module("bfcl_eval.constants.enums").Language.PYTHON
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
    return checker.ast_checker, language


# How solutions of single turns are changed: each takes the calls, the rules of the expected ones and a
# generator, and returns other calls, or None where that cannot be done.


def other_right_values(calls: Calls, expected: Calls, rng: random.Random) -> Calls | None:
    """Every argument with any of its right values, and some of those that may be left out."""
    for call, wanted in zip(calls, expected):
        for name, rule in wanted["arguments"].items():
            values = [value for value in rule["values"] if value != LEFT_OUT]
            if values and rng.random() < 0.8:
                value = rng.choice(values)
                chosen = {"type": rule["type"], "values": [value], "items": rule.get("items")}
                call["arguments"][name] = bfcl.gold_arguments({"arguments": {name: chosen}})[name]
    return calls


def written_otherwise(calls: Calls, expected: Calls, rng: random.Random) -> Calls | None:
    """Texts in capitals, with spaces and hyphens added."""
    place = _any_argument(calls, rng, lambda value: isinstance(value, str) and value != "")
    if place is None:
        return None
    arguments, name = place
    arguments[name] = "-".join(arguments[name].upper()) + " "
    return calls


def wrong_value(calls: Calls, expected: Calls, rng: random.Random) -> Calls | None:
    """One argument with another value of its type."""
    place = _any_argument(calls, rng)
    if place is None:
        return None
    arguments, name = place
    arguments[name] = other_value(arguments[name], rng)
    return calls


def other_type(calls: Calls, expected: Calls, rng: random.Random) -> Calls | None:
    """One argument as a value of another type that means the same."""
    place = _any_argument(calls, rng)
    if place is None:
        return None
    arguments, name = place
    value = arguments[name]
    if isinstance(value, bool):
        arguments[name] = rng.choice([str(value).lower(), int(value)])
    elif isinstance(value, int):
        arguments[name] = rng.choice([str(value), float(value), [value]])
    elif isinstance(value, float):
        arguments[name] = rng.choice([str(value), int(value)])
    elif isinstance(value, list):
        arguments[name] = rng.choice([str(value), dict(enumerate(map(str, value))), value[0] if value else None])
    elif isinstance(value, dict):
        arguments[name] = rng.choice([str(value), [value], list(value)])
    else:
        arguments[name] = rng.choice([[value], {"value": value}, 1, True, None])
    return calls


def missing_argument(calls: Calls, expected: Calls, rng: random.Random) -> Calls | None:
    """One argument less."""
    place = _any_argument(calls, rng)
    if place is None:
        return None
    del place[0][place[1]]
    return calls


def extra_argument(calls: Calls, expected: Calls, rng: random.Random) -> Calls | None:
    """One argument that the function does not have."""
    rng.choice(calls)["arguments"]["no_such_argument"] = rng.choice([1, "x", True])
    return calls


def wrong_name(calls: Calls, expected: Calls, rng: random.Random) -> Calls | None:
    """The name of another function."""
    rng.choice(calls)["name"] += "_2"
    return calls


def order_changed(calls: Calls, expected: Calls, rng: random.Random) -> Calls | None:
    """The calls, and the arguments of each, in another order."""
    turned = [{**call, "arguments": dict(reversed(call["arguments"].items()))} for call in calls]
    rng.shuffle(turned)
    return turned


def call_missing(calls: Calls, expected: Calls, rng: random.Random) -> Calls | None:
    """One call less."""
    del calls[rng.randrange(len(calls))]
    return calls


def call_twice(calls: Calls, expected: Calls, rng: random.Random) -> Calls | None:
    """One call more, the same as another."""
    return [*calls, copy.deepcopy(rng.choice(calls))]


def call_in_place_of_another(calls: Calls, expected: Calls, rng: random.Random) -> Calls | None:
    """One call twice, and another one not."""
    if len(calls) < 2:
        return None
    one, other = rng.sample(range(len(calls)), 2)
    calls[one] = copy.deepcopy(calls[other])
    return calls


CHANGES: dict[str, Callable[[Calls, Calls, random.Random], Calls | None]] = {
    "as it is": lambda calls, expected, rng: calls,
    "other right values": other_right_values,
    "texts written otherwise": written_otherwise,
    "order changed": order_changed,
    "wrong value": wrong_value,
    "other type": other_type,
    "missing argument": missing_argument,
    "extra argument": extra_argument,
    "wrong name": wrong_name,
    "call missing": call_missing,
    "call twice": call_twice,
    "call in place of another": call_in_place_of_another,
}


def _any_argument(
    calls: Calls, rng: random.Random, fits: Callable[[Any], bool] = lambda value: True
) -> tuple[dict[str, Any], str] | None:
    """Return the arguments of a call and the name of one, or of a key inside one."""
    found = [(call["arguments"], name) for call in calls for name in call["arguments"]]
    for arguments, name in list(found):
        value = arguments[name]
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                found += [(inner, key) for key in inner]
    found = [(arguments, name) for arguments, name in found if fits(arguments[name])]
    return rng.choice(found) if found else None


def other_value(value: Any, rng: random.Random) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + rng.choice([1, -1, 10])
    if isinstance(value, list):
        if not value or rng.random() < 0.2:
            return [*value, *value[:1]] or ["x"]
        position = rng.randrange(len(value))
        return [*value[:position], other_value(value[position], rng), *value[position + 1 :]]
    if isinstance(value, dict):
        if not value or rng.random() < 0.2:
            return {**value, "no_such_key": 1}
        key = rng.choice(list(value))
        return {**value, key: other_value(value[key], rng)}
    return f"{value} {rng.choice(['x', '2', 'not'])}"


def single_turn(split: str, draws: int = 3) -> Iterator[tuple[str, str, bool | str, bool]]:
    """Judge the solutions of a category, each as it is and changed in every way.

    Args:
        split: One of the splits with calls.
        draws: How often each solution is changed in the same way.

    Yields:
        Task id, change, BFCL's verdict (True, False, or the text "crashed"), ours.
    """
    check, python = ast_checker()
    file = f"BFCL_v4_{bfcl.CATEGORIES[split]}.json"
    answers = {row["id"]: row["ground_truth"] for row in read_lines("possible_answer", file)}
    # All rows, those too that no call can solve.
    for row in read_lines(file):
        expected = bfcl.expected_calls(row["function"], answers[row["id"]])
        solution = [{"name": wanted["name"], "arguments": bfcl.gold_arguments(wanted)} for wanted in expected]
        for change, make in CHANGES.items():
            rng = random.Random(f"{row['id']}/{change}")
            for _ in range(1 if change == "as it is" else draws):
                calls = make(copy.deepcopy(solution), expected, rng)
                if calls is None:
                    continue
                given = [{call["name"]: copy.deepcopy(call["arguments"])} for call in calls]
                theirs: bool | str
                try:
                    category = bfcl.CATEGORIES[split]
                    theirs = check(row["function"], given, answers[row["id"]], python, category, "any")["valid"]
                except Exception:
                    theirs = _CRASHED
                yield row["id"], change, theirs, calls_match(calls, expected)


# How solutions of several turns are changed: as above, with the calls of every request.


def drop_call(requests: Requests, rng: random.Random) -> None:
    """One call less."""
    request = rng.choice([request for request in requests if request])
    del request[rng.randrange(len(request))]


def change_argument(requests: Requests, rng: random.Random) -> None:
    """One argument with another value of its type."""
    calls = [call for request in requests for call in request if call[1]]
    if calls:
        _, arguments = rng.choice(calls)
        name = rng.choice(list(arguments))
        arguments[name] = other_value(arguments[name], rng)


def repeat_call(requests: Requests, rng: random.Random) -> None:
    """One call twice."""
    request = rng.choice([request for request in requests if request])
    request.append(copy.deepcopy(rng.choice(request)))


def swap_calls(requests: Requests, rng: random.Random) -> None:
    """The calls of a request in another order."""
    rng.shuffle(rng.choice([request for request in requests if request]))


def too_early(requests: Requests, rng: random.Random) -> None:
    """The calls of a request made with those of the one before."""
    if len(requests) > 1:
        position = rng.randrange(1, len(requests))
        requests[position - 1] += requests[position]
        requests[position] = []


def too_late(requests: Requests, rng: random.Random) -> None:
    """One call made at the next request."""
    positions = [position for position in range(len(requests) - 1) if requests[position]]
    if positions:
        position = rng.choice(positions)
        requests[position + 1].insert(0, requests[position].pop())


def another_call(requests: Requests, rng: random.Random) -> None:
    """A call more, from the solution of another request."""
    calls = [call for request in requests for call in request]
    rng.choice(requests).append(copy.deepcopy(rng.choice(calls)))


def look_around(requests: Requests, rng: random.Random) -> None:
    """The same call before and after everything, if it takes no arguments."""
    calls = [call for request in requests for call in request if not call[1]]
    if calls:
        requests[0].insert(0, rng.choice(calls))
        requests[-1].append(rng.choice(calls))


REQUEST_CHANGES: dict[str, Callable[[Requests, random.Random], None]] = {
    "as it is": lambda requests, rng: None,
    "call missing": drop_call,
    "wrong argument": change_argument,
    "call twice": repeat_call,
    "order changed": swap_calls,
    "a request early": too_early,
    "a call late": too_late,
    "a call more": another_call,
    "a look around": look_around,
}


def multi_turn(
    tasks: list[Task], changes: list[str], draws: int = 1
) -> Iterator[tuple[str, str, bool, bool, bool]]:
    """Judge the solutions of multi-turn tasks, each as it is and changed in every way.

    Args:
        tasks: Tasks of the suite.
        changes: Names of `REQUEST_CHANGES`.
        draws: How often each solution is changed in the same way.

    Yields:
        Task id, change, BFCL's verdict, ours, and whether the texts of all results and what the calls changed in
        the end were the same.
    """
    rows = {row["id"]: row for row in read_lines("BFCL_v4_multi_turn_base.json")}
    solutions = {
        row["id"]: row["ground_truth"] for row in read_lines("possible_answer", "BFCL_v4_multi_turn_base.json")
    }
    box = ApiBox()
    for task in tasks:
        row, gold = rows[task.id], solutions[task.id]
        solution = [[bfcl_multi_turn.parse_call(text, row["involved_classes"]) for text in turn] for turn in gold]
        for change in changes:
            rng = random.Random(f"{task.id}/{change}")
            for draw in range(1 if change == "as it is" else draws):
                requests = copy.deepcopy(solution)
                REQUEST_CHANGES[change](requests, rng)
                theirs, *their_record = judged_by_them(row, gold, requests, f"{change}{draw}")
                ours, *our_record = judged_by_us(box, task, requests)
                yield task.id, change, theirs, ours, their_record == our_record


def judged_by_them(
    row: dict[str, Any], gold: list[list[str]], requests: Requests, run: str
) -> tuple[bool, list[str], dict[str, Any] | None]:
    """Return what BFCL's checker says of calls, the texts of their results, and what they changed.

    The last is None where the solution has no call for the last request: nobody looks then.

    Args:
        row: The task.
        gold: Its solution.
        requests: The calls of each request.
        run: What no other call of this function has had for this task: BFCL keeps the instances of its classes as
            global variables, by this name.
    """
    utils = importlib.import_module(f"{_CHECKERS}.multi_turn_eval.multi_turn_utils")
    checker = importlib.import_module(f"{_CHECKERS}.multi_turn_eval.multi_turn_checker")
    written = [[_in_python(call) for call in request] for request in requests]
    steps = [[request] if request else [] for request in written]
    name = "".join(character for character in run if character.isalnum())
    verdict = bool(checker.multi_turn_checker(steps, gold, row, "multi_turn_base", name)["valid"])

    def execute(calls: list[str]) -> tuple[list[str], dict[str, Any]]:
        texts, instances = utils.execute_multi_turn_func_call(
            calls, row["initial_config"], row["involved_classes"], f"{name}again", row["id"]
        )
        return texts, {class_name: attributes(instance) for class_name, instance in instances.items()}

    before = execute([])[1]
    texts, after = execute([call for request in written for call in request])
    changed = {
        class_name: {key: value for key, value in values.items() if value != before[class_name][key]}
        for class_name, values in after.items()
    }
    kept = vars(utils)
    for variable in [variable for variable in kept if variable.endswith("_instance") and name in variable]:
        del kept[variable]
    differing = {class_name: values for class_name, values in changed.items() if values}
    return verdict, texts, differing if gold[-1] else None


def _in_python(call: tuple[str, dict[str, Any]]) -> str:
    name, arguments = call
    return f"{name}({', '.join(f'{word}={value!r}' for word, value in arguments.items())})"


def judged_by_us(box: ApiBox, task: Task, requests: Requests) -> tuple[bool, list[str], dict[str, Any] | None]:
    """Return what our grader says of calls, the texts of their results, and what they changed, as above."""
    box.open(task.state)
    for position, request in enumerate(requests):
        for name, arguments in request:
            box.tools[name].call(arguments)
        if position < len(requests) - 1:
            box.tools[NEXT_REQUEST].call({})
    final = box.final_state()
    judged = grade(task.answer, task.answer, task.grader, final), box.results(), final[-1].get("changed")
    box.close()
    return judged


def _print_table(title: str, changes: list[str], counts: dict[str, Counter[str]]) -> None:
    print(f"\n{title}: agreed of judged (accepted by both)")
    for change in changes:
        count = counts[change]
        if count["judged"]:
            crashes = f", BFCL's checker crashed on {count['crashed']}" if count["crashed"] else ""
            agreed = f"{count['agreed']:>6,} of {count['judged']:>6,}"
            print(f"  {change:26} {agreed}  ({count['accepted']:,}){crashes}")


def main() -> None:
    """Print the tables."""
    total: Counter[str] = Counter()
    for split in bfcl.CATEGORIES:
        if split.endswith("irrelevance"):
            continue
        counts = {change: Counter[str]() for change in CHANGES}
        for task_id, change, theirs, ours in single_turn(split):
            agreed = ours is (theirs is True)
            counts[change] += Counter(
                judged=1, agreed=agreed, accepted=ours and agreed, crashed=theirs == _CRASHED
            )
            if not agreed:
                print(f"  {task_id}, {change}: BFCL {theirs}, ours {ours}")
        _print_table(f"bfcl {split}", list(CHANGES), counts)
        for count in counts.values():
            total += count
    print(f"\nsingle-turn: {total['agreed']:,} of {total['judged']:,}")
    changes = list(REQUEST_CHANGES)
    counts = {change: Counter[str]() for change in changes}
    tasks = list(bfcl_multi_turn.build().tasks("base"))
    for task_id, change, theirs, ours, same in multi_turn(tasks, changes, draws=3):
        agreed = ours is theirs
        counts[change] += Counter(judged=1, agreed=agreed, accepted=ours and agreed, same=same)
        if not agreed or not same:
            alike = "alike" if same else "different"
            print(f"  {task_id}, {change}: BFCL {theirs}, ours {ours}, results and changes {alike}")
    _print_table("bfcl-multi-turn base", changes, counts)
    same, judged = (sum(count[name] for count in counts.values()) for name in ("same", "judged"))
    print(f"  the texts of all results, and what had changed, were the same in {same:,} of {judged:,}")


if __name__ == "__main__":
    main()
