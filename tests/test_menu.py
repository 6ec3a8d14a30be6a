"""The menu: what it reads, which calls it offers and how it describes them; and episodes played from it."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import mentor_gym  # noqa: F401
from mentor_gym import MentorToolEnv, RewardWrapper
from mentor_gym.protocol import parse_action
from mentor_gym.suites import load_suite
from mentor_gym.tools import Tool
from mentor_gym.tools.math import math_box
from mentor_gym.wrappers import Menu, MenuWrapper
from mentor_gym.wrappers.menu import MAX_FORMS_PER_TOOL, STYLES
from mentor_gym.wrappers.reading import bag_of_words, read_number, read_opening, read_question

HERE = Path(__file__).parent
TILL = str(HERE / "till_suite" / "suite.yaml")
SHOP = str(HERE / "custom_suite" / "suite.yaml")
SUITES = ("math", "facts", TILL, SHOP)


def make(
    suite: str = "math", style: str = "multidiscrete", sizes: dict[str, Any] | None = None, **kwargs: Any
) -> Any:
    return MenuWrapper(gym.make("MentorTool-v0", suite=suite, **kwargs), style=style, **(sizes or {}))


def sample(env: Any, rng: np.random.Generator, masked: bool = True) -> Any:
    """Draw an action, uniformly in every part, from those that the mask leaves."""
    parts = [env.action_space.n] if env.menu.style == "discrete" else list(env.action_space.nvec)
    mask = env.action_masks() if masked else np.ones(sum(parts), bool)
    chosen = [rng.choice(np.flatnonzero(part)) for part in np.split(mask, np.cumsum(parts)[:-1])]
    return chosen[0] if env.menu.style == "discrete" else np.array(chosen)


def is_allowed(env: Any, action: Any) -> bool:
    parts = [0] if env.menu.style == "discrete" else np.cumsum([0, *env.action_space.nvec[:-1]])
    return action is not None and bool(env.action_masks()[parts + action].all())


def math_menu(style: str = "multidiscrete", **sizes: Any) -> Menu:
    return Menu([tool.schema for tool in math_box().tools.values()], style, **sizes)


def opening(question: str, *tools: str) -> str:
    return "\n".join([*(f"{tool}(x): Do" for tool in tools), question])


def call_of(text: str) -> tuple[str, dict[str, Any]]:
    (call,) = parse_action(text).calls
    return call.name, call.arguments


# Conformance


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("style", STYLES)
def test_stable_baselines_checks_it_without_a_warning(suite: str, style: str) -> None:
    env_checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env_checker.check_env(make(suite, style))


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("style", STYLES)
def test_gymnasium_checks_it(suite: str, style: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # That it is a wrapper.
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")
        gymnasium_check_env(make(suite, style), skip_render_check=True)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("masked", [True, False])
def test_whatever_is_chosen_can_be_played(suite: str, style: str, masked: bool) -> None:
    env = make(suite, style, reward="mentor", dense=True, max_turns=5)
    rng = np.random.default_rng(0)
    for seed in range(15):
        observation, info = env.reset(seed=seed)
        ended = False
        while not ended:
            assert observation.dtype == np.float32
            assert env.observation_space.contains(observation)
            mask = env.action_masks()
            parts = [env.action_space.n] if style == "discrete" else env.action_space.nvec
            assert mask.dtype == np.bool_
            assert len(mask) == sum(parts)
            assert all(part.any() for part in np.split(mask, np.cumsum(parts)[:-1]))
            observation, reward, terminated, truncated, info = env.step(sample(env, rng, masked))
            assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
            assert info["action_text"] == env.unwrapped.transcript.turns[-1].text
            assert info["observation_text"] == env.unwrapped.transcript.turns[-1].observation
            if masked:
                # What the mask allows is a call of a tool on offer, with all it needs, or an answer with a text.
                action = parse_action(info["action_text"])
                assert action.answer or action.calls[0].name in env.unwrapped.tools
                assert not {call["error"] for call in info["tool_calls"]} & {"malformed", "unknown_tool"}
            ended = terminated or truncated
        assert env.action_masks().any()


@given(
    question=st.text(max_size=80),
    results=st.lists(st.text(max_size=20), max_size=5),
    offered=st.lists(st.sampled_from(list(math_box().tools)), max_size=5, unique=True),
    style=st.sampled_from(STYLES),
    data=st.data(),
)
@settings(max_examples=200)
def test_no_text_trips_a_menu(
    question: str, results: list[str], offered: list[str], style: str, data: Any
) -> None:
    menu = MENUS[style]
    reading = menu.begin(opening(question, *offered))
    for result in results:
        reading = menu.extend(reading, "", f"<tool_response>{result}</tool_response>")
    features, mask = menu.features(reading), menu.mask(reading)
    assert menu.observation_space.contains(features)
    parts = [int(menu.action_space.n)] if style == "discrete" else menu.action_space.nvec.tolist()  # type: ignore[union-attr]
    split = np.split(mask, np.cumsum(parts)[:-1])
    assert len(mask) == sum(parts)
    assert all(part.any() for part in split)
    for allowed in (True, False):
        chosen = [data.draw(st.sampled_from(np.flatnonzero(part | (not allowed)).tolist())) for part in split]
        action = parse_action(menu.decode(chosen[0] if style == "discrete" else chosen, reading))
        assert len(action.calls) == (action.answer is None)
        assert all(call.error is None for call in action.calls)
        if allowed:
            assert not action.calls or action.calls[0].name in offered


MENUS = {style: math_menu(style) for style in STYLES}


# What is read


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("prompt", ["compact", "full"])
def test_both_prompt_styles_are_read_alike(suite: str, prompt: str) -> None:
    env = make(suite, prompt=prompt)
    for task in list(env.unwrapped.tasks)[:50]:
        env.reset(options={"task_id": task.id})
        assert env.reading.question.text == task.prompt
        assert [env.menu.tools[tool] for tool in env.reading.offered] == task.tools


def test_a_question_that_looks_like_a_tool_is_a_question() -> None:
    text = "add(a, b): Add\nf(x): what is that for 3?\nadd is fine"
    assert read_opening(text, ["add"]) == (["add"], "f(x): what is that for 3?\nadd is fine", [])
    assert read_opening("no tools", ["add"]) == ([], "no tools", [])


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("It was -20 degrees, now it is 5.", (-20, 5)),
        ("5-3 and 5 -3 and 5 - 3", (5, 3, 5, 3, 5, 3)),
        ("Round 94.894 to 2 digits.", (94.894, 2)),
        ("An area of 47961 m2, or 1,234,567 cm2?", (47961, 1234567)),
        ("$5, 10% and 3km.", (5, 10, 3)),
        ("3, 4, 3", (3, 4, 3)),
        ("none", ()),
        ("1" * 400, ()),
    ],
)
def test_numbers_are_read_in_order(text: str, numbers: tuple[float, ...]) -> None:
    found = read_question(text).numbers
    assert found == numbers
    assert [type(number) for number in found] == [type(number) for number in numbers]


def test_names_are_capitalised_runs_within_a_sentence() -> None:
    question = read_question("What is the area of Sierra Leone, of Chad and of HRB? Compare them. Is it Chad?")
    assert question.names == ("Sierra Leone", "Chad", "HRB")
    assert question.words[:5] == ("Sierra Leone", "Chad", "HRB", "What", "is")


def test_results_are_numbers_where_they_look_like_one() -> None:
    assert [read_number(text) for text in ("7", "-2.50", "1e3", "seven", "", "error: no")] == [
        7, -2.5, 1000, None, None, None,
    ]  # fmt: skip


def test_the_bag_is_the_same_in_every_process() -> None:
    code = "from mentor_gym.wrappers.reading import bag_of_words; print(bag_of_words('6 red pens', 32).tolist())"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{bag_of_words('6 red pens', 32).tolist()}\n"}


# Slots


def test_slots_have_results_numbers_extremes_and_constants_in_this_order() -> None:
    menu = math_menu(numbers=3, results=2, constants=(10, 0.5))
    reading = menu.begin(opening("Take 4, 9 and 6.", "add"))
    for result in ("1", "two", "3"):
        reading = menu.extend(reading, "", f"<tool_response>{result}</tool_response>")
    add = 1 + menu.tools.index("add")
    firsts = [call_of(menu.decode([add, slot, 2, 0], reading))[1]["a"] for slot in range(9)]
    # The second slot holds a text, so it stands for the second one that is filled.
    assert firsts == [3, 4, 4, 9, 6, 9, 4, 10, 0.5]
    assert menu.mask(reading)[1 + len(menu.tools) :][:9].tolist() == [True] * 9
    answers = [menu.decode([0, slot, 0, 0], reading) for slot in range(4)]
    # Answers take results alone, the latest first: of slots beyond the last, counted round.
    assert answers == [f"<answer>{text}</answer>" for text in ("3", "two", "3", "two")]


def test_empty_slots_stand_for_filled_ones() -> None:
    menu = math_menu(numbers=4, results=2, constants=(2,))
    reading = menu.begin(opening("Double 7.", "add"))
    add = 1 + menu.tools.index("add")
    # Filled are the number 7 and the constant 2; with one number there are no extremes.
    mask = menu.mask(reading)[1 + len(menu.tools) :][:9]
    assert np.flatnonzero(mask).tolist() == [2, 8]
    values = [call_of(menu.decode([add, slot, 2, 0], reading))[1]["a"] for slot in range(9)]
    assert values == [7, 2, 7, 2, 7, 2, 7, 2, 2]


def test_lists_take_all_numbers_all_results_or_the_first_ones() -> None:
    menu = math_menu()
    reading = menu.begin(opening("Bags of 4, 9, 6 and 1.", "sum_numbers"))
    for result in ("10", "none", "30"):
        reading = menu.extend(reading, "", f"<tool_response>{result}</tool_response>")
    total = 1 + menu.tools.index("sum_numbers")
    lists = [call_of(menu.decode([total, slot, 0, 0], reading))[1]["numbers"] for slot in range(4)]
    assert lists == [[4, 9, 6, 1], [10, 30], [4, 9], [4, 9, 6]]


def typed(
    text: str, flag: bool, kind: str, either: str = "", count: int = 1, names: list[str] | None = None
) -> str:
    """Use every type of argument.

    Args:
        text: One of red, green_2 or blue.
        flag: Whether.
        kind: Not an enumeration.
        either: Nothing.
        count: How many.
        names: Some.
    """
    return text


def test_every_type_of_argument_has_values() -> None:
    schema = Tool.from_function(typed).schema
    schema["function"]["parameters"]["properties"]["kind"] = {"enum": ["a", "b", None]}
    schema["function"]["parameters"]["properties"]["either"] = {
        "type": ["string", "number", "null"],
        "description": "Nothing.",
    }
    schema["function"]["parameters"]["properties"]["box"] = {"type": "object"}
    menu = Menu([schema], words=2, results=1, numbers=1, constants=(2, 2.5))
    reading = menu.begin("typed(text): Use\nDo 4.5 or 6 by Ann Lee and Bo")
    reading = menu.extend(reading, "", "<tool_response>x, y</tool_response>")
    values: dict[str, list[Any]] = {}
    for place in range(7):
        width = menu.action_space.nvec[1 + place]  # type: ignore[union-attr]
        for slot in range(width):
            action = [1, *[0] * 7]
            action[1 + place] = slot
            arguments = call_of(menu.decode(action, reading))[1]
            name = list(schema["function"]["parameters"]["properties"])[place]
            values.setdefault(name, []).append(arguments.get(name, "-"))
    assert values["text"] == ["x, y", "Ann Lee", "Bo", "One", "of", "red", "green_2", "or", "blue"]
    assert values["flag"][:2] == [False, True]
    assert values["kind"][:3] == ["a", "b", None]
    # The numbers of the question that have a slot are as many as the menu was told: one, 4.5.
    assert values["either"] == ["x, y", "Ann Lee", "Bo", "Nothing", 4.5, "-"]
    # Whole are the larger number, in the third slot, and a constant, in the fifth; left out is the last.
    assert values["count"] == [6, 2, 6, 6, 2, "-", "-"]
    assert values["names"] == [["Ann Lee", "Bo"], ["x, y"], ["x", "y"], "-"]
    assert set(values["box"]) == {"-"}


def test_a_tool_that_cannot_be_filled_is_closed() -> None:
    schema = {
        "type": "function",
        "function": {
            "name": "store",
            "parameters": {"type": "object", "properties": {"thing": {"type": "object"}}, "required": ["thing"]},
        },
    }
    for style in STYLES:
        menu = Menu([schema], style)
        reading = menu.begin("store(thing): Store\nStore this.")
        mask = menu.mask(reading)
        action = np.array(0) if style == "discrete" else [0, 0]
        # Nothing can be called or said: what is left is the blank answer, and every part has one choice.
        assert mask[0]
        assert menu.decode(action, reading) == "<answer></answer>"
        assert mask.sum() == (1 if style == "discrete" else 2)
        called = menu.decode(menu._starts[0] if style == "discrete" else [1, 0], reading)
        assert call_of(called) == ("store", {})


@pytest.mark.parametrize("style", STYLES)
def test_answers_open_with_the_first_result_and_a_failure_is_none(style: str) -> None:
    menu = math_menu(style)
    reading = menu.begin(opening("Take 4 and 9.", "add"))
    assert not menu.mask(reading)[0]
    failed = menu.extend(reading, "<tool_call>{}</tool_call>", "<tool_response>error: no</tool_response>")
    assert not menu.mask(failed)[0]
    assert (failed.last_ok, failed.calls, failed.turns) == (False, 1, 1)
    done = menu.extend(failed, "", "<tool_response>13</tool_response>")
    assert menu.mask(done)[0]


def test_several_calls_in_a_turn_are_read_in_order() -> None:
    menu = math_menu(results=2)
    reading = menu.begin(opening("Take 4 and 9.", "add", "multiply"))
    calls = "".join(
        f'<tool_call>{{"name": "{name}", "arguments": {{}}}}</tool_call>' for name in ("add", "multiply")
    )
    outputs = ("13", "error: no", "36", "error: no")
    responses = "\n".join(f"<tool_response>{output}</tool_response>" for output in outputs)
    reading = menu.extend(reading, calls, responses)
    assert reading.outputs == ("36", "13")
    assert (reading.last_ok, reading.last_tool) == (False, menu.tools.index("multiply"))
    assert (reading.calls, reading.turns) == (2, 1)
    assert menu.extend(reading, "", "<tool_response>7</tool_response>").outputs == ("7", "36", "13")


# Actions and calls


@pytest.mark.parametrize("style", STYLES)
@given(data=st.data())
def test_a_call_is_found_again(style: str, data: Any) -> None:
    """`encode` inverts `decode`, up to slots that hold the same."""
    menu = MENUS[style]
    reading = menu.begin(opening("Take 40, 9.5 and 6 of them.", *menu.tools))
    reading = menu.extend(reading, "", "<tool_response>8</tool_response>")
    if style == "discrete":
        action: Any = data.draw(st.integers(0, int(menu.action_space.n) - 1))  # type: ignore[union-attr]
    else:
        action = [data.draw(st.integers(0, int(size) - 1)) for size in menu.action_space.nvec]  # type: ignore[union-attr]
    text = menu.decode(action, reading)
    parsed = parse_action(text)
    if parsed.answer is not None:
        found = menu.encode_answer(parsed.answer, reading)
    else:
        found = menu.encode(parsed.calls[0].name, parsed.calls[0].arguments, reading)
    assert found is not None
    assert menu.decode(found, reading) == text


@pytest.mark.parametrize("style", STYLES)
def test_discrete_and_multidiscrete_reach_every_teacher_of_one_call(style: str) -> None:
    """For every training task of one call, allowed actions play the teacher's trace to success."""
    env = make(style=style, where={"calls": 1}, prompt="compact", reward=None)
    reached = 0
    for task in env.unwrapped.tasks:
        env.reset(options={"task_id": task.id})
        call = task.teacher[0]["tool_calls"][0]["function"]
        action = env.menu.encode(call["name"], json.loads(call["arguments"]), env.reading)
        assert is_allowed(env, action), task.prompt
        env.step(action)
        action = env.menu.encode_answer(task.answer, env.reading)
        assert is_allowed(env, action), task.prompt
        _, _, terminated, _, info = env.step(action)
        reached += terminated and info["is_success"]
    assert reached == len(env.unwrapped.tasks) == 946


