"""The kinds of tasks of the `code-full` suite: symbolic mathematics and small linear algebra.

As in `code_kinds`, the answer is computed apart from the programs, in plain Python with whole numbers and
fractions. A slot `…_expr` is an expression of sympy, which a wording shows as `{f_expr}` or, as people write it,
as `{f_math}`; a matrix is a list of rows, shown as `{m_lines}`.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Sequence
from fractions import Fraction

from mentor_gym.suites.code_kinds import Kind, Slots

Matrix = list[list[int]]
_SET = {"kind": "set"}


def _sum(terms: Iterable[tuple[int, str]]) -> str:
    """Write a sum of multiples of letters, as sympy does; an empty letter is a number alone."""
    text = ""
    for factor, letter in terms:
        if factor:
            size = str(abs(factor)) if abs(factor) != 1 or not letter else ""
            text += f" {'-' if factor < 0 else '+'} {size}{'*' if size and letter else ''}{letter}"
    return text[3:] if text.startswith(" + ") else f"-{text[3:]}"


def _polynomial(coefficients: Sequence[int], letter: str = "x") -> str:
    """Write a polynomial; coefficients from the highest power down."""
    powers = range(len(coefficients) - 1, -1, -1)
    letters = ["" if power == 0 else letter if power == 1 else f"{letter}**{power}" for power in powers]
    return _sum(zip(coefficients, letters))


def _value(coefficients: Sequence[int | Fraction], x: int | Fraction) -> Fraction:
    total = Fraction(0)
    for factor in coefficients:
        total = total * x + factor
    return total


def _derivative(coefficients: Sequence[int]) -> list[int]:
    degree = len(coefficients) - 1
    return [factor * (degree - place) for place, factor in enumerate(coefficients[:-1])]


def _product(a: Sequence[int], b: Sequence[int]) -> list[int]:
    result = [0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            result[i + j] += x * y
    return result


def _with_roots(roots: Sequence[int]) -> list[int]:
    coefficients = [1]
    for root in roots:
        coefficients = _product(coefficients, [1, -root])
    return coefficients


def _signed(rng: random.Random, size: int) -> int:
    return rng.choice((-1, 1)) * rng.randint(1, size)


def _coefficients(rng: random.Random, degree: int, size: int = 9) -> list[int]:
    return [_signed(rng, size), *(rng.randint(-size, size) for _ in range(degree))]


def _matrix(rng: random.Random, rows: int, columns: int, size: int = 6) -> Matrix:
    return [[rng.randint(-size, size) for _ in range(columns)] for _ in range(rows)]


def _times(a: Matrix, b: Matrix) -> Matrix:
    return [[sum(x * y for x, y in zip(row, column)) for column in zip(*b)] for row in a]


def _determinant(matrix: Matrix) -> int:
    """Sum over all permutations (Leibniz)."""
    size = len(matrix)
    total = 0
    for order in itertools.permutations(range(size)):
        swaps = sum(order[i] > order[j] for i in range(size) for j in range(i + 1, size))
        total += (-1) ** swaps * math.prod(matrix[row][column] for row, column in enumerate(order))
    return total


def _rank(matrix: Matrix) -> int:
    rows = [[Fraction(value) for value in row] for row in matrix]
    rank = 0
    for column in range(len(matrix[0])):
        pivot = next((row for row in rows[rank:] if row[column]), None)
        if pivot is None:
            continue
        rows.remove(pivot)
        rows.insert(rank, pivot)
        for row in rows[rank + 1 :]:
            factor = row[column] / pivot[column]
            row[:] = [a - factor * b for a, b in zip(row, pivot)]
        rank += 1
    return rank


def _joined(values: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(values)))


# Calculus


def _draw_polynomial(rng: random.Random) -> Slots:
    coefficients = _coefficients(rng, rng.randint(3, 5))
    return {"f_expr": _polynomial(coefficients), "c": coefficients, "k": _signed(rng, 6)}


def _draw_area(rng: random.Random) -> Slots:
    coefficients = _coefficients(rng, rng.randint(2, 4))
    low = rng.randint(-5, 3)
    return {"f_expr": _polynomial(coefficients), "c": coefficients, "a": low, "b": low + rng.randint(1, 6)}


def _solve_area(slots: Slots) -> str:
    powers = range(len(slots["c"]), 0, -1)
    inside = [*(Fraction(factor, power) for power, factor in zip(powers, slots["c"])), Fraction(0)]
    return str(_value(inside, slots["b"]) - _value(inside, slots["a"]))


def _draw_limit(rng: random.Random) -> Slots | None:
    root, below = _signed(rng, 7), [_signed(rng, 5), _signed(rng, 9)]
    above = _coefficients(rng, 2, 6)
    if _value(below, root) == 0 or _value(above, root) == 0:
        return None
    over, under = _product(above, [1, -root]), _product(below, [1, -root])
    return {"f_expr": f"({_polynomial(over)})/({_polynomial(under)})", "r": root, "over": above, "under": below}


def _draw_series(rng: random.Random) -> Slots:
    a, b = rng.sample(range(1, 6), 2)
    under = f"({_sum([(1, ''), (-a, 'x')])})*({_sum([(1, ''), (-b, 'x')])})"
    return {"a": a, "b": b, "f_expr": f"1/({under})", "k": rng.randint(4, 9)}


def _draw_sum(rng: random.Random) -> Slots:
    coefficients = _coefficients(rng, rng.randint(2, 3))
    return {"f_expr": _polynomial(coefficients, "k"), "c": coefficients, "n": rng.randint(20, 400)}


def _draw_growth(rng: random.Random) -> Slots:
    return {"c": rng.randint(2, 40), "p": rng.randint(2, 25), "t": rng.randint(2, 9)}


_X = "from sympy import *\nx = symbols('x')\n"
CALCULUS_KINDS = (
    Kind(
        "derivative-value",
        _draw_polynomial,
        lambda s: str(_value(_derivative(s["c"]), s["k"])),
        (
            (_X + "print(diff($f_expr, x).subs(x, $k))",),
            ("import numpy as np\nprint(int(np.polyval(np.polyder(np.array($c)), $k)))",),
            (_X + "print(diff($f_expr, x))", _X + "print(diff($f_expr, x).subs(x, $k))"),
        ),
        (
            "[What is|Find] the derivative of {f_expr} at x = {k}.",
            "f(x) = {f_math}. [What is|Give] f'({k}).",
            "How steep is y = {f_math} at x = {k}? [Give|Find] the slope.",
        ),
        ("Differentiate {f_expr} once and put in {k} for x. Which number comes out?",),
        ("A line touches the graph of {f_math} where x is {k}. What is its gradient?",),
    ),
    Kind(
        "second-derivative",
        _draw_polynomial,
        lambda s: str(_value(_derivative(_derivative(s["c"])), s["k"])),
        (
            (_X + "print(diff($f_expr, x, 2).subs(x, $k))",),
            (_X + "f = Poly($f_expr, x)\nprint(f.diff(x).diff(x).eval($k))",),
        ),
        (
            "[What is|Find] the second derivative of {f_expr} at x = {k}.",
            "f(x) = {f_math}. [What is|Give] f''({k}).",
            "Differentiate {f_math} twice. What is the value at x = {k}?",
        ),
        ("Which value does the derivative of the derivative of {f_expr} have at {k}?",),
        ("A body on a line is at {f_math} at the time x. What is its acceleration at x = {k}?",),
    ),
    Kind(
        "definite-integral",
        _draw_area,
        _solve_area,
        (
            (_X + "print(integrate($f_expr, (x, $a, $b)))",),
            (_X + "F = integrate($f_expr, x)\nprint(F.subs(x, $b) - F.subs(x, $a))",),
        ),
        (
            "[What is|Find] the integral of {f_expr} from x = {a} to x = {b}, as an exact number?",
            "Integrate {f_math} over x from {a} to {b}. [Give|Write] a whole number or a fraction.",
            "f(x) = {f_math}. What is the exact definite integral of f from {a} to {b}?",
        ),
        ("Add up {f_expr} continuously between x = {a} and x = {b}. What is the exact total?",),
        (
            "A path has the slope {f_math} at x. How much higher is it at x = {b} than at x = {a}, exactly (negative if lower)?",
        ),
    ),
    Kind(
        "limit",
        _draw_limit,
        lambda s: str(_value(s["over"], s["r"]) / _value(s["under"], s["r"])),
        (
            (_X + "print(limit($f_expr, x, $r))",),
            (_X + "print(cancel($f_expr).subs(x, $r))",),
        ),
        (
            "[What is|Find] the limit of {f_expr} as x [goes|tends] to {r}, exactly?",
            "x [approaches|nears] {r}. What [exact number|number] does {f_expr} approach?",
            "[Find|Compute] lim x->{r} of {f_expr} as an exact number.",
        ),
        ("At x = {r} the term {f_expr} is 0/0. Which exact value fills the gap?",),
        ("Which exact number continues {f_expr} at the hole x = {r}?",),
    ),
    Kind(
        "series-coefficient",
        _draw_series,
        lambda s: str(sum(s["a"] ** i * s["b"] ** (s["k"] - i) for i in range(s["k"] + 1))),
        (
            (_X + "print(series($f_expr, x, 0, $k + 1).removeO().coeff(x, $k))",),
            (_X + "print(diff($f_expr, x, $k).subs(x, 0) / factorial($k))",),
        ),
        (
            "[What is|Find] the coefficient of x^{k} in the power series of {f_expr} around 0?",
            "Expand {f_expr} in powers of x. [What|Which number] stands before x^{k}?",
            "{f_expr} = c0 + c1 x + c2 x^2 + ... [What is|Find] c{k}.",
        ),
        ("In the Taylor series at 0 of {f_expr}, which factor does the power {k} of x have?",),
        ("{f_expr} generates a sequence: its term number n is the factor of x^n. Which is term number {k}?",),
    ),
    Kind(
        "sum-formula",
        _draw_sum,
        lambda s: str(sum(_value(s["c"], k) for k in range(1, s["n"] + 1))),
        (
            ("from sympy import *\nk = symbols('k')\nprint(summation($f_expr, (k, 1, $n)))",),
            ("print(sum($f_expr for k in range(1, $n + 1)))",),
        ),
        (
            "[What is|Find] the sum of {f_expr} for k from 1 to {n}?",
            "[Add|Sum] [up |]{f_math} over all whole k from 1 to {n}.",
            "Put k = 1, 2, ..., {n} in {f_math}. What do the results add up to?",
        ),
        ("What is the total of the first {n} terms of the sequence {f_expr}, k = 1 first?",),
        (
            "On day k a balance changes by {f_math} coins, down if that is negative. How much is that over the days 1 to {n} together?",
        ),
    ),
    Kind(
        "growth-equation",
        _draw_growth,
        lambda s: f"{s['c'] * math.exp(s['p'] / 100 * s['t']):.2f}",
        (
            (
                "from sympy import *\nt = symbols('t')\ny = Function('y')\nsolution = dsolve(y(t).diff(t) - Rational($p, 100) * y(t), y(t), ics={y(0): $c})\nprint(f'{float(solution.rhs.subs(t, $t)):.2f}')",
            ),
            ("import numpy as np\nprint(f'{$c * np.exp($p / 100 * $t):.2f}')",),
        ),
        (
            "y' = {p}/100 y and y(0) = {c}. [What is|Find] y({t}), rounded to 2 decimals?",
            "[Solve|Take] y'(t) = 0.01 * {p} * y(t), y(0) = {c}. What is y at t = {t}, to 2 decimals?",
            "A quantity starts at {c} and grows continuously at {p} percent of itself a year. How large is it after {t} years, to 2 decimals?",
        ),
        ("The slope of y is always {p} hundredths of y, and y is {c} at 0. Give y at {t} to two decimals.",),
        (
            "{c} grams of yeast grow continuously by {p}% an hour. How many grams after {t} hours, to two decimals?",
        ),
    ),
)


# Equations


def _draw_roots(rng: random.Random) -> Slots:
    roots = rng.sample([n for n in range(-9, 10) if n], rng.randint(2, 4))
    factor = rng.choice((1, 1, 2, 3))
    return {"f_expr": _polynomial([factor * c for c in _with_roots(roots)]), "roots": sorted(roots)}


def _draw_system(rng: random.Random) -> Slots | None:
    matrix, solution = _matrix(rng, 3, 3), [rng.randint(-9, 9) for _ in range(3)]
    if _determinant(matrix) == 0:
        return None
    right = [sum(a * b for a, b in zip(row, solution)) for row in matrix]
    equations = [f"{_sum(zip(row, 'xyz'))} = {value}" for row, value in zip(matrix, right)]
    return {"m": matrix, "r": right, "eqs": equations, "name": rng.choice("xyz")}


def _solve_system(slots: Slots) -> str:
    """Cramer's rule."""
    column = "xyz".index(slots["name"])
    replaced = [[*row[:column], value, *row[column + 1 :]] for row, value in zip(slots["m"], slots["r"])]
    return str(Fraction(_determinant(replaced), _determinant(slots["m"])))


