"""The lm-eval adapter against lm-eval itself: the same answers must earn the same scores."""

import asyncio
import json
import os
import random
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import numpy as np
import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from evalsuite.errors import MachineError, SpecError
from evalsuite.records import Generate, Loglikelihood, Outcome, Output, Request, Sample, Sampling, Scored, Unscored
from evalsuite.serve.client import Endpoint
from evalsuite.serve.launch import arguments, profiles
from evalsuite.serve.process import ServerProcess
from evalsuite.task.lm_eval import load_lm_eval
from evalsuite.task.solvers import replay
from evalsuite.task.tasks import Task

TASKS = Path(__file__).with_name("lm_eval_tasks")
SHIPPED = Path(lm_eval.__file__).parent / "tasks"
Answers = dict[tuple[int, int], list[Any]]
"""What a model answered: by document and position within it, one answer a repeat, as lm-eval's models return it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our task files with the paths of their data filled in: lm-eval reads them relative to where it runs."""
    folder = tmp_path_factory.mktemp("tasks")
    for file in TASKS.iterdir():
        if file.is_file():
            (folder / file.name).write_text(file.read_text("utf-8").replace("HERE", str(folder)), "utf-8")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def variant(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a task file which includes one of ours and changes keys; it tells the folder."""

    def write(base: str, **changed: Any) -> Path:
        text = yaml.safe_dump({"include": str(folder / f"{base}.yaml"), "task": "variant", **changed})
        for key in {"process_docs", "process_results"} & changed.keys():
            text = text.replace(f"{key}: ", f"{key}: !function scorers.")
        (tmp_path / "variant.yaml").write_text(text, "utf-8")
        (tmp_path / "scorers.py").write_text((TASKS / "scorers.py").read_text("utf-8"), "utf-8")
        return tmp_path

    return write


class TableModel(LM):
    """A model of lm-eval that answers from a table; conversations reach it as JSON."""

    tokenizer_name = "none"

    def __init__(self, answers: Answers) -> None:
        super().__init__()
        self.answers = answers
        self.asked: Counter[tuple[int, int]] = Counter()

    def apply_chat_template(self, chat_history: list[Any], **_: Any) -> str:
        """Return the messages as text, which they have to be here."""
        return json.dumps(chat_history)

    def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[Any]:
        """Return the next answer of each request."""
        return [self._next((request.doc_id, request.idx)) for request in requests]

    generate_until = loglikelihood

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[Any]:
        """Refuse: no task here asks for it."""
        raise NotImplementedError

    def _next(self, key: tuple[int, int]) -> Any:
        self.asked[key] += 1
        return self.answers[key][self.asked[key] - 1]


def requests_of(task: Task, sample: Sample, sampling: Sampling | None = None) -> tuple[Request, ...]:
    return next(task.solve(sample, sampling or Sampling()))


def scored_by_us(task: Task, outputs: Mapping[str, tuple[Output, ...]]) -> dict[int, Scored]:
    """Replay every sample from its outputs and score it; by document number."""
    scores = {}
    for sample in task.samples:
        given = outputs[sample.sample_id]
        replayed = replay(task.solve(sample, Sampling()), lambda step, _request, given=given: given[step])
        scores[sample.metadata["doc_id"]] = task.score(sample, replayed)
    return scores


def scored_by_lm_eval(name: str, folder: Path, answers: Answers, *, chat: bool) -> Mapping[str, Any]:
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return simple_evaluate(
            TableModel(answers), tasks=[name], task_manager=manager, bootstrap_iters=0,
            apply_chat_template=chat, fewshot_as_multiturn=chat,
        )  # fmt: skip


def table(task: Task, outputs: Mapping[str, tuple[Output, ...]]) -> Answers:
    """Turn our outputs into what lm-eval's models return; a log-probability serves all repeats, a text its own."""
    answers: Answers = {}
    for sample in task.samples:
        requests, number = requests_of(task, sample), sample.metadata["doc_id"]
        for position, (request, output) in enumerate(zip(requests, outputs[sample.sample_id], strict=True)):
            if isinstance(request, Loglikelihood):
                answers[number, position] = [(output.logprob, output.is_greedy)]
            else:
                answers.setdefault((number, 0), []).append(output.text)
    return answers


def assert_same_scores(name: str, folder: Path, task: Task, outputs: Mapping[str, tuple[Output, ...]]) -> None:
    """Compare prompts, every metric of every document under every filter, and the mean of the scores."""
    plain_name, chat = name.partition(":")[0], isinstance(task.samples[0].prompt, tuple)
    theirs = scored_by_lm_eval(plain_name, folder, table(task, outputs), chat=chat)
    ours = scored_by_us(task, outputs)
    prompts = {sample.metadata["doc_id"]: requests_of(task, sample)[0].prompt for sample in task.samples}
    filters = list(dict.fromkeys(entry["filter"] for entry in theirs["samples"][plain_name]))
    primary = task.description.rpartition(" ")[2].rstrip(".")
    for entry in theirs["samples"][plain_name]:
        score, context = ours[entry["doc_id"]], entry["arguments"][0][0]
        assert prompts[entry["doc_id"]] == (tuple(json.loads(context)) if chat else context)
        for metric in entry["metrics"]:
            assert score.metrics[f"{metric},{entry['filter']}"] == as_json(entry[metric])
        if entry["filter"] == filters[0]:
            assert score.value == entry[primary]
    values = [score.value for score in ours.values()]
    assert sum(values) / len(values) == theirs["results"][plain_name][f"{primary},{filters[0]}"]


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=lambda other: other.tolist()))


