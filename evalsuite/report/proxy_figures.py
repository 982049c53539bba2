"""The figures of the proxies: where they agree with the tasks, where they mislead and what choosing by them costs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from evalsuite.analysis.columns import DAMAGE_SIGN
from evalsuite.analysis.pairs import MEAN_OF_TASKS
from evalsuite.numbers import coefficient
from evalsuite.report.cells import first_upper, ordered, proxy_label, task_name
from evalsuite.report.chart import (
    BLUE,
    COLOURS,
    DASHES,
    GREEN,
    GREY,
    LOG,
    ORANGE,
    SHAPES,
    Figure,
    Row,
    by,
    continuous,
    cycled,
    data,
    name_points,
    named,
    points,
    specification,
)

MAPPED = ("kld_mean", "kld_p999", "ppl", "ppl_ratio", "size_bytes")
"""The proxies whose pair verdicts get a map, and whose front with the size gets a figure."""

READINGS = ["works", "blind here", "cannot tell"]
PAIR_VERDICTS = ["misleading", "consistent", "equivalent", "undecided"]
PAIR_SIGNS = {"misleading": "✕", "consistent": "✓", "equivalent": "≈", "undecided": "·"}


def matrix(correlations: Sequence[Row]) -> list[Figure]:
    """Return the map of all proxies × tasks: the coefficient in the cell, its colour for which way it points."""
    rows = [_cell(found) for found in cells(correlations)]
    rows = [row for row in rows if row["shown"]]
    if not rows:
        return []
    subsets = ordered([row["subset"] for row in rows], "all")
    proxies = list(dict.fromkeys(row["proxy"] for row in rows))
    tasks = ordered([row["task"] for row in rows], task_name(MEAN_OF_TASKS))
    base = (
        alt.Chart(data(rows))
        .transform_filter("datum.subset === subset")
        .encode(
            x=alt.X(
                "task:N",
                scale=alt.Scale(domain=tasks),
                title=None,
                axis=alt.Axis(orient="top", labelAngle=-25, labelLimit=140),
            ),
            y=alt.Y("proxy:N", scale=alt.Scale(domain=proxies), title=None, axis=alt.Axis(labelLimit=190)),
        )
    )
    ways = ["orders like the task", "orders against the task"]
    colour = alt.Color(
        "way:N", scale=alt.Scale(domain=ways, range=[BLUE, ORANGE]), legend=alt.Legend(orient="top", title=None)
    )
    strength = alt.Opacity("strength:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, 0.75]), legend=None)
    tooltip = [
        alt.Tooltip("proxy:N"), alt.Tooltip("task:N"), alt.Tooltip("subset:N", title="quants"),
        alt.Tooltip("rho:N", title="Spearman ρ"), alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("question:N", title="the interval is about"), alt.Tooltip("tau:N", title="Kendall τ"),
        alt.Tooltip("n:Q", title="n (quants)"), alt.Tooltip("p:N", title="p, BH-corrected"),
        alt.Tooltip("ceiling:N", title="noise ceiling"),
    ]  # fmt: skip
    layers = alt.layer(
        base.mark_rect(stroke=GREY, strokeOpacity=0.35).encode(color=colour, opacity=strength, tooltip=tooltip),
        base.mark_text(fontSize=13, dy=-6).encode(text="shown:N", tooltip=tooltip),
        base.mark_text(fontSize=9.5, dy=9, opacity=0.85).encode(text="below:N", tooltip=tooltip),
    )
    described = (
        f"{len(proxies)} proxies by {len(tasks)} tasks: rank correlation in every cell; the table has the numbers."
    )
    choices = {"subset": subsets}
    spec = specification(layers, 42 * len(proxies), choices)
    return [Figure("matrix", "Proxies × tasks", described, spec, choices, least_width=230 + 84 * len(tasks))]


def cells(correlations: Sequence[Row]) -> list[dict[str, Row]]:
    """Return the coefficients of one proxy, task and subset together, by their method."""
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in correlations:
        found.setdefault((row["proxy"], row["tool"], row["corpus"], row["task"], row["subset"]), {})[row["method"]] = (
            row
        )
    return list(found.values())


def subset_name(subset: str) -> str:
    """Name a subset of the quants as a reader understands it."""
    known = {"all": "all quants", "near_reference": "near the reference"}
    return known.get(subset, subset.replace("provider:", "provider "))


def ranges(curves: Sequence[Row]) -> list[Figure]:
    """Return two figures a proxy: ρ with its ceiling over the quants up to, and from, each value of the proxy."""
    found: dict[tuple[str, str | None, str], list[Row]] = {}
    for row in curves:
        if row["rho"] is not None:
            found.setdefault((row["proxy"], row["corpus"], row["direction"]), []).append(row)
    return [
        _range(index, *key, rows)
        for index, (key, rows) in enumerate(found.items())
        if len({row["limit"] for row in rows}) > 1
    ]


def volumes(rows: Sequence[Row]) -> list[Figure]:
    """Return volume across and direction upwards, for the chosen task; the dotted lines are losses or gains alone."""
    drawn = [row for row in rows if row["volume"] is not None and row["direction"] is not None]
    if not drawn:
        return []
    dots: list[dict[str, Any]] = [
        {
            "task": row["task"], "quant": row["quant"], "volume": points(row["volume"]),
            "direction": points(row["direction"]), "lost": row["lost"], "gained": row["gained"],
            "low": _direction(row, "harm_low"), "high": _direction(row, "harm_high"), "harm": points(row["harm"]),
        }
        for row in drawn
    ]  # fmt: skip
    name_points([*dots, *_wedges(dots)], "volume", "direction")
    base = alt.Chart(data(dots)).transform_filter("datum.task === task")
    across = alt.X("volume:Q", title="volume: changed answers, %")
    upwards = alt.Y("direction:Q", title="direction: lost − gained, points")
    wedge = alt.Chart(data(_wedges(dots))).transform_filter("datum.task === task")
    layers = [
        wedge.mark_line(strokeDash=[2, 3], color=GREY).encode(x=across, y=upwards, detail="way:N"),
        alt.Chart(data([{"direction": 0}])).mark_rule(color=GREY, strokeDash=[4, 4]).encode(y=upwards),
        base.mark_rule(color=BLUE).encode(x=across, y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_point(filled=True, size=70, opacity=1, color=BLUE).encode(
            x=across, y=upwards,
            tooltip=["quant:N", alt.Tooltip("volume:Q", format=".2f"), alt.Tooltip("direction:Q", format="+.2f"),
                     "lost:Q", "gained:Q", alt.Tooltip("harm:Q", format=".1f", title="harm share, %")],
        ),
        *named(base, across, upwards),
    ]  # fmt: skip
    described = "Share of changed answers across and losses minus gains upwards, one point a quant."
    choices = _tasks(drawn)
    spec = specification(alt.layer(*layers), 340, choices)
    return [Figure("volume", "Volume and direction of change", described, spec, choices)]


def verdict_maps(misleading: Sequence[Row], proxies: Sequence[Row], quants: Sequence[Row]) -> list[Figure]:
    """Return one map a proxy: every pair of quants in the proxy's order, its verdict as a sign and a colour."""
    found: dict[tuple[str, str | None], list[Row]] = {}
    for row in misleading:
        if row["proxy"] in MAPPED:
            found.setdefault((row["proxy"], row["corpus"]), []).append(row)
    figures: list[Figure] = []
    for (name, corpus), rows in found.items():
        values = _values(name, corpus, proxies, quants)
        order = sorted(
            {quant for row in rows for quant in (row["better_by_proxy"], row["worse_by_proxy"])},
            key=lambda quant: (values.get(quant, float("inf")), quant),
        )
        figures.append(_verdict_map(len(figures), first_upper(proxy_label(name, corpus)), rows, order))
    return figures


