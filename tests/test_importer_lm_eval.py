"""Logs of lm-eval's samples, as lm-eval itself writes them, beside logs with something wrong."""

import json
import random
import warnings
from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from evalsuite.errors import SpecError
from evalsuite.importer.read import read_files

TASKS = Path(__file__).with_name("lm_eval_tasks")

Log = Callable[..., Path]


class Guesser(LM):
    """A model that guesses, differently for each seed, and sometimes knows the capital of France."""

    tokenizer_name = "none"

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.draw = random.Random(seed)

    def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[Any]:
        """Return a log-probability each."""
        return [(-self.draw.random(), False) for _ in requests]

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[Any]:
        """Return a city, or nothing that a filter finds."""
        return [self.draw.choice([" The answer is Paris.", " the answer is rome"]) for _ in requests]

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[Any]:
        """Refuse: no task here asks for it."""
        raise NotImplementedError


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, str], float]]:
    """A folder that lm-eval wrote for two quants and two tasks, and the scores that it printed."""
    folder = tmp_path_factory.mktemp("lm-eval")
    for file in TASKS.iterdir():
        if file.is_file():
            (folder / file.name).write_text(file.read_text("utf-8").replace("HERE", str(folder)), "utf-8")
    printed = {}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        warnings.simplefilter("ignore")
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        for seed, quant in enumerate(("Q8_0", "Q4_K_M")):
            tracker = EvaluationTracker(output_path=str(folder / "logs"))
            tracker.general_config_tracker.model_name_sanitized = f"toy__model-{quant}.gguf"
            results = simple_evaluate(
                Guesser(seed), tasks=["animals", "capitals"], task_manager=manager, bootstrap_iters=0, log_samples=True
            )
            samples = results.pop("samples")
            tracker.save_results_aggregated(results, samples)
            for task, rows in samples.items():
                tracker.save_results_samples(task, rows)
            printed[f"model-{quant}", "animals"] = results["results"]["animals"]["acc,none"]
            printed[f"model-{quant}", "capitals"] = results["results"]["capitals"]["exact_match,strict"]
    return folder / "logs", printed


def test_scores_are_those_that_lm_eval_printed(logged: tuple[Path, dict[tuple[str, str], float]]):
    """The folder that lm-eval wrote gives its quants and tasks, a row a document, with the means that it printed."""
    folder, printed = logged
    tables = read_files([folder])
    assert tables.items.groupby(["quant", "task"])["score"].mean().to_dict() == pytest.approx(printed)
    assert tables.items.groupby(["quant", "task"]).size().unique().tolist() == [8, 10]
    assert tables.tasks[["task", "n_planned"]].to_numpy().tolist() == [["animals", 8.0], ["capitals", 10.0]]
    found = {(each["rule"], each["column"], each["detail"]) for each in tables.header["import"]}
    assert found == {
        ("metric", "acc", "is the score of animals."), ("metric", "exact_match", "is the score of capitals."),
        ("first_filter", "filter", "strict is read; left out: loose."),
    }  # fmt: skip


def test_answers_are_what_was_judged(logged: tuple[Path, dict[tuple[str, str], float]]):
    """An answer is the choice or the text that earned the score; where the filter found nothing it is unparsed."""
    items = read_files([logged[0]]).items
    right = pd.Series(
        [str(json.loads(line)["answer"]) for line in (TASKS / "animals.jsonl").read_text("utf-8").splitlines()]
    )
    for _, rows in items[items["task"] == "animals"].groupby("quant"):
        judged = rows["answer"].reset_index(drop=True) == right[rows["sample_id"].astype(int)].reset_index(drop=True)
        assert judged.astype(float).tolist() == rows["score"].tolist()
    cities = items[items["task"] == "capitals"]
    assert set(zip(cities["outcome"], cities["answer"].fillna("none"), cities["output"], strict=True)) == {
        ("ok", "Paris", " The answer is Paris."), ("unparsed", "none", " the answer is rome"),
    }  # fmt: skip


