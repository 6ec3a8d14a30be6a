"""A menu of tool calls: `MentorToolEnv` by numbers, for Stable-Baselines3 and its like.

A `Menu` reads an episode's texts into a `Reading`, turns a reading into a vector of features and an action mask,
and an action into the text of a turn. It sees nothing but what a policy sees, so that an agent that is handed
texts (`agents.sb3`) works with the very menu that a `MenuWrapper` trained it on. NumPy is all it needs.

Left out: understanding. Arguments are taken from what stands in the question, from results and from a few
constants; a task that needs anything else cannot be solved from a menu.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Self

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from mentor_gym.env import MentorToolEnv
from mentor_gym.names import nearest
from mentor_gym.protocol import parse_action, render_call, render_prompt
from mentor_gym.wrappers.reading import (
    Number,
    Question,
    bag_of_words,
    read_number,
    read_opening,
    read_question,
    tidy,
)

STYLES = ("multidiscrete", "discrete")
SIZES = ("numbers", "results", "constants", "words", "described", "buckets")
# A call of a tool with many arguments has too many forms to give each an action of its own.
MAX_FORMS_PER_TOOL = 1024
_MAX_TEXT = 100
_RESPONSE = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]+")

Vector = NDArray[np.float32]
Mask = NDArray[np.bool_]


class _Mark(Enum):
    """What stands in a slot that holds no value."""

    EMPTY = "there is nothing to take"
    OMIT = "the argument is left out"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a `Menu` has read of an episode so far.

    Attributes:
        question: The question.
        offered: Positions, on the menu, of the tools on offer.
        outputs: What calls that succeeded returned, the latest first.
        last_ok: Whether the last call succeeded; None before the first.
        last_tool: Position of the tool of the last call; None if there was none, or it is not on the menu.
        calls: Calls so far.
        turns: Turns so far, those that `teacher_turns` replayed included.
    """

    question: Question
    offered: tuple[int, ...]
    outputs: tuple[str, ...] = ()
    last_ok: bool | None = None
    last_tool: int | None = None
    calls: int = 0
    turns: int = 0


# Compared by identity: equal ones are made once, and they are keys where time counts.
@dataclass(frozen=True, slots=True, eq=False)
class _Slots:
    """The places that the values of an argument are taken from, in a fixed order.

    Attributes:
        kind: `number`, `integer`, `text`, `text-or-number`, `choice`, `numbers`, `texts`, `answer` or `none`.
        choices: Fixed values: the members of an enumeration, or words of the argument's descriptions.
        optional: Whether the argument can be left out, which the last place stands for.
        size: How many places there are.
    """

    kind: str
    choices: tuple[Any, ...]
    optional: bool
    size: int