def agreements(rows: Sequence[Row]) -> list[Figure]:
    """Return the share of pairs that each proxy orders like the chosen task, with its interval."""
    drawn = [row for row in rows if row["pa"] is not None]
    if not drawn:
        return []
    shown = data(
        {"task": row["task"], "proxy": proxy_label(row["proxy"], row["corpus"]), "pa": points(row["pa"]),
         "low": points(row["low"]), "high": points(row["high"]), "sig": points(row["pa_sig"]),
         "counts": _counts(row)}
        for row in drawn
    )  # fmt: skip
    base = alt.Chart(shown).transform_filter("datum.task === task")
    order = list(dict.fromkeys(proxy_label(row["proxy"], row["corpus"]) for row in drawn))
    y = alt.Y("proxy:N", scale=alt.Scale(domain=order), title=None, axis=alt.Axis(labelLimit=190))
    x = alt.Scale(domain=[0, 100])
    title = "pairs ordered like the task, %"
    tooltip = [
        "proxy:N", alt.Tooltip("pa:Q", format=".1f", title="all pairs, %"), alt.Tooltip("low:Q", format=".1f"),
        alt.Tooltip("high:Q", format=".1f"), alt.Tooltip("sig:Q", format=".1f", title="separated pairs, %"),
        alt.Tooltip("counts:N", title="separated pairs"),
    ]  # fmt: skip
    layers = alt.layer(
        alt.Chart(data([{"x": 50}])).mark_rule(strokeDash=[4, 4], color=GREY).encode(x=alt.X("x:Q", scale=x)),
        base.mark_rule(color=BLUE, strokeWidth=1.5).encode(y=y, x=alt.X("low:Q", scale=x, title=title), x2="high:Q"),
        base.mark_point(filled=True, color=BLUE, size=70, opacity=1).encode(
            y=y, x=alt.X("pa:Q", scale=x), tooltip=tooltip
        ),
        base.mark_point(color=ORANGE, shape="diamond", size=90, opacity=1, strokeWidth=2).encode(
            y=y, x=alt.X("sig:Q", scale=x), tooltip=tooltip
        ),
    )
    described = "Share of pairs that each proxy orders like the task, for all pairs and for separated pairs."
    choices = _tasks(drawn)
    spec = specification(layers, 26 * len(order), choices)
    return [Figure("agreement", "Pairs ordered like the task", described, spec, choices)]


