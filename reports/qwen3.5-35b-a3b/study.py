"""Write output/: the analysis of the 29 quants, and the tables and figures that README.md shows."""  # noqa: INP001

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from evalsuite.analysis import analyse, analysis_json
from evalsuite.importer.read import read_files
from evalsuite.numbers import coefficient, signed
from evalsuite.report.chart import GREY, by, data, name_points
from evalsuite.report.publish import WIDTH, publish_study

HERE = Path(__file__).parent
PROXIES = {"ppl": "PPL", "kld_mean": "mean KLD", "kld_p999": "99.9 % KLD"}


def write(folder: Path) -> None:
    """Write analysis.json, tables/*.md and figures/*.svg into a folder."""
    analysis = analyse(read_files([HERE / "inputs" / "quants.csv"]))
    quants = quants_of(analysis)
    tables = {
        "agreement": agreement(analysis, quants), "providers": providers(analysis, quants),
        "differing": differing(analysis, quants), "quants": listed(quants),
        "uploads": uploads(), "type_speed": type_speed(), "kinds": kinds(),
    }  # fmt: skip
    publish_study(tables, {"front": front_chart(quants), "ranks": rank_chart(quants)}, folder)
    (folder / "analysis.json").write_text(analysis_json(analysis), "utf-8")


def quants_of(analysis: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row a quant by name: provider, size, and of each proxy value, rank (1 is best) and `front_…`."""
    quants = pd.DataFrame(analysis["quants"]).set_index("quant")[["provider", "size_bytes"]]
    quants = quants.join(pd.DataFrame(analysis["proxies"]).set_index("quant")[[*PROXIES]])
    fronts = pd.DataFrame(analysis["pareto"]).pivot_table("on_front", "quant", "name", "first")
    return quants.join(fronts.astype(bool).add_prefix("front_")).join(quants[[*PROXIES]].rank().add_prefix("rank_"))


def pairs_of(analysis: Mapping[str, Any], first: str, second: str) -> Sequence[tuple[str, str]]:
    """Return the pairs of quants that two proxies order differently; the first proxy calls the first quant better."""
    row = next(
        row for row in analysis["proxy_agreement"]
        if (row["first_proxy"]["proxy"], row["second_proxy"]["proxy"]) == (first, second)
    )  # fmt: skip
    return [(one, other) for one, other in row["differing"]]


def agreement(analysis: Mapping[str, Any], quants: pd.DataFrame) -> pd.DataFrame:
    """Return a row for every two proxies (size is one), with the pairs of quants they order differently."""
    return pd.DataFrame([
        {
            "proxies": f"{row['first']}, {row['second']}", "Spearman ρ": coefficient(row["rho"]),
            "95 % interval": f"[{coefficient(row['low'])}, {coefficient(row['high'])}]",
            "Kendall τ": coefficient(row["tau"]), "pairs": str(row["pairs"]), "differing": str(len(row["differing"])),
            "with an MXFP4 file": str(sum(with_mxfp4(pair) for pair in row["differing"])),
            "inside a provider": str(sum(inside(pair, quants) for pair in row["differing"])),
        }
        for row in analysis["proxy_agreement"]
    ])  # fmt: skip


def providers(analysis: Mapping[str, Any], quants: pd.DataFrame) -> pd.DataFrame:
    """Return a row a provider: its pairs, those that PPL and mean KLD order differently, and its files on each front."""
    differ = {frozenset(pair) for pair in pairs_of(analysis, "ppl", "kld_mean")}
    rows = []
    for provider, own in quants.groupby("provider"):
        at_home = {frozenset(pair) for pair in combinations(own.index, 2)}
        abroad = {frozenset((one, other)) for one in own.index for other in quants.index.difference(own.index)}
        moved = (own["rank_ppl"] - own["rank_kld_mean"]).abs()
        rows.append({
            "provider": provider, "quants": str(len(own)),
            "differing inside": f"{len(differ & at_home)} of {len(at_home)}",
            "differing with others": f"{len(differ & abroad)} of {len(abroad)}",
            "ranks moved, at most": f"{moved.max():.0f}",
            **{f"on the {name} front": f"{own[f'front_{proxy}'].sum()} of {len(own)}" for proxy, name in PROXIES.items()},
        })  # fmt: skip
    return pd.DataFrame(rows)


def differing(analysis: Mapping[str, Any], quants: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each pair that PPL and mean KLD order differently, the largest ratio of KLD first."""
    rows = []
    for one, other in pairs_of(analysis, "ppl", "kld_mean"):
        ppl, kld = ([quants.loc[quant, proxy] for quant in (one, other)] for proxy in ("ppl", "kld_mean"))
        rows.append({
            "better by PPL": one, "better by mean KLD": other, "PPL": " / ".join(f"{value:.4f}" for value in ppl),
            "mean KLD": " / ".join(f"{value:.4f}" for value in kld),
            "PPL is higher by": f"{100 * (ppl[1] / ppl[0] - 1):.2f} %",
            "KLD ratio": f"{kld[0] / kld[1]:.2f}",
        })  # fmt: skip
    return pd.DataFrame(rows).sort_values(["KLD ratio", "better by PPL"], ascending=[False, True])


def listed(quants: pd.DataFrame) -> pd.DataFrame:
    """Return all quants, the largest first: values, ranks, and a dot for each front a quant is on."""
    ordered = quants.sort_values("size_bytes", ascending=False)
    columns = {"quant": ordered.index, "GB": [f"{size / 1e9:.2f}" for size in ordered["size_bytes"]]}
    for proxy, name in PROXIES.items():
        columns[name] = [
            f"{value:.4f}" + (" ●" if front else "")
            for value, front in zip(ordered[proxy], ordered[f"front_{proxy}"], strict=True)
        ]
    for proxy, name in PROXIES.items():
        columns[f"rank by {name}"] = [f"{rank:.0f}" for rank in ordered[f"rank_{proxy}"]]
    return pd.DataFrame(columns)


def uploads() -> pd.DataFrame:
    """Return the old and the new upload of each name."""
    read = pd.read_csv(HERE / "inputs" / "uploads.csv")
    return pd.DataFrame({
        "name": read["quant"], "GB, old": read["old_size_gb"].map("{:.1f}".format),
        "GB, new": read["new_size_gb"].map("{:.1f}".format),
        "size": percents(read["new_size_gb"] / read["old_size_gb"]),
        "maximum KLD, old": read["old_kld_max"].map("{:.3f}".format),
        "maximum KLD, new": read["new_kld_max"].map("{:.3f}".format),
        "maximum KLD": percents(read["new_kld_max"] / read["old_kld_max"]),
    })  # fmt: skip


def percents(ratios: pd.Series) -> list[str]:
    """Write ratios as changes in percent."""
    return [f"{signed(100 * (ratio - 1))} %" for ratio in ratios]


def speeds() -> pd.DataFrame:
    """Return the speeds of each tensor type, tokens a second, with its kind."""
    read = pd.read_csv(HERE / "inputs" / "type_speed.csv")
    kinds = read["ggml_type"].str[:2].map({"iq": "i-quants"}).fillna("k-quants, q8_0, mxfp4")
    return read.assign(kind=kinds).sort_values("tg128_tps", ascending=False)


def type_speed() -> pd.DataFrame:
    """Return the speeds of each tensor type, the fastest to generate first."""
    read = speeds()
    return pd.DataFrame({
        "type": read["ggml_type"], "kind": read["kind"], "prompt, tokens/s (pp512)": read["pp512_tps"].map("{:.2f}".format),
        "generation, tokens/s (tg128)": read["tg128_tps"].map("{:.2f}".format),
    })  # fmt: skip


def kinds() -> pd.DataFrame:
    """Return the range of the speeds of either kind of type."""
    rows = []
    for kind, of_kind in speeds().groupby("kind"):
        spans = {
            f"{name}, from … to": f"{of_kind[column].min():.2f} … {of_kind[column].max():.2f}"
            for column, name in {"pp512_tps": "prompt", "tg128_tps": "generation"}.items()
        }
        rows.append({"kind": kind, "types": str(len(of_kind)), **spans})
    return pd.DataFrame(rows)


def front_chart(quants: pd.DataFrame) -> alt.LayerChart:
    """Return size across and 99.9 % KLD upwards; the line joins the quants that none of their size or less beats."""
    dots = [
        {"quant": str(quant).split(" ", 1)[1].removeprefix("Qwen_"), "provider": row["provider"],
         "size": row["size_bytes"] / 1e9, "kld": row["kld_p999"], "place": "on" if row["front_kld_p999"] else "behind"}
        for quant, row in quants.iterrows()
    ]  # fmt: skip
    behind = [dot for dot in dots if dot["place"] == "behind"]
    name_points(behind, "size", "kld", logarithmic=("kld",))
    base = alt.Chart(data(dots))
    front = base.transform_filter("datum.place === 'on'")
    across = alt.X("size:Q", scale=alt.Scale(domain=[4, 38], nice=False), title="file size, GB")
    upwards = alt.Y(
        "kld:Q", scale=alt.Scale(type="log", domain=[0.07, 8], nice=False), title="99.9 % KLD, nats",
        axis=alt.Axis(values=[0.1, 0.2, 0.5, 1, 2, 5]),
    )  # fmt: skip
    looks = by("provider:N", sorted({dot["provider"] for dot in dots}))
    return alt.layer(
        front.mark_line(interpolate="step-after", color=GREY).encode(x=across, y=upwards),
        base.mark_point(filled=True, size=80, opacity=1).encode(x=across, y=upwards, **looks),
        # Nothing lies below the front, so its names stand there; they lean to keep neighbours apart.
        front.mark_text(align="right", dx=-9, angle=325, fontSize=11).encode(x=across, y=upwards, text="quant:N"),
        alt.Chart(data(behind))
        .transform_filter("datum.side !== 'none'")
        .mark_text(align="left", dx=9, angle=325, fontSize=11)
        .encode(x=across, y=upwards, text="quant:N"),
    ).properties(width=WIDTH, height=560)


def rank_chart(quants: pd.DataFrame) -> alt.LayerChart:
    """Return a row a quant in the order of mean KLD: its ranks by the three proxies, joined by a line."""
    ordered = quants.sort_values("rank_kld_mean")
    names = list(PROXIES.values())
    rows = [
        {"quant": quant, "proxy": name, "rank": row[f"rank_{proxy}"]}
        for quant, row in ordered.iterrows() for proxy, name in PROXIES.items()
    ]  # fmt: skip
    base = alt.Chart(data(rows))
    upwards = alt.Y("quant:N", scale=alt.Scale(domain=list(ordered.index)), title=None, axis=alt.Axis(labelLimit=220))
    across = alt.X("rank:Q", scale=alt.Scale(nice=False, domain=[0, 30]), title="rank among the 29 (1: least damage)")
    return alt.layer(
        base.mark_line(color=GREY).encode(x=across, y=upwards, detail="quant:N"),
        base.mark_point(filled=True, size=80, opacity=0.8).encode(x=across, y=upwards, **by("proxy:N", names)),
    ).properties(width=WIDTH - 200, height=480)  # fmt: skip


def with_mxfp4(pair: Sequence[str]) -> bool:
    """Say whether one of two quants is an MXFP4 file, by its name."""
    return any("MXFP4" in quant for quant in pair)


def inside(pair: Sequence[str], quants: pd.DataFrame) -> bool:
    """Say whether two quants have one provider."""
    return bool(quants.loc[pair[0], "provider"] == quants.loc[pair[1], "provider"])


if __name__ == "__main__":
    write(HERE / "output")
