"""The kinds of tasks of the `code` suite: what is drawn, the answer, the programs that find it, and wordings.

A program is a template: `$name` stands for the value of a slot as Python writes it. The answer is computed here
apart from the programs, in plain Python, so that each checks the other. What varies between splits stands apart, as
in `math_kinds`.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

Slots = dict[str, Any]
# The programs of one way to solve a task, one per call.
Way = tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """One kind of task.

    Attributes:
        name: Short name, `meta["kind"]` of the row.
        draw: Draws the slots; None when what was drawn makes no good task.
        solve: The answer, as the programs print it.
        ways: Ways to find it, each one or more programs.
        wordings: Texts with slots in braces, and alternatives in brackets, `[left|over]`. A date is written
            `{d}` for 2024-03-05 or `{d_long}` for 5 March 2024, a list `{xs}` or, one in a line, `{xs_lines}`.
        valid_wordings: Texts that only the validation split uses; empty for kinds that no other split trains.
        test_wordings: Texts that only the test split uses.
        grader: How an answer is judged.
        variables: Slots that the programs find defined, and that the wordings name but do not show.
    """

    name: str
    draw: Callable[[random.Random], Slots | None]
    solve: Callable[[Slots], str]
    ways: tuple[Way, ...]
    wordings: tuple[str, ...]
    valid_wordings: tuple[str, ...] = ()
    test_wordings: tuple[str, ...] = ()
    grader: dict[str, Any] = field(default_factory=lambda: {"kind": "number"})
    variables: tuple[str, ...] = ()


WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
WORDS = (
    "apple", "banana", "basket", "bottle", "bridge", "butter", "camera", "candle", "carpet", "castle", "cherry",
    "circle", "coffee", "copper", "cotton", "desert", "dinner", "dragon", "eleven", "engine", "falcon", "family",
    "feather", "flower", "forest", "garden", "ginger", "guitar", "hammer", "harbor", "honey", "island", "jacket",
    "kettle", "ladder", "lemon", "letter", "little", "marble", "market", "meadow", "mirror", "monkey", "mountain",
    "needle", "number", "orange", "pencil", "pepper", "planet", "pocket", "rabbit", "ribbon", "river", "rocket",
    "saddle", "school", "silver", "spider", "summer", "ticket", "tomato", "tunnel", "valley", "velvet", "violin",
    "walnut", "window", "winter", "yellow",
)  # fmt: skip
NAMES = ("Ana", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ida", "Jon", "Kim", "Leo", "Maya", "Nils")
REGIONS = ("north", "south", "east", "west")
GOODS = ("bread", "cheese", "eggs", "flour", "honey", "milk", "rice", "salt", "sugar", "tea")
TEXT = {"kind": "text"}


def _date(rng: random.Random, first: int = 1950, last: int = 2049) -> str:
    return date.fromordinal(rng.randint(date(first, 1, 1).toordinal(), date(last, 12, 31).toordinal())).isoformat()


def _between(rng: random.Random, **ranges: tuple[int, int]) -> Slots:
    return {name: rng.randint(low, high) for name, (low, high) in ranges.items()}


def _parsed(text: str) -> date:
    return date.fromisoformat(text)


# Dates


def _draw_two_dates(rng: random.Random) -> Slots | None:
    a = _parsed(_date(rng))
    return {"a": a.isoformat(), "b": (a + timedelta(days=rng.randint(40, 4000))).isoformat()}


def _draw_month(rng: random.Random) -> Slots:
    number = rng.randint(1, 12)
    month = {"month": MONTHS[number - 1], "number": number, "year": rng.randint(1950, 2049)}
    return {"day": rng.choice(WEEKDAYS), **month}


def _days_of(slots: Slots) -> list[date]:
    first = date(slots["year"], slots["number"], 1)
    days = [first + timedelta(days=n) for n in range(31)]
    return [day for day in days if day.month == first.month and day.weekday() == WEEKDAYS.index(slots["day"])]


def _solve_clock(slots: Slots) -> str:
    hours, minutes = map(int, slots["start"].split(":"))
    hours, minutes = divmod(hours * 60 + minutes + slots["h"] * 60 + slots["m"], 60)
    return f"{hours % 24:02d}:{minutes:02d}"


def _draw_years(rng: random.Random) -> Slots:
    first = rng.randint(1800, 2000)
    return {"a": first, "b": first + rng.randint(20, 200)}


DATE_KINDS = (
    Kind(
        "weekday",
        lambda rng: {"d": _date(rng)},
        lambda s: WEEKDAYS[_parsed(s["d"]).weekday()],
        (
            ("from datetime import date\nprint(date.fromisoformat($d).strftime('%A'))",),
            (
                "import calendar\nfrom datetime import date\nprint(calendar.day_name[date.fromisoformat($d).weekday()])",
            ),
        ),
        (
            "[What|Which] day of the week [is|was] {d_long}?",
            "On [what|which] day of the week [does|did] {d_long} fall?",
            "[Find|Name|Tell me] the day of the week of {d}.",
        ),
        ("Was {d_long} a Monday, a Tuesday, or which other day?",),
        ("A letter is dated {d_long}. Which weekday was it written on?",),
        TEXT,
    ),
    Kind(
        "days-between",
        _draw_two_dates,
        lambda s: str((_parsed(s["b"]) - _parsed(s["a"])).days),
        (
            ("from datetime import date\nprint((date.fromisoformat($b) - date.fromisoformat($a)).days)",),
            (
                "from datetime import datetime\nstart = datetime.strptime($a, '%Y-%m-%d')\nend = datetime.strptime($b, '%Y-%m-%d')\nprint((end - start).days)",
            ),
        ),
        (
            "How many days [are there|lie] from {a_long} to {b_long}?",
            "[Count|Find] the days [between|from] {a} [and|to] {b}.",
            "How many days after {a_long} is {b_long}?",
        ),
        ("A loan runs from {a} until {b}. How many days is that?",),
        ("A ship left on {a_long} and came back on {b_long}. How many days later was that?",),
    ),
    Kind(
        "date-after",
        lambda rng: {"d": _date(rng), **_between(rng, n=(30, 3000))},
        lambda s: (_parsed(s["d"]) + timedelta(days=s["n"])).isoformat(),
        (
            ("from datetime import date, timedelta\nprint(date.fromisoformat($d) + timedelta(days=$n))",),
            (
                "from datetime import datetime, timedelta\nday = datetime.strptime($d, '%Y-%m-%d') + timedelta(days=$n)\nprint(day.strftime('%Y-%m-%d'))",
            ),
        ),
        (
            "[What|Which] date is {n} days after {d_long}? Write it as YYYY-MM-DD.",
            "[Add|Count] {n} days [to|from] {d}. [Give|Write] the date as YYYY-MM-DD.",
            "{n} days pass after {d_long}. [What|Which] date is it then, as YYYY-MM-DD?",
        ),
        ("A pass from {d} is valid for {n} days more. When does it end (YYYY-MM-DD)?",),
        ("Seeds sown on {d_long} ripen {n} days later. On which date, as YYYY-MM-DD?",),
        TEXT,
    ),
    Kind(
        "weekday-count",
        _draw_month,
        lambda s: str(len(_days_of(s))),
        (
            (
                "from datetime import date, timedelta\nday = date($year, $number, 1)\ncount = 0\nwhile day.month == $number:\n    if day.strftime('%A') == $day:\n        count += 1\n    day += timedelta(days=1)\nprint(count)",
            ),
            (
                "import calendar\nweeks = calendar.monthcalendar($year, $number)\ncolumn = list(calendar.day_name).index($day)\nprint(sum(1 for week in weeks if week[column]))",
            ),
        ),
        (
            "How many {day}s [were|are] there in {month} {year}?",
            "Count the {day}s [in|of] {month} {year}.",
            "{month} {year}: how many {day}s [were|are] [in it|there]?",
        ),
        ("A class meets every {day}. How often did it meet in {month} {year}?",),
        ("How often does the month {month} {year} have a {day}?",),
    ),
    Kind(
        "leap-years",
        _draw_years,
        lambda s: str(
            sum(year % 4 == 0 and (year % 100 > 0 or year % 400 == 0) for year in range(s["a"], s["b"] + 1))
        ),
        (
            ("import calendar\nprint(sum(calendar.isleap(year) for year in range($a, $b + 1)))",),
            (
                "count = 0\nfor year in range($a, $b + 1):\n    if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):\n        count += 1\nprint(count)",
            ),
        ),
        (
            "How many leap years [are there|lie] from {a} to {b}, both included?",
            "[Count|Find the number of] leap years [from {a} to|between {a} and] {b}, both included.",
            "How often [is|was] there a 29 February in the years {a} to {b}?",
        ),
        ("Of the years {a} to {b}, both counted, how many have 366 days?",),
        ("A club meets on each 29 February from {a} through {b}. How many meetings is that?",),
    ),
    Kind(
        "friday-13th",
        lambda rng: {"day": rng.choice(WEEKDAYS), **_between(rng, n=(1, 28), year=(1950, 2049))},
        lambda s: str(sum(date(s["year"], m, s["n"]).weekday() == WEEKDAYS.index(s["day"]) for m in range(1, 13))),
        (
            (
                "from datetime import date\ndays = [date($year, month, $n) for month in range(1, 13)]\nprint(sum(day.strftime('%A') == $day for day in days))",
            ),
            (
                "import calendar\ncount = 0\nfor month in range(1, 13):\n    if calendar.day_name[calendar.weekday($year, month, $n)] == $day:\n        count += 1\nprint(count)",
            ),
        ),
        (
            "In how many months of {year} [is|was] day {n} a {day}?",
            "How [often|many times] [does|did] day {n} of a month fall on a {day} in {year}?",
            "Count the months of {year} whose day {n} is a {day}.",
        ),
        ("Some months of {year} had a {day} as their day {n}. How many?",),
        ("Rent is due on day {n} of each month. In {year}, how many of these days were a {day}?",),
    ),
    Kind(
        "clock",
        lambda rng: {
            "start": f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",
            **_between(rng, h=(2, 70), m=(1, 59)),
        },
        _solve_clock,
        (
            (
                "from datetime import datetime, timedelta\nhours, minutes = map(int, $start.split(':'))\nstart = datetime(2026, 1, 1, hours, minutes)\nprint((start + timedelta(hours=$h, minutes=$m)).strftime('%H:%M'))",
            ),
            (
                "hours, minutes = map(int, $start.split(':'))\ntotal = hours * 60 + minutes + $h * 60 + $m\nprint(f'{total // 60 % 24:02d}:{total % 60:02d}')",
            ),
        ),
        (
            "A [train|ship|bus] leaves at {start} and [travels|runs] {h} hours and {m} minutes. At what time does it arrive? Write HH:MM.",
            "It is {start}. What time is it [in|after] {h} hours and {m} minutes? Write HH:MM.",
            "[Add|Count] {h} hours and {m} minutes [to|from] {start}. Which time of day is it, as HH:MM?",
        ),
        ("Dough is made at {start} and rests {h} hours {m} minutes. When is it ready (HH:MM)?",),
        ("The watch begins at {start} and lasts {h} h {m} min. When does it end, as HH:MM?",),
        TEXT,
    ),
)


# Texts


def _draw_words(rng: random.Random, low: int, high: int) -> list[str]:
    return rng.sample(WORDS, rng.randint(low, high))


def _draw_letter(rng: random.Random) -> Slots:
    text = " ".join(_draw_words(rng, 6, 12))
    return {"text": text, "letter": rng.choice(sorted(set(text) - {" "}))}


def _draw_common(rng: random.Random) -> Slots | None:
    text = " ".join(_draw_words(rng, 5, 9))
    (letter, first), (_, second) = Counter(text.replace(" ", "")).most_common(2)
    # As an answer, "a" is an article, and graded as nothing.
    return {"text": text} if first > second and letter != "a" else None


def _shifted(word: str, n: int) -> str:
    return "".join(chr((ord(letter) - 97 + n) % 26 + 97) for letter in word)


def _in_base(n: int, base: int) -> str:
    digits = ""
    while n:
        n, digit = divmod(n, base)
        digits = str(digit) + digits
    return digits


TEXT_KINDS = (
    Kind(
        "letter-count",
        _draw_letter,
        lambda s: str(s["text"].count(s["letter"])),
        (
            ("print($text.count($letter))",),
            ("from collections import Counter\nprint(Counter($text)[$letter])",),
        ),
        (
            "How [often|many times] does the letter {letter} [occur|stand] in this text? {text}",
            "Count the letter {letter} in: {text}",
            "{text}\nHow many times is the letter {letter} [in it|there]?",
        ),
        ("Someone types: {text}. How often was the key {letter} pressed?",),
        ("The words are: {text}. Across all of them, how many are letters {letter}?",),
    ),
    Kind(
        "common-letter",
        _draw_common,
        lambda s: Counter(s["text"].replace(" ", "")).most_common(1)[0][0],
        (
            ("from collections import Counter\nprint(Counter($text.replace(' ', '')).most_common(1)[0][0])",),
            ("text = $text.replace(' ', '')\nprint(max(set(text), key=lambda letter: text.count(letter)))",),
        ),
        (
            "Which letter is the most [frequent|common] in this text? {text}",
            "[Find|Name] the letter that [occurs|stands] most often in: {text}",
            "{text}\nWhich letter [occurs|is there] most often?",
        ),
        ("Of all letters in the words {text}, which one leads?",),
        ("Someone types: {text}. Which key was pressed more than any other, the space bar aside?",),
        TEXT,
    ),
    Kind(
        "caesar",
        lambda rng: {"word": _shifted(rng.choice(WORDS), n := rng.randint(3, 23)), "n": n},
        lambda s: _shifted(s["word"], -s["n"]),
        (
            ("print(''.join(chr((ord(letter) - 97 - $n) % 26 + 97) for letter in $word))",),
            (
                "import string\nletters = string.ascii_lowercase\nword = ''\nfor letter in $word:\n    word += letters[(letters.index(letter) - $n) % 26]\nprint(word)",
            ),
        ),
        (
            "[Each|Every] letter of a word was moved {n} places [forward|on] in the alphabet, giving {word}. What was the word?",
            "[Decode|Read] {word}, a Caesar cipher with a shift of {n}.",
            "The Caesar code with key {n} turned a word into {word}. [Which word|What word was it]?",
        ),
        ("{word} was written with each letter {n} steps further in the alphabet than it should be. Undo it.",),
        ("A spy shifts all letters by {n} and sends {word}. What did the spy mean?",),
        TEXT,
    ),
    Kind(
        "reverse-words",
        lambda rng: {"text": " ".join(_draw_words(rng, 4, 7))},
        lambda s: " ".join(word[::-1] for word in s["text"].split()),
        (
            ("print(' '.join(word[::-1] for word in $text.split()))",),
            (
                "words = []\nfor word in $text.split():\n    words.append(''.join(reversed(word)))\nprint(' '.join(words))",
            ),
        ),
        (
            "[Write|Spell] [each|every] word backwards, in the same order: {text}",
            "Reverse the letters of each word, but not the order of the words: {text}",
            "{text}\nTurn each word around and keep the words in their places.",
        ),
        ("Read every word from its last letter to its first: {text}",),
        ("A mirror reverses each word, one by one, in: {text}. What does it show?",),
        TEXT,
    ),
    Kind(
        "sorted-word",
        lambda rng: {"words": (words := _draw_words(rng, 8, 14)), "k": rng.randint(2, len(words) - 1)},
        lambda s: sorted(s["words"])[s["k"] - 1],
        (
            ("print(sorted($words)[$k - 1])",),
            ("words = $words\nwords.sort()\nprint(words[$k - 1])",),
        ),
        (
            "[Sort|Order] these words by the alphabet: {words}. Which is number {k}?",
            "Which word [is|stands] at place {k} when these are [sorted|in alphabetical order]: {words}?",
            "{words}\n[Put|Set] them in alphabetical order. [What|Which] is word {k}?",
        ),
        ("As in a dictionary, which of these comes as number {k}: {words}?",),
        ("An index lists {words} from a to z. Which word has line {k}?",),
        TEXT,
    ),
    Kind(
        "base",
        lambda rng: {**_between(rng, n=(200, 99_999)), "base": rng.choice((2, 3, 4, 5, 6, 7, 8, 9))},
        lambda s: _in_base(s["n"], s["base"]),
        (
            (
                "n = $n\ndigits = ''\nwhile n:\n    n, digit = divmod(n, $base)\n    digits = str(digit) + digits\nprint(digits)",
            ),
            ("def write(n):\n    return write(n // $base) + str(n % $base) if n else ''\nprint(write($n))",),
        ),
        (
            "[Write|Give] {n} in base {base}.",
            "What is {n} [written|when written] in base {base}?",
            "[Convert|Turn] the decimal number {n} [to|into] base {base}.",
        ),
        ("A counter with the digits 0 to {base} less one stands for {n}. What does it show (base {base})?",),
        ("In the number system with base {base}, how is decimal {n} spelled?",),
    ),
)


# Numbers


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


def _draw_primes(rng: random.Random) -> Slots:
    low = rng.randint(100, 3000)
    return {"a": low, "b": low + rng.randint(50, 300)}


def _draw_digits(rng: random.Random) -> Slots:
    low = rng.randint(100, 4000)
    return {"a": low, "b": low + rng.randint(100, 900), "s": rng.randint(6, 24)}


def _solve_recurrence(slots: Slots) -> str:
    first, second = slots["x"], slots["y"]
    for _ in range(slots["n"] - 1):
        first, second = second, slots["p"] * second + slots["q"] * first
    return str(first)


NUMBER_KINDS = (
    Kind(
        "digit-sum",
        lambda rng: _between(rng, a=(2, 19), n=(20, 90)),
        lambda s: str(sum(map(int, str(s["a"] ** s["n"])))),
        (
            ("print(sum(int(digit) for digit in str($a ** $n)))",),
            (
                "number = $a ** $n\ntotal = 0\nwhile number:\n    total += number % 10\n    number //= 10\nprint(total)",
            ),
        ),
        (
            "What is the sum of the digits of {a} to the power of {n}?",
            "[Add|Sum] [up |]the digits of {a}**{n}.",
            "{a} is raised to the power {n}. What do the digits of the result add up to?",
        ),
        ("Write out {a}^{n} and add its digits. What is their sum?",),
        ("Multiply {n} factors, each {a}. What is the total of all digits of that product?",),
    ),
    Kind(
        "digits-with-sum",
        _draw_digits,
        lambda s: str(sum(sum(map(int, str(n))) == s["s"] for n in range(s["a"], s["b"] + 1))),
        (
            ("print(sum(1 for n in range($a, $b + 1) if sum(map(int, str(n))) == $s))",),
            (
                "count = 0\nfor n in range($a, $b + 1):\n    if sum(int(digit) for digit in str(n)) == $s:\n        count += 1\nprint(count)",
            ),
        ),
        (
            "How many [numbers|whole numbers] from {a} to {b} have digits that add up to {s}?",
            "Count the numbers from {a} to {b}, both included, whose digit sum is {s}.",
            "From {a} to {b}: how many numbers have a digit sum of {s}?",
        ),
        ("House numbers run from {a} through {b}. On how many do the digits make {s} together?",),
        ("Tickets {a} to {b} are sold; those with a digit sum of {s} win. How many win?",),
    ),
    Kind(
        "primes-between",
        _draw_primes,
        lambda s: str(sum(_is_prime(n) for n in range(s["a"], s["b"] + 1))),
        (
            (
                "def is_prime(n):\n    return n > 1 and all(n % d for d in range(2, int(n ** 0.5) + 1))\nprint(sum(1 for n in range($a, $b + 1) if is_prime(n)))",
            ),
            (
                "sieve = [True] * ($b + 1)\nsieve[0] = sieve[1] = False\nfor n in range(2, int($b ** 0.5) + 1):\n    if sieve[n]:\n        for multiple in range(n * n, $b + 1, n):\n            sieve[multiple] = False\nprint(sum(sieve[$a:]))",
            ),
            (
                "def is_prime(n):\n    return n > 1 and all(n % d for d in range(2, int(n ** 0.5) + 1))\nprint(is_prime(97), is_prime(91))",
                "print(len([n for n in range($a, $b + 1) if is_prime(n)]))",
            ),
        ),
        (
            "How many prime numbers [are there|lie] from {a} to {b}?",
            "Count the primes [between {a} and|from {a} to] {b}, both included.",
            "Of the numbers {a} to {b}, how many are prime?",
        ),
        ("From {a} through {b}, how many numbers have no divisor but 1 and themselves?",),
        ("Lockers {a} to {b} are opened if their number is prime. How many are opened?",),
    ),
    Kind(
        "divisor-sum",
        lambda rng: _between(rng, n=(100, 3000)),
        lambda s: str(sum(d for d in range(1, s["n"] + 1) if s["n"] % d == 0)),
        (
            ("print(sum(d for d in range(1, $n + 1) if $n % d == 0))",),
            ("total = 0\nfor d in range(1, $n + 1):\n    if $n % d == 0:\n        total += d\nprint(total)",),
        ),
        (
            "What is the sum of all divisors of {n}, 1 and {n} included?",
            "[Add|Sum] [up |]all [positive |]divisors of {n}, {n} itself included.",
            "Find every whole number that divides {n}. What do they add up to?",
        ),
        ("Which total do the divisors of {n} give, with 1 and {n}?",),
        ("{n} tiles form full rows of d tiles for several d. What is the sum of all such d?",),
    ),
    Kind(
        "recurrence",
        lambda rng: _between(rng, x=(0, 5), y=(1, 6), p=(1, 3), q=(1, 3), n=(12, 30)),
        _solve_recurrence,
        (
            ("a, b = $x, $y\nfor _ in range($n - 1):\n    a, b = b, $p * b + $q * a\nprint(a)",),
            (
                "terms = [$x, $y]\nwhile len(terms) < $n:\n    terms.append($p * terms[-1] + $q * terms[-2])\nprint(terms[$n - 1])",
            ),
        ),
        (
            "A sequence begins {x}, {y}. Each further term is {p} times the one before plus {q} times the one before that. What is term number {n}?",
            "t(1) = {x}, t(2) = {y}, t(k) = {p} t(k-1) + {q} t(k-2). What is t({n})?",
            "The first terms are {x} and {y}; then always {p} times the last plus {q} times the last but one. [Give|Find] term {n}.",
        ),
        (
            "Start with {x}, {y} and go on with next = {p} * last + {q} * last but one. Which number stands at place {n}?",
        ),
        (
            "In month 1 there are {x} mice, in month 2 {y}; from then on {p} times the last month's plus {q} times those of the month before. How many in month {n}?",
        ),
    ),
    Kind(
        "last-digits",
        lambda rng: _between(rng, a=(3, 999), n=(50, 900), d=(2, 4)),
        lambda s: str(pow(s["a"], s["n"], 10 ** s["d"])),
        (
            ("print(pow($a, $n, 10 ** $d))",),
            ("result = 1\nfor _ in range($n):\n    result = result * $a % 10 ** $d\nprint(result)",),
        ),
        (
            "What is the remainder of {a} to the power {n} after division by 10**{d}?",
            "[Find|Give] the last {d} digits of {a}**{n}, as a number.",
            "{a} is raised to the power {n}. What number do the last {d} digits make?",
        ),
        ("Reduce {a}^{n} modulo 10^{d}.",),
        (
            "A counter with {d} digits is multiplied by {a}, {n} times, beginning at 1. What does it show, as a number?",
        ),
    ),
)


# Counting


def _draw_arrangement(rng: random.Random) -> Slots | None:
    word = rng.choice(WORDS)
    # Six letters at most: a program may well list all orders.
    return {"word": "".join(rng.sample(word, rng.randint(4, min(6, len(word)))))}


def _solve_arrangement(slots: Slots) -> str:
    count = math.factorial(len(slots["word"]))
    for times in Counter(slots["word"]).values():
        count //= math.factorial(times)
    return str(count)


def _draw_coins(rng: random.Random) -> Slots | None:
    coins = sorted(rng.sample((1, 2, 3, 4, 5, 7, 8, 10, 12, 15, 20, 25, 50), rng.randint(3, 4)))
    slots = {"coins": coins, "amount": rng.randint(20, 90)}
    return slots if _solve_coins(slots) != "0" else None


def _solve_coins(slots: Slots) -> str:
    ranges = [range(slots["amount"] // coin + 1) for coin in slots["coins"]]
    sums = (sum(n * coin for n, coin in zip(counts, slots["coins"])) for counts in itertools.product(*ranges))
    return str(sum(total == slots["amount"] for total in sums))


def _draw_dice(rng: random.Random) -> Slots:
    n, faces = rng.choice(((2, 8), (2, 12), (2, 20), (3, 4), (3, 6), (3, 8), (3, 10), (4, 4), (4, 6)))
    return {"n": n, "faces": faces, "s": rng.randint(n + 1, n * faces - 1)}


def _solve_dice(slots: Slots) -> str:
    sums = Counter({0: 1})
    for _ in range(slots["n"]):
        sums = Counter(total + face for total in sums.elements() for face in range(1, slots["faces"] + 1))
    return str(sums[slots["s"]])


def _draw_subset(rng: random.Random) -> Slots:
    numbers = sorted(rng.sample(range(1, 40), rng.randint(7, 11)))
    k = rng.randint(2, 4)
    return {"numbers": numbers, "k": k, "s": sum(rng.sample(numbers, k))}


COUNTING_KINDS = (
    Kind(
        "arrangements",
        _draw_arrangement,
        _solve_arrangement,
        (
            ("from itertools import permutations\nprint(len(set(permutations($word))))",),
            (
                "from collections import Counter\nfrom math import factorial\ncount = factorial(len($word))\nfor times in Counter($word).values():\n    count //= factorial(times)\nprint(count)",
            ),
        ),
        (
            "In how many different [orders|ways] can the letters of {word} be [written|arranged]?",
            "How many different [words|strings] can be made from all the letters of {word}?",
            "Count the distinct [arrangements|permutations] of the letters {word}.",
        ),
        ("Shuffle the letters {word}: how many different results are there?",),
        ("A sign shows {word} with loose letters. In how many distinct orders can they hang?",),
    ),
    Kind(
        "coin-ways",
        _draw_coins,
        _solve_coins,
        (
            (
                "ways = [1] + [0] * $amount\nfor coin in $coins:\n    for total in range(coin, $amount + 1):\n        ways[total] += ways[total - coin]\nprint(ways[$amount])",
            ),
            (
                "from functools import lru_cache\ncoins = $coins\n@lru_cache(maxsize=None)\ndef ways(amount, k):\n    if amount == 0:\n        return 1\n    if amount < 0 or k == len(coins):\n        return 0\n    return ways(amount - coins[k], k) + ways(amount, k + 1)\nprint(ways($amount, 0))",
            ),
        ),
        (
            "In how many ways can {amount} cents be paid with coins of {coins} cents? The order of the coins does not count.",
            "Coins of {coins} cents, as many as you like: how many ways to [make|pay] {amount} cents, whatever the order?",
            "[Count|Find] the ways to [make|pay] {amount} with coins worth {coins}, without regard to order.",
        ),
        ("Weights of {coins} kg are at hand in any number. How many different sets of them weigh {amount} kg?",),
        ("Packs hold {coins} eggs. In how many ways can exactly {amount} eggs be bought, order aside?",),
    ),
    Kind(
        "dice",
        _draw_dice,
        _solve_dice,
        (
            (
                "from itertools import product\nprint(sum(1 for roll in product(range(1, $faces + 1), repeat=$n) if sum(roll) == $s))",
            ),
            (
                "ways = {0: 1}\nfor _ in range($n):\n    after = {}\n    for total, count in ways.items():\n        for face in range(1, $faces + 1):\n            after[total + face] = after.get(total + face, 0) + count\n    ways = after\nprint(ways.get($s, 0))",
            ),
        ),
        (
            "{n} different dice with {faces} faces are [rolled|thrown]. In how many ways can the sum be {s}?",
            "How many [rolls|throws] of {n} distinct dice, numbered 1 to {faces}, add up to {s}?",
            "[Count|Find] the ways to [roll|throw] a total of {s} with {n} dice of {faces} faces, told apart by colour.",
        ),
        ("{n} wheels, each with the numbers 1 to {faces}, are spun. How many outcomes have the sum {s}?",),
        (
            "A code is {n} numbers in order, each from 1 to {faces}, that make {s} together. How many such codes are there?",
        ),
    ),
    Kind(
        "subset-sum",
        _draw_subset,
        lambda s: str(sum(sum(chosen) == s["s"] for chosen in itertools.combinations(s["numbers"], s["k"]))),
        (
            (
                "from itertools import combinations\nprint(sum(1 for chosen in combinations($numbers, $k) if sum(chosen) == $s))",
            ),
            (
                "def count(numbers, k, s):\n    if k == 0:\n        return 1 if s == 0 else 0\n    if not numbers:\n        return 0\n    return count(numbers[1:], k - 1, s - numbers[0]) + count(numbers[1:], k, s)\nprint(count($numbers, $k, $s))",
            ),
        ),
        (
            "In how many ways can {k} of the numbers {numbers} be chosen so that they add up to {s}?",
            "How many choices of {k} numbers from {numbers} have the sum {s}?",
            "Take {k} of {numbers}. How many choices [have|give] the sum {s}?",
        ),
        ("Parcels weigh {numbers} kg. How many sets of {k} parcels weigh {s} kg?",),
        ("Shelves are {numbers} cm long. How many choices of {k} of them fill a wall of {s} cm?",),
    ),
)


# Tables


def _draw_sales(rng: random.Random, low: int, high: int) -> list[list[Any]]:
    size = rng.randint(low, high)
    return [[rng.choice(NAMES), rng.choice(REGIONS), rng.randint(5, 95)] for _ in range(size)]


def _draw_shown_sales(rng: random.Random) -> Slots | None:
    rows = _draw_sales(rng, 6, 9)
    region = rng.choice(REGIONS)
    return {"rows": rows, "region": region} if sum(row[1] == region for row in rows) > 1 else None


def _draw_mean(rng: random.Random) -> Slots | None:
    sales = _draw_sales(rng, 14, 22)
    region = rng.choice(REGIONS)
    units = [row[2] for row in sales if row[1] == region]
    # No ties: those are rounded up by some and to even by others.
    if len(units) < 3 or sum(units) * 1000 // len(units) % 10 == 5 or sum(units) % len(units) == 0:
        return None
    return {"sales": sales, "region": region}


def _totals(rows: list[list[Any]], column: int) -> Counter[str]:
    totals: Counter[str] = Counter()
    for row in rows:
        totals[row[column]] += row[2]
    return totals


def _draw_top(rng: random.Random) -> Slots | None:
    sales = _draw_sales(rng, 14, 22)
    (_, first), (_, second) = _totals(sales, 0).most_common(2)
    return {"sales": sales} if first > second else None


def _draw_scores(rng: random.Random) -> Slots:
    names = rng.sample(NAMES, rng.randint(9, 13))
    return {"scores": dict(zip(names, rng.sample(range(30, 100), len(names))))}


def _draw_rank(rng: random.Random) -> Slots:
    scores = _draw_scores(rng)["scores"]
    return {"scores": scores, "k": rng.randint(2, len(scores) - 1)}


def _draw_join(rng: random.Random) -> Slots:
    goods = rng.sample(GOODS, rng.randint(5, 7))
    prices = {good: rng.randint(2, 19) for good in goods}
    orders = [[rng.choice(NAMES[:6]), rng.choice(goods), rng.randint(1, 9)] for _ in range(rng.randint(12, 18))]
    return {"prices": prices, "orders": orders, "name": rng.choice(orders)[0]}


_IN_REGION = "[row[2] for row in sales if row[1] == $region]"
TABLE_KINDS = (
    Kind(
        "table-total",
        _draw_shown_sales,
        lambda s: str(sum(row[2] for row in s["rows"] if row[1] == s["region"])),
        (
            ("rows = $rows\nprint(sum(units for name, region, units in rows if region == $region))",),
            (
                "table = '''$rows_lines'''\ntotal = 0\nfor line in table.splitlines():\n    name, region, units = line.split(',')\n    if region == $region:\n        total += int(units)\nprint(total)",
            ),
        ),
        (
            "[This table lists|These are] name, region and units sold:\n{rows_lines}\nHow many units were sold in the {region}?",
            "name,region,units\n{rows_lines}\n[Add|Sum] [up |]the units of the region {region}.",
            "Sales (name, region, units):\n{rows_lines}\nWhat is the total [for|of] the {region}?",
        ),
        ("Who sold how much where:\n{rows_lines}\nWhat did the {region} sell in all?",),
        ("From the list of sellers, regions and units below, find the sum for the {region}.\n{rows_lines}",),
    ),
    Kind(
        "table-mean",
        _draw_mean,
        lambda s: f"{statistics.mean([row[2] for row in s['sales'] if row[1] == s['region']]):.2f}",
        (
            (f"units = {_IN_REGION}\nprint(f'{{sum(units) / len(units):.2f}}')",),
            ("print(sales[0], len(sales))", f"units = {_IN_REGION}\nprint(f'{{sum(units) / len(units):.2f}}')"),
            (f"import statistics\nprint(f'{{statistics.mean({_IN_REGION}):.2f}}')",),
        ),
        (
            "The variable sales holds rows (name, region, units). What is the [mean|average] of the units in the {region}? Round to 2 decimals.",
            "In Python, sales is a list of (name, region, units). [Find|Give] the average units of the region {region}, rounded to 2 decimals.",
            "How many units does a row of the {region} have on average? The rows are in the variable sales, as (name, region, units). Round to 2 decimals.",
        ),
        (
            "sales, already defined, lists (name, region, units). Average the units of the {region}, to two decimals.",
        ),
        (
            "A list sales of (name, region, units) is loaded. What is a typical (mean) sale in the {region}, to two decimals?",
        ),
        variables=("sales",),
    ),
    Kind(
        "table-top",
        _draw_top,
        lambda s: _totals(s["sales"], 0).most_common(1)[0][0],
        (
            (
                "totals = {}\nfor name, region, units in sales:\n    totals[name] = totals.get(name, 0) + units\nprint(max(totals, key=lambda name: totals[name]))",
            ),
            (
                "from collections import Counter\ntotals = Counter()\nfor name, region, units in sales:\n    totals[name] += units\nprint(totals.most_common(3))",
                "print(totals.most_common(1)[0][0])",
            ),
        ),
        (
            "The variable sales holds rows (name, region, units). Who sold the most units in all?",
            "In Python, sales is a list of (name, region, units). [Which name|Who] has the largest total of units?",
            "Add up the units by name in the variable sales, a list of (name, region, units). Whose [sum|total] is the largest?",
        ),
        ("sales, already defined, lists (name, region, units). Name the best seller over all rows together.",),
        ("A list sales of (name, region, units) is loaded. Who comes first when each person's units are summed?",),
        TEXT,
        variables=("sales",),
    ),
    Kind(
        "table-median",
        lambda rng: {"scores": list(_draw_scores(rng)["scores"].values())},
        lambda s: str(statistics.median(s["scores"])),
        (
            ("import statistics\nprint(statistics.median($scores))",),
            (
                "scores = sorted($scores)\nmiddle = len(scores) // 2\nif len(scores) % 2:\n    print(scores[middle])\nelse:\n    print((scores[middle - 1] + scores[middle]) / 2)",
            ),
        ),
        (
            "What is the median of {scores}?",
            "[Find|Give] the median of these [scores|points|numbers]: {scores}",
            "[Scores|Points] of a class: {scores}. What is [the|their] median?",
        ),
        ("Half of the values {scores} lie below which value (the median)?",),
        ("Runners took {scores} seconds. What was the median time?",),
    ),
    Kind(
        "table-rank",
        _draw_rank,
        lambda s: sorted(s["scores"], key=lambda name: -s["scores"][name])[s["k"] - 1],
        (
            ("print(sorted(scores, key=lambda name: scores[name], reverse=True)[$k - 1])",),
            (
                "print(len(scores))\nranking = sorted(scores.items(), key=lambda item: -item[1])\nprint(ranking[:3])",
                "print(ranking[$k - 1][0])",
            ),
        ),
        (
            "The variable scores maps names to points. Who is number {k}, [the most points|the largest] first?",
            "In Python, scores is a dictionary of names and points. Who has place {k} when the [most points come|best comes] first?",
            "Rank the names in the variable scores, a dictionary with their points, best first. Who is at rank {k}?",
        ),
        ("scores, already defined, gives the points of each name. Who came in as number {k} from the top?",),
        (
            "A dictionary scores of name and points is loaded. Name the person in place {k} of the ranking, winner first.",
        ),
        TEXT,
        variables=("scores",),
    ),
    Kind(
        "table-count",
        lambda rng: {"scores": _draw_scores(rng)["scores"], **_between(rng, low=(35, 55), high=(60, 90))},
        lambda s: str(sum(s["low"] <= points <= s["high"] for points in s["scores"].values())),
        (
            ("print(sum($low <= points <= $high for points in scores.values()))",),
            ("print(scores)", "print(len([name for name in scores if $low <= scores[name] <= $high]))"),
        ),
        (
            "The variable scores maps names to points. How many have {low} to {high} points, both included?",
            "In Python, scores is a dictionary of names and points. Count the names with at least {low} and at most {high} points.",
            "How many values of the dictionary scores, which is defined, lie from {low} to {high}, [both ends|both] included?",
        ),
        (
            "scores, already defined, gives the points of each name. How many got no less than {low} and no more than {high}?",
        ),
        (
            "A dictionary scores of name and points is loaded. For how many people are the points from {low} up to {high}, ends included?",
        ),
        variables=("scores",),
    ),
)

KINDS = (*DATE_KINDS, *TEXT_KINDS, *NUMBER_KINDS, *COUNTING_KINDS, *TABLE_KINDS)


# Kinds that only the split `ood-kinds` has


def _roman(n: int) -> str:
    text = ""
    for value, letters in zip(
        (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1),
        ("M", "CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I"),
    ):
        while n >= value:
            text, n = text + letters, n - value
    return text


def _solve_collatz(slots: Slots) -> str:
    n, steps = slots["n"], 0
    while n != 1:
        n, steps = n // 2 if n % 2 == 0 else 3 * n + 1, steps + 1
    return str(steps)


def _draw_grid(rng: random.Random) -> Slots | None:
    size = _between(rng, w=(4, 9), h=(4, 9))
    x, y = rng.randint(0, size["w"]), rng.randint(0, size["h"])
    corner = (x, y) in ((0, 0), (size["w"], size["h"]))
    return None if corner else {**size, "x": x, "y": y}


def _solve_grid(slots: Slots) -> str:
    w, h, x, y = (slots[name] for name in "whxy")
    return str(math.comb(w + h, w) - math.comb(x + y, x) * math.comb(w - x + h - y, w - x))


def _draw_runs(rng: random.Random) -> Slots:
    runs: list[str] = []
    for _ in range(rng.randint(5, 9)):
        runs.append(rng.choice([c for c in "abcde" if not runs or c != runs[-1][0]]) * rng.randint(1, 9))
    return {"text": "".join(runs)}


def _draw_nth(rng: random.Random) -> Slots:
    k = rng.randrange(4)
    return {**_draw_month(rng), "nth": ("first", "second", "third", "fourth")[k], "k": k}


OOD_KINDS = (
    Kind(
        "roman",
        lambda rng: {"text": _roman(n := rng.randint(40, 3999)), "n": n},
        lambda s: str(s["n"]),
        (
            (
                "values = {'I': 1, 'V': 5, 'X': 10, 'L': 50, 'C': 100, 'D': 500, 'M': 1000}\ntotal = 0\nfor letter, after in zip($text, $text[1:] + 'I'):\n    value = values[letter]\n    total += -value if value < values[after] else value\nprint(total)",
            ),
            (
                "import re\nvalues = {'CM': 900, 'CD': 400, 'XC': 90, 'XL': 40, 'IX': 9, 'IV': 4, 'M': 1000, 'D': 500, 'C': 100, 'L': 50, 'X': 10, 'V': 5, 'I': 1}\nprint(sum(values[part] for part in re.findall('CM|CD|XC|XL|IX|IV|[MDCLXVI]', $text)))",
            ),
        ),
        ("Which number is the Roman numeral {text}?", "A stone bears {text}. What is that in our digits?"),
    ),
    Kind(
        "collatz",
        lambda rng: _between(rng, n=(30, 9999)),
        _solve_collatz,
        (
            (
                "n = $n\nsteps = 0\nwhile n != 1:\n    n = n // 2 if n % 2 == 0 else 3 * n + 1\n    steps += 1\nprint(steps)",
            ),
            (
                "def after(n):\n    return n // 2 if n % 2 == 0 else 3 * n + 1\nprint(after(7), after(8))",
                "n = $n\nsteps = 0\nwhile n != 1:\n    n = after(n)\n    steps += 1\nprint(steps)",
            ),
        ),
        (
            "Start at {n}. Halve an even number; of an odd one take three times it plus 1. How many steps until 1?",
            "How long is the Collatz path from {n} to 1, counted in steps?",
        ),
    ),
    Kind(
        "grid-paths",
        _draw_grid,
        _solve_grid,
        (
            (
                "paths = {}\nfor y in range($h + 1):\n    for x in range($w + 1):\n        if (x, y) == ($x, $y):\n            paths[x, y] = 0\n        elif x == 0 and y == 0:\n            paths[x, y] = 1\n        else:\n            paths[x, y] = paths.get((x - 1, y), 0) + paths.get((x, y - 1), 0)\nprint(paths[$w, $h])",
            ),
            (
                "from math import comb\nprint(comb($w + $h, $w) - comb($x + $y, $x) * comb($w - $x + $h - $y, $w - $x))",
            ),
        ),
        (
            "A robot walks from (0, 0) to ({w}, {h}), one step right or up at a time, never through ({x}, {y}). How many paths are there?",
            "Streets form a grid. Going only east or north from corner (0, 0) to corner ({w}, {h}), with corner ({x}, {y}) closed, how many routes exist?",
        ),
    ),
    Kind(
        "run-length",
        _draw_runs,
        lambda s: "".join(f"{letter}{len(list(run))}" for letter, run in itertools.groupby(s["text"])),
        (
            (
                "from itertools import groupby\nprint(''.join(f'{letter}{len(list(run))}' for letter, run in groupby($text)))",
            ),
            (
                "text = $text\nresult = ''\ncount = 0\nfor i, letter in enumerate(text):\n    count += 1\n    if i + 1 == len(text) or text[i + 1] != letter:\n        result += letter + str(count)\n        count = 0\nprint(result)",
            ),
        ),
        (
            "Write {text} as runs, each letter once with the length of its run behind it, as aab becomes a2b1.",
            "Shorten {text} by run-length coding: a letter, then how often it repeats in a row (aab gives a2b1).",
        ),
        grader=TEXT,
    ),
    Kind(
        "nth-weekday",
        _draw_nth,
        lambda s: _days_of(s)[s["k"]].isoformat(),
        (
            (
                "from datetime import date, timedelta\nday = date($year, $number, 1)\nwhile day.strftime('%A') != $day:\n    day += timedelta(days=1)\nprint(day + timedelta(weeks=$k))",
            ),
            (
                "import calendar\nweeks = calendar.monthcalendar($year, $number)\ncolumn = list(calendar.day_name).index($day)\ndays = [week[column] for week in weeks if week[column]]\nprint(f'{$year}-{$number:02d}-{days[$k]:02d}')",
            ),
        ),
        (
            "On which date was the {nth} {day} of {month} {year}? Write it as YYYY-MM-DD.",
            "A market is held on the {nth} {day} of {month}. Which date is that in {year}, as YYYY-MM-DD?",
        ),
        grader=TEXT,
    ),
    Kind(
        "table-join",
        _draw_join,
        lambda s: str(sum(count * s["prices"][good] for name, good, count in s["orders"] if name == s["name"])),
        (
            ("print(sum(count * prices[good] for name, good, count in orders if name == $name))",),
            (
                "print(prices, orders[:2])",
                "total = 0\nfor name, good, count in orders:\n    if name == $name:\n        total += count * prices[good]\nprint(total)",
            ),
        ),
        (
            "The variable prices maps goods to prices, and orders holds rows (name, good, count). What does {name} have to pay?",
            "orders lists (name, good, count) and the dictionary prices says what one costs; both are defined. What is the bill of {name}?",
        ),
        variables=("prices", "orders"),
    ),
)