def random_outputs(task: Task) -> dict[str, tuple[Output, ...]]:
    """Answers of a model that is sometimes right, sometimes in another format, sometimes off the point."""
    forms = ("The answer is {}.", "the answer is {}", "{}", "{} or so 9", "I do not know.", "no idea at all")
    outputs = {}
    for sample in task.samples:
        rng = np.random.default_rng([7, sample.metadata["doc_id"]])
        right = str(sample.target).removeprefix("The answer is ").removesuffix(".")
        words = (right, right, right, "Berlin" if right.isalpha() else "17")
        outputs[sample.sample_id] = tuple(
            Output(Outcome.OK, logprob=-float(rng.gamma(2, 3)), is_greedy=bool(rng.random() < 0.5))
            if isinstance(request, Loglikelihood)
            else Output(Outcome.OK, text=str(rng.choice(forms)).format(rng.choice(words)))
            for request in requests_of(task, sample)
        )
    return outputs


@pytest.mark.parametrize("name", ["capitals", "capitals:raw", "sums", "animals", "animals:chat", "blanks", "last_word"])
def test_scores_are_those_of_lm_eval(name: str, folder: Path) -> None:
    """Prompts, all metrics under all filters, and the mean equal what lm-eval makes of the same answers."""
    task = load_lm_eval(name, include=[folder])
    outputs = random_outputs(task)
    assert len({score.value for score in scored_by_us(task, outputs).values()}) == 2  # some right, some wrong
    assert_same_scores(name, folder, task, outputs)


@pytest.mark.parametrize("metric", ["acc_norm", "acc_bytes", "acc_mutual_info"])
def test_the_first_metric_is_the_score(metric: str, variant: Callable[..., Path]) -> None:
    """The score, the answer and the margin's sign follow the first metric of the task, whichever it is."""
    metrics = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in (metric, "acc")]
    folder = variant("animals", metric_list=metrics)
    task = load_lm_eval("variant", include=[folder])
    outputs = random_outputs(task)
    assert_same_scores("variant", folder, task, outputs)
    assert_right_choice_earns_one(task, outputs)


def test_a_begun_answer_is_not_part_of_the_answer(variant: Callable[..., Path]) -> None:
    """Where the task begins the answer, lm-eval sees what follows, whether or not the server repeats the beginning."""
    folder = variant("capitals", gen_prefix="It is", filter_list=None, doc_to_target="capital")
    task = load_lm_eval("variant", include=[folder])
    follows = {
        sample.sample_id: (Output(Outcome.OK, text=sample.target if number % 2 else "Rome"),)
        for number, sample in enumerate(task.samples)
    }
    repeated = {key: (replace(output, text="It is" + output.text),) for key, (output,) in follows.items()}
    assert task.samples[0].prompt[-1] == {"role": "assistant", "content": "It is"}
    assert scored_by_us(task, repeated) == scored_by_us(task, follows)
    assert_same_scores("variant", folder, task, follows)


def assert_right_choice_earns_one(task: Task, outputs: Mapping[str, tuple[Output, ...]]) -> None:
    for sample in task.samples:
        score = task.score(sample, outputs[sample.sample_id])
        assert (score.value == 1) == (score.answer == sample.choices[sample.target])
        assert score.value == 1 or score.margin < 0