def test_longer_traces_are_reached_too() -> None:
    env = make(split="ood-compose", prompt="compact", reward=None)
    for task in env.unwrapped.tasks:
        env.reset(options={"task_id": task.id})
        for message in task.teacher:
            for call in message.get("tool_calls", ()):
                action = env.menu.encode(
                    call["function"]["name"], json.loads(call["function"]["arguments"]), env.reading
                )
                assert action is not None, task.prompt
                env.step(action)
        assert env.menu.encode_answer(task.answer, env.reading) is not None


def test_calls_that_are_not_on_the_menu_are_not_found() -> None:
    menu = math_menu()
    reading = menu.begin(opening("Take 4 and 9.", "add"))
    assert menu.encode("add", {"a": 4, "b": 5}, reading) is None
    assert menu.encode("add", {"a": 4}, reading) is None
    assert menu.encode("add", {"a": 4, "b": 9, "c": 9}, reading) is None
    assert menu.encode("plus", {"a": 4, "b": 9}, reading) is None
    assert menu.encode("add", {"a": True, "b": 9}, menu.begin(opening("Take 1 and 9.", "add"))) is None
    assert menu.encode_answer("13", reading) is None
    # An optional argument may be left out.
    assert menu.encode("round_number", {"x": 4}, reading) is not None


