"""The report as one HTML file that opens without a network."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import vl_convert
from jinja2 import Environment, StrictUndefined

from evalsuite.report.page import build_page
from evalsuite.shipped import shipped


def write_html(analysis: Mapping[str, Any], items: pd.DataFrame, path: Path) -> None:
    """Write the page of an analysis, with the outputs of the samples that changed most. About 1 MB, most of it Vega."""
    folder = shipped("reports") / "templates"
    # The outputs of a model are hostile text: everything is escaped, and `tojson` leaves no `<` in a script.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string((folder / "report.html.jinja").read_text("utf-8")).render(
        page=build_page(analysis, items),
        style=(folder / "report.css").read_text("utf-8"),
        script=(folder / "report.js").read_text("utf-8"),
        vega=_vega(),
    )
    path.write_text(page, "utf-8", newline="\n")


@cache
def _vega() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script, which takes seconds to put together."""
    snippet = "window.vegaEmbed = vegaEmbed;"
    return str(vl_convert.javascript_bundle(snippet))
