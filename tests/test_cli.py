"""The command line: JSON on stdout, talk on stderr, and nothing heavy before it is needed."""

import json
import subprocess
import sys
from collections.abc import Callable

import pandas as pd
import pytest
from toys import Bench

from evalsuite.cli import main
from evalsuite.task.tasks import read_task_file, task_folders


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Run the command line in this process; give its exit status and its stdout."""

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["evalsuite", *map(str, words)])
        status = main()
        return status, capsys.readouterr().out

    return run


def test_help_imports_nothing_heavy():
    """`--help` answers without the libraries that take seconds to import."""
    code = (
        "import sys; sys.argv = ['evalsuite', '--help']\nfrom evalsuite.cli import main\nmain()\n"
        "heavy = {'numpy', 'pandas', 'scipy', 'altair', 'openai', 'httpx', 'lm_eval', 'datasets', 'xllamacpp', 'gguf'}\n"
        "print(sorted((heavy | {'pydantic'}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "demo" in done.stdout
    assert done.stderr.strip() == "[]"


def test_every_command_gives_one_json_document(bench: Bench, answer: Callable[..., tuple[int, str]]):
    """With --json stdout is one document, from plan to export, and score and report repeat the run's numbers."""
    path, fake = bench.write(tasks=["ends", "echo"]), bench.fake
    plan = json.loads(answer("plan", path, "--llama-cpp", fake, "--json")[1])
    assert [row["to_ask"] for row in plan["arms"]] == [8] * 4
    status, out = answer("run", path, "--llama-cpp", fake, "--json")
    run = json.loads(out)
    assert (status, [arm["new"] for arm in run["arms"]]) == (0, [8] * 4)
    for words in (("score", path, "--llama-cpp", fake), ("report", bench.folder / "results")):
        assert json.loads(answer(*words, "--json")[1])["analysis"] == run["analysis"]
    files = json.loads(answer("export", bench.folder / "results", "--json")[1])["files"]
    assert {file.rsplit("/", 1)[1] for file in files} == {
        "proxies.csv", "chunks.csv", "scores.csv", "items.csv", "items.jsonl", "items.parquet", "manifest.json",
    }  # fmt: skip
    for words in (("tasks",), ("tasks", "agreement"), ("servers",), ("servers", "cpu")):
        assert json.loads(answer(*words, "--json")[1])


def test_exports_hold_every_row_and_the_reports_scores(bench: Bench, answer: Callable[..., tuple[int, str]]):
    """Items have a row a quant × task × sample, CSV, JSONL and Parquet agree, and their means are the report's scores."""
    run = json.loads(answer("run", bench.write(), "--llama-cpp", bench.fake, "--json")[1])
    answer("export", bench.folder / "results")
    folder = bench.folder / "results" / "export"
    items = pd.read_csv(folder / "items.csv")
    assert len(items) == 4 * 3 * 4
    assert list(items.columns[:5]) == ["quant", "provider", "task", "sample_id", "repeat"]
    parquet = pd.read_parquet(folder / "items.parquet")
    jsonl = pd.read_json(folder / "items.jsonl", lines=True)
    assert items["score"].tolist() == parquet["score"].tolist() == jsonl["score"].tolist()
    means = items.groupby(["quant", "task"])["score"].mean()
    reported = {(row["quant"], row["task"]): row["value"] for row in run["analysis"]["scores"]}
    for key, mean in means.items():
        assert reported[key] == pytest.approx(mean)


def test_plan_disarms_nothing(bench: Bench, answer: Callable[..., tuple[int, str]]):
    """`plan` tells of an edit under which answers no longer count, and `run` is refused for it as if nobody had looked."""
    answer("run", bench.write(tasks=["ends"]), "--llama-cpp", bench.fake)
    path = bench.write(sampling={"temperature": 0.7})
    status, out = answer("plan", path, "--llama-cpp", bench.fake, "--json")
    assert (status, "sampling: was" in json.loads(out)["changes"][0]) == (0, True)
    assert answer("run", path, "--llama-cpp", bench.fake)[0] == 2


def test_same_store_same_bytes(bench: Bench, answer: Callable[..., tuple[int, str]]):
    """A report that is written twice has the same bytes, page and numbers."""
    answer("run", bench.write(tasks=["ends"]), "--llama-cpp", bench.fake)
    folder = bench.folder / "results"
    first = [(folder / name).read_bytes() for name in ("report.html", "analysis.json")]
    answer("report", folder)
    assert [(folder / name).read_bytes() for name in ("report.html", "analysis.json")] == first


OWN_SAMPLES = sorted(name for name, folder in task_folders().items() if read_task_file(folder).dataset is None)


@pytest.mark.parametrize("name", OWN_SAMPLES)
def test_a_task_shows_its_first_sample(name: str, answer: Callable[..., tuple[int, str]]):
    """A task that brings or makes its samples shows the first with nothing served and nothing fetched."""
    status, out = answer("tasks", name, "--json")
    shown = json.loads(out)
    assert status == 0
    assert shown["sample"]["prompt"]
    assert shown["sample"]["target"] is not None
