"""`statistics`: averages and spread. Exact for whole numbers and `Decimal`, to the last digits for floats."""

import math
from typing import Any


def _sorted(data: Any, what: str) -> list[Any]:
    values = sorted(data)
    if not values:
        raise ValueError(f"no {what} for empty data")
    return values


def _sum(values: list[Any]) -> Any:
    return math.fsum(values) if any(isinstance(value, float) for value in values) else sum(values)


def _divide(total: Any, count: int) -> Any:
    # The average of whole numbers is a whole number where it can be one.
    return total // count if isinstance(total, int) and total % count == 0 else total / count


def mean(data: Any) -> Any:
    """Sum of the values over their number."""
    values = list(data)
    if not values:
        raise ValueError("mean requires at least one data point")
    return _divide(_sum(values), len(values))


def fmean(data: Any, weights: Any = None) -> float:
    """`mean` as a float, with weights if there are any."""
    values = [float(value) for value in data]
    if not values:
        raise ValueError("fmean requires at least one data point")
    if weights is None:
        return math.fsum(values) / len(values)
    factors = [float(weight) for weight in weights]
    if len(factors) != len(values):
        raise ValueError("data and weights must be the same length")
    return math.fsum([value * factor for value, factor in zip(values, factors)]) / math.fsum(factors)


def geometric_mean(data: Any) -> float:
    """Root of the product of the values."""
    return math.exp(fmean([math.log(value) for value in data]))


def harmonic_mean(data: Any) -> Any:
    """Number of the values over the sum of their reciprocals."""
    values = _sorted(data, "harmonic mean")
    if values[0] < 0:
        raise ValueError("harmonic mean does not support negative values")
    return 0 if values[0] == 0 else len(values) / math.fsum([1 / value for value in values])


def median(data: Any) -> Any:
    """Middle value, or the mean of the two in the middle."""
    values = _sorted(data, "median")
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def median_low(data: Any) -> Any:
    """Middle value, or the smaller of the two in the middle."""
    values = _sorted(data, "median")
    return values[(len(values) - 1) // 2]


def median_high(data: Any) -> Any:
    """Middle value, or the larger of the two in the middle."""
    values = _sorted(data, "median")
    return values[len(values) // 2]


def multimode(data: Any) -> list[Any]:
    """Return the most frequent values, in the order in which they come."""
    counts: dict[Any, int] = {}
    for value in data:
        counts[value] = counts.get(value, 0) + 1
    most = max(counts.values()) if counts else 0
    return [value for value, count in counts.items() if count == most]


def mode(data: Any) -> Any:
    """Most frequent value, the first of them."""
    values = multimode(data)
    if not values:
        raise ValueError("no mode for empty data")
    return values[0]


def _spread(data: Any, name: str, center: Any, fewer: int) -> Any:
    """Sum of the square distances from the center, over the number of values less `fewer`."""
    values = list(data)
    n = len(values)
    if n <= fewer:
        raise ValueError(f"{name} requires at least {'two data points' if fewer else 'one data point'}")
    if center is None and all(isinstance(value, int) for value in values):
        # One exact division, of n times the sum that is wanted.
        return _divide(n * sum([value * value for value in values]) - sum(values) ** 2, n * (n - fewer))
    middle = mean(values) if center is None else center
    return _divide(_sum([(value - middle) ** 2 for value in values]), n - fewer)


def pvariance(data: Any, mu: Any = None) -> Any:
    """Mean square distance from the mean."""
    return _spread(data, "pvariance", mu, 0)


def variance(data: Any, xbar: Any = None) -> Any:
    """Variance of what the values are a sample of."""
    return _spread(data, "variance", xbar, 1)


def pstdev(data: Any, mu: Any = None) -> float:
    """Root of `pvariance`."""
    return math.sqrt(pvariance(data, mu))


def stdev(data: Any, xbar: Any = None) -> float:
    """Root of `variance`."""
    return math.sqrt(variance(data, xbar))


def quantiles(data: Any, n: int = 4, method: str = "exclusive") -> list[Any]:
    """Cut points that part the values in n groups of equal size."""
    if n < 1:
        raise ValueError("n must be at least 1")
    values = sorted(data)
    size = len(values)
    if size < 2:
        raise ValueError("must have at least two data points")
    if method not in ("exclusive", "inclusive"):
        raise ValueError(f"Unknown method: {method!r}")
    inside = method == "inclusive"
    points = []
    for i in range(1, n):
        j, rest = divmod(i * (size - 1), n) if inside else divmod(i * (size + 1), n)
        if not inside:
            j = min(max(j, 1), size - 1) - 1
            rest = i * (size + 1) - (j + 1) * n
        points.append((values[j] * (n - rest) + values[min(j + 1, size - 1)] * rest) / n)
    return points
