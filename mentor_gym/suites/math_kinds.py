"""The kinds of word problems of the `math` suite: their formulas, number ranges and wordings.

A formula is a Python expression over the kind's numbers; `mentor_gym.suites.math` lowers it to tool calls. What
varies between splits stands apart: `wordings` are for training, `valid_wordings` and `test_wordings` for one split
each, so that choices made on the validation split are made for wordings that training never shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Kind:
    """One kind of problem.

    Attributes:
        name: Short name, `meta["kind"]` of the row.
        formula: Expression over the numbers; the answer.
        draw: Inclusive range of each drawn number; a third value is how many decimals it has.
        wordings: Texts with the numbers and the slots `{name}`, `{items}`, `{box}` in braces, and alternatives
            in brackets, `[left|over]`.
        valid_wordings: Texts that only the validation split uses, where there is one.
        test_wordings: Texts that only the test split uses.
        let: Numbers computed from drawn ones, for exact divisions and squares.
        where: Condition that the numbers must meet.
    """

    name: str
    formula: str
    draw: dict[str, tuple[int, ...]]
    wordings: tuple[str, ...]
    valid_wordings: tuple[str, ...] = ()
    test_wordings: tuple[str, ...] = ()
    let: dict[str, str] = field(default_factory=dict)
    where: str = "True"


NAMES = ("Ana", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ida", "Jon", "Kim", "Leo")
TEST_NAMES = ("Maya", "Nils", "Olga", "Paul")
ITEMS = (
    "apples", "pens", "books", "coins", "eggs", "cards", "stamps", "shells", "cups", "bricks", "beads", "tickets",
    "chairs", "roses", "cakes", "balls",
)  # fmt: skip
TEST_ITEMS = ("lemons", "spoons", "kites", "marbles")
BOXES = ("box", "bag", "crate", "shelf")

KINDS = (
    Kind(
        "groups",
        "n * k",
        {"n": (3, 60), "k": (3, 60)},
        (
            "A {box} [holds|has|fits] {k} {items}. How many {items} [are in|do you find in|fit in] {n} of them?",
            "{name} [buys|gets|orders|sells] {n} [packs|packets|sets] of {k} {items}. [How many {items} is that|How many {items} in all|How many {items} are there]?",
            "There are {n} [rows|lines|tables] [with|of] {k} {items} each. How many {items} are there[| in all| in total]?",
            "One [ticket|lamp|shirt] costs {k} [dollars|euros]. What do {n} [tickets|of them] cost?",
            "{name} [eats|uses|makes|paints] {k} {items} [a day|every day|each week]. How many {items} in {n} [days|weeks]?",
        ),
        ("Every {box} in a shop has {k} {items}. There are {n} of them. How many {items} does the shop have?",),
        (
            "Each of {n} children carries {k} {items}. How many {items} do they carry?",
            "{name} reads {k} pages a day. How many pages in {n} days?",
        ),
    ),
    Kind(
        "gain",
        "a + b",
        {"a": (10, 900), "b": (10, 900)},
        (
            "{name} has {a} {items} and [gets|finds|buys|is given] {b} more. How many {items} [now|does {name} have now|in all]?",
            "A shop sold {a} {items} [today|this week] and {b} [before|last week]. How many in [all|total]?",
            "{a} {items} are [red|big|old] and {b} are [blue|small|new]. How many {items} are there?",
            "[There are|We see] {a} {items} on one table and {b} on another. How many are there [in all|in total|together]?",
            "A bus has {a} people, then {b} [get on|join]. How many people are on it[| now]?",
        ),
        ("A farm had {a} {items} and grew {b} more. How many {items} does it have now?",),
        (
            "After finding {b} {items}, {name} adds them to the {a} at home. How many now?",
            "A train carries {a} people, and {b} more get on. How many people now?",
        ),
    ),
    Kind(
        "loss",
        "a - b",
        {"a": (60, 990), "b": (10, 900)},
        (
            "{name} has {a} {items} and [gives away|sells|loses|eats] {b}[| of them]. How many [are left|remain|does {name} still have]?",
            "Of {a} {items}, {b} are [sold|broken|gone|used]. How many {items} [are left|remain]?",
            "A road is {a} km long. {name} [walked|went|ran] {b} km. How many km [are left|remain]?",
            "A [farm|shop|school] had {a} {items}. [Now {b} are gone|It sold {b}|It gave away {b}]. How many [does it still have|are left]?",
        ),
        ("There were {a} {items} on a table. {name} took {b} away. How many are still there?",),
        (
            "{name} owned {a} {items} but lost {b} of them. How many remain?",
            "A tank with {a} liters leaks {b} liters. How many liters remain?",
        ),
        where="a > b + 5",
    ),
    Kind(
        "share",
        "a / n",
        {"n": (3, 40), "q": (3, 60)},
        (
            "{a} {items} are [shared by|split by|given to] {n} children[| evenly]. How many does each [get|child get]?",
            "{name} puts {a} {items} in {n} equal [rows|piles|groups]. How many are in [a row|one of them|each]?",
            "{n} [tickets|shirts|lamps] cost {a} [dollars|euros]. What does one cost?",
            "{name} [walks|runs|rides] {a} km in {n} [days|weeks]. How many km [a day|each day|per day]?",
        ),
        ("{a} {items} fill {n} crates, all alike. How many {items} are in one crate?",),
        (
            "{a} {items} go evenly into {n} bags. How many {items} per bag?",
            "{name} drives {a} km in {n} hours. How many km per hour?",
        ),
        let={"a": "n * q"},
    ),
    Kind(
        "remainder",
        "a % n",
        {"a": (50, 990), "n": (6, 48)},
        (
            "{name} packs {a} {items} in boxes of {n}. How many {items} are left over?",
            "{a} {items} are [put|set] in full rows of {n}. How many are left over?",
            "What is left over when {a} {items} are [shared by|split by] {n} children?",
            "[Groups|Packs|Piles] of {n} are made from {a} {items}. How many {items} [are left over|remain over|are over]?",
        ),
        ("{n} friends take the same number of {a} {items}. How many are left over?",),
        (
            "Teams of {n} are made from {a} people. How many people are left over?",
            "{name} fills bags with {n} {items} each from {a}. How many remain over?",
        ),
        where="a % n > 0 and a > 2 * n",
    ),
    Kind(
        "three_piles",
        "sum(a, b, c)",
        {"a": (10, 400), "b": (10, 400), "c": (10, 400)},
        (
            "Three bags [hold|have] {a}, {b} and {c} {items}. How many in [all|total]?",
            "{name} [found|bought|sold|saw] {a}, then {b}, then {c} {items}. How many in [all|total]?",
            "A shop sold {a}, {b} and {c} {items} in three days. How many [in all|in total|were sold]?",
            "There are {a} red, {b} blue and {c} green {items}. How many are there[| in all]?",
        ),
        ("{name} reads {a}, {b} and {c} letters on three days. How many letters in all?",),
        (
            "{name} counts {a}, {b} and {c} {items} in three rooms. What is the total?",
            "Three children hold {a}, {b} and {c} {items}. How many do they hold in all?",
        ),
    ),
    Kind(
        "four_piles",
        "sum(a, b, c, d)",
        {"a": (5, 200), "b": (5, 200), "c": (5, 200), "d": (5, 200)},
        (
            "Four bags [hold|have] {a}, {b}, {c} and {d} {items}. How many in [all|total]?",
            "{name} [sold|found|made] {a}, {b}, {c} and {d} {items} in four days. How many in [all|total]?",
            "There are {a} red, {b} blue, {c} green and {d} white {items}. How many are there[| in all]?",
        ),
        ("Four schools have {a}, {b}, {c} and {d} children. How many children is that?",),
        ("Four shelves carry {a}, {b}, {c} and {d} {items}. What is the total?",),
    ),
    Kind(
        "square",
        "a ** 2",
        {"a": (6, 250)},
        (
            "A square [has a side of|is] {a} m[| long]. What is its area?",
            "{name} [cuts|draws|paints] a square with a side of {a} cm. What is its area?",
            "[What is|Find] the area of a square [room|field|table] with [a side of {a} m|sides of {a} m].",
        ),
        ("The side of a square garden is {a} m. How large is its area?",),
        ("What area does a square of {a} m by {a} m have?",),
    ),
    Kind(
        "cube",
        "a ** 3",
        {"a": (3, 180)},
        (
            "A cube has [a side|sides] of {a} cm. What is its volume?",
            "{name} [fills|builds|cuts] a cube with a side of {a} m. What is its volume?",
            "[What is|Find] the volume of a cube with [a side|sides] of {a} [cm|m].",
        ),
        ("A box is a cube, {a} cm long. How large is its volume?",),
        ("What volume does a cube with an edge of {a} cm have?",),
    ),
    Kind(
        "side",
        "sqrt(a)",
        {"q": (6, 250)},
        (
            "A square has an area of {a} m2. How long is [its side|a side|one side]?",
            "{name} has a square [cloth|field|table] with an area of {a} [cm2|m2]. How long is [a side|its side]?",
            "[What is|Find] the side of a square with an area of {a} [cm2|m2].",
        ),
        ("The area of a square garden is {a} m2. How long is one side of it?",),
        ("How long is the edge of a square field of {a} m2?",),
        let={"a": "q * q"},
    ),
    Kind(
        "rounding",
        "round(x, d)",
        {"x": (100, 99999, 3), "d": (0, 2)},
        (
            "Round {x} to {d} digits.",
            "{name} [measures|finds|reads] {x} [m|kg|cm]. Round it to {d} digits.",
            "[Give|Write] {x} with {d} digits.",
        ),
        ("A stone weighs {x} kg. What is that, rounded to {d} digits?",),
        ("What is {x} rounded to {d} digits?",),
        where="d != 1",
    ),
    Kind(
        "gap",
        "abs(a - b)",
        {"a": (-60, 60), "b": (-60, 60)},
        (
            "It was {a} degrees, now it is {b}. By how many degrees did it [change|move]?",
            "How far apart are {a} and {b}?",
            "What is the [distance|gap] [between|from] {a} [and|to] {b}?",
        ),
        ("The morning has {a} degrees and the evening {b}. How far apart are they?",),
        ("One town has {a} degrees, another {b}. How large is the gap?",),
        where="abs(a - b) > 4",
    ),
    Kind(
        "bill",
        "n * p + s",
        {"n": (3, 40), "p": (3, 60), "s": (5, 95)},
        (
            "{name} buys {n} {items} at {p} dollars each and pays {s} for [delivery|a bag|a taxi]. What is the bill?",
            "A {box} [holds|has] {p} {items}. {name} has {n} full ones and {s} more. How many {items}[| in all]?",
            "There are {n} rows [with|of] {p} {items} each and {s} more. How many {items} are there?",
            "{name} [makes|paints|sells] {p} {items} a day for {n} days, then {s} more. How many {items} [is that|in all]?",
            "{n} [shirts|lamps] at {p} dollars and a [hat|book] for {s} dollars: what is the [bill|cost]?",
        ),
        ("{name} pays {p} dollars a week for {n} weeks and a fee of {s}. What is paid in all?",),
        (
            "{name} earns {p} dollars a day for {n} days and a gift of {s}. How much is it?",
            "{n} packs of {p} {items} and {s} loose ones: how many {items}?",
        ),
    ),
    Kind(
        "change",
        "a - n * p",
        {"n": (3, 30), "p": (3, 30), "a": (100, 999)},
        (
            "{name} has {a} [dollars|euros] and buys {n} {items} at {p} each. How much is left?",
            "Of {a} {items}, {n} [packs|boxes|sets] of {p} are [sold|used]. How many {items} are left?",
            "A {box} had {a} {items}. {n} children [take|took] {p} each. How many [are left|remain]?",
            "{name} had {a} {items} and [ate|used|sold] {p} a day for {n} days. How many [are left|remain]?",
        ),
        ("A shop has {a} {items} and gives {p} to each of {n} schools. How many does it still have?",),
        (
            "{name} pays {n} times {p} dollars out of {a}. How much remains?",
            "A road is {a} km long. {name} walked {p} km a day for {n} days. How many km remain?",
        ),
        where="a > n * p + 5",
    ),
    Kind(
        "full_boxes",
        "floor(a / n)",
        {"a": (50, 990), "n": (6, 48)},
        (
            "{name} packs {a} {items} in boxes of {n}. How many boxes are full?",
            "How many full [rows|packs|piles] of {n} can be made from {a} {items}?",
            "{a} {items} go in bags of {n}. How many bags [are|get] full?",
        ),
        ("A pack needs {n} {items}. How many full packs do {a} {items} make?",),
        ("Teams of {n} are made from {a} people. How many full teams are there?",),
        where="a % n > 0 and a > 2 * n",
    ),
    Kind(
        "boxes_needed",
        "ceil(a / n)",
        {"a": (50, 990), "n": (6, 48)},
        (
            "A {box} [holds|fits] {n} {items}. How many are needed for all {a} {items}?",
            "A [bus|boat|room] has {n} seats. How many are needed for {a} people?",
            "{a} {items} must fit in bags of {n}. How many bags are needed?",
        ),
        ("One shelf has room for {n} {items}. How many shelves are needed for {a}?",),
        ("{name} carries {n} {items} at a time. How many trips are needed for {a}?",),
        where="a % n > 0 and a > 2 * n",
    ),
    Kind(
        "mean",
        "sum(a, b, c) / 3",
        {"a": (10, 200), "b": (10, 200), "q": (20, 200)},
        (
            "{name} scored {a}, {b} and {c} points in 3 games. What is the [mean|average]?",
            "Three bags hold {a}, {b} and {c} {items}. How many does a bag hold on average?",
            "What is the [mean|average] of {a}, {b} and {c} [days|points|km]?",
            "{name} [sold|made|found] {a}, {b} and {c} {items} in 3 days. How many a day on average?",
        ),
        ("Three children are {a}, {b} and {c} cm tall. How tall is a child on average?",),
        ("Three walks were {a}, {b} and {c} km long. How long was a walk on average?",),
        let={"c": "3 * q - a - b"},
        where="c > 5",
    ),
    Kind(
        "pooled_share",
        "(a + b) / n",
        {"n": (3, 30), "q": (4, 60), "a": (10, 400)},
        (
            "{name} has {a} {items}, Sam has {b}. They [share|split] all of them among {n} children. How many each?",
            "{a} red and {b} blue {items} are put in {n} equal [rows|piles]. How many are in [a row|each]?",
            "{a} {items} and {b} more are [shared by|given to] {n} children[| evenly]. How many does each get?",
        ),
        ("{name} finds {a} {items}, then {b}, and puts all in {n} equal groups. How many are in a group?",),
        ("{a} {items} and {b} more are packed evenly in {n} bags. How many per bag?",),
        let={"b": "n * q - a"},
        where="b > 5",
    ),
    Kind(
        "share_spent",
        "a / n - b",
        {"n": (3, 30), "q": (20, 90), "b": (3, 60)},
        (
            "{a} dollars are shared by {n} children. {name} [spends|loses] {b} of one share. How much is left of it?",
            "{a} {items} are put in {n} equal rows. {b} are [taken|sold] from one row. How many are left in it?",
            "{n} children [share|split] {a} {items}. {name} [eats|gives away|sells] {b} of {name}'s share. How many are left?",
        ),
        ("{a} {items} fill {n} bags, all alike. {b} fall out of one bag. How many are still in it?",),
        ("{n} friends split {a} {items} evenly. {name} then loses {b}. How many remain?",),
        let={"a": "n * q"},
        where="q > b + 2",
    ),
    Kind(
        "fence",
        "(a + b) * 2",
        {"a": (5, 300), "b": (5, 300)},
        (
            "A garden is {a} m long and {b} m wide. How long is the fence around it?",
            "{name} [walks|runs] around a field of {a} m by {b} m. How many m is that?",
            "[How long is the edge|What is the way around] of a [room|table|park] of {a} m by {b} m?",
        ),
        ("A park is {a} m by {b} m. How long is the path all around it?",),
        ("How long is the border of a {a} cm by {b} cm picture?",),
    ),
    Kind(
        "profit",
        "(p - q) * n",
        {"p": (20, 95), "q": (5, 80), "n": (3, 60)},
        (
            "{name} buys {items} at {q} dollars and sells them at {p}. What is the profit on {n} {items}?",
            "A pack of {p} {items} loses {q}. How many {items} are left in {n} such packs?",
            "{name} gets {p} {items} a day and [eats|sells|gives away] {q}. How many are left after {n} days?",
        ),
        ("One {box} has {p} {items}, and {q} of them are bad. How many good ones are in {n} of them?",),
        ("{name} earns {p} dollars an hour and spends {q} of them. How much is kept after {n} hours?",),
        where="p > q + 2",
    ),
    Kind(
        "unit_price",
        "round(a / n, 2)",
        {"a": (50, 990), "n": (7, 60)},
        (
            "{n} {items} cost {a} dollars. What does one cost, rounded to 2 digits?",
            "{name} [drives|goes|rides] {a} km in {n} hours. What is the speed, rounded to 2 digits?",
            "{a} kg are [shared by|split by] {n} people. How much does each get, rounded to 2 digits?",
        ),
        ("{name} earns {a} dollars in {n} days. How much is that a day, rounded to 2 digits?",),
        ("{a} liters fill {n} cans evenly. How many liters per can, rounded to 2 digits?",),
        where="(a * 100) % n > 0",
    ),
    Kind(
        "two_goods",
        "n * p + m * q",
        {"n": (3, 30), "p": (3, 30), "m": (3, 30), "q": (3, 30)},
        (
            "{name} buys {n} {items} at {p} dollars and {m} cups at {q} dollars. What is the [bill|cost]?",
            "{n} packs [hold|have] {p} {items} each, {m} packs [hold|have] {q} each. How many {items} are there?",
            "{name} [makes|sells] {p} {items} a day for {n} days and {q} a day for {m} days. How many {items} in all?",
        ),
        ("{n} children have {p} {items} each and {m} have {q} each. How many {items} is that?",),
        ("{n} rows of {p} seats and {m} rows of {q} seats: how many seats?",),
        where="p != q and n != m",
    ),
    Kind(
        "paving",
        "a * b - c * d",
        {"a": (12, 60), "b": (12, 60), "c": (3, 12), "d": (3, 12)},
        (
            "A garden of {a} m by {b} m has a pond of {c} m by {d} m. What area is left?",
            "{name} cuts a piece of {c} cm by {d} cm from a cloth of {a} cm by {b} cm. What area is left?",
            "A [room|hall] is {a} m by {b} m, its [stage|table] {c} m by {d} m. What area is [left|free]?",
        ),
        ("A field is {a} m by {b} m. A house of {c} m by {d} m stands on it. What area is free?",),
        ("A wall of {a} m by {b} m has a door of {c} m by {d} m. What area remains?",),
    ),
    Kind(
        "cost_of_boxes",
        "ceil(a / n) * p",
        {"a": (50, 990), "n": (6, 48), "p": (3, 40)},
        (
            "A {box} holds {n} {items} and costs {p} dollars. What do the ones for all {a} {items} cost?",
            "A [bus|boat] has {n} seats and costs {p} dollars. What do [buses|boats] for {a} people cost?",
            "{a} {items} must fit in bags of {n}. A bag costs {p} dollars. What do the bags cost?",
        ),
        ("A room for {n} people costs {p} dollars. What do rooms for {a} people cost?",),
        ("Cans of {n} liters cost {p} dollars each. What do enough cans for {a} liters cost?",),
        where="a % n > 0 and a > 2 * n",
    ),
    Kind(
        "stock",
        "sum(a, b, c) - n * p",
        {"a": (50, 300), "b": (50, 300), "c": (50, 300), "n": (3, 12), "p": (3, 12)},
        (
            "Three bags hold {a}, {b} and {c} {items}. {n} packs of {p} are sold. How many {items} are left?",
            "{name} found {a}, {b} and {c} {items} and gave {p} to each of {n} children. How many are left?",
            "There are {a} red, {b} blue and {c} green {items}. {n} children take {p} each. How many [are left|remain]?",
        ),
        (
            "{name} makes {a}, {b} and {c} {items} in three days and eats {p} on each of {n} days. How many are left?",
        ),
        ("From piles of {a}, {b} and {c} {items}, {name} takes {p} on {n} days. How many remain?",),
    ),
    Kind(
        "hypotenuse",
        "sqrt(a ** 2 + b ** 2)",
        {"t": (0, 3), "m": (1, 60)},
        (
            "{name} walks {a} km north and {b} km east. How far is the start?",
            "A ramp is {a} m high and {b} m wide. How long is it?",
            "A field is {a} m long and {b} m wide. How far is it from corner to corner?",
        ),
        ("A boat goes {a} km south, then {b} km west. How far is it from home?",),
        ("A screen is {a} cm wide and {b} cm high. How long is its diagonal?",),
        let={"a": "(3, 5, 8, 7)[t] * m", "b": "(4, 12, 15, 24)[t] * m"},
    ),
    Kind(
        "weighted_mean",
        "(n * p + m * q) / (n + m)",
        {"n": (2, 12), "p": (4, 60), "m": (2, 12), "r": (4, 60)},
        (
            "{n} {items} cost {p} dollars each and {m} cost {q} each. What does one cost on average?",
            "{name} [drives|rides] {n} hours at {p} km/h and {m} hours at {q} km/h. What is the mean speed?",
            "{name} sells {p} {items} a day for {n} days and {q} a day for {m} days. How many a day on average?",
        ),
        ("{n} children have {p} {items} each and {m} have {q} each. How many does a child have on average?",),
        ("{n} bags weigh {p} kg each and {m} weigh {q} kg each. What does a bag weigh on average?",),
        let={"q": "p + (n + m) * (r - 30)"},
        where="q > 3 and q != p and q < 200",
    ),
)

COMPOSE_KINDS = (
    Kind(
        "shared_groups",
        "n * k / m",
        {"n": (3, 40), "m": (3, 12), "q": (3, 30)},
        ("{name} has {n} packs of {k} {items} and shares them by {m} children. How many does each get?",),
        let={"k": "m * q"},
    ),
    Kind(
        "full_after_loss",
        "floor((a - b) / n)",
        {"a": (200, 990), "b": (10, 150), "n": (6, 48)},
        ("Of {a} {items}, {b} are sold. The rest is packed in boxes of {n}. How many boxes are full?",),
        where="(a - b) % n > 0",
    ),
    Kind(
        "three_goods",
        "n * p + m * q + k * r",
        {"n": (3, 20), "p": (3, 20), "m": (3, 20), "q": (3, 20), "k": (3, 20), "r": (3, 20)},
        (
            "{name} buys {n} {items} at {p} dollars, {m} cups at {q} dollars and {k} pens at {r} dollars. "
            "What is the bill?",
        ),
        where="len({n, m, k}) == 3 and len({p, q, r}) == 3",
    ),
    Kind(
        "trips_price",
        "ceil(n * k / m) * p",
        {"n": (3, 30), "k": (5, 30), "m": (6, 40), "p": (3, 30)},
        (
            "{n} packs hold {k} {items} each. A {box} holds {m} {items} and costs {p} dollars. "
            "What do the ones for all {items} cost?",
        ),
        where="(n * k) % m > 0 and n * k > 2 * m",
    ),
    Kind(
        "two_squares",
        "a ** 2 + b ** 2",
        {"a": (5, 60), "b": (5, 60)},
        ("One square has a side of {a} m, another a side of {b} m. What is their area in all?",),
        where="a != b",
    ),
    Kind(
        "bill_gap",
        "abs(n * p - m * q)",
        {"n": (3, 30), "p": (3, 30), "m": (3, 30), "q": (3, 30)},
        ("{name} pays {n} times {p} dollars, Sam pays {m} times {q} dollars. How far apart are they?",),
        where="n * p != m * q and n != m",
    ),
    Kind(
        "left_over_price",
        "(a % n) * p",
        {"a": (50, 990), "n": (6, 48), "p": (3, 40)},
        ("{name} packs {a} {items} in boxes of {n} and sells what is left over at {p} dollars each. What is it?",),
        where="a % n > 1 and a > 2 * n",
    ),
    Kind(
        "profit_paid",
        "(p - q) * n - s",
        {"p": (40, 95), "q": (5, 30), "n": (5, 40), "s": (5, 45)},
        (
            "{name} buys {items} at {q} dollars and sells them at {p}. {n} {items} are sold and {s} dollars "
            "paid for delivery. How much is left?",
        ),
    ),
    Kind(
        "mean_rounded",
        "round(sum(a, b, c) / 3, 2)",
        {"a": (10, 200), "b": (10, 200), "c": (10, 200)},
        ("{name} scored {a}, {b} and {c} points in 3 games. What is the mean, rounded to 2 digits?",),
        where="(a + b + c) % 3 > 0",
    ),
    Kind(
        "area_share",
        "(a * b - c * d) / n",
        {"b": (12, 40), "c": (3, 10), "d": (3, 10), "n": (2, 6), "q": (20, 90)},
        (
            "A garden of {a} m by {b} m has a pond of {c} m by {d} m. The area left is shared by {n} children. "
            "What does each get?",
        ),
        let={"a": "(n * q + c * d) / b"},
        where="a == int(a) and a > 5",
    ),
    Kind(
        "fence_price",
        "(a + b) * 2 * p + s",
        {"a": (5, 90), "b": (5, 90), "p": (3, 30), "s": (5, 95)},
        (
            "A garden is {a} m long and {b} m wide. A m of fence costs {p} dollars, and {s} are paid for "
            "delivery. What is the bill?",
        ),
    ),
)

UNSEEN_TOOL_KINDS = (
    Kind(
        "average3",
        "average(a, b, c)",
        {"a": (10, 200), "b": (10, 200), "q": (20, 200)},
        ("{name} scored {a}, {b} and {c} points. What is the mean?", "What is the mean of {a}, {b} and {c}?"),
        let={"c": "3 * q - a - b"},
        where="c > 5",
    ),
    Kind(
        "largest",
        "maximum(a, b, c)",
        {"a": (10, 900), "b": (10, 900), "c": (10, 900)},
        ("Three bags hold {a}, {b} and {c} {items}. How many are in the largest?",),
        where="len({a, b, c}) == 3",
    ),
    Kind(
        "smallest",
        "minimum(a, b, c)",
        {"a": (10, 900), "b": (10, 900), "c": (10, 900)},
        ("Three bags hold {a}, {b} and {c} {items}. How many are in the smallest?",),
        where="len({a, b, c}) == 3",
    ),
    Kind(
        "percent",
        "percent_of(p, a)",
        {"p": (2, 95), "q": (2, 49)},
        ("{p} percent of {a} {items} are sold. How many {items} is that?", "What is {p} percent of {a}?"),
        let={"a": "q * 20"},
        where="(p * q * 20) % 100 == 0",
    ),
    Kind(
        "divisor",
        "common_divisor(a, b)",
        {"g": (3, 30), "m": (2, 19), "n": (2, 19)},
        ("What is the largest number that divides both {a} and {b}?",),
        let={"a": "g * m", "b": "g * n"},
        where="m != n",
    ),
    Kind(
        "multiple",
        "common_multiple(a, b)",
        {"a": (4, 60), "b": (4, 60)},
        ("What is the smallest number that both {a} and {b} divide?",),
        where="a != b",
    ),
    Kind(
        "limits",
        "clamp(x, a, b)",
        {"x": (1, 99), "a": (10, 40), "b": (50, 90)},
        ("{name} sets {x} degrees, but the limits are {a} and {b}. How many degrees is it?",),
        where="not a <= x <= b",
    ),
    Kind(
        "discount",
        "a - percent_of(p, a)",
        {"p": (2, 60), "q": (2, 49)},
        ("{items} for {a} dollars are sold {p} percent cheaper. What do they cost?",),
        let={"a": "q * 20"},
        where="(p * q * 20) % 100 == 0",
    ),
    Kind(
        "spread",
        "maximum(a, b, c) - minimum(a, b, c)",
        {"a": (10, 900), "b": (10, 900), "c": (10, 900)},
        ("Three bags hold {a}, {b} and {c} {items}. How far apart are the largest and the smallest?",),
        where="len({a, b, c}) == 3",
    ),
    Kind(
        "largest_more",
        "maximum(a, b, c) + d",
        {"a": (10, 900), "b": (10, 900), "c": (10, 900), "d": (10, 90)},
        ("Three bags hold {a}, {b} and {c} {items}. {d} more go in the largest. How many does it hold then?",),
        where="len({a, b, c}) == 3",
    ),
)
