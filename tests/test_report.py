"""What a reader sees: the page, the terminal table and how numbers are written."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from evalsuite.analysis import analyse
from evalsuite.report.html import write_html
from evalsuite.report.numbers import coefficient, decimals, gigabytes, interval, p_value, percent, points, signed, width
from evalsuite.report.page import build_page
from evalsuite.report.terminal import print_table
from evalsuite.tables import Tables

GOLD = Path(__file__).parent / "gold" / "report" / "page.json"

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"{{ 7*7 }}\u2028&amp;<!--"


def small(name: str = "Q4_0", output: str = "The answer is A.") -> Tables:
    """Return three quants and a replicate on two tasks of twenty samples, without any chance."""
    answers = {"F16": 0b11111111111111101111, name: 0b11110111001110100101, "Q8_0": 0b11111111111110101111}
    answers["F16 again"] = answers["F16"]
    facts = [
        ("F16", 270e6, 16.0, None),
        ("Q8_0", 145e6, 8.5, None),
        (name, 92e6, 5.4, None),
        ("F16 again", 270e6, 16.0, "F16"),
    ]
    kld = {"F16": 0.0, "Q8_0": 0.0004, name: 0.0213}
    return Tables(
        quants=pd.DataFrame(
            {
                "quant": quant, "provider": None, "size_bytes": size, "bpw": bpw, "sha256": f"{size:.0f}" * 5,
                "is_reference": quant == "F16", "replicate_of": replicate, "status": "ok", "reason": None,
            }
            for quant, size, bpw, replicate in facts
        ),
        tasks=pd.DataFrame(
            {"task": task, "title": title, "chance": 0.25, "version": "1", "n_planned": 20}
            for task, title in (("letters", "Letters"), ("sums", "Sums"))
        ),
        items=pd.DataFrame(
            {
                "quant": quant, "task": task, "sample_id": f"s{index:02}", "repeat": 0,
                "score": float(bits >> (index + shift) % 20 & 1), "outcome": "truncated" if index == 7 else "ok",
                "cluster": None, "answer": "A", "margin": np.nan, "output": output,
            }
            for quant, bits in answers.items()
            for shift, task in enumerate(("letters", "sums"))
            for index in range(20)
        ),
        proxies=pd.DataFrame(
            {
                "quant": quant, "corpus": "wiki", "tool": "llama-perplexity", "ppl": 17 + 4 * value, "ppl_se": 0.31,
                "kld_mean": value, "kld_mean_se": value / 20, "same_top_p": 1 - 2 * value, "n_tokens": 16320,
            }
            for quant, value in kld.items()
        ),
        header={
            "model": "toy", "reference": "F16", "notes": ["The reference is the file the weights came in."],
            "command": "evalsuite run sweep.yaml", "builds": {"llama.cpp": "b1"}, "versions": {"evalsuite": "0"},
        },
    )  # fmt: skip


class Tags(HTMLParser):
    """The tags of a page with their attributes, and the text of those asked for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.claims: list[str] = []
        self.data: dict[str, str] = {}
        self._open: str | None = None
        self.feed(text)

    # The names of these three are HTMLParser's.
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self._open = "claim" if (tag, found.get("class")) == ("span", "text") else found.get("data-chart")
        if self._open == "claim":
            self.claims.append("")

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open == "claim":
            self.claims[-1] += data
        elif self._open:
            self.data[self._open] = self.data.get(self._open, "") + data