def _draw_power(rng: random.Random) -> Slots:
    n = rng.randint(6, 14)
    a, b = rng.randint(1, 5), _signed(rng, 7)
    return {"f_expr": f"({_polynomial([a, b])})**{n}", "a": a, "b": b, "n": n, "k": rng.randint(2, n - 2)}


def _draw_remainder(rng: random.Random) -> Slots:
    over, root = _coefficients(rng, rng.randint(4, 6)), _signed(rng, 6)
    return {"f_expr": _polynomial(over), "g_expr": _polynomial([1, -root]), "c": over, "root": root}


def _draw_common(rng: random.Random) -> Slots:
    values = rng.sample(range(-6, 7), 5)
    p, q = _with_roots(values[:3]), _with_roots([values[0], *values[3:]])
    return {"f_expr": _polynomial(p), "g_expr": _polynomial(q), "roots": values}


EQUATION_KINDS = (
    Kind(
        "polynomial-roots",
        _draw_roots,
        lambda s: _joined(s["roots"]),
        (
            (_X + "print(*sorted(solve($f_expr, x)), sep=', ')",),
            (_X + "print(*sorted(roots($f_expr, x)), sep=', ')",),
            (_X + "print(factor($f_expr))", _X + "print(*sorted(solve($f_expr, x)), sep=', ')"),
        ),
        (
            "[Find|What are] all solutions of {f_expr} = 0? Separate them by commas.",
            "For which x is {f_math} equal to 0? [List|Give] all of them, with commas.",
            "[Solve|Find all x with] {f_math} = 0. Write the solutions with commas between them.",
        ),
        ("Where does the graph of {f_expr} cross the x axis? Give every x, separated by commas.",),
        ("Name every zero of the polynomial {f_math}, comma between them.",),
        _SET,
    ),
    Kind(
        "linear-system",
        _draw_system,
        _solve_system,
        (
            (
                "from sympy import *\nx, y, z = symbols('x y z')\nequations = Matrix($m) * Matrix([x, y, z]) - Matrix($r)\nprint(solve(list(equations), [x, y, z])[symbols($name)])",
            ),
            (
                "from sympy import *\nsolution = Matrix($m).LUsolve(Matrix($r))\nprint(solution['xyz'.index($name)])",
            ),
        ),
        (
            "[Solve|Take] this system of equations:\n{eqs_lines}\nWhat is {name}?",
            "{eqs_lines}\n[Find|What is] {name}?",
            "x, y and z meet these equations:\n{eqs_lines}\n[Give|Find] {name}.",
        ),
        ("Three numbers x, y, z are unknown, but\n{eqs_lines}\nWhich value must {name} have?",),
        ("Three planes meet in one point (x, y, z):\n{eqs_lines}\nWhat is the {name} of that point?",),
    ),
    Kind(
        "expanded-coefficient",
        _draw_power,
        lambda s: str(math.comb(s["n"], s["k"]) * s["a"] ** s["k"] * s["b"] ** (s["n"] - s["k"])),
        (
            (_X + "print(expand($f_expr).coeff(x, $k))",),
            (_X + "print(Poly($f_expr, x).coeff_monomial(x**$k))",),
        ),
        (
            "[What is|Find] the coefficient of x^{k} in {f_expr} when it is expanded?",
            "Expand {f_expr}. [What|Which number] stands before x^{k}?",
            "Multiply out {f_expr}. What is the factor of x^{k}?",
        ),
        ("After all brackets of {f_expr} are gone, how many x^{k} are there?",),
        ("The binomial {f_expr} is written as a sum of powers of x. Which number belongs to the power {k}?",),
    ),
    Kind(
        "polynomial-remainder",
        _draw_remainder,
        lambda s: str(_value(s["c"], s["root"])),
        (
            (_X + "print(rem($f_expr, $g_expr, x))",),
            (_X + "quotient, remainder = div($f_expr, $g_expr, x)\nprint(remainder)",),
        ),
        (
            "[What is|Find] the remainder when {f_expr} is divided by {g_expr}?",
            "Divide {f_math} by {g_math}. [What is left|What remains]?",
            "{f_math} is divided by {g_math} as polynomials. [Give|Find] the remainder.",
        ),
        ("Polynomial division of {f_expr} through {g_expr} leaves a number. Which?",),
        ("Which number must be taken from {f_math} so that {g_math} divides it?",),
    ),
    Kind(
        "common-root",
        _draw_common,
        lambda s: str(s["roots"][0]),
        (
            (_X + "print(solve(gcd($f_expr, $g_expr), x)[0])",),
            (_X + "print(*(set(solve($f_expr, x)) & set(solve($g_expr, x))))",),
            (
                _X + "print(solve($f_expr, x), solve($g_expr, x))",
                _X + "print(*(set(solve($f_expr, x)) & set(solve($g_expr, x))))",
            ),
        ),
        (
            "For which x are {f_expr} and {g_expr} both 0?",
            "{f_math} = 0 and {g_math} = 0 have one solution in common. [What is|Find] it?",
            "[Find|Give] the common zero of {f_math} and {g_math}.",
        ),
        ("Two curves, {f_expr} and {g_expr}, meet on the x axis. At which x?",),
        ("Which single x makes {f_math} vanish and {g_math} too?",),
    ),
)