def test_choices_within_the_context(folder: Path) -> None:
    """Where the choices stand in the context, each is asked with the same continuation, and the right one earns 1."""
    task = load_lm_eval("blanks", include=[folder])
    for sample in task.samples:
        requests = requests_of(task, sample)
        assert tuple(request.prompt for request in requests) == sample.choices
        assert len({request.continuation for request in requests}) == 1
    assert_right_choice_earns_one(task, random_outputs(task))
    assert task.chance == 0.5


def test_margin_is_the_log_odds_of_the_right_choice(folder: Path) -> None:
    """Three choices of probability 0.5, 0.25 and 0.25 give the first one the log-odds 0, the others ln(1/3)."""
    task = load_lm_eval("animals", include=[folder])
    for sample in task.samples:
        outputs = tuple(Output(Outcome.OK, logprob=float(np.log(p)), is_greedy=False) for p in (0.5, 0.25, 0.25) * 2)
        expected = 0.0 if sample.target == 0 else np.log(1 / 3)
        assert task.score(sample, outputs).margin == pytest.approx(expected, abs=1e-12)
    assert task.chance == pytest.approx(1 / 3)


def test_requests_carry_the_generation_settings(folder: Path) -> None:
    """Stops, the smaller token limit and, only where the task samples, its temperature; one seed for each repeat."""
    capitals, sums = load_lm_eval("capitals", include=[folder]), load_lm_eval("sums:raw", include=[folder])
    sampling = Sampling(temperature=0.3, seed=40, max_tokens=12)
    (request,) = requests_of(capitals, capitals.samples[0], sampling)
    assert request == Generate(capitals.samples[0].prompt, sampling, stop=("Question:",))
    assert [message["role"] for message in request.prompt] == ["system", *["user", "assistant"] * 2, "user"]
    repeats = requests_of(sums, sums.samples[0], sampling)
    assert {(each.stop, each.sampling.temperature, each.sampling.top_p) for each in repeats} == {(("\n",), 0.7, 0.9)}
    assert [(each.sampling.seed, each.sampling.max_tokens) for each in repeats] == [(40, 8), (41, 8), (42, 8)]
    assert isinstance(repeats[0].prompt, str)


def test_tasks_that_shuffle_do_so_as_in_lm_eval(variant: Callable[..., Path]) -> None:
    """A task that draws from the global generator gets lm-eval's seed, and the generator goes on as if nothing was."""
    folder = variant("last_word", process_docs="shuffled")
    state = random.getstate()
    task = load_lm_eval("variant", include=[folder])
    assert random.getstate() == state
    prompts = {sample.metadata["doc_id"]: sample.prompt for sample in task.samples}
    theirs = scored_by_lm_eval("variant", folder, table(task, random_outputs(task)), chat=False)
    assert prompts == {entry["doc_id"]: entry["arguments"][0][0] for entry in theirs["samples"]["variant"]}
    assert [prompts[number] for number in range(7)] != [sample.prompt for sample in sorted(task.samples, key=by_id)]


def by_id(sample: Sample) -> str:
    return sample.sample_id


def test_samples_are_named_by_the_dataset_or_by_number(
    folder: Path, tmp_path: Path, variant: Callable[..., Path]
) -> None:
    """An id of the dataset is kept; without one, or if two are equal, it is the document's number; nested order."""
    capitals, sums, last = (load_lm_eval(name, include=[folder]) for name in ("capitals", "sums", "last_word"))
    (tmp_path / "rows.jsonl").write_text('{"idx": 1, "text": "a b"}\n' * 3, "utf-8")
    data = {"data_files": {"test": str(tmp_path / "rows.jsonl")}}
    repeated = load_lm_eval("variant", include=[variant("last_word", dataset_kwargs=data)])
    assert {sample.sample_id for sample in capitals.samples} >= {"cap-france", "cap-japan"}
    assert {sample.sample_id for sample in sums.samples} == set("012345")
    assert {sample.sample_id for sample in repeated.samples} == {"0", "1", "2"}
    assert {sample.sample_id for sample in last.samples} == {str(100 + number) for number in range(7)}
    assert [sample.sample_id for sample in sums.samples] != sorted(sample.sample_id for sample in sums.samples)