def page_text(tables: Tables, folder: Path) -> str:
    write_html(analyse(tables), tables.items, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> str:
    return page_text(small(), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> str:
    tables = small(name=HOSTILE, output=HOSTILE)
    header = {"model": HOSTILE, "notes": [HOSTILE], HOSTILE: HOSTILE}
    changed = replace(
        tables,
        header=header,
        tasks=tables.tasks.assign(title=HOSTILE),
        proxies=tables.proxies.assign(corpus=HOSTILE),
        items=tables.items.assign(answer=HOSTILE),
    )
    return page_text(changed, tmp_path_factory.mktemp("hostile"))


def scrubbed(value):
    """Leave out what the drawing library decides, and the last digits of floats."""
    if isinstance(value, Mapping):
        return {key: scrubbed(inner["datasets"] if key == "spec" else inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrubbed(inner) for inner in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def test_page_is_the_gold_page():
    """The page of a small fixed world is the one in gold/; EVALSUITE_GOLD=accept takes a new one."""
    tables = small()
    page = scrubbed(asdict(build_page(analyse(tables), tables.items)))
    for figure in (*page["forests"], *page["scatters"]):
        figure["spec"] = list(figure["spec"].values())
    text = json.dumps(page, indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("EVALSUITE_GOLD") == "accept":
        GOLD.write_text(text, encoding="utf-8")
    assert text == GOLD.read_text(encoding="utf-8")


def test_hostile_text_makes_no_tag(plain, hostile):
    """Names, titles, notes and outputs that look like HTML add no tag and no attribute that runs."""
    kinds = [{tag for tag, _ in Tags(text).tags} for text in (plain, hostile)]
    assert kinds[0] == kinds[1]
    tags = Tags(hostile).tags
    assert not [tag for tag, attributes in tags for name in attributes if name.startswith("on")]
    assert not [tag for tag, _ in tags if tag == "img"]
    scripts = [sum(tag == "script" for tag, _ in Tags(text).tags) for text in (plain, hostile)]
    assert scripts[0] == scripts[1]
    assert "{{ 7*7 }}" in hostile


def test_hostile_charts_are_still_json(hostile):
    """Every chart's specification reads back, with the hostile name in it and no line separator that ends a script."""
    charts = Tags(hostile).data
    assert len(charts) == 6
    for text in charts.values():
        json.loads(text)
    assert HOSTILE in json.dumps(json.loads(charts["forest-0"]), ensure_ascii=False).replace("\\", "")
    assert "\u2028" not in "".join(charts.values())


def test_page_loads_nothing(plain):
    """No tag loads anything from elsewhere, and the page forbids it as well."""
    for tag, attributes in Tags(plain).tags:
        for name in ("src", "href", "data", "action", "poster"):
            assert not re.match(r"\s*(https?:)?//", attributes.get(name) or ""), (tag, attributes)
        assert tag not in {"link", "iframe", "object", "embed", "base"}
    assert "default-src 'none'" in plain
    assert "@import" not in plain


def test_page_is_small(plain):
    """The page stays below 2.5 MB with the drawing library inside."""
    assert len(plain.encode()) < 2_500_000


def test_findings_are_the_claims(plain):
    """The findings of the page are the claims' sentences, all of them and no others."""
    assert sorted(Tags(plain).claims) == sorted(row["text"] for row in analyse(small())["claims"])


def test_same_analysis_same_page(plain, tmp_path):
    """The page of the same tables is the same to the byte."""
    assert page_text(small(), tmp_path) == plain


def test_page_of_nothing(tmp_path):
    """A sweep without a single item or proxy still gives a page."""
    tables = small()
    text = page_text(
        replace(tables, items=tables.items.iloc[:0], tasks=tables.tasks.iloc[:0], proxies=tables.proxies.iloc[:0]),
        tmp_path,
    )
    assert "3 quants" not in text
    assert "toy: 2 quants against F16" in text


@pytest.mark.parametrize("tasks", [1, 2, 9])
def test_terminal_fits_100_columns(tasks):
    """However many tasks and however long the names, no line exceeds 100 columns and no quant is lost."""
    tables = small(name="a-quant-with-a-very-long-name-Q4_K_XL-imatrix")
    names = [f"a_task_with_a_long_name_{index}" for index in range(tasks)]
    items = pd.concat([tables.items.query("task == 'letters'").assign(task=name) for name in names], ignore_index=True)
    frame = pd.concat([tables.tasks.iloc[:1].assign(task=name) for name in names], ignore_index=True)
    out = StringIO()
    print_table(analyse(replace(tables, tasks=frame, items=items)), Console(file=out, width=100))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    rows = [line.split()[0] for line in lines if re.match(r"F16|Q8_0|a-quant|noise floor: F16", line)]
    assert rows[:4] == ["F16", "Q8_0", next(row for row in rows if row.startswith("a-quant")), "noise"]


def test_terminal_prints_names_as_they_are():
    """A quant's name is never read as markup."""
    out = StringIO()
    print_table(analyse(small(name="[red]Q4[/red]")), Console(file=out, width=100))
    assert "[red]Q4[/red]" in out.getvalue()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (percent(0.9999), "99.9 %"),
        (percent(0.00001), "0.1 %"),
        (percent(1.0), "100.0 %"),
        (percent(0.0), "0.0 %"),
        (percent(None), "–"),
        (percent(0.7345), "73.5 %"),
        (points(-0.0123), "−1.2"),
        (points(0.00004), "+0.004"),
        (points(0.0), "0.0"),
        (points(-0.0005), "−0.1"),
        (signed(-0.04, 1), "−0.04"),
        (interval(-0.012, 0.003), "[−1.2, +0.3]"),
        (interval(None, None), "no interval"),
        (width(0.0249), "2.5"),
        (width(0.0003), "0.03"),
        (coefficient(-0.999), "−0.999"),
        (coefficient(0.9976), "+0.998"),
        (coefficient(0.9949), "+0.99"),
        (coefficient(-1), "−1.00"),
        (coefficient(0.0), "0.00"),
        (p_value(0.04999), "0.0499"),
        (p_value(0.00001), "< 0.0001"),
        (p_value(0.999), "0.99"),
        (p_value(1.0), "1.00"),
        (decimals(17.0321), "17.03"),
        (decimals(0.00040001), "0.0004000"),
        (decimals(-0.000123, 2), "−0.00012"),
        (gigabytes(92e6), "0.0920"),
        (gigabytes(None), "–"),
    ],
)
def test_numbers_are_written_honestly(written, expected):
    """Rounding never turns a number into something it is not."""
    assert written == expected
