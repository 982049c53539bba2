"""Tasks that lm-eval defines: it writes the prompts, filters the answers and computes the metrics; the rest is ours.

Of lm-eval 0.4.13 are used: TaskManager, `build_all_requests`, the instances, `apply_filters`, `process_results`. That
is half private, so the tests compare every score with `lm_eval.simple_evaluate`.
"""

import inspect
import io
import json
import logging
import math
import random
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx
import lm_eval
import numpy as np
import yaml
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean, nanmean
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Entry, Kind
from lm_eval.tasks._yaml_loader import load_yaml
from numpy.typing import NDArray

from evalsuite.errors import MachineError, SpecError
from evalsuite.identity import content_id
from evalsuite.records import (
    Generate,
    Loglikelihood,
    Outcome,
    Output,
    Prompt,
    Request,
    Sample,
    Sampling,
    Score,
    Scored,
    Unscored,
)
from evalsuite.task.solvers import Dialogue
from evalsuite.task.tasks import LM_EVAL, Task, nested

_ASKED = {"generate_until", "multiple_choice", "loglikelihood"}
_FORMS = ("chat", "raw")
_LOCAL_FORMATS = {"arrow", "csv", "json", "parquet", "text"}
_ID_FIELDS = ("id", "sample_id", "task_id", "question_id", "key", "idx", "unique_id", "uid")
_TOKEN_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_NO_MATCH = (None, "", "[invalid]")
_Floats = NDArray[np.float64]


def load_lm_eval(name: str, *, include: Sequence[Path] = (), data: Path | None = None) -> Task:
    """Load a task that ships with lm-eval or has a YAML file below the folders of `include`, few-shot examples and all.

    `name` is lm-eval's, with `:chat` or `:raw` behind it to say whether prompts are conversations (few-shot examples as
    turns) or raw text; left out, `generate_until` tasks are conversations and all others raw text. `data` is a folder
    that stands in for the task's dataset, in the hub's layout. Sample ids are the dataset's own (`id`, `idx`, …) where
    it has them, else the document's number from 0.

    Sampling is the sweep's; a task that samples (`do_sample`) brings its own temperature, and the smaller of both token
    limits holds. A task's `repeats` are asked with one seed each.

    The score is the first metric of the task that lm-eval averages over samples, between 0 and 1, higher is better,
    after the task's first filter; `Scored.metrics` has all metrics as `metric,filter`. Raises SpecError for an unknown
    name, a group, a task that cannot be asked or scored here; MachineError for a dataset or a Python package that this
    machine lacks.
    """
    name, _, form = name.partition(":")
    if form and form not in _FORMS:
        raise SpecError(f"{LM_EVAL}{name}:{form}: after the name comes `:chat` or `:raw`, or nothing.")
    with _quiet(), _as_in_lm_eval():
        manager, entry = _find(name, tuple(include))
        _refuse(entry)
        task = _build(manager, entry, data, form)
        return _task(task, f"{name}:{form}" if form else name)