def test_signature_names_prompts_and_scoring(folder: Path, variant: Callable[..., Path]) -> None:
    """Loading twice gives one signature; a prompt, a filter or a scorer changed gives another."""
    metrics = [{"metric": "right", "aggregation": "mean", "higher_is_better": True}]
    changes = (
        {}, {"doc_to_text": "{{country}}"}, {"num_fewshot": 1}, {"filter_list": None},
        {"metric_list": metrics, "process_results": "fails_on_maybe"},
        {"metric_list": metrics, "process_results": "fails_on_maybe", "metadata": {"version": 3}},
    )  # fmt: skip
    signatures = [load_lm_eval(name, include=[folder]).signature for name in ("capitals", "capitals", "capitals:raw")]
    signatures += [load_lm_eval("variant", include=[variant("capitals", **change)]).signature for change in changes]
    assert signatures[0] == signatures[1]
    assert len(set(signatures)) == len(signatures) - 1


@pytest.mark.parametrize(
    ("text", "outcome", "expected"),
    [
        ("The answer is Paris.", Outcome.OK, Scored(1.0, Outcome.OK, "Paris")),
        ("The answer is Rome.", Outcome.OK, Scored(0.0, Outcome.OK, "Rome")),
        ("it is Paris", Outcome.OK, Scored(0.0, Outcome.UNPARSED, "[invalid]")),
        ("The answer is Paris. It", Outcome.TRUNCATED, Scored(1.0, Outcome.OK, "Paris")),
        ("Let me think about", Outcome.TRUNCATED, Scored(0.0, Outcome.TRUNCATED, "[invalid]")),
        ("", Outcome.EMPTY, Scored(0.0, Outcome.EMPTY)),
    ],
)
def test_outcomes(text: str, outcome: Outcome, expected: Scored, folder: Path) -> None:
    """What the filter cannot find is unparsed; what the limit cut is truncated unless it is right all the same."""
    task = load_lm_eval("capitals", include=[folder])
    sample = next(sample for sample in task.samples if sample.sample_id == "cap-france")
    score = task.score(sample, (Output(outcome, text=text, reasoning="The answer is Paris."),))
    assert (score.value, score.outcome, score.answer) == (expected.value, expected.outcome, expected.answer)


def test_a_scorer_that_fails_is_not_the_models_fault(variant: Callable[..., Path]) -> None:
    """An exception of the task's own scorer leaves the sample unscored, with the reason; others are scored."""
    metrics = [{"metric": "right", "aggregation": "mean", "higher_is_better": True}]
    folder = variant("capitals", metric_list=metrics, process_results="fails_on_maybe", filter_list=None)
    task = load_lm_eval("variant", include=[folder])
    sample = next(sample for sample in task.samples if sample.sample_id == "cap-france")
    assert task.score(sample, (Output(Outcome.OK, text="Paris"),)).value == 1
    failed = task.score(sample, (Output(Outcome.OK, text="maybe Paris"),))
    assert isinstance(failed, Unscored)
    assert "KeyError('maybe')" in failed.reason


def test_a_metric_beyond_one_is_passed_over(variant: Callable[..., Path]) -> None:
    """A metric in per cent is not taken as the score when a share stands beside it."""
    metrics = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("right", "share")]
    task = load_lm_eval("variant", include=[variant("capitals", metric_list=metrics, process_results="percent")])
    score = task.score(task.samples[0], (Output(Outcome.OK, text="Berlin"),))
    assert (score.value, score.metrics["right,strict"]) == (0.25, 0.0)


BAD_FILES = [
    ({"output_type": "loglikelihood_rolling"}, SpecError, ["output_type loglikelihood_rolling", "not supported"]),
    ({"unsafe_code": True}, SpecError, ["would run code that the model wrote"]),
    ({"doc_to_image": "picture"}, SpecError, ["only text"]),
    ({"process_results": "absent"}, SpecError, ["no function 'absent'"]),
    ({"doc_to_text": "{{country"}, SpecError, ["TemplateSyntaxError"]),
    ({"test_split": "tset"}, SpecError, ["tset"]),
    ({"num_fewshot": 9}, SpecError, ["lm-eval cannot load it"]),
    ({"dataset_kwargs": {"data_files": {"test": "no/such.jsonl"}}}, SpecError, ["no/such.jsonl", "dataset_kwargs"]),
    ({"metric_list": [{"metric": "bleu"}, {"metric": "ter"}]}, SpecError, ["bleu, ter", "metric_list"]),
]


@pytest.mark.parametrize(("changed", "kind", "said"), BAD_FILES)
def test_what_cannot_be_asked_is_refused(
    changed: dict[str, Any], kind: type[Exception], said: list[str], variant: Callable[..., Path]
) -> None:
    """A task that cannot be asked, loaded or scored is the user's to mend, and the message says what."""
    folder = variant("capitals", **changed)
    with pytest.raises(kind) as caught:
        load_lm_eval("variant", include=[folder])
    assert str(caught.value).startswith("lm-eval:variant")
    for words in said:
        assert words in str(caught.value)