def test_a_discrete_menu_bounds_the_forms_of_a_tool() -> None:
    menu = math_menu("discrete")
    assert max(np.prod(form) for form in menu._forms) <= MAX_FORMS_PER_TOOL
    assert menu.action_space.n == 3 + sum(int(np.prod(form)) for form in menu._forms)  # type: ignore[union-attr]
    facts = Menu([tool.schema for tool in load_suite("facts").box.tools.values()], "discrete")
    assert facts.action_space.n <= 3 + MAX_FORMS_PER_TOOL * len(facts.tools)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("style", "actions"),
    [
        ("discrete", [-1, 10**6]),
        ("multidiscrete", [[0, 0, 0], [20, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 99], [0] * 5]),
    ],
)
def test_actions_outside_the_space_are_refused(style: str, actions: list[Any]) -> None:
    env = make(style=style)
    env.reset(seed=0)
    for action in actions:
        with pytest.raises(ValueError, match="an action is a member of"):
            env.step(action)
    assert env.unwrapped.transcript.turns == []


# Features


def test_features_say_what_is_known() -> None:
    menu = math_menu(numbers=3, results=1, max_turns=4, buckets=16)

    def block(name: str, reading: Any) -> list[float]:
        return [round(float(value), 4) for value in menu.features(reading)[menu.blocks[name]]]

    reading = menu.begin(opening("Take 99 and 9.", "divide", "add"))
    assert set(np.flatnonzero(block("offered", reading))) == {menu.tools.index("divide"), menu.tools.index("add")}
    assert block("numbers", reading) == [1, 0.3333, 1, 0, 1, 0.1667, 1, 1, 0, 0, 0, 0]
    # 99 is larger than 9, and 9 divides it; there is no third number.
    assert block("pairs", reading) == [1, 1, 0, 0, 0, 0]
    assert block("results", reading) == [0, 0, 0, 0]
    assert block("last", reading) == [0, 0]
    assert block("progress", reading) == [1, 0, 0]
    call = '<tool_call>{"name": "divide", "arguments": {"a": 9, "b": 99}}</tool_call>'
    reading = menu.extend(reading, call, "<tool_response>-0.09</tool_response>")
    assert np.flatnonzero(block("last_tool", reading)).tolist() == [menu.tools.index("divide")]
    assert block("results", reading) == [1, -0.0062, 0, 0]
    assert block("last", reading) == [1, 0]
    assert block("progress", reading) == [0.75, 0.25, 1]
    assert sum(part.stop - part.start for part in menu.blocks.values()) == menu.observation_space.shape[0]
    # Wordings differ in their words alone.
    assert block("words", menu.begin("Take 1 and 2.")) == block("words", reading)
    assert block("words", menu.begin("Give 1 and 2.")) != block("words", reading)