def _find(name: str, include: tuple[Path, ...]) -> tuple[TaskManager, Entry]:
    manager = _manager(include, defaults=False)
    if name not in manager.task_index:
        _refuse_broken(include)
        manager = _manager(include, defaults=True)
    if name not in manager.task_index:
        close = get_close_matches(name, manager.all_tasks, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "`lm-eval ls tasks` lists the tasks that it ships."
        raise SpecError(f"{LM_EVAL}{name}: lm-eval has no task of that name. {hint}")
    return manager, manager.task_index[name]


def _refuse_broken(include: Iterable[Path]) -> None:
    """Raise SpecError for a file that is not YAML, which lm-eval passes over in silence."""
    for file in (file for folder in include for file in sorted(folder.rglob("*.yaml"))):
        try:
            load_yaml(file, resolve_func=False, recursive=False)
        except yaml.YAMLError as error:
            raise SpecError(f"{file}: not valid YAML: {' '.join(str(error).split())}.") from error
        except ValueError:  # a list, say: not a task file
            continue


@cache
def _manager(include: tuple[Path, ...], *, defaults: bool) -> TaskManager:
    """Index task files; lm-eval's own are 15 600 and take seconds."""
    return TaskManager(include_path=[*include], include_defaults=defaults)


def _refuse(entry: Entry) -> None:
    """Raise SpecError for what cannot be asked or scored here, before lm-eval imports code or fetches data for it."""
    where, config = f"{LM_EVAL}{entry.name}", entry.cfg or {}
    if entry.kind in {Kind.GROUP, Kind.TAG}:
        members = sorted(entry.tags) if entry.kind is Kind.TAG else [_member(member) for member in config["task"]]
        listed = ", ".join(f"{LM_EVAL}{member}" for member in members)
        raise SpecError(f"{where} is a {entry.kind.name.lower()}, not one task. Name the tasks you want: {listed}.")
    if config.get("unsafe_code"):
        raise SpecError(
            f"{where} would run code that the model wrote, without a sandbox: such lm-eval tasks are refused."
        )
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        raise SpecError(f"{where} shows pictures or plays sounds: only text can be asked.")
    if (kind := config.get("output_type", "generate_until")) not in _ASKED:
        raise SpecError(
            f"{where} has output_type {kind}, which is not supported (supported: {', '.join(sorted(_ASKED))}). "
            "The perplexity of a text is measured by the proxies of a sweep."
        )


def _member(member: str | Mapping[str, Any]) -> str:
    return member if isinstance(member, str) else str(member.get("task") or member["group"])


def _build(manager: TaskManager, entry: Entry, data: Path | None, form: str) -> Any:
    """Load a task and let it write its prompts; what goes wrong is the user's or the machine's to mend."""
    where, config = f"{LM_EVAL}{entry.name}", entry.cfg or {}
    if data is not None and not data.is_dir():
        raise SpecError(f"{where}: data: {data}: no such folder. Give the dataset's folder, in the hub's layout.")
    if data is not None and entry.kind is Kind.PY_TASK:
        raise SpecError(f"{where} is written in Python and fetches its own dataset: `data` cannot replace it.")
    source = str(data or config.get("dataset_path") or "that it fetches")
    try:
        spec = entry.name if data is None else {**load_yaml(entry.yaml_path), "dataset_path": source}
        (task,) = manager.load([spec])["tasks"].values()
        _write_prompts(task, chat=form == "chat" or (not form and task.OUTPUT_TYPE == "generate_until"))
    except ImportError as error:
        raise _lacks_package(where, error) from error
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if data is not None or source in _LOCAL_FORMATS or not isinstance(error, OSError | httpx.HTTPError):
            raise SpecError(
                f"{where}: lm-eval cannot load it: {said}. "
                f"Check the task's file, its `dataset_kwargs` and the dataset {source!r}."
            ) from error
        raise MachineError(
            f"{where}: the dataset {source!r} is neither in the hub's cache nor to be fetched: {said}. Run once while "
            "online (`hf auth login` first where the dataset asks for consent), give its folder as the task's `data`, "
            "or write a task file of your own with `include:` of this one, `dataset_path: json` and "
            "`dataset_kwargs: {data_files: …}`."
        ) from error
    return task


def _lacks_package(where: str, error: ImportError) -> MachineError:
    package = (error.name or "").partition(".")[0].replace("_", "-")
    install = f" Install it: `pip install {package}`." if package else ""
    return MachineError(f"{where} needs a Python package that is not installed: {error}.{install}")


def _write_prompts(task: Any, *, chat: bool) -> None:
    """Let lm-eval fill `task.instances`; few-shot examples are drawn in document order, so all documents are built."""
    if task.get_config("num_fewshot") is None:
        task.set_config("num_fewshot", 0)
    task.set_fewshot_seed(DEFAULT_OTHER_SEED)
    template = (lambda messages, **_: tuple(messages)) if chat else None
    task.build_all_requests(apply_chat_template=chat, fewshot_as_multiturn=chat, chat_template=template)


def _task(task: Any, name: str) -> Task:
    documents: dict[int, list[Instance]] = {}
    for instance in task.instances:
        documents.setdefault(instance.doc_id, []).append(instance)
    for instances in documents.values():
        instances.sort(key=lambda instance: instance.idx)
    ids = _sample_ids([instances[0].doc for instances in documents.values()])
    asked = dict(zip(ids, documents.values(), strict=True))
    lacking = {sample_id: said for sample_id, instances in asked.items() if (said := _lacking(task, instances))}
    if len(lacking) == len(asked):
        raise MachineError(f"{LM_EVAL}{name} cannot be scored: {next(iter(lacking.values()))}")
    asked = {sample_id: instances for sample_id, instances in asked.items() if sample_id not in lacking}
    notes = [f"{LM_EVAL}{name}: {len(lacking)} samples are left out, as what scores them is missing: {said}"
             for said in dict.fromkeys(lacking.values())]  # fmt: skip
    samples = [_sample(task, sample_id, instances) for sample_id, instances in asked.items()]
    prompts = [[each.request_type, each.repeats, _plain(each.args)] for each in task.instances]
    primary = _primary(task, next(iter(asked.values())), name)
    scoring = [_plain(task.get_config(key)) for key in ("metric_list", "filter_list", "process_results")]
    identity = {
        "lm_eval": lm_eval.__version__, "name": name, "version": str(task.VERSION), "primary": primary,
        "samples": [[sample.sample_id, sample.target] for sample in samples], "prompts": prompts, "scoring": scoring,
    }  # fmt: skip
    form, shots = "raw text" if isinstance(samples[0].prompt, str) else "conversations", task.get_config("num_fewshot")
    return Task(
        name=LM_EVAL + name, version=str(task.VERSION), title=task.get_config("task_alias") or name,
        description=f"{task.OUTPUT_TYPE} of lm-eval {lm_eval.__version__}, {shots}-shot, {form}, scored by {primary}.",
        chance=_chance(samples, primary), samples=nested(samples), solve=partial(_solve, asked),
        scorer=partial(_score, task, primary, asked), signature=content_id("task", identity), notes=tuple(notes),
    )  # fmt: skip


def _lacking(task: Any, instances: Sequence[Instance]) -> str | None:
    """Say which data of NLTK's is missing to score a document, found out by scoring a trial answer; None where none is."""
    if task.OUTPUT_TYPE != "generate_until" or task.get_config("process_results") is None:
        return None
    try:
        _judge(task, instances, [["A trial. It has two sentences."] * each.repeats for each in instances])
    except LookupError as error:
        if type(error) is LookupError and (found := re.search(r"Resource\s+'?(?:\x1b\[\d+m)?(\w+)", str(error))):
            return f"NLTK's {found[1]}. Fetch it: `python -m nltk.downloader {found[1]}`."
    except Exception:  # noqa: BLE001 - a trial tells of missing data only
        return None
    return None


def _sample_ids(docs: Sequence[Mapping[str, Any]]) -> list[str]:
    for field in _ID_FIELDS:
        ids = [doc.get(field) for doc in docs]
        if all(isinstance(each, str | int) for each in ids) and len({str(each) for each in ids}) == len(docs):
            return [str(each) for each in ids]
    return [str(number) for number in range(len(docs))]


def _sample(task: Any, sample_id: str, instances: Sequence[Instance]) -> Sample:
    """Return a document as it is exported; what is asked stays with lm-eval's instances."""
    first = instances[0]
    match task.OUTPUT_TYPE:
        case "multiple_choice":
            right, choices = _right_choices(task, first.doc), tuple(task.doc_to_choice(first.doc))
            target = right[0] if len(right) == 1 else right
        case "loglikelihood":
            target, choices = 0, (first.args[1],)
        case _:
            target, choices = _plain(_right_answer(task, first.doc)), ()
    return Sample(sample_id, first.args[0], target, choices, metadata={"doc_id": first.doc_id})


def _right_choices(task: Any, doc: Mapping[str, Any]) -> list[int]:
    """Return the indices of the right choices, as lm-eval finds them; an index out of range is no choice."""
    choices = task.doc_to_choice(doc)
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    wanted = [choices.index(gold) if gold in choices else -1] if isinstance(gold, str) else np.atleast_1d(gold).tolist()
    return [index for index in wanted if 0 <= index < len(choices)]


def _right_answer(task: Any, doc: Mapping[str, Any]) -> Any:
    target = task.doc_to_target(doc)
    has_choices = isinstance(target, int) and task.get_config("doc_to_choice") is not None
    return task.doc_to_choice(doc)[target] if has_choices else target


def _chance(samples: Sequence[Sample], primary: str) -> float | None:
    """Return what guessing earns where every sample has one right choice among equally many."""
    counts = {len(sample.choices) for sample in samples}
    one_right = all(isinstance(sample.target, int) for sample in samples)
    known = len(counts) == 1 and counts.isdisjoint({0, 1}) and one_right and primary.startswith("acc")
    return 1 / counts.pop() if known else None


def _solve(asked: Mapping[str, Sequence[Instance]], sample: Sample, sampling: Sampling) -> Dialogue:
    return (yield tuple(request for each in asked[sample.sample_id] for request in _requests(each, sampling)))


def _requests(instance: Instance, sampling: Sampling) -> Iterator[Request]:
    """Yield a generation for each repeat; a log-probability is the same each time and asked once."""
    prompt, detail = instance.args[:2]
    if instance.request_type == "loglikelihood":
        yield Loglikelihood(prompt, detail)
        return
    until, sampled = detail.get("until") or (), _sampling(detail, sampling)
    stops = tuple(stop for stop in ([until] if isinstance(until, str) else until) if stop)
    for repeat in range(instance.repeats):
        yield Generate(prompt, replace(sampled, seed=sampling.seed + repeat), stops)


def _sampling(wanted: Mapping[str, Any], sampling: Sampling) -> Sampling:
    limits = [int(wanted[key]) for key in _TOKEN_LIMITS if wanted.get(key) is not None]
    tokens = min([sampling.max_tokens, *limits[:1]])
    if not wanted.get("do_sample", wanted.get("temperature", 0) > 0):
        return replace(sampling, max_tokens=tokens)
    own = {key: wanted[key] for key in ("temperature", "top_k", "top_p", "min_p") if key in wanted}
    return replace(sampling, max_tokens=tokens, **own)


def _score(
    task: Any, primary: str, asked: Mapping[str, Sequence[Instance]], sample: Sample, outputs: tuple[Output, ...]
) -> Score:
    instances = asked[sample.sample_id]
    try:
        with _quiet():
            judged = _judge(task, instances, _responses(instances, outputs))
    except ImportError as error:
        raise _lacks_package(f"{LM_EVAL}{task.task_name}", error) from error
    except Exception as error:  # noqa: BLE001 - a task's own Python code raises what it likes, and is not the model's fault
        return Unscored(Outcome.NOT_RUN, f"lm-eval could not score the answer: {error!r}")
    filtered, metrics = next(iter(judged.values()))
    value = _share(metrics.get(primary))
    if value is None:
        return Unscored(Outcome.NOT_RUN, f"lm-eval gave {primary} = {metrics.get(primary)!r}, not a number in [0, 1]")
    named = {f"{metric},{key}": _plain(each) for key, (_, found) in judged.items() for metric, each in found.items()}
    if sample.choices:
        return _choice(sample, primary, outputs, Scored(value, metrics=named))
    parts = filtered[0] if isinstance(filtered[0], list) else filtered[:1]
    outcome = Outcome.OK if any(part not in _NO_MATCH for part in parts) else Outcome.UNPARSED
    if value < 1 and any(output.outcome is Outcome.TRUNCATED for output in outputs):
        outcome = Outcome.TRUNCATED
    answer = parts[0] if len(parts) == 1 and isinstance(parts[0], str) else json.dumps(_plain(parts))
    return Scored(value, outcome, answer, metrics=named)


def _responses(instances: Iterable[Instance], outputs: Iterable[Output]) -> list[list[Any]]:
    """Return what lm-eval's models would have returned, a list of repeats an instance."""
    left = iter(outputs)
    responses: list[list[Any]] = []
    for instance in instances:
        if instance.request_type == "loglikelihood":
            output = next(left)
            responses.append([(output.logprob, output.is_greedy)] * instance.repeats)
        else:
            begun = _begun(instance.args[0])
            responses.append([next(left).text.removeprefix(begun) for _ in range(instance.repeats)])
    return responses


def _begun(prompt: Prompt) -> str:
    """Return the answer that a conversation begins for the model: the server repeats it, lm-eval's models do not."""
    return prompt[-1]["content"] if not isinstance(prompt, str) and prompt[-1]["role"] == "assistant" else ""


def _judge(
    task: Any, instances: Sequence[Instance], responses: Iterable[list[Any]]
) -> dict[str, tuple[list[Any], dict[str, Any]]]:
    """Return for each filter, the task's first one first, the filtered responses of one document and its metrics."""
    task.instances[:] = [
        replace(instance, resps=resps, filtered_resps={}) for instance, resps in zip(instances, responses, strict=True)
    ]  # lm-eval filters whatever stands there
    task.apply_filters()
    judged = {}
    for key in task.instances[0].filtered_resps:
        filtered = [instance.filtered_resps[key] for instance in task.instances]
        judged[key] = filtered, task.process_results(instances[0].doc, filtered)
    return judged


def _primary(task: Any, instances: Sequence[Instance], name: str) -> str:
    """Choose the metric that is the score: the first that qualifies on a trial answer, the right one.

    A trial that fails tells nothing, since a task's own code may expect more of an answer than the target is.
    """
    better, averages = task.higher_is_better(), task.aggregation()
    usable = [metric for metric, average in averages.items() if average in {mean, nanmean} and better.get(metric)]
    doc = instances[0].doc
    trial = [
        [(-1.0, True) if each.request_type == "loglikelihood" else str(_right_answer(task, doc))] * each.repeats
        for each in instances
    ]
    try:
        _, metrics = next(iter(_judge(task, instances, trial).values()))
    except ImportError as error:
        raise _lacks_package(f"{LM_EVAL}{name}", error) from error
    except Exception as error:
        if isinstance(error, OSError) or type(error) is LookupError:  # nltk's way to say that its data is missing
            said = " ".join(str(error).split())[:300]
            raise MachineError(f"{LM_EVAL}{name}: its scorer lacks something on this machine: {said}") from error
        metrics = dict.fromkeys(usable, 1.0)
    for metric in usable:
        if _share(metrics.get(metric)) is not None:
            return str(metric)
    raise SpecError(
        f"{LM_EVAL}{name}: none of its metrics ({', '.join(averages)}) is a number per sample between 0 and 1 that is "
        "averaged, higher is better. A task file of your own can `include:` it and give another `metric_list`."
    )


def _share(value: object) -> float | None:
    """Return a score as lm-eval gave it; None for what is not a number in [0, 1]."""
    number = float(value) if isinstance(value, int | float | np.number | np.bool_) else math.nan
    return number if 0 <= number <= 1 else None


def _choice(sample: Sample, primary: str, outputs: Sequence[Output], scored: Scored) -> Scored:
    """Add the choice that the primary metric takes and the log-odds of the right one; a sole choice is taken or not."""
    if len(sample.choices) == 1:
        return replace(scored, answer=sample.choices[0] if outputs[0].is_greedy else None)
    scores = _choice_scores(primary, np.array([output.logprob for output in outputs], float), sample.choices)
    right = np.isin(np.arange(len(scores)), sample.target)
    margin = None
    if right.any() and not right.all():
        margin = float(np.logaddexp.reduce(scores[right]) - np.logaddexp.reduce(scores[~right]))
    return replace(scored, answer=sample.choices[int(scores.argmax())], margin=margin)


def _choice_scores(primary: str, logprobs: _Floats, choices: Sequence[str]) -> _Floats:
    """Return what the primary metric compares: log-probabilities (nats), by length, or less the unconditional ones."""
    scores, alone = logprobs[: len(choices)], logprobs[len(choices) :]
    if primary == "acc_norm":
        scores /= [len(choice) for choice in choices]
    elif primary == "acc_bytes":
        scores /= [len(choice.encode()) for choice in choices]
    elif primary == "acc_mutual_info":
        scores -= alone
    return scores


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: NaN and infinities as null, a function as its source."""
    match value:
        case np.generic() | np.ndarray():  # before float, which np.float64 is
            return _plain(value.tolist())
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _ if callable(value):
            return inspect.getsource(getattr(value, "func", value))
        case _:
            return str(value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the prints, progress bars, log lines and warnings of lm-eval and its libraries away from our output."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextmanager
def _as_in_lm_eval() -> Iterator[None]:
    """Seed the global generators as lm-eval does, since some tasks shuffle their choices with them; put them back."""
    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002 - what the tasks use
    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002
