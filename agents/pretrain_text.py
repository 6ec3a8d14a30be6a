"""Synthetic tool-use conversations from which the embedded `tiny` model learns to call tools.

Three families, in the wire format and the compact prompt:

- *kinds*: the training kinds of the `math` suite. One-call problems are solved right in `SINGLE_SHARE` of the
  conversations, problems of several calls in `CHAIN_SHARE`; most of the others stop too early, some go astray or
  call at random. This is the dial that leaves room for learning: the base can sample the right calls, and seldom
  makes all of them.
- *direct*: "What is 3 plus 4?", one call, always right.
- *look-up*: invented tools whose description shares a word with the question, and arguments to copy.

In a third of the conversations tools and arguments have invented names, so that names must be copied from the
prompt. Only numbers that `math` allows in training occur in its kinds; none of its held-out wordings, compositions
and tools occurs, and no question of the `facts` suite (an invented tool may have the name of one of its tools).

The shares were changed once, after a first demo in which every arm, whatever its reward, left greedy success on
unseen wordings where it was: the training wordings became more varied, and stopping early became the usual
failure. They were never chosen for an arm.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from mentor_gym.protocol import render_call, render_signature
from mentor_gym.suites.math import (
    LOWERINGS,
    PAPER_NAMES,
    draw_numbers,
    math_box_tools,
    offer,
    parse_formula,
    split_of,
    vary,
)
from mentor_gym.suites.math_kinds import BOXES, ITEMS, KINDS, NAMES, Kind
from mentor_gym.suites.math_variants import add_note
from mentor_gym.suites.plans import PlanFailed, calls_of, lower, run

SINGLE_SHARE = 0.5
CHAIN_SHARE = 0.15

# Ways to say what a tool does, around its own argument names, beside the shipped description.
PARAPHRASES: dict[str, tuple[str, ...]] = {
    "add": ("{0} plus {1}", "sum of {0} and {1}", "{0} and {1} in all"),
    "subtract": ("{0} minus {1}", "{0} less {1}", "what is left of {0} without {1}"),
    "multiply": ("{0} times {1}", "product of {0} and {1}"),
    "divide": ("{0} shared by {1}", "{0} over {1}", "quotient of {0} and {1}"),
    "sum_numbers": ("sum of the numbers", "all of the numbers in all"),
    "floor": ("whole part of {0}", "{0} rounded down"),
    "ceil": ("{0} rounded up", "next whole number from {0}"),
    "round_number": ("{0} rounded to {1}", "{0} with {1} digits"),
    "power": ("{0} to the power {1}", "{0} times itself, {1} times"),
    "sqrt": ("square root of {0}", "side of a square of area {0}"),
    "abs_value": ("size of {0}", "{0} without minus"),
    "modulo": ("{0} modulo {1}", "what is left over when {0} is divided by {1}"),
}
DIRECT: dict[str, tuple[str, ...]] = {
    "add": ("What is {0} plus {1}?", "Add {0} and {1}.", "Find the sum of {0} and {1}."),
    "subtract": ("What is {0} minus {1}?", "Subtract {1} from {0}.", "Take {1} from {0}."),
    "multiply": ("What is {0} times {1}?", "Multiply {0} by {1}.", "Find the product of {0} and {1}."),
    "divide": ("What is {0} divided by {1}?", "Divide {0} by {1}."),
    "sum_numbers": ("What is the sum of {0}, {1} and {2}?", "Find the total of {0}, {1} and {2}."),
    "floor": ("Round {0} down.", "What is the whole part of {0}?"),
    "ceil": ("Round {0} up.", "What is the next whole number from {0}?"),
    "power": ("Raise {0} to the power of {1}.", "What is {0} to the power of {1}?"),
    "sqrt": ("What is the square root of {0}?", "Find the square root of {0}."),
    "abs_value": ("What is {0} without its sign?", "Find the size of {0}."),
    "modulo": ("What is the remainder of {0} divided by {1}?", "What is {0} modulo {1}?"),
}
WORDS = (  # noqa: SIM905
    "age area author base capital center city class code color cost count country date day depth distance "
    "door edge end energy field flag floor garden gate gold group height home house hour island key kind "
    "king lake land language leader length letter level light line list mark mass member metal mile month "
    "mother mountain name nation north number office order owner page paper park part pass people period "
    "place plan planet plant point power price quality queen rain range rank rate record region rest "
    "river road room root rule school sea season sector seed shape ship side sign silver size snow song "
    "sound south space speed star start state station stone store story street style sun symbol system "
    "table team term test time title tool town tree type unit user valley value view village voice volume "
    "wall war water weather week weight west wheel width wind window winter wood word work world year "
    "zone large small high low old new long short first last most least more less larger smaller higher "
    "lower older newer longer shorter oldest newest largest smallest highest lowest lightest heaviest far "
    "near which who where when what both between with whose were found has have many much belong belongs "
    "lie lies add ask call check compare count fetch find get give look measure pick read search show "
    "take tell answer "
).split()


class Writer:
    """Writes conversations from its own random generator; the same seed writes the same ones.

    Args:
        seed: Of the generator.
        singles: Share of one-call problems that are solved right.
        chains: Share of problems of several calls that are solved right.
        notes: Share of the problems of a kind that come with a note of the answer. Half of the notes are wrong; in
            half of these conversations the assistant answers with the note, in the others it goes about the
            problem as if there were none: a model of this text does both.
    """

    def __init__(
        self, seed: str, singles: float = SINGLE_SHARE, chains: float = CHAIN_SHARE, notes: float = 0.0
    ) -> None:
        self.rng = random.Random(seed)
        self.singles = singles
        self.chains = chains
        self.notes = notes
        self.tools = math_box_tools()

    def conversation(self) -> list[dict[str, str]]:
        """Write one conversation as chat messages."""
        while True:
            draw = self.rng.random()
            try:
                if draw < 0.6:
                    return self.kind()
                return self.direct() if draw < 0.78 else self.look_up()
            except (PlanFailed, ZeroDivisionError):
                continue

    def kind(self) -> list[dict[str, str]]:
        """Write a problem of a training kind, solved right or not."""
        rng = self.rng
        kind = rng.choice(KINDS)
        numbers = self._training_numbers(kind)
        prompt = vary(rng.choice(kind.wordings), rng).format(
            name=rng.choice(NAMES) if rng.random() < 0.7 else self._name(),
            items=rng.choice(ITEMS) if rng.random() < 0.7 else self._word(),
            box=rng.choice(BOXES),
            **numbers,
        )
        if rng.random() < 0.5:
            # Lost words teach the model to read more than one cue, so that unseen wordings are not noise to it.
            prompt = " ".join(
                word for word in prompt.split(" ") if any(c.isdigit() for c in word) or rng.random() > 0.08
            )
        formula = parse_formula(kind.formula, numbers)
        offered = offer(lower(formula, LOWERINGS, PAPER_NAMES), "train", rng)
        possible = lower(formula, LOWERINGS, offered)
        steps = run(calls_of(rng.choice(possible)), self.tools)
        answer = steps[-1][2]
        if self.notes and rng.random() < self.notes:
            wrong = self._answer_to(kind)
            noted = answer if rng.random() < 0.5 or wrong == answer else wrong
            prompt = add_note(prompt, noted, rng)
            if rng.random() < 0.5:
                return self._write(prompt, offered, [], noted)
        right = rng.random() < (self.singles if len(steps) == 1 else self.chains)
        if not right:
            # Most stop too early: to go on until everything is done is what is left to be learnt.
            kept = rng.randint(min(1, len(steps) - 1), len(steps) - 1) if rng.random() < 0.7 else 0
            steps = steps[:kept]
            shown = list(numbers.values())
            for _ in range(rng.choice((0, 0, 0, 0, 0, 1, 1, 2))):
                steps.append(self._random_call(offered, shown, steps))
            answer = steps[-1][2] if steps else str(rng.choice(shown))
            if answer.startswith("error"):
                answer = str(rng.choice(shown))
        return self._write(prompt, offered, steps, answer)

    def direct(self) -> list[dict[str, str]]:
        """Write a plain question for one tool, solved right."""
        rng = self.rng
        tool = rng.choice(list(DIRECT))
        count = 3 if tool == "sum_numbers" else 2
        values = [self._number() for _ in range(count)]
        if tool == "sqrt":
            values[0] = rng.randint(2, 150) ** 2
        if tool == "power":
            values = [rng.randint(2, 60), rng.randint(2, 3)]
        if tool in ("floor", "ceil"):
            values[0] = rng.randint(100, 99999) / rng.choice((10, 100, 1000))
        if tool in ("subtract", "abs_value") and rng.random() < 0.3:
            values[0] = -rng.randint(1, 99)
        if tool == "sum_numbers":
            arguments: dict[str, Any] = {"numbers": values}
        else:
            keys = list(self.tools[tool].parameters["properties"])
            arguments = dict(zip(keys, values))
        prompt = rng.choice(DIRECT[tool]).format(*values)
        result = self.tools[tool].call(arguments)
        if not result.ok:
            raise PlanFailed(result.output)
        offered = [tool]
        while len(offered) < rng.randint(2, 5):
            other = rng.choice(PAPER_NAMES)
            if other not in offered:
                offered.append(other)
        rng.shuffle(offered)
        return self._write(prompt, offered, [(tool, arguments, result.output)], result.output)

    def look_up(self) -> list[dict[str, str]]:
        """Write a question for an invented tool: its description shares a word with the question."""
        rng = self.rng
        signatures: list[str] = []
        names: list[str] = []
        # What tells the tools apart is one word, or one word of several.
        words = rng.sample(WORDS, rng.randint(2, 4))
        target = words[0]
        name = ""
        keys: list[str] = []
        for word in words:
            tool_name = word if rng.random() < 0.3 and word not in names else self._tool_name(names)
            tool_keys = rng.sample(WORDS, rng.choice((1, 1, 2, 2, 3)))
            if rng.random() < 0.3:
                tool_keys = rng.sample(("a", "b", "x", "numbers", "base", "digits"), min(len(tool_keys), 3))
            all_numbers = rng.random() < 0.2
            if all_numbers:
                tool_keys = ["numbers"]
            templates = (f"{word} of {' and '.join(tool_keys)}", f"find the {word} of a {tool_keys[0]}", word)
            description = f"{word} of all numbers" if all_numbers else rng.choice(templates)
            names.append(tool_name)
            signatures.append(f"{tool_name}({', '.join(tool_keys)}): {description}")
            if word is target:
                name, keys = tool_name, tool_keys
        listed = keys == ["numbers"] or rng.random() < 0.15
        arguments: dict[str, Any] = {}
        shown: list[str] = []
        for key in keys:
            if listed and key == keys[-1]:
                draw = self._number if key == "numbers" else self._value
                items = [draw() for _ in range(rng.randint(2, 4))]
                arguments[key] = items
                shown.append(", ".join(str(item) for item in items[:-1]) + f" and {items[-1]}")
            else:
                value = self._value()
                arguments[key] = value
                shown.append(str(value))
        forms = ("What is the {0} of {1}?", "Find the {0} of {1}.", "{1}: {0}?", "Which {0} has {1}?")
        prompt = rng.choice(forms).format(target, self._join(shown, keys))
        result = str(self._value())
        if rng.random() < 0.5:
            # Among tools that it knows, too, the model must find the one that the question asks for.
            for known in rng.sample(PAPER_NAMES, rng.randint(1, 3)):
                signatures.append(render_signature(self.tools[known].schema["function"]))
        rng.shuffle(signatures)
        return self._messages("\n".join([*signatures, prompt]), [(name, arguments, result)], result)

    def _training_numbers(self, kind: Kind) -> dict[str, Any]:
        while True:
            numbers = draw_numbers(kind, self.rng)
            if numbers is not None and split_of(kind.name, numbers) == "train":
                return numbers

    def _answer_to(self, kind: Kind) -> str:
        """Solve another problem of a kind."""
        formula = parse_formula(kind.formula, self._training_numbers(kind))
        return run(calls_of(lower(formula, LOWERINGS, PAPER_NAMES)[0]), self.tools)[-1][2]

    def _random_call(
        self, offered: Sequence[str], shown: Sequence[Any], steps: Sequence[tuple[str, Any, str]]
    ) -> tuple[str, dict[str, Any], str]:
        rng = self.rng
        results = [self._read(step[2]) for step in steps if not step[2].startswith("error")]
        pool = [*shown, *results, *results[-1:] * 2]
        tool = self.tools[rng.choice(offered)]
        arguments: dict[str, Any] = {}
        for key, schema in tool.parameters["properties"].items():
            if schema["type"] == "array":
                arguments[key] = [rng.choice(pool) for _ in range(rng.randint(2, 3))]
            elif key in ("digits", "exponent"):
                arguments[key] = rng.choice((0, 2, 2, 3)) if key == "digits" else rng.choice((2, 2, 3))
            else:
                arguments[key] = rng.choice(pool)
        return tool.name, arguments, tool.call(arguments).output

    def _write(
        self, prompt: str, offered: Sequence[str], steps: Sequence[tuple[str, dict[str, Any], str]], answer: str
    ) -> list[dict[str, str]]:
        """Put real or invented names to the tools and write the conversation."""
        rng = self.rng
        rename = rng.random() < 0.33
        lines: list[str] = []
        names: dict[str, str] = {}
        keys: dict[str, dict[str, str]] = {}
        for tool_name in offered:
            tool = self.tools[tool_name]
            own = list(tool.parameters["properties"])
            alias = own
            names[tool_name] = tool_name
            if rename and rng.random() < 0.8:
                names[tool_name] = self._tool_name(list(names.values()))
                if rng.random() < 0.5:
                    alias = rng.sample(WORDS, len(own))
            keys[tool_name] = dict(zip(own, alias))
            if alias != own or rng.random() < 0.3:
                summary = rng.choice(PARAPHRASES[tool_name]).format(*alias)
                lines.append(f"{names[tool_name]}({', '.join(alias)}): {summary}")
            else:
                lines.append(render_signature({**tool.schema["function"], "name": names[tool_name]}))
        if rng.random() < 0.3:
            invented = f"{self._tool_name(list(names.values()))}({rng.choice(WORDS)}): {rng.choice(WORDS)}"
            lines.insert(rng.randint(0, len(lines)), invented)
        renamed = [
            (names[name], {keys[name][key]: value for key, value in arguments.items()}, result)
            for name, arguments, result in steps
        ]
        return self._messages("\n".join([*lines, prompt]), renamed, answer)

    @staticmethod
    def _messages(
        opening: str, steps: Sequence[tuple[str, dict[str, Any], str]], answer: str
    ) -> list[dict[str, str]]:
        messages = [{"role": "user", "content": opening}]
        for name, arguments, result in steps:
            messages.append({"role": "assistant", "content": render_call(name, arguments)})
            messages.append({"role": "user", "content": f"<tool_response>{result}</tool_response>"})
        messages.append({"role": "assistant", "content": f"<answer>{answer}</answer>"})
        return messages

    @staticmethod
    def _read(text: str) -> float | int:
        value = float(text)
        return int(value) if value == int(value) else value

    def _join(self, shown: Sequence[str], keys: Sequence[str]) -> str:
        if len(shown) == 1:
            return shown[0]
        if self.rng.random() < 0.5:
            return ", ".join(f"{key} {value}" for key, value in zip(keys, shown))
        return ", ".join(shown[:-1]) + f" and {shown[-1]}"

    def _number(self) -> int | float:
        rng = self.rng
        if rng.random() < 0.1:
            return rng.randint(1, 9999) / rng.choice((10, 100))
        return rng.randint(1, 10 ** rng.randint(1, 5))

    def _value(self) -> int | float | str:
        draw = self.rng.random()
        if draw < 0.35:
            return self._number()
        if draw < 0.65:
            return self._name()
        return self.rng.choice(WORDS) if draw < 0.9 else f"{self._name()} {self._name()}"

    def _word(self) -> str:
        rng = self.rng
        return (
            "".join(rng.choice("bcdfghklmnprstvw") + rng.choice("aeiou") for _ in range(rng.randint(1, 3))) + "s"
        )

    def _name(self) -> str:
        """Invent a proper name or a code; its letters are tokens of their own."""
        rng = self.rng
        if rng.random() < 0.3:
            return "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.randint(2, 4)))
        word = self._word()
        return (word[:-1] if rng.random() < 0.5 else word).capitalize()

    def _tool_name(self, taken: Sequence[str]) -> str:
        rng = self.rng
        while True:
            parts = rng.sample(WORDS, rng.choice((1, 1, 2)))
            name = "_".join(parts) if rng.random() < 0.9 else self._word()
            if name not in taken:
                return name
