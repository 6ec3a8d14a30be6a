"""`calendar`: leap years, lengths of months, days of the week and their names."""

from datetime import date

MONDAY = 0
TUESDAY = 1
WEDNESDAY = 2
THURSDAY = 3
FRIDAY = 4
SATURDAY = 5
SUNDAY = 6
day_name = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
day_abbr = [name[:3] for name in day_name]
month_name = [
    "", "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
]  # fmt: skip
month_abbr = [name[:3] for name in month_name]


def isleap(year: int) -> bool:
    """Whether a year has 366 days."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def leapdays(y1: int, y2: int) -> int:
    """Count the leap years from y1 up to y2, without y2."""
    return len([year for year in range(y1, y2) if isleap(year)])


def weekday(year: int, month: int, day: int) -> int:
    """Day of the week; Monday is 0."""
    return date(year, month, day).weekday()


def monthrange(year: int, month: int) -> tuple[int, int]:
    """Weekday of the first day of a month, and how many days it has."""
    if not 1 <= month <= 12:
        raise ValueError(f"bad month number {month}; must be 1-12")
    days = [31, 29 if isleap(year) else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    return weekday(year, month, 1), days[month - 1]


def monthcalendar(year: int, month: int) -> list[list[int]]:
    """Weeks of a month as lists of days, Monday first; days of other months are 0."""
    first, days = monthrange(year, month)
    cells = [0] * first + list(range(1, days + 1))
    cells += [0] * (-len(cells) % 7)
    return [cells[start : start + 7] for start in range(0, len(cells), 7)]