def test_settings_make_the_same_menu() -> None:
    menu = math_menu("discrete", numbers=2, constants=(2, 0.5), max_turns=3)
    twin = Menu(**json.loads(json.dumps(menu.settings)))
    assert twin.action_space == menu.action_space
    assert twin.settings == menu.settings
    reading = menu.begin(opening("Take 4 and 9.", "add"))
    assert (twin.features(twin.begin(opening("Take 4 and 9.", "add"))) == menu.features(reading)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"style": "discretely"}, "style must be one of multidiscrete, discrete, got 'discretely'; did you mean"),
        ({"numbers": 0}, "numbers must be a whole number of at least 1, got 0"),
        ({"buckets": 1.5}, "buckets must be a whole number"),
        ({"constants": [float("nan")]}, "constants must be finite numbers, got nan"),
        ({"constants": [True]}, "constants must be finite numbers, got True"),
    ],
)
def test_sizes_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        math_menu(**arguments)


def test_what_cannot_be_wrapped_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one tool"):
        Menu([])
    with pytest.raises(ValueError, match="needs a MentorToolEnv, got CartPoleEnv"):
        MenuWrapper(gym.make("CartPole-v1"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"a menu has no size 'number'; .*did you mean 'numbers'"):
        make(sizes={"number": 3})


# Episodes


def play(env: Any, actions: list[Any]) -> list[Any]:
    record = []
    for action in actions:
        observation, *rest, info = env.step(action)
        record.append((observation.tolist(), *rest, info, env.action_masks().tolist()))
        if rest[1] or rest[2]:
            break
    return record


@pytest.mark.parametrize("suite", SUITES)
def test_the_same_seed_gives_the_same_episode(suite: str) -> None:
    records = []
    for _ in range(2):
        env = make(suite, max_turns=4)
        rng = np.random.default_rng(5)
        observation, info = env.reset(seed=7)
        record = [observation.tolist(), info]
        for _ in range(4):
            result = play(env, [sample(env, rng)])
            record += result
            if result[0][2] or result[0][3]:
                break
        records.append(record)
    assert records[0] == records[1]


COPIES = {
    "clone": lambda env: env.clone(),
    "deepcopy": copy.deepcopy,
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
}


def restored(env: Any) -> Any:
    other = make(env.unwrapped._arguments["suite"], env.menu.style, max_turns=6, dense=True)
    other.get_wrapper_attr("set_state")(env.get_wrapper_attr("get_state")())
    return other


@pytest.mark.parametrize("how", [*COPIES, "set_state"])
@pytest.mark.parametrize("suite", ["math", TILL])
@pytest.mark.parametrize("style", STYLES)
def test_a_copy_in_the_middle_of_an_episode_goes_on_alike(how: str, suite: str, style: str) -> None:
    env = make(suite, style, max_turns=6, dense=True)
    rng = np.random.default_rng(3)
    env.reset(seed=1)
    for _ in range(2):
        call = sample(env, rng)
        while parse_action(env.menu.decode(call, env.reading)).answer is not None:
            call = sample(env, rng)
        env.step(call)
    twin = COPIES[how](env) if how in COPIES else restored(env)
    assert twin.reading == env.reading
    assert (twin.action_masks() == env.action_masks()).all()
    actions = [sample(env, rng) for _ in range(4)]
    assert play(twin, actions) == play(env, actions)


def test_a_state_that_is_put_back_is_noticed() -> None:
    env = make(reward=None)
    env.reset(seed=0)
    before, state = env.reading, env.get_wrapper_attr("get_state")()
    env.step(sample(env, np.random.default_rng(0)))
    assert env.reading != before
    env.get_wrapper_attr("set_state")(state)
    assert env.reading == before
    # Another task, as far on as this one.
    env.reset(seed=1)
    assert env.reading != before
    env.get_wrapper_attr("set_state")(state)
    assert env.reading == before


def test_a_turn_that_was_played_beneath_is_noticed() -> None:
    env = make(reward=None)
    env.reset(seed=0)
    assert env.reading.turns == 0
    env.unwrapped.step('<tool_call>{"name": "add", "arguments": {}}</tool_call>')
    assert (env.reading.turns, env.reading.last_ok) == (1, False)


@pytest.mark.parametrize("prompt", ["compact", "full"])
@pytest.mark.parametrize("suite", ["math", "facts", TILL])
def test_replayed_turns_are_read_like_played_ones(prompt: str, suite: str) -> None:
    """The text of a reset with `teacher_turns`, and the transcript behind it, tell a menu the same."""
    env = make(suite, prompt=prompt)
    checked = 0
    for task in list(env.unwrapped.tasks)[:60]:
        turns = sum(message["role"] == "assistant" for message in task.teacher) - 1
        text = env.reset(options={"task_id": task.id, "teacher_turns": min(turns, 2)})[1]["observation_text"]
        from_text = env.menu.begin(text)
        env._read = None
        assert env.reading == from_text
        assert from_text.turns == min(turns, 2)
        checked += turns > 0
    assert checked


def test_reset_is_needed_first() -> None:
    env = make()
    for call in (env.action_masks, lambda: env.step([1, 0, 0, 0])):
        with pytest.raises(gym.error.ResetNeeded):
            call()
    env.reset(seed=0)
    env.step(sample(env, np.random.default_rng(0)))
    env.close()


def test_a_menu_is_part_of_the_spec() -> None:
    env = make(style="discrete", sizes={"numbers": 2, "constants": [2, 10]}, split="valid")
    again: Any = gym.make(env.spec)
    while not isinstance(again, MenuWrapper):
        again = again.env
    assert again.action_space == env.action_space
    assert again.menu.settings == env.menu.settings


def test_other_wrappers_may_stand_between() -> None:
    env = MenuWrapper(RewardWrapper(MentorToolEnv("math", where={"calls": 1}), "sparse"))
    env.reset(seed=0)
    task = env.unwrapped.task  # type: ignore[attr-defined]
    call = task.teacher[0]["tool_calls"][0]["function"]
    env.step(env.menu.encode(call["name"], json.loads(call["arguments"]), env.reading))
    assert env.step(env.menu.encode_answer(task.answer, env.reading))[1] == 1.0


def test_importing_the_wrappers_loads_nothing_heavy() -> None:
    code = "import sys, mentor_gym.wrappers; print(sorted({'torch', 'stable_baselines3'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
