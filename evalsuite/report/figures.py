"""The figures of the scores: deltas of the quants, and the scores over the cheap proxies."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
from scipy.optimize import isotonic_regression

from evalsuite.analysis.pairs import MEAN_OF_TASKS
from evalsuite.report.cells import first_upper, ordered, proxy_label, task_name
from evalsuite.report.chart import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    LOG,
    ORANGE,
    Figure,
    Row,
    by,
    continuous,
    data,
    name_points,
    named,
    points,
    specification,
)

VERDICTS = ["worse", "better", "equivalent", "undecided", "the reference again"]
VERDICT_COLOURS = [ORANGE, BLUE, GREEN, GREY, AMBER]
VERDICT_SHAPES = ["triangle-down", "triangle-up", "square", "circle", "diamond"]

SCATTERS = ("kld_mean", "ppl", "ppl_ratio", "size_bytes")
"""The proxies that get a figure; the ratio only where the perplexity itself is not known."""

AXES = {
    "kld_mean": "mean KLD, nats (log scale)", "ppl": "perplexity", "ppl_ratio": "perplexity ratio",
    "size_bytes": "file size, GB",
}  # fmt: skip


def forests(analysis: Row) -> list[Figure]:
    """Return one forest of deltas a task, all on one scale, the mean of the tasks first."""
    rows = [row for row in analysis["pairs"] if row["delta"] is not None]
    if not rows:
        return []
    ends = [row[end] if row[end] is not None else row["delta"] for row in rows for end in ("low", "high")]
    margin = 0.04 * (max(*ends, 0) - min(*ends, 0)) or 0.01
    domain = [100 * (min(*ends, 0) - margin), 100 * (max(*ends, 0) + margin)]
    return [
        _forest(index, task, [row for row in rows if row["task"] == task], domain)
        for index, task in enumerate(ordered([row["task"] for row in rows], MEAN_OF_TASKS))
    ]


def scatters(analysis: Row) -> list[Figure]:
    """Return one figure a proxy and text: the proxy across, the score on the chosen task upwards."""
    quants = {row["quant"]: row for row in analysis["quants"] if not row["replicate_of"]}
    scores = [row for row in analysis["scores"] if row["value"] is not None and row["quant"] in quants]
    tasks = ordered([row["task"] for row in scores], MEAN_OF_TASKS)
    reference = analysis["header"]["reference"]
    figures: list[Figure] = []
    for (name, corpus), values in _proxy_values(analysis, quants).items():
        dots = [
            _point(quants[row["quant"]], row, *values[row["quant"]], name)
            for row in scores
            if row["quant"] != reference and row["quant"] in values
        ]
        if len({dot["quant"] for dot in dots}) > 1:
            bands = [row for row in scores if row["quant"] == reference and row["low"] is not None]
            figures.append(_scatter(len(figures), name, corpus, tasks, dots, bands))
    return figures


def depth_maps(analysis: Row) -> list[Figure]:
    """Return one map of depth × length a quant and long-context task, in the order of the quants."""
    rows = analysis.get("depths") or ()
    order = [row["quant"] for row in analysis["quants"]]
    keys = sorted(
        dict.fromkeys((row["task"], row["quant"]) for row in rows), key=lambda key: (key[0], order.index(key[1]))
    )
    return [
        _depth_map(index, *key, [row for row in rows if (row["task"], row["quant"]) == key])
        for index, key in enumerate(keys)
    ]


def _depth_map(index: int, task: str, quant: str, rows: Sequence[Row]) -> Figure:
    shown = data(
        {
            "length": f"{row['length']:g}", "depth": f"{row['depth']:g}", "recall": points(row["value"]), "n": row["n"],
            "low": points(row["low"]), "high": points(row["high"]),
        }
        for row in rows
    )  # fmt: skip
    lengths, depths = ([f"{value:g}" for value in sorted({row[key] for row in rows})] for key in ("length", "depth"))
    axis = {"ticks": False, "domain": False, "labelAngle": 0}
    base = alt.Chart(shown).encode(
        x=alt.X("length:N", scale=alt.Scale(domain=lengths), title="length, share of the room", axis=alt.Axis(**axis)),
        y=alt.Y("depth:N", scale=alt.Scale(domain=depths), title="depth", axis=alt.Axis(**axis)),
        tooltip=[
            "length:N", "depth:N", alt.Tooltip("recall:Q", format=".1f"), alt.Tooltip("low:Q", format=".1f"),
            alt.Tooltip("high:Q", format=".1f"), alt.Tooltip("n:Q", title="needles"),
        ],
    )  # fmt: skip
    shade = alt.Opacity("recall:Q", scale=alt.Scale(domain=[0, 100], range=[0.06, 0.9]), legend=None)
    layers = alt.layer(
        base.mark_rect(stroke=GREY, strokeOpacity=0.3, color=BLUE).encode(opacity=shade),
        base.mark_text(fontSize=12).encode(text=alt.Text("recall:Q", format=".0f")),
    )
    heading = f"{task}, {quant}"
    described = f"{heading}: recall in per cent at {len(lengths)} lengths and {len(depths)} depths."
    return Figure(f"depths-{index}", heading, described, specification(layers, 34 * len(depths) + 20), group=heading)


def _forest(index: int, task: str, rows: Sequence[Row], domain: Sequence[float]) -> Figure:
    shown = data(
        {
            "quant": row["b"],
            "delta": points(row["delta"]),
            "low": points(row["low"]),
            "high": points(row["high"]),
            "verdict": row["verdict"] or ("the reference again" if row["kind"] == "replicate" else "undecided"),
            "n": row["n"],
            "lost": row["lost"],
            "gained": row["gained"],
        }
        for row in rows
    )
    floor = max((abs(100 * row["delta"]) for row in rows if row["kind"] == "replicate"), default=None)
    x = alt.Scale(domain=list(domain), nice=False, zero=False)
    axis = alt.Axis(labelLimit=150, ticks=False, domain=False)
    y = alt.Y("quant:N", scale=alt.Scale(domain=[row["b"] for row in rows]), title=None, axis=axis)
    colour = alt.Color("verdict:N", scale=alt.Scale(domain=VERDICTS, range=VERDICT_COLOURS), legend=None)
    base = alt.Chart(shown).encode(y=y)
    whisker = base.mark_rule(strokeWidth=1.5).encode(
        x=alt.X("low:Q", scale=x, title="delta to the reference, points"), x2="high:Q", color=colour
    )
    dot = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("delta:Q", scale=x),
        color=colour,
        shape=alt.Shape("verdict:N", scale=alt.Scale(domain=VERDICTS, range=VERDICT_SHAPES), legend=None),
        tooltip=[
            "quant:N", "verdict:N", alt.Tooltip("delta:Q", format="+.2f"), alt.Tooltip("low:Q", format="+.2f"),
            alt.Tooltip("high:Q", format="+.2f"), "n:Q", "lost:Q", "gained:Q",
        ],
    )  # fmt: skip
    zero = alt.Chart(data([{"x": 0}])).mark_rule(strokeDash=[3, 3], color=GREY).encode(x=alt.X("x:Q", scale=x))
    layers = [zero, whisker, dot]
    if floor is not None:
        band = alt.Chart(data([{"low": -floor, "high": floor}])).mark_rect(opacity=0.18, color=AMBER)
        layers.insert(0, band.encode(x=alt.X("low:Q", scale=x), x2="high:Q"))
    heading = first_upper(task_name(task)) if task == MEAN_OF_TASKS else task
    described = f"{heading}: deltas of {len(rows)} quants in points, with 95 % intervals; the table has the numbers."
    return Figure(f"forest-{index}", heading, described, specification(alt.layer(*layers), 22 * len(rows)))


def _scatter(
    index: int,
    name: str,
    corpus: str | None,
    tasks: Sequence[str],
    dots: Sequence[dict[str, Any]],
    references: Sequence[Row],
) -> Figure:
    x, y = continuous(logarithmic=name in LOG, padding=18), continuous(padding=10)
    ends = [dot | {"quant": "", "score": dot[end]} for dot in dots for end in ("low", "high") if dot[end] is not None]
    name_points([*dots, *ends], "x", "score", logarithmic=("x",) if name in LOG else ())
    rises = name == "size_bytes"
    for task in tasks:
        _fit([dot for dot in dots if dot["task"] == task], rises=rises)
    base = alt.Chart(data(dots)).transform_filter("datum.task === task")
    providers = by("provider:N", sorted({dot["provider"] for dot in dots}))
    across = alt.X("x:Q", scale=x, title=AXES[name], axis=alt.Axis(tickCount=5))
    upwards = alt.Y("score:Q", scale=y, title="score, %")
    layers = [
        base.mark_rule().encode(x=across, y=alt.Y("low:Q", scale=y), y2="high:Q", color=providers["color"]),
        base.mark_rule().encode(x=alt.X("x_low:Q", scale=x), x2="x_high:Q", y=upwards, color=providers["color"]),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            x=across, y=upwards, **providers,
            tooltip=["quant:N", "provider:N", alt.Tooltip("x:Q", format=".5g", title=AXES[name]),
                     alt.Tooltip("score:Q", format=".2f"), alt.Tooltip("low:Q", format=".2f"),
                     alt.Tooltip("high:Q", format=".2f")],
        ),
        *named(base, across, upwards),
        base.mark_line(color=GREY, strokeWidth=1.2, strokeDash=[6, 3]).encode(x=across, y=alt.Y("fit:Q", scale=y)),
    ]  # fmt: skip
    if references:
        limits = [
            {"task": row["task"], **{key: points(row[key]) for key in ("low", "high", "value")}} for row in references
        ]
        band = alt.Chart(data(limits)).transform_filter("datum.task === task")
        layers.insert(0, band.mark_rect(opacity=0.14, color=GREY).encode(y=alt.Y("low:Q", scale=y), y2="high:Q"))
        layers.insert(1, band.mark_rule(strokeDash=[3, 3], color=GREY).encode(y=alt.Y("value:Q", scale=y)))
    heading = first_upper(proxy_label(name, corpus))
    count = len({dot["quant"] for dot in dots})
    described = (
        f"{heading} across and the score upwards for {count} quants, with error bars; the band is the reference, the dashed "
        f"line the best fit that only {'rises' if rises else 'falls'}."
    )
    choices = {"task": [task for task in tasks if any(dot["task"] == task for dot in dots)]}
    return Figure(f"scatter-{index}", heading, described, specification(alt.layer(*layers), 320, choices), choices)


def _fit(dots: Sequence[dict[str, Any]], *, rises: bool) -> None:
    """Set the `fit` of each point: isotonic regression of the scores, quants of one value of the proxy pooled."""
    order = sorted(dots, key=lambda dot: (dot["x"], -dot["score"] if rises else dot["score"]))
    if order:
        fitted = isotonic_regression([dot["score"] for dot in order], increasing=rises).x
        for dot, value in zip(order, fitted, strict=True):
            dot["fit"] = float(value)


def _proxy_values(
    analysis: Mapping[str, Any], quants: Iterable[str]
) -> dict[tuple[str, str | None], dict[str, tuple[float, float | None]]]:
    found: dict[tuple[str, str | None], dict[str, tuple[float, float | None]]] = {}
    for name in SCATTERS:
        for row in analysis["proxies"]:
            value = row.get(name)
            shown = value is not None and (value > 0 or name not in LOG)
            if row["quant"] in quants and shown and not (name == "ppl_ratio" and ("ppl", row["corpus"]) in found):
                found.setdefault((name, row["corpus"]), {})[row["quant"]] = (value, row.get(f"{name}_se"))
    sizes: dict[str, tuple[float, float | None]] = {
        row["quant"]: (row["size_bytes"] / 1e9, None) for row in analysis["quants"] if row["size_bytes"] is not None
    }
    return found | ({("size_bytes", None): sizes} if sizes else {})


def _point(quant: Row, score: Row, value: float, se: float | None, name: str) -> dict[str, Any]:
    half = 1.96 * (se or 0)
    # An error bar that reaches below 0 has no end on a log scale; it stops at a tenth of the value.
    floor = value / 10 if name in LOG else value - half
    return {
        "task": score["task"],
        "quant": quant["quant"],
        "provider": quant["provider"] or "no provider named",
        "x": value,
        "x_low": max(value - half, floor),
        "x_high": value + half,
        "score": points(score["value"]),
        "low": points(score["low"]),
        "high": points(score["high"]),
    }