class Menu:
    r"""The calls that can be made of a suite's tools, as actions; and what can be said of an episode, in numbers.

    An argument takes its value from numbered slots. For a number: results of earlier calls (the latest first), the
    question's numbers in order of appearance, the largest and the smallest of them, constants. For a text:
    results, the question's names and words, words of the argument's descriptions. For a list: all numbers (or
    names), all results, the first two or three numbers (or the items of the last result). An empty slot stands for
    one that is filled (the places are counted round), so that every action can be played.

    `style="multidiscrete"`: `[what, slot of the 1st argument, slot of the 2nd, …]`, where `what` is 0 for an
    answer and i for the i-th tool; slots that a tool does not need are ignored. `style="discrete"`: first the
    answers, then every form of every call, of tools with very many forms only those with the first slots of each
    argument. An answer is the text of a result, its slot that of the result.

    Args:
        schemas: OpenAI function schemas of the tools, in a fixed order.
        style: `"multidiscrete"` or `"discrete"`.
        max_turns: Turns of an episode, for the feature that tells how many are left.
        numbers: How many of the question's numbers have a slot.
        results: How many of the latest results have a slot.
        constants: Numbers that always have a slot.
        words: How many of the question's words have a slot.
        described: How many words of an argument's descriptions have a slot.
        buckets: Length of the bag of words.

    Raises:
        ValueError: An argument is out of range, or there are no tools.

    Attributes:
        settings: `Menu(**settings)` makes the same menu; JSON can hold them.
        style: As given.
        tools: The tools' names.
        action_space: `Discrete` or `MultiDiscrete`.
        observation_space: `Box(-1, 1, (n,), float32)`.
        blocks: Which part of a feature vector holds what; see `features`.

    >>> from mentor_gym.tools.math import math_box
    >>> menu = Menu([tool.schema for tool in math_box().tools.values()])
    >>> reading = menu.begin("multiply(a, b): Multiply\nadd(a, b): Add\nWhat are 6 bags of 7 pens?")
    >>> call = menu.decode([3, 3, 4, 0], reading)
    >>> call
    '<tool_call>{"name": "multiply", "arguments": {"a": 6, "b": 7}}</tool_call>'
    >>> menu.decode([0, 0, 0, 0], menu.extend(reading, call, "<tool_response>42</tool_response>"))
    '<answer>42</answer>'
    """

    def __init__(
        self,
        schemas: Iterable[dict[str, Any]],
        style: str = "multidiscrete",
        max_turns: int = 8,
        numbers: int = 6,
        results: int = 3,
        constants: Sequence[float] = (2, 3),
        words: int = 12,
        described: int = 40,
        buckets: int = 512,
    ) -> None:
        if style not in STYLES:
            raise ValueError(f"style must be one of {', '.join(STYLES)}, got {style!r}{nearest(style, STYLES)}")
        sizes = {"max_turns": max_turns, "numbers": numbers, "results": results, "words": words}
        sizes |= {"described": described, "buckets": buckets}
        for name, value in sizes.items():
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        for constant in constants:
            if type(constant) not in (int, float) or not math.isfinite(constant):
                raise ValueError(f"constants must be finite numbers, got {constant!r}")
        functions = [schema["function"] for schema in schemas]
        if not functions:
            raise ValueError("a menu needs at least one tool")
        self.settings: dict[str, Any] = {
            "schemas": [{"type": "function", "function": function} for function in functions],
            "style": style,
            **sizes,
            "constants": list(constants),
        }
        self.style = style
        self.tools = tuple(function["name"] for function in functions)
        self._positions = {name: position for position, name in enumerate(self.tools)}
        self._sizes = sizes
        self._results, self._numbers = results, numbers
        self._constants = tuple(tidy(constant) for constant in constants)
        self._answer = _Slots("answer", (), False, results)
        # Of each tool: its arguments with their slots, and how many of the slots have actions.
        self._arguments = _list_arguments(functions, described, self._slots())
        self._forms = [self._limit([slots.size for _, slots in arguments]) for arguments in self._arguments]
        # The slots of each place of a call; the first is that of an answer too.
        self._widths = [
            max(arguments[place][1].size for arguments in self._arguments if place < len(arguments))
            for place in range(max(map(len, self._arguments)))
        ]
        self._widths = [max([results, *self._widths[:1]]), *self._widths[1:]]
        self.action_space: gym.spaces.Discrete | gym.spaces.MultiDiscrete
        if style == "discrete":
            counts = (math.prod(form) for form in self._forms)
            *self._starts, total = itertools.accumulate(counts, initial=results)
            self.action_space = gym.spaces.Discrete(total)
        else:
            self.action_space = gym.spaces.MultiDiscrete([1 + len(self.tools), *self._widths])
        self.blocks: dict[str, slice] = {}
        length = 0
        for name, size in self._layout().items():
            self.blocks[name] = slice(length, length + size)
            length += size
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (length,), np.float32)

    def __deepcopy__(self, memo: dict[int, Any]) -> Menu:
        # Nothing of a menu ever changes.
        return self

    def begin(self, text: str) -> Reading:
        """Read an opening observation, in either prompt style, with the turns that `teacher_turns` replayed.

        >>> from mentor_gym import MentorToolEnv
        >>> env = MentorToolEnv("math", split="test")
        >>> menu = Menu([tool.schema for tool in env.suite.box.tools.values()])
        >>> reading = menu.begin(env.reset(seed=0)[0])
        >>> reading.question.text == env.task.prompt, [menu.tools[i] for i in reading.offered] == env.task.tools
        (True, True)
        """
        offered, question, turns = read_opening(text, self._positions)
        reading = Reading(read_question(question), tuple(self._positions[name] for name in offered))
        for action, observation in turns:
            reading = self.extend(reading, action, observation)
        return reading

    def extend(self, reading: Reading, action: str, observation: str) -> Reading:
        """Read one more turn: what the policy wrote, and the environment's answer."""
        calls = parse_action(action).calls
        outputs = _RESPONSE.findall(observation)
        succeeded = [not output.startswith("error:") for output in outputs]
        return replace(
            reading,
            outputs=(*itertools.compress(reversed(outputs), reversed(succeeded)), *reading.outputs),
            last_ok=succeeded[-1] if succeeded else reading.last_ok,
            last_tool=self._positions.get(calls[-1].name) if calls else reading.last_tool,
            calls=reading.calls + len(calls),
            turns=reading.turns + 1,
        )

    def decode(self, action: Any, reading: Reading) -> str:
        """Write the turn that an action stands for.

        Args:
            action: A member of `action_space`.
            reading: The episode so far.

        Returns:
            One tool call, or an answer; an answer without a result is blank. A required argument for which there
            is nothing is left out, and the tool will say so.

        Raises:
            ValueError: The action is not in the space.
        """
        what, places = self._split(action)
        if what == 0:
            value = _take(self._values(self._answer, reading), places[0])
            return f"<answer>{'' if value is _Mark.EMPTY else value}</answer>"
        arguments = {}
        for (name, slots), size, place in zip(self._arguments[what - 1], self._forms[what - 1], places):
            value = _take(self._values(slots, reading)[:size], place)
            if not isinstance(value, _Mark):
                arguments[name] = value
        return render_call(self.tools[what - 1], arguments)

    def encode(self, name: str, arguments: dict[str, Any], reading: Reading) -> NDArray[np.int64] | None:
        r"""Find an action that makes a call; None when the menu has none.

        Numbers are equal by value, texts when they differ only in case, lists when they have the same items. Of a
        tool on offer, it is an action that `mask` allows.

        >>> from mentor_gym.tools.math import math_box
        >>> menu = Menu([tool.schema for tool in math_box().tools.values()])
        >>> reading = menu.begin("power(base, exponent): Raise\nA cube has sides of 5 m. What is its volume?")
        >>> menu.encode("power", {"base": 5, "exponent": 3}, reading)
        array([ 9,  3, 12,  0])
        >>> menu.encode("power", {"base": 5, "exponent": 4}, reading)
        """
        tool = self._positions.get(name)
        if tool is None or not set(arguments) <= {argument for argument, _ in self._arguments[tool]}:
            return None
        places = []
        for (argument, slots), size in zip(self._arguments[tool], self._forms[tool]):
            wanted = arguments.get(argument, _Mark.OMIT)
            values = self._values(slots, reading)[:size]
            found = next((place for place, value in enumerate(values) if _is_same(value, wanted)), None)
            if found is None:
                return None
            places.append(found)
        return self._join(1 + tool, places, reading)

    def encode_answer(self, text: str, reading: Reading) -> NDArray[np.int64] | None:
        """Find an action that gives an answer; None when no result in a slot has this text."""
        values = self._values(self._answer, reading)
        return self._join(0, [values.index(text)], reading) if text in values else None

    def mask(self, reading: Reading) -> Mask:
        """Return which actions make sense: tools on offer whose arguments can be filled, and slots that are.

        An answer makes sense when there is a result, or when nothing else does. With `multidiscrete` the parts are
        independent: a slot is open when it is filled for some tool, and every part has one that is.

        Returns:
            A Boolean vector over the actions of `Discrete`, or over the concatenated parts of `MultiDiscrete`.
        """
        filled: dict[_Slots, Mask] = {}
        for tool in reading.offered:
            for _, slots in self._arguments[tool]:
                if slots not in filled:
                    values = self._values(slots, reading)
                    filled[slots] = np.array([value is not _Mark.EMPTY for value in values])
        # What can be filled of each argument, for the tools where that is something of every one.
        callable_with: dict[int, list[Mask]] = {}
        for tool in reading.offered:
            parts = [filled[slots][:size] for (_, slots), size in zip(self._arguments[tool], self._forms[tool])]
            if all(part.any() for part in parts):
                callable_with[tool] = parts
        answers = np.zeros(self._results, np.bool_)
        # Without anything to do or to say there is still the blank answer, which ends the episode.
        answers[: max(len(reading.outputs), not callable_with)] = True
        if isinstance(self.action_space, gym.spaces.Discrete):
            mask = np.zeros(int(self.action_space.n), np.bool_)
            mask[: self._results] = answers
            for tool, parts in callable_with.items():
                block = np.ones(1, np.bool_)
                for part in parts:
                    block = np.logical_and.outer(block, part).ravel()
                mask[self._starts[tool] : self._starts[tool] + len(block)] = block
            return mask
        what = np.zeros(1 + len(self.tools), np.bool_)
        what[0] = answers.any()
        opened = [np.zeros(width, np.bool_) for width in self._widths]
        opened[0][: self._results] = answers
        for tool, parts in callable_with.items():
            what[1 + tool] = True
            for place, part in zip(opened, parts):
                place[: len(part)] |= part
        for place in opened:
            # No tool needs this part, but a distribution needs a choice.
            place[0] |= not place.any()
        return np.concatenate([what, *opened])

    def features(self, reading: Reading) -> Vector:
        """Describe an episode in numbers from -1 to 1; `blocks` says which stand where.

        - `words`: the question's words and pairs of words; see `bag_of_words`.
        - `offered`, `last_tool`: one place a tool.
        - `results`, `numbers`: for each slot four: filled, magnitude (a sixth for each power of ten, with its
          sign), whole, square of a whole number.
        - `pairs`: for each two numbers of the question two: which is larger, whether one divides the other.
        - `texts`: shares of the slots for words that names, and all words, fill.
        - `last`: whether the last call succeeded, and whether it failed.
        - `progress`: shares of turns left, of calls made and of results had.
        """
        vector = np.zeros(self.observation_space.shape, np.float32)
        question, sizes, blocks = reading.question, self._sizes, self.blocks
        vector[blocks["words"]] = bag_of_words(question.text, sizes["buckets"])
        for tool in reading.offered:
            vector[blocks["offered"].start + tool] = 1
        if reading.last_tool is not None:
            vector[blocks["last_tool"].start + reading.last_tool] = 1
        results = (read_number(output) for output in reading.outputs[: self._results])
        for block, values in (("results", results), ("numbers", question.numbers[: self._numbers])):
            for start, value in zip(range(blocks[block].start, blocks[block].stop, 4), values):
                vector[start] = 1
                if value is not None:
                    vector[start + 1 : start + 4] = _describe(value)
        start = blocks["pairs"].start
        for a, b in itertools.combinations(range(self._numbers), 2):
            if b < len(question.numbers):
                vector[start : start + 2] = _compare(question.numbers[a], question.numbers[b])
            start += 2
        shares = (len(question.names) / sizes["words"], len(question.words) / sizes["words"])
        vector[blocks["texts"]] = np.minimum(shares, 1)
        if reading.last_ok is not None:
            vector[blocks["last"]] = (reading.last_ok, not reading.last_ok)
        left = max(0, 1 - reading.turns / sizes["max_turns"])
        shares = (reading.calls / sizes["max_turns"], len(reading.outputs) / self._results)
        vector[blocks["progress"]] = (left, *np.minimum(shares, 1))
        return vector

    def _layout(self) -> dict[str, int]:
        return {
            "words": self._sizes["buckets"],
            "offered": len(self.tools),
            "last_tool": len(self.tools),
            "results": 4 * self._results,
            "numbers": 4 * self._numbers,
            "pairs": self._numbers * (self._numbers - 1),
            "texts": 2,
            "last": 2,
            "progress": 3,
        }

    def _slots(self) -> dict[str, int]:
        """Return how many slots each kind of argument has, without fixed choices."""
        number = self._results + self._numbers + 2 + len(self._constants)
        text = self._results + self._sizes["words"]
        return {
            "number": number,
            "integer": number,
            "text": text,
            "text-or-number": text + self._numbers,
            "numbers": 4,
            "texts": 3,
            "choice": 0,
            "none": 0,
        }

    def _limit(self, sizes: list[int]) -> list[int]:
        """Return how many slots of each argument of a tool have an action."""
        while self.style == "discrete" and math.prod(sizes) > MAX_FORMS_PER_TOOL:
            sizes[sizes.index(max(sizes))] -= 1
        return sizes

    def _values(self, slots: _Slots, reading: Reading) -> list[Any]:
        """Return what is in every slot, a mark where there is no value."""
        values: list[Any] = []

        def add(section: Iterable[Any], size: int) -> None:
            found = list(itertools.islice(section, size))
            values.extend(found + [_Mark.EMPTY] * (size - len(found)))

        question, outputs = reading.question, reading.outputs
        match slots.kind:
            case "answer":
                add(outputs, self._results)
            case "number" | "integer":
                results = (read_number(output) for output in outputs)
                add((_Mark.EMPTY if number is None else number for number in results), self._results)
                add(question.numbers, self._numbers)
                # Which number goes first often depends on size, not on place; what is learnt of one wording then
                # holds for others.
                extremes = len(question.numbers) > 1
                add((max(question.numbers), min(question.numbers)) if extremes else (), 2)
                add(self._constants, len(self._constants))
                if slots.kind == "integer":
                    values = [value if type(value) is int else _Mark.EMPTY for value in values]
            case "text" | "text-or-number":
                add((output[:_MAX_TEXT] for output in outputs), self._results)
                add(question.words, self._sizes["words"])
                add(slots.choices, len(slots.choices))
                if slots.kind == "text-or-number":
                    add(question.numbers, self._numbers)
            case "choice":
                add(slots.choices, len(slots.choices))
            case "numbers":
                given = list(question.numbers)
                had = [number for output in reversed(outputs) if (number := read_number(output)) is not None]
                firsts = [given[:count] if len(given) > count else [] for count in (2, 3)]
                values = [part or _Mark.EMPTY for part in (given, had, *firsts)]
            case "texts":
                items = outputs[0].split(", ") if outputs else []
                values = [list(part) or _Mark.EMPTY for part in (question.names, outputs[::-1], items)]
        if slots.optional:
            values.append(_Mark.OMIT)
        return values or [_Mark.EMPTY]

    def _split(self, action: Any) -> tuple[int, list[int]]:
        """Take an action apart: 0 for an answer or 1 + the tool's position, and a slot for each argument."""
        if isinstance(self.action_space, gym.spaces.MultiDiscrete):
            parts = [int(part) for part in action]
            limits = self.action_space.nvec
            if len(parts) != len(limits) or not all(0 <= part < limit for part, limit in zip(parts, limits)):
                raise ValueError(f"an action is a member of {self.action_space}, got {action!r}")
            return parts[0], parts[1:]
        number = int(action)
        if not 0 <= number < self.action_space.n:
            raise ValueError(f"an action is a member of {self.action_space}, got {action!r}")
        if number < self._results:
            return 0, [number]
        tool = max(tool for tool, start in enumerate(self._starts) if start <= number)
        number -= self._starts[tool]
        places = []
        for size in reversed(self._forms[tool]):
            number, place = divmod(number, size)
            places.append(place)
        return 1 + tool, places[::-1]

    def _join(self, what: int, places: Sequence[int], reading: Reading) -> NDArray[np.int64]:
        """Undo `_split`; parts that are not needed take a slot that the mask allows."""
        if self.style == "multidiscrete":
            ends = np.cumsum([1 + len(self.tools), *self._widths])
            opened = np.split(self.mask(reading), ends[:-1])[1:]
            return np.array([what, *places, *(int(part.argmax()) for part in opened[len(places) :])])
        if what == 0:
            return np.array(places[0])
        number = 0
        for place, size in zip(places, self._forms[what - 1]):
            number = number * size + place
        return np.array(self._starts[what - 1] + number)


