"""Scoring: which of the wanted values an answer gives."""

import re
from collections.abc import Mapping

from evalsuite.records import Outcome, Output, Sample, Scored
from evalsuite.task.long_context.documents import DIGITS

_OPEN, _CLOSE = r"(?<![^\W_])", r"(?![^\W_])"  # letters and digits go on, `_` and `*` are how emphasis is written
_HYPHEN = "[-\u2010\u2011]"
_GROUP = "[0-9a-f]"

SHAPES: Mapping[str, re.Pattern[str]] = {
    "uuid": re.compile(
        rf"{_OPEN}(?<![^\W_]{_HYPHEN}){_GROUP}{{8}}(?:{_HYPHEN}?{_GROUP}{{4}}){{3}}{_HYPHEN}?{_GROUP}{{12}}"
        rf"(?!{_HYPHEN}?[^\W_])"
    ),
    "number": re.compile(rf"{_OPEN}(?<!\d\.)(?:\d{{{DIGITS}}}|\d{{{DIGITS - 6}}},\d{{3}},\d{{3}}){_CLOSE}(?!\.\d)"),
    "word": re.compile(rf"{_OPEN}(?:[bdfgklmnprstvz][aeiou]){{3}}{_CLOSE}"),
}
"""What a value looks like in an answer in lower case, by the `shape` of a sample; nothing of it may stand in a longer word."""


def recall(sample: Sample, output: Output) -> Scored:
    """Return the share of the wanted values that the answer gives as whole tokens, whatever else it gives.

    Case, the hyphens of a UUID, the commas of a number, quotes and emphasis are forgiven. `answer` is every value given, once
    each. The metrics are `found` (0 or 1 for each wanted value, in the order of the target and of the sample's `depths`) and
    `precision` (the share of the values given that are wanted; None where none is given). What is found in an answer that was
    cut off counts; an answer without any value is unparsed.
    """
    shape = SHAPES[sample.metadata["shape"]]
    given = list(dict.fromkeys(_plain(value) for value in shape.findall(output.text.casefold())))
    found = [float(_plain(wanted) in given) for wanted in sample.target]
    value = sum(found) / len(found)
    cut = output.outcome is Outcome.TRUNCATED and value < 1
    outcome = Outcome.TRUNCATED if cut else Outcome.OK if given else Outcome.UNPARSED
    precision = sum(found) / len(given) if given else None
    return Scored(value, outcome, ", ".join(given), metrics={"found": found, "precision": precision})


def _plain(value: str) -> str:
    return re.sub(rf"{_HYPHEN}|,", "", value.casefold())