def leaks(rows: Sequence[Row], proxies: Sequence[Row], quants: Sequence[Row]) -> list[Figure]:
    """Return for each plain text and task's own text a dumbbell a quant: its mean KLD on the one and on the other."""
    klds = {(row["quant"], row["corpus"]): row.get("kld_mean") or 0 for row in proxies}
    figures: list[Figure] = []
    for plain, task_text in dict.fromkeys((row["plain"], row["task_text"]) for row in rows):
        dumbbells = [
            {"provider": row["provider"], "quant": row["quant"], "from": klds.get((row["quant"], plain), 0),
             "to": klds.get((row["quant"], task_text), 0)}
            for row in sorted(quants, key=lambda row: str(row["provider"])) if row["provider"]
        ]  # fmt: skip
        dumbbells = [bar for bar in dumbbells if bar["from"] > 0 and bar["to"] > 0]
        if dumbbells:
            figures.append(_leak(len(figures), plain, task_text, dumbbells))
    return figures


def regrets(rows: Sequence[Row]) -> list[Figure]:
    """Return what picking by each proxy costs at each budget, on the chosen task."""
    steps = [
        {"task": row["task"], "proxy": proxy_label(row["proxy"], row["corpus"]), "size": step["size_bytes"] / 1e9,
         "regret": points(step["regret"]), "pick": step["pick"], "best": step["best"]}
        for row in rows
        for step in row["budgets"] or ()
        if step["regret"] is not None
    ]  # fmt: skip
    if not steps:
        return []
    proxies = list(dict.fromkeys(step["proxy"] for step in steps))
    looks = by("proxy:N", proxies)
    dash = alt.StrokeDash(
        "proxy:N", scale=alt.Scale(domain=proxies, range=cycled(DASHES, proxies)), legend=looks["color"]["legend"]
    )
    across = alt.X("size:Q", scale=continuous(padding=10), title="budget: files up to this size, GB")
    upwards = alt.Y("regret:Q", title="lost against the best that fits, points")
    base = alt.Chart(data(steps)).transform_filter("datum.task === task")
    layers = alt.layer(
        base.mark_line(interpolate="step-after", opacity=0.8).encode(
            x=across, y=upwards, color=looks["color"], strokeDash=dash
        ),
        base.mark_point(filled=True, size=50, opacity=1).encode(
            x=across, y=upwards, **looks,
            tooltip=["proxy:N", alt.Tooltip("size:Q", format=".3f", title="budget, GB"), "pick:N", "best:N",
                     alt.Tooltip("regret:Q", format=".2f", title="regret, points")],
        ),
    )  # fmt: skip
    described = f"Points lost at each size by picking with {len(proxies)} proxies instead of the best file that fits."
    choices = _tasks(steps)
    return [Figure("regret", "Regret per budget", described, specification(layers, 300, choices), choices)]