class MenuWrapper(gym.Wrapper[Any, Any, str, str], RecordConstructorArgs):
    """Play a `MentorToolEnv` by numbers: actions from a `Menu`, observations as its features.

    `info["action_text"]` is the turn that an action stood for and `info["observation_text"]` what came back.
    `action_masks()` is what sb3-contrib's MaskablePPO asks for. The wrapper has no state of its own: after
    `set_state` it reads the environment's transcript.

    An episode that is cut off at the turn limit is truncated. Learners that go on from there as if it had no end
    (Stable-Baselines3's do) are told that calling tools for ever is as good as an answer; `agents.sb3_train` shows
    how to avoid it.

    Args:
        env: A `MentorToolEnv`, possibly wrapped.
        style: `"multidiscrete"` or `"discrete"`.
        **sizes: `numbers`, `results`, `constants`, `words`, `described` and `buckets` of the `Menu`.

    Raises:
        ValueError: `env` is not a `MentorToolEnv`, or an argument is out of range.

    Attributes:
        menu: The menu.

    Example:
        >>> import gymnasium as gym, mentor_gym
        >>> from mentor_gym.wrappers import MenuWrapper
        >>> env = MenuWrapper(gym.make("MentorTool-v0", suite="math", where={"calls": 1}))
        >>> observation, info = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        >>> env.action_masks().shape == (sum(env.action_space.nvec),)
        True
    """

    def __init__(self, env: gym.Env[str, str], style: str = "multidiscrete", **sizes: Any) -> None:
        RecordConstructorArgs.__init__(self, style=style, **sizes)
        super().__init__(env)
        base = env.unwrapped
        if not isinstance(base, MentorToolEnv):
            raise ValueError(f"MenuWrapper needs a MentorToolEnv, got {type(base).__name__}")
        for name in sizes:
            if name not in SIZES:
                raise ValueError(f"a menu has no size {name!r}; it has {', '.join(SIZES)}{nearest(name, SIZES)}")
        self._base = base
        schemas = [tool.schema for tool in base.suite.box.tools.values()]
        self.menu = Menu(schemas, style, base.max_turns, **sizes)
        self.action_space = self.menu.action_space
        self.observation_space = self.menu.observation_space
        # What was read of which transcript, up to which turn.
        self._read: Reading | None = None
        self._read_of: tuple[Any, int] = (None, 0)

    @property
    def reading(self) -> Reading:
        """What the menu has read of the episode; there is one after `reset` or `set_state`."""
        transcript = self._base.transcript
        if transcript is None:
            raise gym.error.ResetNeeded("call reset() first: no episode has been started")
        if self._read is None or self._read_of[0] is not transcript or self._read_of[1] != len(transcript.turns):
            schemas = [tool.schema for tool in self._base.tools.values()]
            opening = render_prompt(transcript.task, schemas, self._base.prompt)
            reading = self.menu.begin("\n\n".join(message["content"] for message in opening))
            for turn in transcript.turns:
                reading = self.menu.extend(reading, turn.text, turn.observation)
            self._remember(reading)
            return reading
        return self._read

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Vector, dict[str, Any]]:
        """Start an episode; arguments as for `MentorToolEnv.reset`."""
        text, info = self.env.reset(seed=seed, options=options)
        self._remember(self.menu.begin(text))
        return self.menu.features(self.reading), {**info, "observation_text": text}

    def step(self, action: Any) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Play the turn that an action stands for.

        Raises:
            ValueError: The action is not in the space.
        """
        reading = self.reading
        written = self.menu.decode(action, reading)
        text, reward, terminated, truncated, info = self.env.step(written)
        self._remember(self.menu.extend(reading, written, text))
        info = {**info, "action_text": written, "observation_text": text}
        return self.menu.features(self.reading), float(reward), bool(terminated), bool(truncated), info

    def action_masks(self) -> Mask:
        """Return which actions make sense now; see `Menu.mask`."""
        return self.menu.mask(self.reading)

    def clone(self) -> Self:
        """Return an independent copy of the environment with the same future."""
        return copy.deepcopy(self)

    def _remember(self, reading: Reading) -> None:
        self._read = reading
        self._read_of = (self._base.transcript, len(self._base.transcript.turns))


def _list_arguments(
    functions: Sequence[dict[str, Any]], described: int, sizes: dict[str, int]
) -> list[list[tuple[str, _Slots]]]:
    """Return the arguments of each tool, by name, with their slots."""
    properties = [(function.get("parameters") or {}).get("properties", {}) for function in functions]
    # What an argument is described by often lists what it may be; of tools that share an argument, one does.
    words: dict[str, dict[str, None]] = {}
    for schemas in properties:
        for name, schema in schemas.items():
            found = _IDENTIFIER.findall(str(schema.get("description", "")))
            words.setdefault(name, {}).update(dict.fromkeys(found))
    made: dict[Any, _Slots] = {}
    arguments: list[list[tuple[str, _Slots]]] = []
    for function, schemas in zip(functions, properties):
        required = (function.get("parameters") or {}).get("required", ())
        arguments.append([])
        for name, schema in schemas.items():
            kind, choices = _kind_of(schema)
            if kind in ("text", "text-or-number"):
                choices = tuple(words[name])[:described]
            optional = name not in required
            # One place at least: what has none is left out, and the tool says what is missing.
            slots = _Slots(kind, choices, optional, max(1, sizes[kind] + len(choices) + optional))
            arguments[-1].append((name, made.setdefault((kind, repr(choices), optional), slots)))
    return arguments


def _kind_of(schema: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """Return which kind of slots an argument of this schema has, and its fixed values."""
    if "enum" in schema:
        return "choice", tuple(schema["enum"])
    kinds = schema.get("type")
    kinds = {kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if kind != "null"}
    if "string" in kinds:
        return ("text-or-number" if kinds & {"number", "integer"} else "text"), ()
    if "number" in kinds:
        return "number", ()
    if "integer" in kinds:
        return "integer", ()
    if "boolean" in kinds:
        return "choice", (False, True)
    if "array" in kinds:
        item, _ = _kind_of(schema.get("items") or {})
        return {"number": "numbers", "text": "texts"}.get(item, "none"), ()
    return "none", ()


def _take(values: Sequence[Any], place: int) -> Any:
    """Return what is in a slot; for an empty one, and one beyond the last, what is in a filled one."""
    if place < len(values) and values[place] is not _Mark.EMPTY:
        return values[place]
    filled = [value for value in values if value is not _Mark.EMPTY]
    return filled[place % len(filled)] if filled else _Mark.EMPTY


def _is_same(value: Any, wanted: Any) -> bool:
    if isinstance(value, _Mark) or isinstance(wanted, _Mark):
        return value is wanted
    if isinstance(value, list) and isinstance(wanted, list):
        return sorted(map(repr, value)) == sorted(map(repr, wanted))
    if isinstance(value, str) and isinstance(wanted, str):
        return value.casefold() == wanted.casefold()
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _describe(number: Number) -> tuple[float, float, float]:
    """Return magnitude with sign, and whether it is whole, and a square."""
    magnitude = min(1.0, math.log10(1 + abs(number)) / 6)
    whole = isinstance(number, int)
    square = isinstance(number, int) and number >= 0 and math.isqrt(number) ** 2 == number
    return math.copysign(magnitude, number), float(whole), float(square)


def _compare(a: Number, b: Number) -> tuple[float, float]:
    """Return the sign of the difference, and whether the one with the larger magnitude is a multiple."""
    small, large = sorted((abs(a), abs(b)))
    divides = isinstance(small, int) and isinstance(large, int) and small > 0 and large % small == 0
    return float((a > b) - (a < b)), float(divides)
