"""The report as one HTML file that opens without a network, with a folder of whole outputs beside it where needed."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import vl_convert
from jinja2 import Environment, StrictUndefined

from evalsuite.report.flips import WHOLE, flip_data, flip_pages, flips, shortened
from evalsuite.report.page import build_page
from evalsuite.shipped import shipped


def write_html(analysis: Mapping[str, Any], items: pd.DataFrame, path: Path) -> None:
    """Write the page of an analysis, 1 to 5 MB of which 0.9 are Vega.

    Outputs that the page has no room for go to `<name of the page>-files/`, one or more pages a task.
    """
    found = flips(analysis, items)
    pages = flip_pages(found)
    folder = path.with_name(f"{path.stem}-files")
    for stale in folder.glob("flips-*.html"):
        stale.unlink()
    style = _template("report.css")
    page = build_page(analysis)
    text = (
        _environment()
        .from_string(_template("report.html.jinja"))
        .render(
            page=page,
            flips=flip_data(found, pages, analysis["header"]["reference"]),
            files=folder.name,
            style=style,
            script=_template("report.js"),
            vega=_vega(),
        )
    )
    _write(path, text)
    beside = _environment().from_string(_template("flips.html.jinja"))
    for part in pages:
        folder.mkdir(exist_ok=True)
        text = beside.render(part=part, title=page.title, style=style, back=f"../{path.name}#flips", whole=WHOLE)
        _write(folder / part.name, text)


def _environment() -> Environment:
    # The outputs of a model are hostile text: everything is escaped, and `tojson` leaves no `<` in a script.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["shortened"] = shortened
    environment.policies["json.dumps_function"] = _json
    return environment


def _json(value: Any, **_: Any) -> str:
    """Write JSON in few bytes; the two line ends that JavaScript once took for its own stay escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _write(path: Path, text: str) -> None:
    # Half of a surrogate pair, as a model cut short may leave it, is no text: it is written as a question mark.
    path.write_text(text, "utf-8", errors="replace", newline="\n")


def _template(name: str) -> str:
    return (shipped("reports") / "templates" / name).read_text("utf-8")


@cache
def _vega() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script, which takes seconds to put together."""
    snippet = "window.vegaEmbed = vegaEmbed;"
    return str(vl_convert.javascript_bundle(snippet))
