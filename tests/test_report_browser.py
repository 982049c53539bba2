"""The page in a real browser: what it asks for, how it fits, what its controls do by mouse and by keyboard."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import analyses
import pytest

from evalsuite.report.html import write_html

sync_api = pytest.importorskip("playwright.sync_api", reason="the playwright package is not installed")

HOSTILE = "<img src=x onerror=alert(2)><script>alert(1)</script> seven"

CONTRAST = """() => {
  const light = (channel) => channel <= 0.03928 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((value) => light(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = luminance(getComputedStyle(document.body).backgroundColor);
  return [".verdict", ".lead", ".worse", ".better", ".undecided", ".again", ".equal", "a", ".plot svg text"].map((name) => {
    const element = document.querySelector("main " + name) ?? document.querySelector(name);
    const style = getComputedStyle(element);
    const ink = luminance(name.endsWith("text") ? style.fill : style.color);
    return [name, (Math.max(paper, ink) + 0.05) / (Math.min(paper, ink) + 0.05)];
  });
}"""
"""The contrast of text on paper by the formula of WCAG 2.2."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("browser")
    analysis, items = analyses.world(8, 2, 40)
    write_html(
        analysis, items.assign(output=items["output"] + f" {HOSTILE} " + "and so on " * 80), found / "report.html"
    )
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(names)} is on PATH")
    # Chromium refuses its sandbox to root.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=options)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def heard() -> list[str]:
    """Everything that the page asked for or said in the console."""
    return []


@pytest.fixture(scope="module")
def page(browser, folder, heard) -> Iterator["sync_api.Page"]:
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    opened.on("request", lambda request: heard.append(request.url))
    opened.on("console", lambda message: heard.append(message.text))
    opened.on("pageerror", lambda error: heard.append(str(error)))
    opened.goto((folder / "report.html").as_uri())
    opened.wait_for_selector("html[data-drawn]")
    yield opened
    opened.close()


def test_page_asks_for_nothing_and_says_nothing(page, heard, folder):
    """The page is the only request, the console stays empty, and every figure that shows is drawn."""
    assert heard == [(folder / "report.html").as_uri()]
    figures = page.locator("figure.chart:visible")
    assert figures.count() > 10
    assert figures.count() == page.locator("figure.chart:visible svg").count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 900, 1400])
def test_page_fits(browser, folder, width, scheme):
    """Nothing hangs over the edge at any width, and every kind of text has the contrast of 4.5 on its paper."""
    opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened.goto((folder / "report.html").as_uri())
    opened.wait_for_selector("html[data-drawn]")
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    assert [(name, ratio) for name, ratio in opened.evaluate(CONTRAST) if ratio < 4.5] == []
    opened.close()


def test_hostile_names_run_nothing(browser, tmp_path):
    """With names, titles and outputs that look like HTML the page is drawn, nothing in them runs, and no image loads."""
    heard: list[str] = []
    text = f"</script>{HOSTILE}'\"\\\u2028{{{{ 7*7 }}}}"
    write_html(*analyses.hostile(*analyses.world(7, 2, 30), text), tmp_path / "report.html")
    opened = browser.new_page()
    opened.on("dialog", lambda dialog: heard.append(dialog.message))
    opened.on("console", lambda message: heard.append(message.text))
    opened.on("pageerror", lambda error: heard.append(str(error)))
    opened.goto((tmp_path / "report.html").as_uri())
    opened.wait_for_selector("html[data-drawn]")
    opened.locator("#flip-list summary").first.click()
    opened.locator("#flip-list article").first.wait_for()
    assert heard == []
    assert opened.locator("img").count() == 0
    assert opened.locator("figure.chart:visible").count() == opened.locator("figure.chart:visible svg").count()
    opened.close()


def column(page, table: str, index: int) -> list[str]:
    return page.locator(f"#{table} tbody tr:visible").evaluate_all(
        "(rows, index) => rows.map((row) => row.cells[index].textContent)", index
    )


def opened_table(page, table: str) -> None:
    page.locator(f"details:has(> .scroll #{table}), details:has(#{table})").last.evaluate("each => each.open = true")


def test_tables_sort_by_mouse_and_keyboard(page):
    """A heading sorts its column up, then down, by a click or by the Enter key, and says so."""
    heading = page.locator("#table-quants th", has_text="GB")
    sizes = sorted(float(size) for size in column(page, "table-quants", 2))
    heading.locator("button").click()
    assert [float(size) for size in column(page, "table-quants", 2)] == sizes
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert [float(size) for size in column(page, "table-quants", 2)] == sizes[::-1]
    assert heading.get_attribute("aria-sort") == "descending"