# Matrices


def _draw_square(rng: random.Random) -> Slots:
    size = rng.choice((3, 3, 4))
    return {"m": _matrix(rng, size, size)}


def _draw_eigen(rng: random.Random) -> Slots:
    """P D P^-1 with P of determinant 1, so that all entries are whole."""
    values = rng.sample([n for n in range(-8, 10) if n], 3)
    a, b, c = (rng.randint(-2, 2) for _ in range(3))
    # A triangular P with ones, and its inverse.
    p, inverse = [[1, a, b], [0, 1, c], [0, 0, 1]], [[1, -a, a * c - b], [0, 1, -c], [0, 0, 1]]
    d, e = rng.randint(-2, 2), rng.randint(-2, 2)
    q, back = [[1, 0, 0], [d, 1, 0], [0, e, 1]], [[1, 0, 0], [-d, 1, 0], [d * e, -e, 1]]
    diagonal = [[values[0], 0, 0], [0, values[1], 0], [0, 0, values[2]]]
    m = _times(_times(_times(_times(q, p), diagonal), inverse), back)
    return {"m": m, "values": sorted(values)}


def _draw_matrix_power(rng: random.Random) -> Slots:
    size = rng.choice((2, 2, 3))
    i, j = rng.randint(1, size), rng.randint(1, size)
    return {"m": _matrix(rng, size, size, 3), "n": rng.randint(4, 12), "i": i, "j": j}