def fronts(rows: Sequence[Row]) -> list[Figure]:
    """Return the front of size × score on the chosen task, and the fronts of size × proxy."""
    drawn = [row for row in rows if row["value"] is not None and row["size_bytes"] is not None]
    scores = [row for row in drawn if row["axis"] == "score"]
    figures = [_front(0, "Size and score", scores, "score, %", False)] if scores else []
    proxies = {(row["name"], row["corpus"]): None for row in drawn if row["axis"] == "proxy"}
    for name, corpus in proxies:
        if name in MAPPED:
            of_proxy = [row for row in drawn if (row["axis"], row["name"], row["corpus"]) == ("proxy", name, corpus)]
            label = proxy_label(name, corpus)
            logarithmic = name in LOG and all(row["value"] > 0 for row in of_proxy)
            figures.append(_front(len(figures), f"Size and {label}", of_proxy, label, logarithmic))
    return figures


def _cell(found: Mapping[str, Row]) -> dict[str, Any]:
    rho, tau = found.get("spearman"), found.get("kendall")
    row = rho or tau or {}
    value = next((each["rho"] for each in (rho, tau) if each and each["rho"] is not None), None)
    agrees = -(value or 0) * DAMAGE_SIGN.get(row["proxy"], 1)
    interval = "none" if row["low"] is None else f"[{coefficient(row['low'])}, {coefficient(row['high'])}]"
    mark = "" if rho and rho["rho"] is not None else "τ "
    return {
        "proxy": proxy_label(row["proxy"], row["corpus"]),
        "task": task_name(row["task"]),
        "subset": row["subset"],
        "shown": "" if value is None else f"{mark}{coefficient(value)}",
        "below": f"n {row['n']}" if row["low"] is None else interval,
        "way": "orders like the task" if agrees >= 0 else "orders against the task",
        "strength": abs(value or 0),
        "rho": coefficient(rho["rho"] if rho else None),
        "tau": coefficient(tau["rho"] if tau else None),
        "interval": interval,
        "question": row["question"],
        "n": row["n"],
        "p": "–" if row.get("p_bh") is None else f"{row['p_bh']:.3g}",
        "ceiling": coefficient(row.get("ceiling")),
    }


def _range(index: int, name: str, corpus: str | None, direction: str, rows: Sequence[Row]) -> Figure:
    label, sign = proxy_label(name, corpus), DAMAGE_SIGN.get(name, 1)
    scale = 1e-9 if name == "size_bytes" else 1
    shown = data(
        {
            "task": row["task"], "limit": scale * row["limit"], "rho": row["rho"], "low": row["low"],
            "high": row["high"], "tau": row["tau"], "n": row["n"], "reading": row["reading"],
            # The ceiling has no sign: it is drawn on the side of a proxy that works.
            "ceiling": None if row["ceiling"] is None else -sign * row["ceiling"],
        }
        for row in rows
    )  # fmt: skip
    base = alt.Chart(shown).transform_filter("datum.task === task")
    x, y = continuous(logarithmic=name in LOG, padding=12), alt.Scale(domain=[-1, 1])
    # Up to a damage is, for the size of a file, from a size.
    word = "up to" if (direction == "upto") == (sign > 0) else "from"
    side = "nearest the reference" if direction == "upto" else "farthest from the reference"
    unit = ", GB" if name == "size_bytes" else ", nats" if name in LOG else ""
    across = alt.X("limit:Q", scale=x, title=f"quants {word} this {label}{unit}", axis=alt.Axis(tickCount=5))
    reading = {"domain": READINGS, "range": [BLUE, ORANGE, GREY]}
    layers = alt.layer(
        alt.Chart(data([{"rho": 0}])).mark_rule(color=GREY, strokeDash=[4, 4]).encode(y=alt.Y("rho:Q", scale=y)),
        base.mark_area(opacity=0.15, color=GREY).encode(x=across, y=alt.Y("low:Q", scale=y), y2="high:Q"),
        base.mark_line(strokeDash=[6, 4], color=GREY).encode(x=across, y=alt.Y("ceiling:Q", scale=y)),
        base.mark_line(color=BLUE).encode(x=across, y=alt.Y("rho:Q", scale=y, title="Spearman ρ")),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            x=across, y=alt.Y("rho:Q", scale=y),
            color=alt.Color("reading:N", scale=alt.Scale(**reading), legend=None),
            shape=alt.Shape(
                "reading:N", scale=alt.Scale(domain=READINGS, range=["circle", "cross", "triangle-down"]), legend=None
            ),
            tooltip=["reading:N", alt.Tooltip("limit:Q", format=".4g", title=f"{word} this value"),
                     alt.Tooltip("n:Q", title="n (quants)"), alt.Tooltip("rho:Q", format="+.2f", title="ρ"),
                     alt.Tooltip("low:Q", format="+.2f"), alt.Tooltip("high:Q", format="+.2f"),
                     alt.Tooltip("tau:Q", format="+.2f", title="τ"),
                     alt.Tooltip("ceiling:Q", format="+.2f", title="ceiling")],
        ),
    )  # fmt: skip
    heading = f"{first_upper(label)}: quants {side}"
    described = f"ρ over the quants {word} each value of {label}, with its interval and the noise ceiling."
    choices = _tasks(rows)
    return Figure(
        f"range-{index}", heading, described, specification(layers, 280, choices), choices, first_upper(label)
    )


