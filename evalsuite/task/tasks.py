"""Tasks and suites: found by name, read from YAML, turned into samples, a solver and a scorer."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evalsuite.errors import SpecError, did_you_mean
from evalsuite.identity import content_id
from evalsuite.records import Outcome, Output, Sample, Sampling, Score, Scored
from evalsuite.shipped import shipped
from evalsuite.spec import TaskEntry, read_text, read_yaml
from evalsuite.task.builders import BUILDERS
from evalsuite.task.code.functions import FUNCTIONS
from evalsuite.task.code.grading import score_program
from evalsuite.task.code.livecodebench import LIVECODEBENCH
from evalsuite.task.code.records import Exam, Judged
from evalsuite.task.datasets import DatasetEntry, read_dataset
from evalsuite.task.generators import GENERATORS
from evalsuite.task.long_context.samples import long_context_samples
from evalsuite.task.room import ROUGH, Room, fits
from evalsuite.task.scorers import LENGTHS, SCORERS, exact, score_choice, score_greedy
from evalsuite.task.solvers import SOLVERS, Dialogue, Solver, generate, tool_calls
from evalsuite.task.tool_calls.multi_turn import multi_turn, score_multi_turn
from evalsuite.task.tool_calls.scorer import score_tool_calls

EXAMS: Mapping[str, Exam] = {exam.name: exam for exam in (FUNCTIONS, LIVECODEBENCH)}
"""What judges programs, by the name that a task file gives as its scorer."""
LONG_CONTEXT = "long_context"
"""The generator whose samples depend on the context they are asked in."""
LM_EVAL = "lm-eval:"
"""Prefix of a task that lm-eval defines."""


@dataclass(frozen=True)
class Task:
    """Samples with the way to ask them and the way to score what comes back.

    `samples` stand in nested order: the first n are the fixed, stratified subset of size n. `chance` is the expected score
    of guessing, None where it is not known. `signature` names the samples, the solver and the scorer, `notes` say what
    differs from the published data. `reads` are the outcomes that the scorer sees. Where the answers are programs, `exam`
    judges them. `groups` are means over strata, each with its weight, by name.
    """

    name: str
    version: str
    title: str
    description: str
    chance: float | None
    samples: tuple[Sample, ...]
    solve: Callable[[Sample, Sampling], Dialogue]
    scorer: Callable[[Sample, tuple[Output, ...]], Score]
    signature: str
    notes: tuple[str, ...] = ()
    reads: frozenset[Outcome] = frozenset({Outcome.OK, Outcome.TRUNCATED})
    exam: Exam | None = None
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def task_id(self) -> str:
        """What a question belongs to; what is asked is in the request itself."""
        return f"{self.name}@{self.version}"

    def score(self, sample: Sample, outputs: tuple[Output, ...], judged: Mapping[str, Judged] | None = None) -> Score:
        """Score the outputs of one sample; an outcome that the scorer does not read earns 0 under its own name.

        `judged` holds the verdicts on the program of the answer by exam, of a task with one.
        """
        for output in outputs:
            if output.outcome not in self.reads:
                return Scored(0.0, output.outcome)
        return (
            self.scorer(sample, outputs) if self.exam is None else score_program(self.exam, outputs[-1], judged or {})
        )


_SCORERS_OF: Mapping[str, Sequence[str]] = {
    "generate": (*SCORERS, *EXAMS), "tool_calls": ("tool_calls",), "multi_turn": ("multi_turn",),
    "choose": (*LENGTHS,), "loglikelihood": (*LENGTHS, "greedy"),
}  # fmt: skip
"""The scorers of each solver."""


class TaskFile(BaseModel):
    """One task.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    version: int
    title: str = ""
    description: str = ""
    licence: str = ""
    solver: Literal["generate", "tool_calls", "multi_turn", "choose", "loglikelihood"]
    scorer: str
    chance: Annotated[float, Field(ge=0, lt=1)] | None = None
    data: str | None = None
    generator: Mapping[str, Any] | None = None
    dataset: DatasetEntry | None = None
    builder: Mapping[str, Any] | None = None
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    stop: tuple[str, ...] = ()
    tool_choice: Literal["auto", "required"] | None = None
    stream: bool = False
    leave_out_too_long: bool = False
    groups: Mapping[str, Mapping[str, Annotated[float, Field(gt=0)]]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> "TaskFile":
        if [self.data, self.generator, self.dataset].count(None) != 2:
            raise ValueError("give exactly one of `data`, `generator` and `dataset`")
        if (self.dataset is None) != (self.builder is None):
            raise ValueError(
                "`dataset` and `builder` belong together: where the rows are, and what makes samples of them"
            )
        scorers = _SCORERS_OF[self.solver]
        if self.scorer not in scorers:
            raise ValueError(
                f"no scorer named {self.scorer!r} for `{self.solver}`.{did_you_mean(self.scorer, scorers)}"
            )
        if (self.tool_choice is not None or self.stream) and self.solver != "tool_calls":
            raise ValueError("`tool_choice` and `stream` belong to `solver: tool_calls`")
        for kind, entry, known in (
            ("generator", self.generator, {*GENERATORS, LONG_CONTEXT}),
            ("builder", self.builder, BUILDERS),
        ):
            if entry is not None and entry.get("name") not in known:
                name = str(entry.get("name"))
                raise ValueError(f"no {kind} named {name!r}.{did_you_mean(name, known)}")
        return self


class SuiteFile(BaseModel):
    """One suite: a list of tasks, each perhaps with the number of samples that the short form asks."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    description: str = ""
    tasks: tuple[TaskEntry, ...]


def read_task_file(folder: Traversable) -> TaskFile:
    """Read what a task folder says of itself, without its samples."""
    return read_yaml(folder / "task.yaml", TaskFile)


def read_task(
    folder: Traversable, *, data: Path | None = None, room: Room | None = None, options: Mapping[str, Any] | None = None
) -> Task:
    """Read one task folder; `data` replaces the task's own file. Raises SpecError naming the file and line.

    `room` is that of the context the task will be asked in; without it, what depends on it is sized roughly. `options` stand
    above those of the task's generator or builder.
    """
    file, read = folder / "task.yaml", _with_options(read_task_file(folder), options or {})
    revision: str | None = None
    notes: tuple[str, ...] = ()
    if read.dataset is not None and read.builder is not None:
        dataset = read_dataset(read.dataset, data, where=read.name)
        try:
            samples = BUILDERS[read.builder["name"]](dataset, read.builder)
        except SpecError as error:
            raise SpecError(f"{data or read.name}: {error}") from error
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise SpecError(
                f"{data or read.name}: not the layout of {read.name}: {type(error).__name__}: {error}. "
                f"evalsuite tasks {read.name} says what is expected."
            ) from error
        revision, notes = dataset.sha256, dataset.notes
    elif read.generator is not None and read.generator["name"] == LONG_CONTEXT:
        options = {key: value for key, value in read.generator.items() if key != "name"}
        sized, text = room or ROUGH, None if data is None else read_text(data)
        samples = long_context_samples(options, sized.count_tokens, sized.n_ctx, text)
        notes = (f"{read.name}: sized for {sized.n_ctx} tokens{'' if room else ', roughly'}",)
    elif read.generator is not None and data is None:
        samples = GENERATORS[read.generator["name"]](read.generator, folder)
    else:
        samples = _read_samples(data or folder / str(read.data), choosing=read.solver in {"choose", "loglikelihood"})
    if read.leave_out_too_long and room is not None:
        fitting = [sample for sample in samples if fits(sample.prompt, room, answer=read.max_tokens or 0)]
        notes += (f"{read.name}: {len(samples) - len(fitting)} samples of {len(samples)} do not fit the context",)
        samples = fitting
        if not samples:
            raise SpecError(f"{read.name}: no sample fits a context of {room.n_ctx} tokens. Use a larger `ctx`.")
    ids = {sample.sample_id for sample in samples}
    if len(ids) != len(samples):
        raise SpecError(f"{file}: {len(samples) - len(ids)} samples repeat the id of another. Give each its own.")
    identity = [[s.sample_id, s.prompt, s.choices, s.target, *(s.metadata.get("tools") or ())] for s in samples]
    how: dict[str, Any] = {
        "solver": read.solver,
        "scorer": read.scorer,
        "max_tokens": read.max_tokens,
        "stop": read.stop,
    }
    how |= {"revision": revision} if revision else {}
    how |= {"tool_choice": read.tool_choice, "stream": read.stream} if read.solver == "tool_calls" else {}
    return Task(
        name=read.name, version=str(read.version), title=read.title or read.name, description=read.description,
        chance=_chance(samples) if read.chance is None else read.chance, samples=nested(samples),
        solve=_solver(read), scorer=_scorer(read),
        signature=content_id("task", {"name": read.name, "version": read.version, "samples": identity, **how}),
        notes=notes, exam=EXAMS.get(read.scorer), groups=read.groups,
        reads=frozenset(Outcome) if read.solver in {"tool_calls", "multi_turn"} else Task.reads,
    )  # fmt: skip


def _with_options(read: TaskFile, options: Mapping[str, Any]) -> TaskFile:
    if not options:
        return read
    if "name" in options or (read.generator is None and read.builder is None):
        raise SpecError(f"{read.name}: options: it has none of that kind: {', '.join(options)}.")
    changed = {
        key: {**made, **options} for key, made in (("generator", read.generator), ("builder", read.builder)) if made
    }
    return read.model_copy(update=changed)


def _chance(samples: Sequence[Sample]) -> float | None:
    """Return what a random one of the choices earns, None where a sample has none."""
    counts = [len(sample.choices) for sample in samples]
    return sum(1 / count for count in counts) / len(counts) if min(counts) > 1 else None


def task_folders(extra: Sequence[Path] = ()) -> dict[str, Traversable]:
    """Return every task folder by task name: the shipped ones and those below the folders of the user.

    One name twice is a SpecError, never a silent override.
    """
    found: dict[str, Traversable] = {}
    for root in [shipped("tasks"), *extra]:
        if not root.is_dir():
            raise SpecError(f"tasks_from: {root}: no such folder.")
        for folder in sorted(root.iterdir(), key=lambda entry: entry.name):
            if (folder / "task.yaml").is_file():
                if folder.name in found:
                    raise SpecError(
                        f"two tasks are named {folder.name!r}: {found[folder.name]} and {folder}. Rename one."
                    )
                found[folder.name] = folder
    return found


def suites(extra: Sequence[Path] = ()) -> dict[str, SuiteFile]:
    """Return every suite by name: `suites/*.yaml` of the shipped tasks and of the user's folders."""
    found: dict[str, SuiteFile] = {}
    for root in [shipped("tasks"), *extra]:
        folder = root / "suites"
        files = [file for file in folder.iterdir() if file.name.endswith(".yaml")] if folder.is_dir() else []
        for file in sorted(files, key=lambda file: file.name):
            suite = read_yaml(file, SuiteFile)
            if suite.name in found:
                raise SpecError(f"{file}: two suites are named {suite.name!r}. Rename one.")
            found[suite.name] = suite
    return found


def expand(entries: Sequence[TaskEntry], extra: Sequence[Path] = ()) -> list[TaskEntry]:
    """Replace suites by their tasks; an entry's own limit, repeats and data stand above the suite's.

    A name that is neither a task, a suite nor `lm-eval:…` is a SpecError with a suggestion, and so is a task named twice.
    """
    folders, known = task_folders(extra), suites(extra)
    expanded: list[TaskEntry] = []
    for entry in entries:
        if entry.task in known:
            given = entry.model_dump(exclude={"task"}, exclude_unset=True)
            expanded += [task.model_copy(update=given) for task in known[entry.task].tasks]
        elif entry.task in folders or entry.task.startswith(LM_EVAL):
            expanded.append(entry)
        else:
            names = [*folders, *known, f"{LM_EVAL}NAME"]
            raise SpecError(f"tasks: no task or suite named {entry.task!r}.{did_you_mean(entry.task, names)}")
    names = [entry.task for entry in expanded]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SpecError(f"tasks: {', '.join(twice)}: asked twice. Name each task once.")
    return expanded


def load(entry: TaskEntry, *, base: Path, extra: Sequence[Path] = (), room: Room | None = None) -> Task:
    """Load one task with its samples cut to the entry's limit; paths of the entry are relative to `base`."""
    data = None if entry.data is None else base / Path(entry.data).expanduser()
    if entry.task.startswith(LM_EVAL):
        from evalsuite.task.lm_eval import load_lm_eval  # noqa: PLC0415 - importing lm-eval takes seconds

        if entry.options:
            raise SpecError(f"tasks: {entry.task}: options: lm-eval's tasks take none here.")
        task = load_lm_eval(entry.task.removeprefix(LM_EVAL), include=extra, data=data)
    else:
        task = read_task(task_folders(extra)[entry.task], data=data, room=room, options=entry.options)
    return replace(task, samples=task.samples[: entry.limit])


def nested(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Order samples so that every prefix is a stratified subset: 100 ⊂ 500 ⊂ all, each stratum in proportion.

    A sample without a stratum lies in that of its cluster. The order within a stratum is that of a hash of the id, so
    it does not depend on the order of the file.
    """
    strata: dict[str | None, list[tuple[str, Sample]]] = {}
    for sample in samples:
        digest = hashlib.sha256(sample.sample_id.encode("utf-8", "surrogatepass")).hexdigest()
        strata.setdefault(sample.stratum or sample.cluster, []).append((digest, sample))
    placed = [
        ((rank + 0.5) / len(stratum), digest, sample)
        for stratum in strata.values()
        for rank, (digest, sample) in enumerate(sorted(stratum, key=lambda pair: pair[0]))
    ]
    return tuple(sample for *_, sample in sorted(placed, key=lambda place: place[:2]))


class _Row(BaseModel):
    """One line of a task's data; keys that it does not name are left alone."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)
    sample_id: str | None = None
    prompt: str | tuple[Mapping[str, Any], ...]
    target: Any
    choices: tuple[str, ...] | None = None
    cluster: str | None = None
    stratum: str | None = None
    metadata: Mapping[str, Any] | None = None


def _read_samples(file: Traversable, *, choosing: bool) -> list[Sample]:
    """Read JSONL; where the solver is `choosing`, the target must be the index of one of at least two choices."""
    samples = []
    for number, line in enumerate(read_text(file).split("\n"), 1):  # no other line ends: U+2028 occurs inside strings
        if not line.strip():
            continue
        try:
            row = _Row.model_validate(orjson.loads(line))
        except (orjson.JSONDecodeError, ValidationError) as error:
            said = str(error)
            if isinstance(error, ValidationError):
                first = error.errors()[0]
                said = ": ".join([*map(str, first["loc"]), str(first["msg"])])
            raise SpecError(
                f"{file}:{number}: not a sample: {said}. Keys: sample_id, prompt, target, choices."
            ) from error
        choices = row.choices or ()
        if choosing and not (len(choices) > 1 and type(row.target) is int and 0 <= row.target < len(choices)):
            raise SpecError(
                f"{file}:{number}: target: {row.target!r} is not the index (from 0) of one of at least two choices; there "
                f"are {len(choices)}."
            )
        samples.append(Sample(
            row.sample_id or str(number - 1), row.prompt, row.target, choices, row.cluster, row.stratum, row.metadata or {}
        ))  # fmt: skip
    if not samples:
        raise SpecError(f"{file}: holds no samples.")
    return samples


def _solver(task: TaskFile) -> Solver:
    if task.solver == "tool_calls":
        return tool_calls(max_tokens=task.max_tokens, tool_choice=task.tool_choice or "auto", stream=task.stream)
    if task.solver == "multi_turn":
        return multi_turn(max_tokens=task.max_tokens)
    return generate(max_tokens=task.max_tokens, stop=task.stop) if task.solver == "generate" else SOLVERS[task.solver]


def _scorer(task: TaskFile) -> Callable[[Sample, tuple[Output, ...]], Score]:
    if task.solver == "generate":
        scorer = SCORERS.get(task.scorer, exact)  # an exam's verdict stands in its place
        return lambda sample, outputs: scorer(sample, outputs[-1])
    if task.scorer == "tool_calls":
        return lambda sample, outputs: score_tool_calls(sample, outputs[-1])
    if task.scorer == "multi_turn":
        return score_multi_turn
    if task.scorer == "greedy":
        return score_greedy
    if task.solver == "choose":
        return lambda sample, outputs: score_choice(sample, _logs(outputs[-1].option_probs), by=task.scorer)
    return lambda sample, outputs: score_choice(sample, [_logprob(output) for output in outputs], by=task.scorer)


def _logs(probabilities: Sequence[float]) -> list[float]:
    smallest = 1e-45  # the smallest positive float32: what the server rounds to 0 is at most this
    return [math.log(max(probability, smallest)) for probability in probabilities]


def _logprob(output: Output) -> float:
    if output.logprob is None:
        raise ValueError(f"an output without log-probability reached a choice scorer: {asdict(output)}")
    return output.logprob