def _solve_matrix_power(slots: Slots) -> str:
    power = slots["m"]
    for _ in range(slots["n"] - 1):
        power = _times(power, slots["m"])
    return str(power[slots["i"] - 1][slots["j"] - 1])


def _draw_inverse(rng: random.Random) -> Slots | None:
    m = _matrix(rng, 3, 3)
    return {"m": m, "i": rng.randint(1, 3), "j": rng.randint(1, 3)} if _determinant(m) else None


def _solve_inverse(slots: Slots) -> str:
    """The adjugate over the determinant."""
    row, column = slots["j"] - 1, slots["i"] - 1
    minor = [r[:column] + r[column + 1 :] for k, r in enumerate(slots["m"]) if k != row]
    return str(Fraction((-1) ** (row + column) * _determinant(minor), _determinant(slots["m"])))


def _draw_rank(rng: random.Random) -> Slots:
    rows, columns, inner = rng.randint(3, 4), rng.randint(3, 5), rng.randint(1, 3)
    return {"m": _times(_matrix(rng, rows, inner, 3), _matrix(rng, inner, columns, 3))}


def _draw_points(rng: random.Random) -> Slots | None:
    xs = sorted(rng.sample(range(0, 20), rng.randint(5, 8)))
    slots = {"xs": xs, "ys": [rng.randint(-20, 40) for _ in xs]}
    # No ties: those are rounded up by some and down by others.
    return None if (_slope(slots) * 1000 * 2).denominator == 1 else slots


