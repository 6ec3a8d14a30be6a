"""`fractions`: exact fractions. Monty lets no class define `<`, so that fractions are compared by `float`."""

import math
from decimal import Decimal
from typing import Any


class Fraction:
    """A numerator over a positive denominator, in lowest terms."""

    def __init__(self, numerator: Any = 0, denominator: Any = None) -> None:
        numerator, under = _parts(numerator)
        if denominator is not None:
            over, below = _parts(denominator)
            numerator, under = numerator * below, under * over
        if under == 0:
            raise ZeroDivisionError(f"Fraction({numerator}, 0)")
        divisor = math.gcd(numerator, under)
        if under < 0:
            divisor = -divisor
        self.numerator = numerator // divisor
        self.denominator = under // divisor

    def __add__(self, other: Any) -> Any:
        if isinstance(other, float):
            return float(self) + other
        a, b = _parts(other)
        return Fraction(self.numerator * b + a * self.denominator, self.denominator * b)

    def __radd__(self, other: Any) -> Any:
        return self + other

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, float):
            return float(self) * other
        a, b = _parts(other)
        return Fraction(self.numerator * a, self.denominator * b)

    def __rmul__(self, other: Any) -> Any:
        return self * other

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, float):
            return float(self) / other
        a, b = _parts(other)
        return Fraction(self.numerator * b, self.denominator * a)

    def __rtruediv__(self, other: Any) -> Any:
        if isinstance(other, float):
            return other / float(self)
        return Fraction(other) / self

    def __floordiv__(self, other: Any) -> Any:
        quotient = self / other
        return quotient.numerator // quotient.denominator

    def __mod__(self, other: Any) -> Any:
        return self - other * (self // other)

    def __pow__(self, exponent: Any) -> Any:
        if not isinstance(exponent, int):
            return float(self) ** float(exponent)
        if exponent >= 0:
            return Fraction(self.numerator**exponent, self.denominator**exponent)
        return Fraction(self.denominator**-exponent, self.numerator**-exponent)

    def __neg__(self) -> Any:
        return Fraction(-self.numerator, self.denominator)

    def __abs__(self) -> Any:
        return Fraction(abs(self.numerator), self.denominator)

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, float):
            return float(self) == other
        if not isinstance(other, (int, Fraction)):
            return False
        a, b = _parts(other)
        return self.numerator == a and self.denominator == b

    def __hash__(self) -> int:
        return hash(self.numerator) if self.denominator == 1 else hash((self.numerator, self.denominator))

    def __float__(self) -> float:
        return self.numerator / self.denominator

    def __int__(self) -> int:
        whole = abs(self.numerator) // self.denominator
        return whole if self.numerator >= 0 else -whole

    def __round__(self, digits: Any = None) -> Any:
        scale = 10 ** (digits or 0)
        top = self.numerator * scale
        whole, rest = divmod(top, self.denominator)
        if 2 * rest > self.denominator or (2 * rest == self.denominator and whole % 2 == 1):
            whole += 1
        return whole if digits is None else Fraction(whole, scale)

    def __repr__(self) -> str:
        return f"Fraction({self.numerator}, {self.denominator})"

    def __str__(self) -> str:
        return str(self.numerator) if self.denominator == 1 else f"{self.numerator}/{self.denominator}"

    def as_integer_ratio(self) -> tuple[int, int]:
        """Numerator and denominator."""
        return self.numerator, self.denominator

    def limit_denominator(self, max_denominator: int = 1_000_000) -> Any:
        """Nearest fraction whose denominator is not larger."""
        if max_denominator < 1:
            raise ValueError("max_denominator should be at least 1")
        if self.denominator <= max_denominator:
            return self
        # Continued fractions: the last two convergents bound the nearest fraction.
        p0, q0, p1, q1 = 0, 1, 1, 0
        n, d = self.numerator, self.denominator
        while q0 + n // d * q1 <= max_denominator:
            a = n // d
            p0, q0, p1, q1 = p1, q1, p0 + a * p1, q0 + a * q1
            n, d = d, n - a * d
        k = (max_denominator - q0) // q1
        if 2 * d * (q0 + k * q1) <= self.denominator:
            return Fraction(p1, q1)
        return Fraction(p0 + k * p1, q0 + k * q1)


def _parts(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return int(value), 1
    if isinstance(value, Fraction):
        return value.numerator, value.denominator
    if isinstance(value, float):
        # A float is a whole number times a power of two.
        mantissa, exponent = math.frexp(value)
        whole = int(mantissa * 2**53)
        return (whole * 2 ** (exponent - 53), 1) if exponent >= 53 else (whole, 2 ** (53 - exponent))
    if isinstance(value, Decimal):
        return value.as_integer_ratio()
    if isinstance(value, str):
        over, _, under = value.partition("/")
        a, b = Decimal(over.strip()).as_integer_ratio()
        return a, b * int(under.strip()) if under else b
    raise TypeError("both arguments should be Rational instances")
