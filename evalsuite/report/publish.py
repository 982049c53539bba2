"""Figures and tables as files of their own, for a model card, a paper or a study."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from evalsuite.numbers import ABSENT
from evalsuite.report.cells import Table
from evalsuite.report.chart import Figure
from evalsuite.report.page import build_page

WIDTH = 720
CONFIG = {"background": "white", "font": "sans-serif", "view": {"stroke": None}}


def publish(analysis: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write every figure to `figures/` as SVG and PNG and every table to `tables/` as CSV and Markdown; return the files.

    A figure that a reader can set to a task is written once a task. Numbers are those of the page, rounded as there, in
    CSV with an ASCII minus and nothing where there is no value.
    """
    page = build_page(analysis)
    tables = [*(table for section in page.sections for table in section.tables), page.ledger, *page.tables]
    figures = [figure for section in page.sections for figure in section.figures]
    return [*_write_figures(figures, folder / "figures"), *_write_tables(tables, folder / "tables")]


def publish_study(tables: Mapping[str, pd.DataFrame], charts: Mapping[str, alt.LayerChart], folder: Path) -> None:
    """Write each table of texts to `tables/NAME.md`, each chart to `figures/NAME.svg`; columns without a letter go right."""
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        numbers = [not table[column].str.contains("[A-Za-z]").any() for column in table.columns]
        (folder / "tables" / f"{name}.md").write_text(_rows(list(table.columns), numbers, table.to_numpy()), "utf-8")
    for name, chart in charts.items():
        svg = vl_convert.vegalite_to_svg(chart.configure(**CONFIG).to_dict())
        (folder / "figures" / f"{name}.svg").write_text(svg, "utf-8")


def _write_figures(figures: Iterable[Figure], folder: Path) -> Iterable[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        for name, spec in _settings(figure):
            svg = vl_convert.vegalite_to_svg(spec)
            path = folder / f"{name}.svg"
            path.write_text(svg, "utf-8")
            yield path
            path = folder / f"{name}.png"
            path.write_bytes(vl_convert.svg_to_png(svg, scale=2))
            yield path


def _settings(figure: Figure) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield a name and a specification for each value of the figure's parameter, or one where it has none."""
    spec = {**figure.spec, "width": max(WIDTH, figure.least_width), "config": CONFIG, "title": figure.heading}
    name = f"{figure.identity}-{_slug(figure.heading)}"
    if not figure.choices:
        yield name, spec
    for signal, values in figure.choices.items():
        for number, value in enumerate(values):
            chosen = {"params": [{"name": signal, "value": value}]}
            title = f"{figure.heading}: {value.strip('()')}" if len(values) > 1 else figure.heading
            # The number keeps two names apart that differ only in what a file's name cannot hold.
            yield f"{name}-{number}-{_slug(value)}", spec | chosen | {"title": title}


def _write_tables(tables: Iterable[Table], folder: Path) -> Iterable[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        for path, text in (
            (folder / f"{table.identity}.csv", _csv(table)),
            (folder / f"{table.identity}.md", _markdown(table)),
        ):
            path.write_text(text, "utf-8", errors="replace", newline="\n")
            yield path


def _csv(table: Table) -> str:
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.text for column in table.columns])
    for row in table.rows:
        writer.writerow(["" if cell.text == ABSENT else cell.text.replace("−", "-") for cell in row])
    return out.getvalue()


def _markdown(table: Table) -> str:
    written = _rows(
        [column.text for column in table.columns],
        [column.number for column in table.columns],
        ([cell.text for cell in row] for row in table.rows),
    )
    caption = f"{table.caption}\n\n" if table.caption else ""
    return f"### {table.heading}\n\n{caption}{written}"


def _rows(names: Sequence[str], numbers: Sequence[bool], rows: Iterable[Sequence[str]]) -> str:
    lines = [names, ["---:" if number else "---" for number in numbers], *rows]
    return "".join(f"| {' | '.join(_escaped(text) for text in line)} |\n" for line in lines)


def _escaped(text: str) -> str:
    """Return a text that makes no column, no tag and no line of its own."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")
    return " ".join(escaped.split())


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]
