"""What the figures share: colours, signs, data and the specification that the page draws without a network.

A verdict is told by shape or sign and by colour, in colours that people with a colour vision deficiency can tell apart
and that stand out on a light and on a dark page alike. Axes and letters take their colour from the page.

The order of names on an axis is given as the domain of its scale: as `sort` it would become a Vega expression, which
some characters break.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log10
from typing import Any

import altair as alt
import pandas as pd

Row = Mapping[str, Any]

ORANGE, BLUE, GREY, AMBER, GREEN, PINK = "#d55e00", "#3a8fd0", "#8a8a8a", "#b58900", "#2a9d77", "#c77ab0"
COLOURS = [BLUE, ORANGE, GREEN, PINK, AMBER, GREY]
SHAPES = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [4, 4], [1, 3]]

LOG = {"kld_mean", "kld_median", "kld_p99", "kld_p999", "kld_max"}
"""Proxies whose axis is logarithmic."""

PLOT_WIDTH, PLOT_HEIGHT, LETTER_WIDTH, LINE_HEIGHT = 400, 280, 6.4, 12
"""Pixels that a figure has for its points on a page of usual width, and that its letters take."""


@dataclass(frozen=True)
class Figure:
    """A chart with its heading, and in words what it shows, for those who cannot see it.

    Of the figures of a section that name a `group`, the page shows one group at a time. `choices` are the parameters of
    the specification that a reader may set, with their values. `least_width`, in pixels, makes a narrow page scroll.
    """

    identity: str
    heading: str
    description: str
    spec: Mapping[str, Any]
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    group: str = ""
    least_width: int = 0


def specification(
    chart: alt.LayerChart, height: int, choices: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Return a chart as wide as its place; a parameter starts with the first of its choices."""
    sized = chart.properties(width="container", height=height).configure(background="transparent")
    # Checking a chart against Vega-Lite's schema takes longer than all the rest of the page; a test draws every kind.
    spec: dict[str, Any] = sized.to_dict(validate=False)
    # Without a schema the page asks for none, and every spec carries the same one.
    spec.pop("$schema")
    if choices:
        spec["params"] = [{"name": name, "value": values[0]} for name, values in choices.items()]
    return spec


def continuous(*, logarithmic: bool = False, **options: Any) -> alt.Scale:
    """Return a scale that starts where the data do."""
    return alt.Scale(type="log", nice=False, **options) if logarithmic else alt.Scale(zero=False, **options)


def data(rows: Iterable[Row]) -> alt.Data:
    """Return rows as data of a chart: as CSV, which takes a third of JSON's room, numbers to five digits."""
    frame = pd.DataFrame(list(rows))
    text = frame.to_csv(index=False, float_format="%.5g", lineterminator="\n")
    numbers = {
        str(name): "number" if pd.api.types.is_numeric_dtype(column) and column.dtype != bool else "string"
        for name, column in frame.items()
    }
    return alt.Data(values=text, format=alt.DataFormat(alt.CsvDataFormat(type="csv", parse=numbers)))


def by(field: str, domain: Sequence[str], title: str | None = None) -> dict[str, Any]:
    """Return colour and shape of a field, one legend for both and none for a single value."""
    legend = None if len(domain) == 1 else alt.Legend(orient="top", title=title, columns=4, labelLimit=180)
    return {
        "color": alt.Color(field, scale=alt.Scale(domain=domain, range=cycled(COLOURS, domain)), legend=legend),
        "shape": alt.Shape(field, scale=alt.Scale(domain=domain, range=cycled(SHAPES, domain)), legend=legend),
    }


def named(base: alt.Chart, across: alt.X, upwards: alt.Y) -> list[alt.Chart]:
    """Return the names of the points as layers, on the side that `name_points` chose."""
    sides: tuple[tuple[str, Any, int], ...] = (("right", "left", 7), ("left", "right", -7))
    return [
        base.transform_filter(f"datum.side === '{side}'")
        .mark_text(align=align, dx=shift, dy=-7, fontSize=11)
        .encode(x=across, y=upwards, text="quant:N")
        for side, align, shift in sides
    ]


def name_points(dots: Sequence[dict[str, Any]], x: str, y: str, *, logarithmic: tuple[str, ...] = ()) -> None:
    """Set the `side` of each point that its name stands on, `none` where it would cover another name.

    The points of each task are judged by themselves, the outermost first: they are what a reader looks for. A point
    without a name only says how far the axes go.
    """
    for task in {dot.get("task") for dot in dots}:
        shown = [dot for dot in dots if dot.get("task") == task]
        at = {key: _shares([dot[key] for dot in shown], key in logarithmic) for key in (x, y)}
        places = sorted(range(len(shown)), key=lambda index: -abs(at[y][index] - 0.5) - abs(at[x][index] - 0.5))
        boxes: list[tuple[float, float, float, float]] = []
        for index in places:
            dot, wide = shown[index], LETTER_WIDTH * len(shown[index]["quant"])
            dot["side"] = "none"
            across, up = PLOT_WIDTH * at[x][index], PLOT_HEIGHT * at[y][index]
            for side, left in (("right", across + 7), ("left", across - 7 - wide)):
                box = (left, left + wide, up, up + LINE_HEIGHT)
                if -30 <= left <= PLOT_WIDTH - wide + 10 and not any(_overlap(box, other) for other in boxes):
                    dot["side"] = side
                    boxes.append(box)
                    break


def _shares(values: Sequence[float], logarithmic: bool) -> list[float]:
    """Return where values lie between the smallest, 0, and the largest, 1."""
    found = [log10(value) for value in values] if logarithmic else list(values)
    low, extent = min(found), max(found) - min(found) or 1
    return [(value - low) / extent for value in found]


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first[0] < second[1] and second[0] < first[1] and first[2] < second[3] and second[2] < first[3]


def cycled(values: Sequence[Any], domain: Sequence[str]) -> list[Any]:
    """Return a value for each of the domain, from the first again where they run out."""
    return [values[index % len(values)] for index in range(len(domain))]


def points(share: float | None) -> float | None:
    """Return hundredths of a scale, as the axes count."""
    return None if share is None else 100 * share