def test_focus_is_visible(page):
    """Whatever the keyboard reaches first on the page shows that it has the focus."""
    page.locator("body").evaluate("each => { document.activeElement.blur(); window.scrollTo(0, 0); }")
    for _ in range(12):
        page.keyboard.press("Tab")
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style != "none", page.evaluate("document.activeElement.outerHTML")[:200]


def test_tables_filter(page):
    """Only rows with all the words stay, in any column, and their number is said."""
    opened_table(page, "table-pairs")
    tool = page.locator(".tool", has=page.locator("[data-filter=table-pairs]"))
    before = len(column(page, "table-pairs", 0))
    tool.locator("input").fill("q4_k gsm8k")
    rows = page.locator("#table-pairs tbody tr:visible").all_text_contents()
    assert 0 < len(rows) < before
    assert all("Q4_K" in row and "gsm8k" in row for row in rows)
    assert tool.locator("output").text_content() == f"{len(rows)} of {before} rows"
    tool.locator("input").fill("")
    assert len(column(page, "table-pairs", 0)) == before


def test_a_chosen_task_changes_the_figures(page):
    """The select of a section sets the task of its figures, there and back."""
    places = """[...document.querySelectorAll("#figure-scatter-0 .mark-symbol path")]
      .map((each) => each.getAttribute("transform")).join()"""
    before = page.evaluate(places)
    select = page.locator("#against select[data-signal=task]")
    select.select_option("gsm8k")
    page.wait_for_function(f"before => {places} !== before", arg=before)
    select.select_option("(mean of tasks)")
    page.wait_for_function(f"before => {places} === before", arg=before)


def test_a_chosen_proxy_shows_its_figures(page):
    """One proxy's figures are shown at a time, drawn when they are chosen, with the task chosen before."""
    page.locator("#ranges select[data-signal=task]").select_option("gsm8k")
    page.locator("#ranges select[data-pick]").select_option("File size")
    page.wait_for_function("document.querySelectorAll('#ranges figure:not([hidden]) svg').length === 2")
    assert page.locator("#ranges figure:visible figcaption").all_text_contents() == [
        "File size: quants nearest the reference", "File size: quants farthest from the reference",
    ]  # fmt: skip


def test_changed_samples_by_keyboard(page, heard):
    """Task, quant, change and words narrow the samples; Enter opens one, the reference beside the quant, as text."""
    page.locator("#flip-form [name=task]").select_option("gsm8k")
    page.locator("#flip-form [name=quant]").select_option("IQ4_XS")
    page.locator("#flip-form [name=change]").select_option("lost")
    shown = page.locator("#flip-list > details")
    count = shown.count()
    assert page.locator("#flip-count").text_content().startswith(f"{count} of ")
    assert set(page.locator("#flip-list summary b").all_text_contents()) == {"gsm8k"}
    sample = page.locator("#flip-list .id").first.text_content()
    page.locator("#flip-form [name=text]").fill(sample)
    assert shown.count() == 1
    shown.locator("summary").focus()
    page.keyboard.press("Enter")
    # A browser says that something was opened after the key was dealt with.
    shown.locator("article").first.wait_for()
    names = shown.locator("article h3").all_text_contents()
    assert (names[0], names[1]) == ("F16 reference", "IQ4_XS ▼ lost")
    assert "<script>alert(1)</script>" in shown.locator("article pre").first.text_content()
    assert shown.locator("article img, article script").count() == 0
    assert len(heard) == 1


def test_whole_outputs_are_a_click_away(page, browser, folder):
    """A sample links to its whole output, on a page beside this one that asks for nothing either."""
    asked: list[str] = []
    beside = browser.new_page()
    beside.on("request", lambda request: asked.append(request.url))
    beside.goto(page.locator("#flip-list a").first.evaluate("each => each.href"))
    assert [url.split("#")[0] for url in asked] == [(folder / "report-files" / "flips-2-1.html").as_uri()]
    assert "and so on " * 80 in beside.locator("section:target pre").first.text_content()
    beside.close()


def test_paper_has_everything_open_and_nothing_cut(page):
    """Printing opens what is folded and hides what only a screen can use; afterwards all is as before."""
    closed = "document.querySelectorAll('details:not([open]):not(.flip)').length"
    before = page.evaluate(closed)
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert (before > 0, page.evaluate(closed)) == (True, 0)
    for hidden in ("nav", ".tool", "#flip-more"):
        assert page.locator(f"{hidden}:visible").count() == 0
    page.set_viewport_size({"width": 690, "height": 1000})
    cut = page.evaluate("""[...document.querySelectorAll(".scroll, .scroller")].filter((each) =>
      getComputedStyle(each).overflowX !== "visible" || each.firstElementChild.getBoundingClientRect().width > 690)
      .map((each) => each.innerHTML.slice(0, 90))""")
    assert cut == []
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.evaluate(closed) == before
