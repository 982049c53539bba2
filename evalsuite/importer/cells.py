"""Cells as numbers: `5.794552 ± 0.032298`, `85.6 %`, `4.58 GiB`, `1,024`, and a decimal comma where a file has them."""

import re
from collections.abc import Iterable
from math import isinf
from typing import NamedTuple

_MISSING = frozenset({"", "-", "–", "—", "?", "n/a", "na", "nan", "none", "null", "-nan"})
_NUMBER = r"([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)"
_UNIT = r"\s*(%|[GM]i?B|bytes|bpw|t/s|tok/s)?"
_CELL = re.compile(rf"[~≈]?\s*{_NUMBER}{_UNIT}(?:\s*(?:±|\+/-)\s*{_NUMBER}{_UNIT})?")
_COMMA = re.compile(r"[-+]?(?:0|\d{4,}|\d+(?=,(?!\d{3}(?!\d)))),\d+\s*%?")
_POINT = re.compile(r"[-+]?\d+\.\d+\s*%?")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


class Number(NamedTuple):
    """A number with its printed error (None without one) and its unit ("" without one)."""

    value: float
    error: float | None
    unit: str


def number(text: str, *, decimal_comma: bool) -> Number | None:
    """Return what a cell says, None for one that says there is nothing. Raises ValueError for a text."""
    text = text.strip().replace("\N{MINUS SIGN}", "-").replace("\N{NO-BREAK SPACE}", " ")
    if text.casefold() in _MISSING:
        return None
    text = text.replace(",", ".") if decimal_comma else _THOUSANDS.sub("", text)
    match = _CELL.fullmatch(text) if len(text) < 100 else None
    if match is None or isinf(float(match[1])) or isinf(float(match[3] or 0)):
        raise ValueError("no number")
    return Number(float(match[1]), float(match[3]) if match[3] else None, match[4] or match[2] or "")


def has_decimal_comma(cells: Iterable[str]) -> bool:
    """Say whether a table writes 0,061: some number has a comma that parts no thousands, and none has a point."""
    comma = False
    for cell in cells:
        if _POINT.fullmatch(cell.strip()):
            return False
        comma = comma or _COMMA.fullmatch(cell.strip()) is not None
    return comma


def rounding(value: float) -> float:
    """Return half a unit of the last digit that a number shows."""
    mantissa, _, exponent = f"{value!r}".partition("e")
    decimals = len(mantissa.partition(".")[2].rstrip("0"))
    return 0.5 * 10.0 ** (int(exponent or 0) - decimals)


def significant_digits(text: str) -> int:
    """Return how many digits the first number of a cell shows: 3 for `0.0613`, 4 for `16.00`."""
    match = re.search(r"\d[\d.,]*", text)
    return len(re.sub("[.,]", "", match[0]).lstrip("0")) if match else 0
