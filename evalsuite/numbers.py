"""How numbers are written: rounded once, here, and never to something they are not."""

from math import floor, isnan, log10

ABSENT = "–"
"""Stands where there is no value."""


def percent(share: float | None, places: int = 1) -> str:
    """Write a share in percent; only an exact 0 or 1 prints as 0 or 100."""
    if share is None or isnan(share):
        return ABSENT
    shown = round(100 * share, places)
    if 0 < share < 1:
        shown = min(max(shown, 10**-places), 100 - 10**-places)
    return f"{shown:.{places}f} %"


def signed(value: float | None, places: int = 1) -> str:
    """Write a number with its sign; one that is not 0 keeps a digit that is not 0."""
    if value is None or isnan(value):
        return ABSENT
    return _minus(f"{value:+.{_places(value, places)}f}") if value else f"{0:.{places}f}"


def points(delta: float | None, places: int = 1) -> str:
    """Write a difference of scores in points, hundredths of the scale."""
    return signed(None if delta is None else 100 * delta, places)


def interval(low: float | None, high: float | None) -> str:
    """Write a 95 % interval of a difference in points."""
    return "no interval" if low is None or high is None else f"[{points(low)}, {points(high)}]"


def width(difference: float | None) -> str:
    """Write a size without a sign in points, such as the smallest difference found."""
    return ABSENT if difference is None or isnan(difference) else f"{100 * difference:.{_places(100 * difference, 1)}f}"


def coefficient(value: float | None) -> str:
    """Write a correlation; only an exact ±1 prints as ±1.00."""
    if value is None or isnan(value):
        return ABSENT
    gap = 1 - abs(value)
    places = -floor(log10(gap)) if 0 < gap < 0.005 else 2
    return _minus(f"{value:+.{places}f}" if round(value, 2) else "0.00")


def p_value(p: float | None) -> str:
    """Write a p-value; one below .05 never prints as .05, and only an exact 1 as 1."""
    if p is None or isnan(p):
        return ABSENT
    if p < 0.0001:
        return "< 0.0001"
    places = 4 if p < 0.1 else 2
    shown = round(p, places)
    if p < 0.05:
        shown = min(shown, 0.0499)
    return f"{min(shown, 0.99) if p < 1 else shown:.{places}f}"


def decimals(value: float | None, digits: int = 4) -> str:
    """Write a measurement to so many significant digits, without an exponent."""
    if value is None or isnan(value):
        return ABSENT
    places = max(digits - 1 - floor(log10(abs(value))), 0) if value else 0
    return _minus(f"{value:,.{min(places, 7)}f}")


def gigabytes(size_bytes: float | None) -> str:
    """Write a size in GB of 10⁹ bytes."""
    return ABSENT if size_bytes is None or isnan(size_bytes) else decimals(size_bytes / 1e9, 3)


def _places(value: float, places: int) -> int:
    """Return the places asked for, or as many more as show the first digit that is not 0."""
    return places if value == 0 or round(value, places) else -floor(log10(abs(value)))


def _minus(text: str) -> str:
    return text.replace("-", "−")