def test_logs_meet_the_tables_of_their_quants(logged: tuple[Path, dict[tuple[str, str], float]], tmp_path: Path):
    """A folder named after a file joins the table's quant whose name its own name ends with."""
    (tmp_path / "proxies.csv").write_text("quant,size_gb,kld_mean\nQ4_K_M,4.9,0.03\nQ8_0,8.5,0.001\n", encoding="utf-8")
    tables = read_files([tmp_path / "proxies.csv", logged[0]])
    assert sorted(tables.items["quant"].unique()) == tables.quants["quant"].tolist() == ["Q4_K_M", "Q8_0"]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Write a log: a line a document, with the values of its metrics."""

    def write(name: str, *samples: dict[str, Any], **shared: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            {"doc_id": at, "doc_hash": f"h{at}", "metrics": list(row), **shared, **row}
            for at, row in enumerate(samples)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("folders", "quants"),
    [
        (("Q8_0", "Q4_0"), ["Q4_0", "Q8_0"]),
        (("Q8_0/local", "Q4_0/local"), ["Q4_0", "Q8_0"]),
        (("org__m-Q8_0.gguf", "org__m-Q4_0.gguf"), ["m-Q4_0", "m-Q8_0"]),
        (("a__Q8_0", "b__Q8_0"), ["a__Q8_0", "b__Q8_0"]),
    ],
)
def test_folders_tell_the_quants(log: Log, folders: Sequence[str], quants: list[str]):
    """The quant is the part of the folder that differs, without the maker and the ending where that leaves it unique."""
    paths = [log(f"{folder}/samples_arc_2026-01-01T00-00-00.123456.jsonl", {"acc": 1.0}) for folder in folders]
    assert read_files(paths).quants["quant"].tolist() == quants


def test_the_first_metric_between_0_and_1_is_the_score(log: Log):
    """Lengths, lists and percents are passed over; truth values are scores, and a score that is NaN is unscored."""
    values = [
        {"words": 12.5, "parts": [True], "strict": True, "loose": 0.5},
        {"words": 3, "parts": [], "strict": nan, "loose": 1},
    ]
    items = read_files([log("Q8_0/samples_ifeval.jsonl", *values)]).items
    assert (items["score"].tolist()[:1], items["outcome"].tolist()) == ([1.0], ["ok", "not_run"])
    older = log("Q4_0/samples_arc.jsonl", {"acc": 0.0, "acc_norm": 1.0}, metrics=None, target="x")
    assert read_files([older]).items["score"].tolist() == [0.0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"acc": 12.5}, "no metric lies between 0 and 1 for every document. Metrics: acc"),
        ({"acc": 1.0, "doc_id": None}, ":1: has no doc_id"),
        ({"acc": 1.0, "doc_hash": "other"}, "doc_id '0' is another document than in the other logs of arc"),
        ({"f1": 1.0}, "arc would be judged by f1 after none, and by acc after none in other logs"),
        ({"acc": 1.0, "filter": "strict"}, "arc would be judged by acc after strict, and by acc after none"),
    ],
)
def test_logs_that_do_not_fit_are_refused(log: Log, line: dict[str, Any], said: str):
    """A log without a score, without documents, or of another version of the task is refused by name."""
    first, second = log("A/samples_arc.jsonl", {"acc": 1.0}), log("B/samples_arc.jsonl", line)
    with pytest.raises(SpecError) as caught:
        read_files([first, second])
    assert said in str(caught.value)
    assert str(caught.value).startswith("B/samples_arc.jsonl")


def test_two_logs_of_one_task_in_one_folder_are_refused(log: Log):
    """Whether two logs are two runs or two quants nobody can tell, so neither is dropped unasked."""
    paths = [log(f"local/samples_arc_2026-01-0{day}T00-00-00.jsonl", {"acc": 1.0}) for day in (1, 2)]
    with pytest.raises(SpecError, match="are logs of one task"):
        read_files(paths)
    empty = log("local2/samples_arc.jsonl")
    with pytest.raises(SpecError, match="holds no samples"):
        read_files([empty])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["acc", "x"]), inner, max_size=2),
    max_leaves=6,
)
KEYS = ("doc_id", "doc_hash", "metrics", "acc", "filter", "resps", "filtered_resps", "acc_mutual_info")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(KEYS), JSON), max_size=4), st.booleans())
def test_any_log_gives_tables_or_a_refusal(log: Log, lines: list[dict[str, Any]], sound: bool):
    """Whatever JSON the lines hold, they end in tables or a SpecError."""
    shared = {"acc": 1.0, "metrics": ["acc"]} if sound else {}
    path = log("Q8_0/samples_arc.jsonl", *({**line, **shared} for line in lines))
    try:
        items = read_files([path]).items
    except SpecError as error:
        assert "samples_arc.jsonl" in str(error)  # noqa: PT017 - either is right
    else:
        assert len(items) <= len(lines)
