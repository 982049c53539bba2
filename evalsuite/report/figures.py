"""The figures, as Vega-Lite specifications that the page draws without a network.

A verdict is told by shape and by colour, in colours that people with a colour vision deficiency can tell apart and
that stand out on a light and on a dark page alike. Axes and letters take their colour from the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from evalsuite.analysis.claims import proxy_name
from evalsuite.analysis.pairs import MEAN_OF_TASKS

Row = Mapping[str, Any]

VERDICTS = ["worse", "better", "undecided", "the reference again"]
COLOURS = ["#d55e00", "#3a8fd0", "#8a8a8a", "#b58900"]
SHAPES = ["triangle-down", "triangle-up", "circle", "diamond"]
PROVIDER_COLOURS = ["#3a8fd0", "#d55e00", "#2a9d77", "#c77ab0", "#b58900", "#8a8a8a"]
PROVIDER_SHAPES = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross"]

SCATTERS = {"kld_mean": "log", "ppl": "linear", "size_bytes": "linear"}
"""The proxies that get a figure, and the scale of their axis."""


@dataclass(frozen=True)
class Figure:
    """A chart with its heading, and in words what it shows, for those who cannot see it."""

    identity: str
    heading: str
    description: str
    spec: Mapping[str, Any]


def forests(analysis: Mapping[str, Any]) -> list[Figure]:
    """Return one forest of deltas a task, all on one scale, the mean of the tasks first."""
    rows = [row for row in analysis["pairs"] if row["delta"] is not None]
    if not rows:
        return []
    ends = [row[end] if row[end] is not None else row["delta"] for row in rows for end in ("low", "high")]
    margin = 0.04 * (max(*ends, 0) - min(*ends, 0)) or 0.01
    domain = [100 * (min(*ends, 0) - margin), 100 * (max(*ends, 0) + margin)]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    tasks.sort(key=lambda task: task != MEAN_OF_TASKS)
    return [
        _forest(index, task, [row for row in rows if row["task"] == task], domain) for index, task in enumerate(tasks)
    ]


def scatters(analysis: Mapping[str, Any]) -> list[Figure]:
    """Return one figure a proxy and text: the proxy across, the mean of the tasks (or the only task) upwards."""
    tasks = {row["task"] for row in analysis["scores"]}
    if not tasks:
        return []
    task = MEAN_OF_TASKS if MEAN_OF_TASKS in tasks else min(tasks)
    scores = {row["quant"]: row for row in analysis["scores"] if row["task"] == task and row["value"] is not None}
    quants = {row["quant"]: row for row in analysis["quants"] if not row["replicate_of"] and row["quant"] in scores}
    reference = analysis["header"]["reference"]
    figures: list[Figure] = []
    for (name, corpus), values in _proxy_values(analysis, quants).items():
        points = [
            _point(quants[quant], scores[quant], value, se, name)
            for quant, (value, se) in values.items()
            if quant != reference and (value > 0 or SCATTERS[name] == "linear")
        ]
        if len(points) > 1:
            figures.append(_scatter(len(figures), name, corpus, task, points, scores.get(reference)))
    return figures


def _forest(index: int, task: str, rows: Sequence[Row], domain: Sequence[float]) -> Figure:
    data = pd.DataFrame(
        {
            "quant": row["b"],
            "delta": 100 * row["delta"],
            "low": None if row["low"] is None else 100 * row["low"],
            "high": None if row["high"] is None else 100 * row["high"],
            "verdict": row["verdict"] or VERDICTS[-1 if row["kind"] == "replicate" else 2],
            "n": row["n"],
            "lost": row["lost"],
            "gained": row["gained"],
        }
        for row in rows
    )
    order = list(data["quant"])
    floor = max((abs(100 * row["delta"]) for row in rows if row["kind"] == "replicate"), default=None)
    x = alt.Scale(domain=list(domain), nice=False, zero=False)
    y = alt.Y("quant:N", sort=order, title=None, axis=alt.Axis(labelLimit=150, ticks=False, domain=False))
    verdict = {"domain": VERDICTS, "range": COLOURS}
    base = alt.Chart(data).encode(y=y)
    whisker = base.mark_rule(strokeWidth=1.5).encode(
        x=alt.X("low:Q", scale=x, title="delta to the reference, points"),
        x2="high:Q",
        color=alt.Color("verdict:N", scale=alt.Scale(**verdict), legend=None),
    )
    dot = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("delta:Q", scale=x),
        color=alt.Color("verdict:N", scale=alt.Scale(**verdict), legend=None),
        shape=alt.Shape("verdict:N", scale=alt.Scale(domain=VERDICTS, range=SHAPES), legend=None),
        tooltip=[
            "quant:N", "verdict:N", alt.Tooltip("delta:Q", format="+.2f"), alt.Tooltip("low:Q", format="+.2f"),
            alt.Tooltip("high:Q", format="+.2f"), "n:Q", "lost:Q", "gained:Q",
        ],
    )  # fmt: skip
    zero = (
        alt.Chart(pd.DataFrame({"x": [0]}))
        .mark_rule(strokeDash=[3, 3], color="#8a8a8a")
        .encode(x=alt.X("x:Q", scale=x))
    )
    layers = [zero, whisker, dot]
    if floor is not None:
        band = alt.Chart(pd.DataFrame({"low": [-floor], "high": [floor]})).mark_rect(opacity=0.18, color=COLOURS[3])
        layers.insert(0, band.encode(x=alt.X("low:Q", scale=x), x2="high:Q"))
    heading = "Mean of the tasks" if task == MEAN_OF_TASKS else task
    described = f"{heading}: deltas of {len(rows)} quants in points, with 95 % intervals; the table has the numbers."
    return Figure(f"forest-{index}", heading, described, _spec(alt.layer(*layers), height={"step": 22}))


def _scatter(
    index: int, name: str, corpus: str | None, task: str, points: Sequence[Row], reference: Row | None
) -> Figure:
    data = pd.DataFrame(points)
    titles = {"kld_mean": "mean KLD, nats (log scale)", "ppl": "perplexity", "size_bytes": "file size, GB"}
    upward = "mean of the tasks" if task == MEAN_OF_TASKS else task
    x = alt.Scale(
        type="log" if SCATTERS[name] == "log" else "linear", zero=False, nice=SCATTERS[name] != "log", padding=18
    )
    y = alt.Scale(zero=False, padding=10)
    base = alt.Chart(data)
    providers = sorted(data["provider"].unique())
    shown = None if len(providers) == 1 else alt.Legend(orient="top", title=None)
    colour = alt.Color(
        "provider:N", scale=alt.Scale(domain=providers, range=_cycled(PROVIDER_COLOURS, providers)), legend=shown
    )
    shape = alt.Shape(
        "provider:N", scale=alt.Scale(domain=providers, range=_cycled(PROVIDER_SHAPES, providers)), legend=shown
    )
    across = alt.X("x:Q", scale=x, title=titles[name], axis=alt.Axis(tickCount=5))
    upwards = alt.Y("score:Q", scale=y)
    layers = [
        base.mark_rule().encode(x=across, y=alt.Y("low:Q", scale=y, title=f"{upward}, %"), y2="high:Q", color=colour),
        base.mark_rule().encode(x=alt.X("x_low:Q", scale=x), x2="x_high:Q", y=upwards, color=colour),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            x=across, y=upwards, color=colour, shape=shape,
            tooltip=["quant:N", "provider:N", alt.Tooltip("x:Q", format=".5g"), alt.Tooltip("score:Q", format=".2f"),
                     alt.Tooltip("low:Q", format=".2f"), alt.Tooltip("high:Q", format=".2f")],
        ),
        base.mark_text(align="left", dx=7, dy=-7, fontSize=11).encode(x=across, y=upwards, text="quant:N"),
    ]  # fmt: skip
    if reference is not None and reference["low"] is not None:
        line = pd.DataFrame(
            [{"low": 100 * reference["low"], "high": 100 * reference["high"], "value": 100 * reference["value"]}]
        )
        band = alt.Chart(line)
        layers.insert(0, band.mark_rect(opacity=0.14, color="#8a8a8a").encode(y=alt.Y("low:Q", scale=y), y2="high:Q"))
        layers.insert(1, band.mark_rule(strokeDash=[3, 3], color="#8a8a8a").encode(y=alt.Y("value:Q", scale=y)))
    heading = f"{proxy_name(name, corpus)[0].upper()}{proxy_name(name, corpus)[1:]}"
    described = (
        f"{heading} across and {upward} upwards for {len(points)} quants, with error bars; the band is the reference."
    )
    return Figure(f"scatter-{index}", heading, described, _spec(alt.layer(*layers), height=320))


def _proxy_values(
    analysis: Mapping[str, Any], quants: Mapping[str, Row]
) -> dict[tuple[str, str | None], dict[str, tuple[float, float | None]]]:
    found: dict[tuple[str, str | None], dict[str, tuple[float, float | None]]] = {}
    for name in SCATTERS:
        for row in analysis["proxies"]:
            if row["quant"] in quants and row.get(name) is not None:
                found.setdefault((name, row["corpus"]), {})[row["quant"]] = (row[name], row.get(f"{name}_se"))
    sizes: dict[str, tuple[float, float | None]] = {
        quant: (row["size_bytes"] / 1e9, None) for quant, row in quants.items() if row["size_bytes"] is not None
    }
    if sizes:
        found["size_bytes", None] = sizes
    return found


def _point(quant: Row, score: Row, value: float, se: float | None, name: str) -> dict[str, Any]:
    half = 1.96 * (se or 0)
    # An error bar that reaches below 0 has no end on a log scale; it stops at a tenth of the value.
    floor = value / 10 if SCATTERS[name] == "log" else value - half
    return {
        "quant": quant["quant"],
        "provider": quant["provider"] or "no provider named",
        "x": value,
        "x_low": max(value - half, floor),
        "x_high": value + half,
        "score": 100 * score["value"],
        "low": None if score["low"] is None else 100 * score["low"],
        "high": None if score["high"] is None else 100 * score["high"],
    }


def _cycled(values: Sequence[str], domain: Sequence[str]) -> list[str]:
    return [values[index % len(values)] for index in range(len(domain))]


def _spec(chart: alt.LayerChart, height: Any) -> dict[str, Any]:
    sized = (
        chart.properties(width="container", height=height)
        .configure_view(stroke=None)
        .configure(background="transparent")
    )
    spec: dict[str, Any] = sized.to_dict()
    # Without a schema the page asks for none, and every spec carries the same one.
    spec.pop("$schema")
    return spec
