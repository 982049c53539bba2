"""What a reader sees: the page, the files beside it, the terminal table and how numbers are written."""

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree as ET

import analyses
import pandas as pd
import pytest
from rich.console import Console

from evalsuite.numbers import coefficient, decimals, gigabytes, interval, p_value, percent, points, signed, width
from evalsuite.report import figures
from evalsuite.report.chart import name_points
from evalsuite.report.flips import PAGE_BUDGET, ROW_BUDGET, Answer, Flip, flip_data, flip_pages, shortened
from evalsuite.report.html import write_html
from evalsuite.report.page import build_page, named_apart
from evalsuite.report.publish import publish
from evalsuite.report.terminal import print_table

GOLD = Path(__file__).parent / "gold" / "report" / "page.json"

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"{{ 7*7 }}\u2028&amp;<!--"


class Tags(HTMLParser):
    """The tags of a page with their attributes, and the text of claims and charts."""

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

    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.tags if "id" in attributes]


def page_text(analysis: Mapping, items: pd.DataFrame, folder: Path) -> str:
    write_html(analysis, items, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def small() -> tuple[dict, pd.DataFrame]:
    return analyses.world(7, 2, 30)


@pytest.fixture(scope="module")
def plain(small, tmp_path_factory) -> str:
    return page_text(*small, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def hostile(small, tmp_path_factory) -> str:
    analysis, items = small
    return page_text(*analyses.hostile(analysis, items, HOSTILE), tmp_path_factory.mktemp("hostile"))


def drawn_data(spec) -> Iterator[str]:
    """Yield the data of a chart, and of the charts in it."""
    if isinstance(spec, Mapping):
        if "values" in spec and isinstance(spec["values"], str):
            yield spec["values"]
        for inner in spec.values():
            yield from drawn_data(inner)
    elif isinstance(spec, list):
        for inner in spec:
            yield from drawn_data(inner)


def scrubbed(value):
    """Leave out what the drawing library decides, and the last digits of floats."""
    if isinstance(value, Mapping):
        return {
            key: list(dict.fromkeys(drawn_data(inner))) if key == "spec" else scrubbed(inner)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [scrubbed(inner) for inner in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def without_the_usual(value):
    """Leave out what is empty, and write a cell that says no more than its text as that text."""
    if isinstance(value, Mapping):
        kept = {key: without_the_usual(inner) for key, inner in value.items() if inner not in ("", [], {}, 0)}
        return kept.get("text", "") if set(value) == {"text", "sort", "tone", "hint"} and not kept.get("tone") else kept
    return [without_the_usual(inner) for inner in value] if isinstance(value, list) else value


def test_a_scatters_line_is_the_best_that_only_falls_or_only_rises():
    """On every task the line of a scatter never rises with damage nor falls with size, and its blocks are means of scores."""
    analysis, _ = analyses.world(8, 2, 40)
    found = figures.scatters(analysis)
    assert len(found) > 2
    for figure in found:
        (dots,) = (text for text in dict.fromkeys(drawn_data(figure.spec)) if "fit" in text.partition("\n")[0])
        for _, of_task in pd.read_csv(StringIO(dots)).sort_values("x").groupby("task"):
            steps = of_task["fit"].diff().dropna()
            assert (steps >= 0).all() if "only rises" in figure.description else (steps <= 0).all()
            blocks = of_task.groupby("fit")["score"].mean()
            assert list(blocks) == pytest.approx(list(blocks.index), rel=1e-3)


def test_page_is_the_gold_page():
    """The page of a small fixed world is the one in gold/; EVALSUITE_GOLD=accept takes a new one."""
    page = without_the_usual(scrubbed(asdict(build_page(analyses.world(6, 1, 30)[0]))))
    text = json.dumps(page, indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("EVALSUITE_GOLD") == "accept":
        GOLD.write_text(text, encoding="utf-8")
    assert text == GOLD.read_text(encoding="utf-8")


def test_hostile_text_makes_no_tag(plain, hostile):
    """Names, titles, notes, claims and outputs that look like HTML add no tag and no attribute that runs."""
    tags = Tags(hostile).tags
    assert {tag for tag, _ in Tags(plain).tags} == {tag for tag, _ in tags}
    assert not [tag for tag, attributes in tags for name in attributes if name.startswith("on")]
    scripts = [sum(tag == "script" for tag, _ in Tags(text).tags) for text in (plain, hostile)]
    assert scripts[0] == scripts[1]
    assert "{{ 7*7 }}" in hostile


def test_hostile_charts_are_still_json(hostile):
    """Every chart's specification reads back, with the hostile name in it and no line separator that ends a script."""
    charts = Tags(hostile).data
    assert len(charts) > 15
    for text in charts.values():
        json.loads(text)
    assert HOSTILE.replace('"', '""') in "".join(drawn_data(json.loads(charts["forest-0"])))
    assert "\u2028" not in "".join(charts.values())


def test_hostile_outputs_beside_the_page(small, tmp_path):
    """The pages of whole outputs have the hostile text as text."""
    analysis, items = small
    page_text(analysis, items.assign(output=HOSTILE * 20), tmp_path)
    beside = [path.read_text("utf-8") for path in (tmp_path / "report-files").glob("*.html")]
    assert beside
    for text in beside:
        assert not {tag for tag, _ in Tags(text).tags} & {"script", "img"}
        assert "&lt;/script&gt;&lt;script&gt;alert(1)" in text


def test_half_a_character_is_no_end(small, tmp_path):
    """A text that ends in half of a surrogate pair is written, with a question mark for the half."""
    analysis, items = small
    assert "cut here ?" in page_text(analysis | {"notes": ["cut here \ud83d"]}, items, tmp_path)


def test_page_loads_nothing(plain):
    """No tag loads anything from elsewhere, and the page forbids it as well."""
    for tag, attributes in Tags(plain).tags:
        for name in ("src", "href", "data", "action", "poster"):
            assert not re.match(r"\s*(https?:)?//", attributes.get(name) or ""), (tag, attributes)
        assert tag not in {"link", "iframe", "object", "embed", "base"}
    assert "default-src 'none'" in plain
    assert "@import" not in plain


def test_no_name_twice(plain):
    """No two elements share an id, and every link inside the page leads somewhere."""
    tags = Tags(plain)
    assert len(tags.ids()) == len(set(tags.ids()))
    links = {attributes["href"] for tag, attributes in tags.tags if tag == "a"}
    assert {link.removeprefix("#") for link in links} <= set(tags.ids())


def test_page_of_a_large_sweep_is_below_5_mb(tmp_path):
    """With 20 quants on 8 tasks the page, and all the room that changed samples may take, stay below 5 MB."""
    analysis, items = analyses.world(20, 8, 25)
    page = page_text(analysis | {"flips": []}, items, tmp_path)
    assert len(page.encode()) + PAGE_BUDGET + ROW_BUDGET < 5_000_000


def test_findings_are_the_claims(plain, small):
    """The findings of the page are the claims' sentences, all of them and no others, the verdict first."""
    claims = Tags(plain).claims
    texts = [row["text"] for row in small[0]["claims"]]
    assert sorted(claims) == sorted(texts)
    assert claims[:2] == texts[:2]


def test_without_a_verdict_the_summary_leads(small, tmp_path):
    """An analysis without a verdict is headed by its summary and its noise floor, each once."""
    analysis, items = small
    claims = [claim for claim in analysis["claims"] if not claim["id"].startswith("verdict")]
    found = Tags(page_text(analysis | {"claims": claims}, items, tmp_path)).claims
    assert found[0].startswith("Of 7 quants")
    assert sorted(found) == sorted(claim["text"] for claim in claims)


def test_same_analysis_same_page(small, plain, tmp_path):
    """The page of the same analysis is the same to the byte."""
    assert page_text(*small, tmp_path) == plain


def test_every_section_shows(plain):
    """An analysis with every key filled fills every section."""
    assert [name for name in Tags(plain).ids() if not name.startswith(("table", "figure", "flip-"))] == [
        "findings", "decidability", "differences", "parts", "lengths", "against",
        "matrix", "ranges", "volume", "misleading", "agreement",
        "contest", "size", "providers", "regret", "pareto", "influence", "disagreement", "flips", "gates", "claims",
        "data", "reproducibility",
    ]  # fmt: skip


@pytest.mark.parametrize("drop", [analyses.emptied, lambda analysis: {
    key: value for key, value in analyses.emptied(analysis).items() if key not in analyses.LATER}])  # fmt: skip
def test_sections_without_rows_are_not_there(small, tmp_path, drop):
    """An older analysis, or one with nothing but scores, has the sections that it has rows for."""
    analysis, items = small
    ids = Tags(page_text(drop(analysis), items, tmp_path)).ids()
    assert not {"decidability", "ranges", "volume", "agreement", "contest", "regret", "pareto", "flips"} & set(ids)
    assert {"differences", "against", "matrix"} <= set(ids)


@pytest.mark.parametrize("key", [*analyses.LATER, "claims", "gates", "proxies", "correlations", "pairs", "scores"])
def test_any_key_may_be_empty(key):
    """Whatever one key of the analysis lacks, the page is built."""
    assert build_page(analyses.world(3, 1, 10)[0] | {key: []}).title == "Toy-8B: 3 quants against F16"


def test_undefined_numbers_are_dashes(small, tmp_path):
    """A page of undefined numbers shows none that it does not have."""
    analysis, items = small
    page = page_text(analyses.nulled(analysis), items, tmp_path)
    cells = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r">[^<]*\b(nan|None|NaN)\b[^<]*<", cells)


def test_what_a_failed_check_leaves_out_stands_beside_it(small, tmp_path):
    """The checks name what a failure leaves out, and the sections say where a reader would look for it."""
    analysis, items = small
    empty = dict.fromkeys(("task", "quant", "proxy", "tool", "corpus"))
    proxies = [empty | {"why": "412", "proxy": proxy, "tool": "t", "corpus": "wiki"} for proxy in ("ppl", "ppl_ratio")]
    gates = [
        {"name": "above chance: gsm8k", "passed": False, "detail": "p 0.4",
         "removes": [empty | {"why": "at chance", "task": "gsm8k"}]},
        {"name": "perplexity below 50: wiki", "passed": False, "detail": "412", "removes": proxies},
        {"name": "unscored", "passed": False, "detail": "3 %",
         "removes": [empty | {"why": "3 %", "task": task, "quant": "Q8_0"} for task in ("arc", "piqa")]},
        {"name": "every quant complete", "passed": False, "detail": "Q2_K lacks samples", "removes": []},
    ]  # fmt: skip
    claims = [
        analysis["claims"][0] | {"id": identity, "text": f"Left out: {identity}."}
        for identity in ("verdict:left-out", "left-out")
    ]
    changed = analysis | {"gates": gates, "claims": [*analysis["claims"], *claims]}
    page = build_page(changed)
    assert [gate.removes for gate in page.gates] == [
        "gsm8k", "perplexity, perplexity ratio on wiki", "Q8_0 on arc, piqa", ""
    ]  # fmt: skip
    assert "Left out: verdict:left-out." in {finding.text for finding in page.verdict}
    misleading = next(section for section in page.sections if section.identity == "misleading")
    assert "Left out: left-out." in {finding.text for finding in misleading.findings}
    text = page_text(changed, items, tmp_path)
    assert "<span>p 0.4. <strong>Left out: gsm8k.</strong></span>" in text
    assert "<span>Q2_K lacks samples</span>" in text


def test_changes_are_shown_beside_the_noise_floor(small):
    """Where the reference ran again, the table of changes has the p against it; else the column is not there."""
    analysis, _ = small
    floored = analysis | {"volume": [row | {"p_above_floor": 0.004} for row in analysis["volume"]]}
    found = [
        next(table for section in build_page(each).sections for table in section.tables if table.identity == "volume")
        for each in (analysis, floored)
    ]
    assert [[column.text for column in table.columns].count("p, A/A floor") for table in found] == [0, 1]
    at = [column.text for column in found[1].columns].index("p, A/A floor")
    assert {row[at].text for row in found[1].rows} == {"0.0040"}


def test_a_tail_that_ranks_has_its_maps(small):
    """Where the 99.9 % KLD is what quants are ranked by, its pairs have a map and its front a figure."""
    analysis, _ = small
    page = build_page(analyses.renamed(analysis, {"kld_mean": "kld_p999"}))
    drawn = {section.identity: [figure.heading for figure in section.figures] for section in page.sections}
    assert "99.9 % KLD on wiki" in drawn["misleading"]
    assert "Size and 99.9 % KLD on wiki" in drawn["pareto"]


def test_two_tools_on_one_text_stand_apart():
    """A text that two tools measured has the tool in its name, and no other text has."""
    rows = [{"quant": "Q8_0", "corpus": corpus, "tool": tool} for corpus, tool in
            (("wiki", "forced"), ("wiki", "llama-perplexity"), ("chat", "forced"))]  # fmt: skip
    found = named_apart({"proxies": rows, "regret": [{"corpus": "wiki", "tool": "forced"}], "schema": 2})
    assert [row["corpus"] for row in found["proxies"]] == ["wiki (forced)", "wiki (llama-perplexity)", "chat"]
    assert found["regret"] == [{"corpus": "wiki (forced)", "tool": "forced"}]


def changed_samples(count: int, output: str) -> list[Flip]:
    """Return so many samples of two tasks that two quants lost."""
    answers = (Answer("F16", "", 1.0, "ok", "7", output), *(Answer(quant, "lost", 0.0, "ok", "9", output)
               for quant in ("Q4_0", "Q2_K")))  # fmt: skip
    return [Flip(("gsm8k", "recall")[index % 2], f"s{index}", 5, ("Q4_0", "Q2_K"), (), answers)
            for index in range(count)]  # fmt: skip


@pytest.mark.parametrize("output", ["seven " * 40, "七" * 300, "<" * 300])
def test_changed_samples_keep_to_their_budget(output):
    """However many samples changed and whatever they hold, the page gives them no more bytes than their budget."""
    found = changed_samples(9000, output)
    pages = flip_pages(found)
    data = flip_data(found, pages, "F16")
    written = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    assert len(written.encode()) < PAGE_BUDGET + ROW_BUDGET
    assert any("answers" in sample for sample in data["samples"])
    assert sorted(number for page in pages for number, _ in page.flips) == list(range(9000))


def test_few_short_outputs_need_no_pages():
    """Where every output stands whole on the page there are no pages beside it; one long output makes them."""
    assert flip_pages(changed_samples(20, "seven")) == []
    assert flip_pages(changed_samples(20, "seven " * 400))[0].name == "flips-1-1.html"


def test_shortened_keeps_both_ends():
    """A shortened output keeps its start and its end and says how much it lacks."""
    text = shortened("a" * 500 + "b" * 500, 100)
    assert (text.count("a" * 50), text.count("b" * 50)) == (1, 1)
    assert "900 characters left out" in text
    assert shortened("short", 100) == "short"


def test_stale_pages_go(small, tmp_path):
    """Pages of an earlier report are removed, and nothing else in their folder."""
    folder = tmp_path / "report-files"
    folder.mkdir()
    for name in ("flips-9-9.html", "mine.txt"):
        (folder / name).write_text("old")
    page_text(*small, tmp_path)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_names_do_not_cover_each_other():
    """Of points in one place one is named, of points far apart all are, on a side where there is room."""
    dots = [{"quant": "Q4_K_M", "x": x, "y": 1.0} for x in (1.0, 5.0, 5.001, 9.0)]
    name_points(dots, "x", "y")
    assert [dot["side"] for dot in dots].count("none") == 0
    dots = [{"quant": "Q4_K_M", "x": x, "y": 1.0} for x in (1.0, 1.0, 1.0, 9.0)]
    name_points(dots, "x", "y")
    assert [dot["side"] for dot in dots[:3]].count("none") == 2
    assert dots[3]["side"] == "left"


def test_published_files_are_what_they_are_called(tmp_path):
    """Every figure is a drawing as SVG and PNG, once a task, and every table reads back as CSV with the page's rows."""
    analysis = {
        key: [row for row in rows if row.get("corpus") != "chat"] if isinstance(rows, list) and key != "notes" else rows
        for key, rows in analyses.world(7, 1, 20)[0].items()
    }
    written = publish(analysis, tmp_path)
    assert sorted(written) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    page = build_page(analysis)
    figures = [figure for section in page.sections for figure in section.figures]
    assert len(list((tmp_path / "figures").glob("*.svg"))) == sum(
        max(1, *(len(values) for values in figure.choices.values()), 0) for figure in figures
    )
    for path in written:
        if path.suffix == ".svg":
            assert ET.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - our own file
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
    for table in (table for section in page.sections for table in section.tables):
        rows = list(csv.reader(StringIO((tmp_path / "tables" / f"{table.identity}.csv").read_text("utf-8"))))
        assert len(rows) == 1 + len(table.rows)
        assert rows[0] == [column.text for column in table.columns]
        lines = (tmp_path / "tables" / f"{table.identity}.md").read_text("utf-8").splitlines()
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")}) == 1


@pytest.mark.parametrize("tasks", [1, 2, 8])
def test_terminal_fits_100_columns(tasks):
    """However many tasks and however long the names, no line exceeds 100 columns and no quant is lost."""
    analysis, _ = analyses.world(3, tasks, 20)
    long = analyses.renamed(
        analysis, {"Q6_K": "a-quant-with-a-very-long-name-Q4_K_XL-imatrix", "gsm8k": "a_task_with_a_long_name"}
    )
    out = StringIO()
    print_table(long, Console(file=out, width=100))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    rows = [line.split()[0] for line in lines if re.match(r"F16|Q8_0|a-quant|Q5_K_M", line)]
    assert rows[:4] == ["F16", "Q8_0", next(row for row in rows if row.startswith("a-quant")), "Q5_K_M"]


def test_terminal_prints_names_as_they_are():
    """A quant's name is never read as markup."""
    out = StringIO()
    print_table(analyses.renamed(analyses.world(2, 1, 10)[0], {"Q6_K": "[red]Q4[/red]"}), Console(file=out, width=100))
    assert "[red]Q4[/red]" in out.getvalue()


def test_terminal_marks_equivalent():
    """A quant that is equivalent to the reference has a sign of its own."""
    analysis, _ = analyses.world(2, 1, 10)
    pairs = [row | {"verdict": "equivalent"} for row in analysis["pairs"]]
    out = StringIO()
    print_table(analysis | {"pairs": pairs}, Console(file=out, width=100))
    assert re.search(r"^Q8_0 .* ≈", out.getvalue(), re.MULTILINE)


def test_terminal_without_scores():
    """A table of proxies alone prints the proxies, in at most 100 columns."""
    analysis, _ = analyses.world(4, 1, 10)
    proxies = [row | {"ppl_ratio": 1.1, "rms_dp": 0.02, "kld_p99": 0.4, "kld_p999": 1.7} for row in analysis["proxies"]]
    out = StringIO()
    alone = {"scores": [], "pairs": [], "tasks": [], "claims": [], "proxies": proxies}
    print_table(analysis | alone, Console(file=out, width=100))
    lines = out.getvalue().splitlines()
    assert lines[0].split() == [
        "quant",
        "GB",
        "bpw",
        "PPL",
        "PPL",
        "×",
        "KLD",
        "99%",
        "KLD",
        "99.9%",
        "RMS",
        "Δp",
        "same",
        "top",
    ]
    assert re.match(r"Q8_0 +8\.50 +8\.2", lines[2])
    assert max(map(len, lines)) <= 100


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
