"""The published studies: made again from their inputs, and shown in their README as they came out."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

REPORTS = Path(__file__).parents[1] / "reports"
STUDIES = sorted(path.parent for path in REPORTS.glob("*/study.py"))


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_a_study_comes_out_as_published(study: Path, tmp_path: Path) -> None:
    """A study's command gives the published files, no more and no fewer: numbers to nine digits, figures in their words."""
    runpy.run_path(str(study / "study.py"))["write"](tmp_path)
    assert _files(tmp_path) == _files(study / "output")


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_a_readme_shows_what_came_out(study: Path) -> None:
    """The README of a study holds each of its tables and messages as they came out, and shows each of its figures."""
    readme = (study / "README.md").read_text("utf-8")
    output = study / "output"
    shown = [path.read_text("utf-8") for path in (*output.glob("tables/*.md"), *output.glob("*.txt"))]
    linked = [f"({path.relative_to(study).as_posix()})" for path in output.glob("figures/*")]
    assert [text for text in (*shown, *linked) if text not in readme] == []


def test_the_studies_are_there() -> None:
    """The published studies are among those that are made again."""
    assert {study.name for study in STUDIES} >= {
        "qwen3.5-35b-a3b",
        "minimax-m2.5",
        "smollm2-easy-sets",
        "smollm2-imatrix",
    }


def _files(folder: Path) -> dict[str, Any]:
    return {path.relative_to(folder).as_posix(): _content(path) for path in folder.rglob("*") if path.is_file()}


def _content(path: Path) -> Any:
    """Return what must be equal on every machine: the last bits of a logarithm and the width of a letter need not be."""
    text = path.read_text("utf-8")
    if path.suffix == ".json":
        return json.loads(text, parse_float=lambda number: f"{float(number):.9g}")
    return re.findall(r">([^<>]+)</text>", text) if path.suffix == ".svg" else text
