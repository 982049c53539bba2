"""From tables to the files a reader gets: the numbers as JSON and the page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalsuite.analysis import analyse, analysis_json
from evalsuite.report.html import write_html
from evalsuite.tables import Tables


def write_report(tables: Tables, folder: Path) -> tuple[Mapping[str, Any], Path]:
    """Write `analysis.json` and `report.html` into a folder; return the numbers and the page."""
    analysis = analyse(tables)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "analysis.json").write_text(analysis_json(analysis), encoding="utf-8")
    write_html(analysis, tables.items, folder / "report.html")
    return analysis, folder / "report.html"