def _slope(slots: Slots) -> Fraction:
    xs, ys, n = slots["xs"], slots["ys"], len(slots["xs"])
    return Fraction(
        n * sum(x * y for x, y in zip(xs, ys)) - sum(xs) * sum(ys), n * sum(x * x for x in xs) - sum(xs) ** 2
    )


MATRIX_KINDS = (
    Kind(
        "determinant",
        _draw_square,
        lambda s: str(_determinant(s["m"])),
        (
            ("from sympy import Matrix\nprint(Matrix($m).det())",),
            ("import numpy as np\nprint(round(np.linalg.det(np.array($m))))",),
        ),
        (
            "[What is|Find] the determinant of this matrix?\n{m_lines}",
            "The rows of a matrix are\n{m_lines}\n[Give|Compute] its determinant.",
            "{m_lines}\n[What is|Find] the determinant of the matrix with these rows?",
        ),
        ("Compute det A for the matrix A with the rows below.\n{m_lines}",),
        ("By which factor, with its sign, does the map with these matrix rows change volumes?\n{m_lines}",),
    ),
    Kind(
        "eigenvalues",
        _draw_eigen,
        lambda s: _joined(s["values"]),
        (
            ("from sympy import Matrix\nprint(*sorted(Matrix($m).eigenvals()), sep=', ')",),
            (
                "import numpy as np\nprint(*sorted(round(value) for value in np.linalg.eigvals(np.array($m)).real), sep=', ')",
            ),
            (
                "from sympy import *\nx = symbols('x')\nprint(factor(Matrix($m).charpoly(x).as_expr()))",
                "from sympy import Matrix\nprint(*sorted(Matrix($m).eigenvals()), sep=', ')",
            ),
        ),
        (
            "[What are|Find] the eigenvalues of this matrix? Separate them by commas.\n{m_lines}",
            "The rows of a matrix are\n{m_lines}\n[List|Give] its eigenvalues with commas.",
            "{m_lines}\n[Find|List] all eigenvalues of the matrix with these rows, with commas between them.",
        ),
        ("For which numbers t does A v = t v have a solution v that is not 0? List them with commas.\n{m_lines}",),
        ("Name the roots of the characteristic polynomial of the matrix below, commas between them.\n{m_lines}",),
        _SET,
    ),
    Kind(
        "matrix-power",
        _draw_matrix_power,
        _solve_matrix_power,
        (
            ("from sympy import Matrix\nprint((Matrix($m) ** $n)[$i - 1, $j - 1])",),
            ("import numpy as np\nprint(np.linalg.matrix_power(np.array($m), $n)[$i - 1, $j - 1])",),
        ),
        (
            "A has the rows\n{m_lines}\n[What is|Find] the entry in row {i}, column {j} of A^{n}?",
            "Raise this matrix to the power {n}:\n{m_lines}\n[Which number|What] stands in row {i}, column {j}?",
            "{m_lines}\nThis matrix is multiplied by itself until it is the power {n}. [Give|Find] the entry in row {i} and column {j}.",
        ),
        ("Multiply {n} copies of the matrix below. Read the entry at row {i}, column {j}.\n{m_lines}",),
        (
            "A step takes v to A v, A being\n{m_lines}\nIn the matrix of {n} steps, which number is in line {i}, place {j}?",
        ),
    ),
    Kind(
        "inverse-entry",
        _draw_inverse,
        _solve_inverse,
        (
            ("from sympy import Matrix\nprint(Matrix($m).inv()[$i - 1, $j - 1])",),
            ("from sympy import Matrix, eye\nprint(Matrix($m).LUsolve(eye(3))[$i - 1, $j - 1])",),
        ),
        (
            "[Invert|Take the inverse of] this matrix:\n{m_lines}\nWhat is its entry in row {i}, column {j}, exactly?",
            "A has the rows\n{m_lines}\n[Give|Find] the entry of A^-1 in row {i}, column {j} as an exact number.",
            "{m_lines}\nWhich exact number stands in row {i}, column {j} of the inverse of this matrix?",
        ),
        ("A B is the unit matrix, and A is below. What is B at row {i}, column {j}, exactly?\n{m_lines}",),
        (
            "Undo the map with these matrix rows; which exact entry has the matrix for that in line {i}, place {j}?\n{m_lines}",
        ),
    ),
    Kind(
        "rank",
        _draw_rank,
        lambda s: str(_rank(s["m"])),
        (
            ("from sympy import Matrix\nprint(Matrix($m).rank())",),
            ("import numpy as np\nprint(np.linalg.matrix_rank(np.array($m)))",),
            (
                "from sympy import Matrix\nprint(Matrix($m).rref())",
                "from sympy import Matrix\nprint(Matrix($m).rank())",
            ),
        ),
        (
            "[What is|Find] the rank of this matrix?\n{m_lines}",
            "The rows of a matrix are\n{m_lines}\n[Give|Compute] its rank.",
            "{m_lines}\nHow many of these rows are linearly independent [at most|of each other]?",
        ),
        ("Which dimension has the image of the map with these matrix rows?\n{m_lines}",),
        ("How many vectors are in a basis of the space that these rows span?\n{m_lines}",),
    ),
    Kind(
        "line-fit",
        _draw_points,
        lambda s: f"{float(_slope(s)):.3f}",
        (
            ("import numpy as np\nprint(f'{np.polyfit($xs, $ys, 1)[0]:.3f}')",),
            (
                "import numpy as np\nxs = np.array($xs)\nsides = np.vstack([xs, np.ones(len(xs))]).T\nprint(f'{np.linalg.lstsq(sides, np.array($ys), rcond=None)[0][0]:.3f}')",
            ),
        ),
        (
            "x: {xs}\ny: {ys}\n[What is|Find] the slope of the least squares line, rounded to 3 decimals?",
            "Fit a straight line to the points with x = {xs} and y = {ys} by least squares. [Give|Find] its slope to 3 decimals.",
            "For x in {xs} the values {ys} were measured. What is the slope of the regression line, to 3 decimals?",
        ),
        ("How much does y rise per unit of x in the linear regression of y = {ys} on x = {xs}? Three decimals.",),
        (
            "After {xs} hours a gauge shows {ys}. By how much does it change an hour, by the best line (least squares, three decimals)?",
        ),
    ),
)

KINDS = (*CALCULUS_KINDS, *EQUATION_KINDS, *MATRIX_KINDS)
