"""Reading an episode's texts without a language model: the tools on offer, the question's numbers and words.

What is read is what a policy sees, in either prompt style, and nothing of the task behind it; so the environment's
side (`MenuWrapper`) and an agent's side (`agents.sb3`) read the same.
"""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from mentor_gym.grading import parse_number

Number = int | float

_SIGNATURE = re.compile(r"([A-Za-z_][A-Za-z0-9_-]{0,63})\([^()\n]*\): .*")
_RESPONSES = re.compile(r"((?:<tool_response>.*?</tool_response>\n?)+)", re.DOTALL)
# Not the 2 of "m2"; and a minus sign only where it is neither a hyphen nor a subtraction.
_NUMBER = re.compile(r"(?<![\w.])(?:(?<!\d )-)?(?:\d{1,3}(?:,\d{3})+|\d{1,15})(?:\.\d{1,15})?(?!\d)")
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[.?!:]")
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_SENTENCE_END = re.compile(r"[.?!:]\s+")
# Training plays a few thousand tasks again and again.
_CACHED = 8192


@dataclass(frozen=True, slots=True)
class Question:
    """What stands in a question.

    Attributes:
        text: The question.
        numbers: Its numbers, in order of appearance.
        names: Its runs of capitalised words that do not begin a sentence.
        words: Its names, then its other words, each once.
    """

    text: str
    numbers: tuple[Number, ...]
    names: tuple[str, ...]
    words: tuple[str, ...]


def read_opening(text: str, known: Collection[str]) -> tuple[list[str], str, list[tuple[str, str]]]:
    r"""Read an opening observation.

    Args:
        text: The observation, in either prompt style.
        known: Names of tools. A question may look like the compact line of a tool; only a known name makes it one.

    Returns:
        The names of the tools on offer, as far as they are known; the question; and the turns that the reset
        option `teacher_turns` replayed, as pairs of what was written and what came back.

    >>> read_opening("add(a, b): Add a and b\nWhat are 6 and 7?", ["add"])
    (['add'], 'What are 6 and 7?', [])
    """
    _, opened, tail = text.partition("<tools>\n")
    block, closed, rest = tail.partition("\n</tools>")
    if opened and closed:
        offered = [_read_name(line) for line in block.splitlines()]
    else:
        offered, rest = [], text
        while (match := _SIGNATURE.match(rest)) and match[1] in known:
            offered.append(match[1])
            rest = rest[match.end() :].removeprefix("\n")
    question, *replayed = _RESPONSES.split(rest)
    turns: list[tuple[str, str]] = []
    if replayed:
        # The teacher's first turn follows the question, in a paragraph of its own.
        call = question.find("<tool_call>")
        cut = max(0, question.rfind("\n\n", 0, call if call >= 0 else len(question)))
        turns = [(question[cut:], replayed[0]), *zip(replayed[1::2], replayed[2::2])]
        question = question[:cut]
    return [name for name in dict.fromkeys(offered) if name in known], question.strip(), turns


@lru_cache(maxsize=_CACHED)
def read_question(text: str) -> Question:
    """Read a question.

    >>> question = read_question("A cloth of 1,250 cm2 is cut -3.5 m from Sierra Leone. Which is left?")
    >>> question.numbers, question.names, question.words[1:4]
    ((1250, -3.5), ('Sierra Leone',), ('A', 'cloth', 'of'))
    """
    names: list[str] = []
    others: list[str] = []
    for sentence in _SENTENCE_END.split(text):
        run: list[str] = []
        end = 0
        for position, match in enumerate(_WORD.finditer(sentence)):
            word = match[0]
            if position and word[0].isupper():
                if run and sentence[end : match.start()].isspace():
                    names.pop()
                    run.append(word)
                else:
                    run = [word]
                names.append(" ".join(run))
            else:
                run = []
                others.append(word)
            end = match.end()
    unique = tuple(dict.fromkeys(names))
    numbers = tuple(tidy(float(number.replace(",", ""))) for number in _NUMBER.findall(text))
    return Question(text, numbers, unique, tuple(dict.fromkeys([*unique, *others])))


@lru_cache(maxsize=_CACHED)
def read_number(text: str) -> Number | None:
    """Read a tool's output as a number; None when it is none.

    >>> read_number("42"), read_number("2.5"), read_number("error: division by zero")
    (42, 2.5, None)
    """
    number = parse_number(text)
    return tidy(number[0]) if number is not None and math.isfinite(number[0]) else None


def tidy(number: float) -> Number:
    """Write a whole number as an int, as long as a float holds it exactly.

    >>> tidy(3.0), tidy(2.5)
    (3, 2.5)
    """
    return int(number) if float(number).is_integer() and abs(number) < 2**53 else float(number)


@lru_cache(maxsize=_CACHED)
def bag_of_words(text: str, buckets: int) -> NDArray[np.float32]:
    """Hash a text's words and pairs of neighbouring words, with signs, into a vector of -1, 0 and 1.

    All numbers count as the same word, so that what is learnt does not depend on them. The hashing trick with
    signs is that of Weinberger et al. 2009 (arXiv 0902.2206).

    >>> one, other = bag_of_words("6 red pens", 64), bag_of_words("7 red pens", 64)
    >>> int(abs(one).sum()), bool((one == other).all())
    (5, True)
    """
    tokens = ["#" if token[0].isdigit() else token.lower() for token in _TOKEN.findall(text)]
    vector = np.zeros(buckets, np.float32)
    for feature in {*tokens, *(f"{a} {b}" for a, b in itertools.pairwise(tokens))}:
        # Not hash(), which differs between processes.
        code = zlib.crc32(feature.encode())
        vector[(code >> 1) % buckets] += 1 if code & 1 else -1
    vector.clip(-1, 1, out=vector)
    vector.flags.writeable = False
    return vector


def _read_name(line: str) -> str:
    try:
        return str(msgspec.json.decode(line)["name"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""