def test_a_missing_package_is_named(variant: Callable[..., Path]) -> None:
    """A task whose code imports what is not installed says what to install."""
    folder = variant("capitals", process_results="percent")
    (folder / "scorers.py").write_text("import no_such_package\n", "utf-8")
    with pytest.raises(MachineError, match=r"lm-eval:variant needs a Python package.*`pip install no-such-package`"):
        load_lm_eval("variant", include=[folder])


def test_a_broken_task_file_is_named(tmp_path: Path) -> None:
    """A task that is not found is not a wrong name when a file beside is no YAML."""
    (tmp_path / "list.yaml").write_text("- 1\n", "utf-8")
    (tmp_path / "mine.yaml").write_text("task: mine\n  output_type: loglikelihood\n", "utf-8")
    with pytest.raises(SpecError, match=r"mine\.yaml: not valid YAML: .*line 2"):
        load_lm_eval("mine", include=[tmp_path])


def test_the_form_of_the_prompts_is_chat_or_raw(folder: Path) -> None:
    """Anything else behind the name is refused."""
    with pytest.raises(SpecError, match=r"lm-eval:capitals:rwa: after the name comes `:chat` or `:raw`"):
        load_lm_eval("capitals:rwa", include=[folder])


def test_shipped_definitions_work_on_local_data(tmp_path: Path) -> None:
    """lm-eval's arc_easy scores local files: named in a task file of one's own, or a folder in the hub's layout."""
    rows = [
        {"id": f"Q_{number}", "question": f"Which is {word}?", "answerKey": "ABC"[number % 3],
         "choices": {"text": ["a stone", "a tree", "a cloud"], "label": ["A", "B", "C"]}}
        for number, word in enumerate(("hard", "green", "white", "heavy"))
    ]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    hub, own = tmp_path / "hub", tmp_path / "own"
    own.mkdir()
    for split in ("train", "validation", "test"):
        (hub / "ARC-Easy").mkdir(parents=True, exist_ok=True)
        (hub / "ARC-Easy" / f"{split}.jsonl").write_text(text, "utf-8")
    configs = [{"config_name": "ARC-Easy", "data_files": [
        {"split": split, "path": f"ARC-Easy/{split}.jsonl"} for split in ("train", "validation", "test")
    ]}]  # fmt: skip
    (hub / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n", "utf-8")
    arc = {"include": str(SHIPPED / "arc" / "arc_easy.yaml")}
    files = {split: str(hub / "ARC-Easy" / f"{split}.jsonl") for split in ("train", "validation", "test")}
    local = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    (own / "one.yaml").write_text(yaml.safe_dump({**arc, "task": "from_files", **local}), "utf-8")
    (own / "two.yaml").write_text(yaml.safe_dump({**arc, "task": "from_folder"}), "utf-8")
    from_files = load_lm_eval("from_files", include=[own])
    from_folder = load_lm_eval("from_folder", include=[own], data=hub)
    assert from_files.samples == from_folder.samples
    assert {sample.sample_id for sample in from_files.samples} == {"Q_0", "Q_1", "Q_2", "Q_3"}
    assert_same_scores("from_files", own, from_files, random_outputs(from_files))


OFFLINE = """
import json, sys
from evalsuite.errors import EvalsuiteError
from evalsuite.task.lm_eval import load_lm_eval
said = {}
for name in sys.argv[1:]:
    try:
        load_lm_eval(name)
    except EvalsuiteError as error:
        said[name] = [type(error).__name__, str(error)]
print(json.dumps(said))
"""


def test_shipped_tasks_offline(tmp_path: Path) -> None:
    """Wrong names, groups, tags, code and data that is not here are told plainly; nothing else is on either stream."""
    expected = {
        "gsm8kk": ("SpecError", "Did you mean 'gsm8k'?"),
        "no way that this is a name 0123456789": ("SpecError", "`lm-eval ls tasks`"),
        "mmlu": ("SpecError", "is a group, not one task. Name the tasks you want: lm-eval:mmlu_stem,"),
        "ai2_arc": (
            "SpecError",
            "is a tag, not one task. Name the tasks you want: lm-eval:arc_challenge, lm-eval:arc_easy.",
        ),
        "humaneval": ("SpecError", "would run code that the model wrote"),
        "wikitext": ("SpecError", "output_type loglikelihood_rolling"),
        "arc_easy": ("MachineError", "'allenai/ai2_arc' is neither in the hub's cache nor to be fetched"),
    }
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONWARNINGS": "default"}
    run = subprocess.run(
        [sys.executable, "-c", OFFLINE, *expected], env=environ, capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    said = json.loads(run.stdout)
    for name, (kind, words) in expected.items():
        assert said[name][0] == kind
        assert words in said[name][1]


async def ask(tasks: Sequence[Task], model: Path, log: Path) -> list[dict[str, tuple[Output, ...]]]:
    """Ask a real server all samples of some tasks."""
    server = ServerProcess([sys.executable, "-m", "evalsuite.serve.embedded"], log)
    settings = {"host": server.host, "port": 0, "alias": server.alias, "kv_cache": "f16", "template": None, "seed": 1}
    server.spawn(arguments(profiles()["ci"], model=model, **settings))
    try:
        async with Endpoint(await server.ready(0), in_flight=4, cache_prompt=False, grace_s=60.0) as endpoint:
            await endpoint.read_settings()
            await endpoint.verify_forcing()
            return [
                {sample.sample_id: await answers(endpoint, requests_of(task, sample)) for sample in task.samples}
                for task in tasks
            ]
    finally:
        await server.stop()


async def answers(endpoint: Endpoint, requests: Sequence[Request]) -> tuple[Output, ...]:
    answered = await asyncio.gather(*(endpoint.ask(request) for request in requests))
    return tuple(each.output for each in answered)


@pytest.mark.live
def test_a_real_models_answers_score_as_in_lm_eval(smollm2: Path, tmp_path: Path, folder: Path) -> None:
    """What a real server answers to the three kinds of task earns what lm-eval gives for the same outputs."""
    names = ("capitals", "animals", "last_word")
    tasks = [load_lm_eval(name, include=[folder]) for name in names]
    for name, task, outputs in zip(names, tasks, asyncio.run(ask(tasks, smollm2, tmp_path / "log")), strict=True):
        assert all(output.outcome in {Outcome.OK, Outcome.TRUNCATED} for each in outputs.values() for output in each)
        assert_same_scores(name, folder, task, outputs)


INSTRUCTIONS = [
    ({"key": 1, "prompt": "No commas, please.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
     "None at all.", "One, two."),
    ({"key": 2, "prompt": "Answer as JSON, in capitals.",
      "instruction_id_list": ["detectable_format:json_format", "change_case:english_capital"], "kwargs": [{}, {}]},
     '{"A": "THE SKY IS BLUE AND THE GRASS IS GREEN"}', '{"a": "the sky is blue and the grass is green"}'),
    ({"key": 3, "prompt": "At least five words.", "instruction_id_list": ["length_constraints:number_words"],
      "kwargs": [{"relation": "at least", "num_words": 5}]}, "One two three four five", "One two three"),
    ({"key": 4, "prompt": "At least three sentences.", "instruction_id_list": ["length_constraints:number_sentences"],
      "kwargs": [{"relation": "at least", "num_sentences": 3}]}, "A. B. C.", "A."),
]  # fmt: skip


def test_ifeval_is_scored_and_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """IFEval scores answers by lm-eval's checkers; without NLTK's data, sentences are not counted and the samples left out."""
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr(nltk, "download", lambda *_, **__: False)
    rows = "".join(json.dumps(row) + "\n" for row, *_ in INSTRUCTIONS)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text(rows, "utf-8")
    task = load_lm_eval("ifeval", data=tmp_path / "data")
    assert "1 samples are left out, as what scores them is missing: NLTK's punkt_tab" in task.notes[0]
    samples = {sample.sample_id: sample for sample in task.samples}
    assert samples.keys() == {"1", "2", "3"}
    for row, right, wrong in INSTRUCTIONS[:3]:
        scores = [task.score(samples[str(row["key"])], (Output(Outcome.OK, text),)) for text in (right, wrong)]
        assert [score.value for score in scores] == [1, 0]
    (tmp_path / "data" / "train.jsonl").write_text(json.dumps(INSTRUCTIONS[3][0]) + "\n", "utf-8")
    with pytest.raises(
        MachineError, match=r"cannot be scored: NLTK's punkt_tab. Fetch it: `python -m nltk.downloader punkt_tab`"
    ):
        load_lm_eval("ifeval", data=tmp_path / "data")