def _direction(row: Row, limit: str) -> float | None:
    """Return a limit of the harm share as a limit of losses minus gains, in points."""
    if row[limit] is None or not row["n"] or row["lost"] is None:
        return None
    return float(100 * (2 * row[limit] - 1) * (row["lost"] + row["gained"]) / row["n"])


def _wedges(dots: Sequence[Row]) -> Iterable[dict[str, Any]]:
    """Yield the ends of the lines on which all changes are losses or all are gains, as far as each task's points go."""
    for task in {dot["task"]: None for dot in dots}:
        most = max(dot["volume"] for dot in dots if dot["task"] == task) or 1
        for side in (-1, 1):
            for volume in (0, most):
                yield {"task": task, "quant": "", "volume": volume, "direction": side * volume, "way": side}


def _verdict_map(index: int, heading: str, rows: Sequence[Row], order: Sequence[str]) -> Figure:
    named = [dict(row) | {"verdict": _pair_verdict(row)} for row in rows]
    shown = data(
        {
            "task": row["task"], "better": row["better_by_proxy"], "other": row["worse_by_proxy"],
            "verdict": row["verdict"], "sign": PAIR_SIGNS[row["verdict"]], "least": points(_least(row)),
            "delta": points(row["delta"]), "low": points(row["low"]), "high": points(row["high"]),
            "p": row["p_holm"], "needed": row["n_needed"],
        }
        for row in named
    )  # fmt: skip
    axis = {"labelLimit": 130, "ticks": False, "domain": False}
    across, down = (
        alt.Scale(domain=[quant for quant in order if quant in {row[side] for row in rows}])
        for side in ("better_by_proxy", "worse_by_proxy")
    )
    base = (
        alt.Chart(shown)
        .transform_filter("datum.task === task")
        .encode(
            x=alt.X("better:N", scale=across, title="better by the proxy", axis=alt.Axis(labelAngle=-50, **axis)),
            y=alt.Y("other:N", scale=down, title=None, axis=alt.Axis(**axis)),
            tooltip=[
                alt.Tooltip("better:N", title="better by the proxy"), alt.Tooltip("other:N", title="the other"),
                "verdict:N", alt.Tooltip("delta:Q", format="+.2f", title="score of the other − its, points"),
                alt.Tooltip("low:Q", format="+.2f"), alt.Tooltip("high:Q", format="+.2f"),
                alt.Tooltip("p:Q", format=".3g", title="Holm p"),
                alt.Tooltip("needed:Q", format=",.0f", title="samples needed to decide"),
            ],
        )
    )  # fmt: skip
    colour = alt.Color(
        "verdict:N", scale=alt.Scale(domain=PAIR_VERDICTS, range=[ORANGE, BLUE, GREEN, GREY]), legend=None
    )
    shade = alt.Opacity("least:Q", scale=alt.Scale(range=[0.22, 0.85], zero=True), legend=None)
    layers = alt.layer(
        base.mark_rect(stroke=GREY, strokeOpacity=0.3).encode(color=colour, opacity=shade),
        base.mark_text(fontSize=13).encode(text="sign:N"),
    )
    counts = ", ".join(
        f"{sum(row['verdict'] == verdict for row in named)} {verdict}"
        for verdict in PAIR_VERDICTS
        if any(row["verdict"] == verdict for row in named)
    )
    described = f"{heading}: verdicts of {len(rows)} pairs × tasks ({counts}), quants in the proxy's order."
    choices = _tasks(rows)
    spec = specification(layers, 22 * len(order), choices)
    return Figure(f"verdicts-{index}", heading, described, spec, choices, heading, least_width=150 + 24 * len(order))


def _pair_verdict(row: Row) -> str:
    return "equivalent" if row["verdict"] == "undecided" and row["equivalent"] else str(row["verdict"])


def _least(row: Row) -> float:
    """Return the end of the interval that is nearer to no difference; 0 where the interval holds it."""
    if row["low"] is None or row["high"] is None:
        return 0.0
    return float(max(row["low"], -row["high"], 0))


def _counts(row: Row) -> str:
    return f"{row['sig_concordant']} of {row['sig_pairs']}; {row['undecided']} undecided"


def _leak(index: int, plain: str, task_text: str, dumbbells: Sequence[Row]) -> Figure:
    bars = [bar | {"label": f"{bar['provider']}: {bar['quant']}"} for bar in map(dict, dumbbells)]
    ends = data(
        {"label": bar["label"], "text": text, "value": bar[end]}
        for bar in bars
        for end, text in (("from", plain), ("to", task_text))
    )
    y = alt.Y(
        "label:N", title=None, scale=alt.Scale(domain=[bar["label"] for bar in bars]), axis=alt.Axis(labelLimit=190)
    )
    x = continuous(logarithmic=True, padding=20)
    title = "mean KLD, nats (log scale)"
    layers = alt.layer(
        alt.Chart(data(bars)).mark_rule(color=GREY, strokeWidth=2).encode(
            y=y, x=alt.X("from:Q", scale=x, title=title, axis=alt.Axis(tickCount=5)), x2="to:Q"
        ),
        alt.Chart(ends).mark_point(filled=True, size=80, opacity=1).encode(
            y=y, x=alt.X("value:Q", scale=x), **by("text:N", [plain, task_text]),
            tooltip=[alt.Tooltip("label:N", title="quant"), "text:N", alt.Tooltip("value:Q", format=".4g", title=title)],
        ),
    )  # fmt: skip
    heading = f"Mean KLD on {plain} and on {task_text}"
    described = f"{heading} for {len(bars)} quants by provider."
    return Figure(f"leak-{index}", heading, described, specification(layers, 24 * len(bars)), group=heading)


def _front(index: int, heading: str, rows: Sequence[Row], title: str, logarithmic: bool) -> Figure:
    of_score = rows[0]["axis"] == "score"
    sign = 100 if of_score else 1
    places = ["on the front", "behind the front"]
    dots: list[dict[str, Any]] = [
        {"task": row["name"], "quant": row["quant"], "size": row["size_bytes"] / 1e9, "value": sign * row["value"],
         "place": places[not row["on_front"]], "probability": points(row["probability"])}
        for row in rows
    ]  # fmt: skip
    name_points(dots, "size", "value", logarithmic=("value",) if logarithmic else ())
    base = alt.Chart(data(dots))
    base = base.transform_filter("datum.task === task") if of_score else base
    front = base.transform_filter("datum.place === 'on the front'")
    across = alt.X("size:Q", scale=continuous(padding=14), title="file size, GB")
    upwards = alt.Y(
        "value:Q", scale=continuous(logarithmic=logarithmic, padding=14), title=title, axis=alt.Axis(tickCount=5)
    )
    looks = {
        "color": alt.Color("place:N", scale=alt.Scale(domain=places, range=[BLUE, GREY]), legend=None),
        "shape": alt.Shape("place:N", scale=alt.Scale(domain=places, range=SHAPES[:2]), legend=None),
    }
    layers = alt.layer(
        front.mark_line(interpolate="step-after", color=COLOURS[0], opacity=0.6).encode(x=across, y=upwards),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            x=across, y=upwards, **looks,
            tooltip=["quant:N", "place:N", alt.Tooltip("size:Q", format=".3f", title="GB"),
                     alt.Tooltip("value:Q", format=".4g", title=title),
                     alt.Tooltip("probability:Q", format=".0f", title="on the front in % of the draws")],
        ),
        *named(base, across, upwards),
    )  # fmt: skip
    described = f"{heading} for {len({row['quant'] for row in rows})} quants; the line joins those on the front."
    choices = _tasks(dots) if of_score else {}
    return Figure(f"front-{index}", heading, described, specification(layers, 300, choices), choices)


def _values(name: str, corpus: str | None, proxies: Sequence[Row], quants: Sequence[Row]) -> dict[str, float]:
    """Return each quant's damage by a proxy; the larger file has less."""
    if name == "size_bytes":
        return {row["quant"]: -row["size_bytes"] for row in quants if row["size_bytes"] is not None}
    return {row["quant"]: row[name] for row in proxies if row["corpus"] == corpus and row.get(name) is not None}


def _tasks(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Return the tasks to choose from, the mean of them first."""
    return {"task": ordered([row["task"] for row in rows], MEAN_OF_TASKS)}
