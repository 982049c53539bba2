"""From what was asked to every run it implies: arms, tasks with their samples, proxies; all checks before any server runs."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import partial
from importlib.resources.abc import Traversable
from itertools import product
from pathlib import Path
from typing import Any

from evalsuite.errors import MachineError, SpecError, did_you_mean
from evalsuite.gguf import GgufFacts, artifact_id, read_gguf, shards
from evalsuite.hub import fetch
from evalsuite.identity import canonical_json, content_id, seed_of, text_sha256
from evalsuite.proxy.records import ProxyRow, check_groups
from evalsuite.records import Sampling
from evalsuite.serve.launch import Profile, launch_settings, read_profile
from evalsuite.shipped import shipped
from evalsuite.spec import PROXY_KEYS, ProxyEntry, QuantEntry, Sweep, TaskEntry, read_text
from evalsuite.store import Store
from evalsuite.task.room import ROUGH, Room, fits, prompt_text
from evalsuite.task.tasks import Task, expand, load

_LONGEST, _ANSWER = 16, 512
"""How many prompts are held against the context, and the tokens that are advised beside them for an answer."""

KV_CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")


Stamp = tuple[tuple[int, int, int], ...]
"""Inode, size and time of change (ns) of each file: a replaced or rewritten one has another."""


@dataclass(frozen=True)
class Quant:
    """One GGUF under test, in one or more shards, or what a server that runs already says of itself (`url`).

    `stamp` is what the file system said of the files before they were read; `file_stamp` says what it says now.
    """

    name: str
    provider: str | None
    paths: tuple[Path, ...]
    url: str | None
    size_bytes: int
    facts: GgufFacts | None
    stamp: Stamp

    @property
    def identity(self) -> str:
        """The id of the file's content, or the url where nothing is known of the content before it is asked."""
        return self.facts.artifact_id if self.facts else str(self.url)


@dataclass(frozen=True)
class Arm:
    """The unit of serving: a quant with a template and a KV-cache type. `replicate` counts further runs of the same.

    `template` is a copy that nobody edits while it is served.
    """

    name: str
    quant: Quant
    template: Path | None
    kv_cache: str
    replicate: int = 0


@dataclass(frozen=True)
class PlannedTask:
    """A task with the number of times each sample is asked."""

    task: Task
    repeats: int


@dataclass(frozen=True)
class PlannedProxy:
    """One proxy with what it is measured on: a copy of its text, or a task cut to the samples whose conversations are used.

    `corpus` names that in every table, None where there is none. Of a table, `rows` maps the names of quants to what it
    says of them.
    """

    entry: ProxyEntry
    corpus: str | None = None
    text: Path | None = None
    task: Task | None = None
    rows: Mapping[str, Sequence[ProxyRow]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Every arm through every task. `reference` is the arm that the others are compared with; it comes first."""

    sweep: Sweep
    arms: tuple[Arm, ...]
    tasks: tuple[PlannedTask, ...]
    proxies: tuple[PlannedProxy, ...]
    profile: Profile
    build_id: str
    out: Path

    @property
    def reference(self) -> Arm:
        """The arm that every other is compared with."""
        return self.arms[0]

    def launch(self, arm: Arm) -> dict[str, Any]:
        """Return the settings of an arm's server that are part of every key."""
        template = None if arm.template is None else arm.template.read_text(encoding="utf-8")
        return launch_settings(self.profile, kv_cache=arm.kv_cache, template=template, seed=self.sweep.sampling.seed)

    def sampling(self, sample_id: str, repeat: int) -> Sampling:
        """Return the samplers of one sample: the sweep's, with a seed of its own."""
        given = self.sweep.sampling.model_dump()
        return Sampling(**{**given, "seed": seed_of(given["seed"], sample_id, repeat)})

    @property
    def n_samples(self) -> int:
        """How many samples × repeats are planned per arm."""
        return sum(len(planned.task.samples) * planned.repeats for planned in self.tasks)


def make_plan(
    sweep: Sweep, *, base: Path, store: Store, build_id: str, say: Callable[[str], None] = lambda _: None,
    data: Mapping[str, str] | None = None, count: Callable[[Quant, Sequence[str]], list[int]] | None = None,
) -> Plan:  # fmt: skip
    """Check everything that can be checked before quants are served, and lay out the work.

    `base` is the folder that the sweep's paths are relative to, itself absolute; `data` replaces task data by task name;
    `say` is told what is being read, `count` counts the tokens of texts as the server of a quant does; without it prompts are
    sized by rule of thumb. Templates and texts are copied into the store's folder. Raises SpecError; problems of
    several quants are told together.
    """
    profile = read_profile(sweep.server, base)
    extra = [base / folder for folder in sweep.tasks_from]
    entries = [_with_data(entry, data or {}) for entry in expand(sweep.tasks, extra)]
    if unknown := sorted(set(data or {}) - {entry.task for entry in entries}):
        raise SpecError(f"--data: {', '.join(unknown)}: no such task in the sweep.")
    reference, *others = _quants(sweep, base, store, say)
    _check_same_model(reference, others)
    _check_context(profile, [reference, *others])
    out = store.folder.absolute()
    arms = _arms([reference, *others], sweep, base, out)
    room = replace(ROUGH, n_ctx=profile.ctx) if count is None else Room(profile.ctx, partial(count, reference))
    tasks = []
    for entry in entries:
        say(f"reading task {entry.task}")
        tasks.append(PlannedTask(load(entry, base=base, extra=extra, room=room), entry.repeats))
        _check_room(tasks[-1].task, room)
    proxies = _proxies(sweep, [reference, *others], [planned.task for planned in tasks], profile, base, out)
    return Plan(sweep, arms, tuple(tasks), proxies, profile, build_id, out)


def _check_room(task: Task, room: Room) -> None:
    """Refuse a task whose prompts do not fit the context; the longest in bytes stand for all."""
    longest = sorted(task.samples, key=lambda sample: len(prompt_text(sample.prompt)), reverse=True)[:_LONGEST]
    if over := [sample for sample in longest if not fits(sample.prompt, room, answer=1)]:
        tokens = max(room.count_tokens([prompt_text(sample.prompt) for sample in over]))
        raise SpecError(
            f"{task.name}: prompts of up to {tokens} tokens do not fit a slot of {room.n_ctx}. Set `server: {{ctx: …}}` to at "
            f"least {-(-(tokens + _ANSWER) // 256) * 256}, or leave the task out."
        )


def file_stamp(paths: Sequence[Path]) -> Stamp | None:
    """Return the stamp of files as they are now; None when one is gone."""
    try:
        stats = [path.stat() for path in paths]
    except OSError:
        return None
    return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)


def check_unchanged(plan: Plan, store: Store, *, accept: bool, remember: bool) -> list[str]:
    """Compare the plan with the one that this directory remembers, and `remember` it instead; return what changed.

    Added quants, tasks and samples are taken as they come. A change under which finished answers or proxies no longer
    count (sampling, server settings, another build, reference, or file under a name) is a SpecError unless `accept`.
    """
    now = _fingerprint(plan)
    before = store.get_meta("plan") or now
    breaking = [
        f"{key}: was {before[key]}, is {now[key]}"
        for key in ("build", "launch", "sampling", "reference")
        if before.get(key, now[key]) != now[key]
    ]
    breaking += [
        f"{kind} {name} is not what it was"
        for kind in ("quants", "tasks")
        for name in before[kind].keys() & now[kind].keys()
        if before[kind][name] != now[kind][name]
    ]
    if breaking and not accept:
        shown = "".join(f"\n    {line}" for line in sorted(breaking))
        raise SpecError(
            f"{plan.out}: the sweep changed since the last run, and work that is done would not count any more:{shown}\n"
            "    Use another `out`, or add --accept-changes to ask again what is affected; old answers stay in the store."
        )
    changes = sorted(breaking)
    for kind in ("quants", "tasks"):
        changes += [f"{kind[:-1]} {name} is new" for name in sorted(now[kind].keys() - before[kind].keys())]
        changes += [f"{kind[:-1]} {name} is gone" for name in sorted(before[kind].keys() - now[kind].keys())]
    if remember:
        store.put_meta("plan", now)
    return changes


def _fingerprint(plan: Plan) -> dict[str, Any]:
    return {
        "build": plan.build_id,
        "launch": plan.launch(plan.reference),
        "sampling": plan.sweep.sampling.model_dump(),
        "reference": plan.reference.quant.identity,
        "quants": {arm.quant.name: arm.quant.identity for arm in plan.arms},
        "tasks": {
            # Not the limit: a longer prefix of the same samples is an addition.
            planned.task.name: {"signature": planned.task.signature, "version": planned.task.version}
            for planned in plan.tasks
        },
    }


def _with_data(entry: TaskEntry, data: Mapping[str, str]) -> TaskEntry:
    return entry.model_copy(update={"data": str(Path(data[entry.task]).absolute())}) if entry.task in data else entry


def _arms(quants: Sequence[Quant], sweep: Sweep, base: Path, out: Path) -> tuple[Arm, ...]:
    """Return each quant under each template and KV-cache type, the reference and its replicate first."""
    for kv_cache in sweep.kv_cache:
        if kv_cache not in KV_CACHE_TYPES:
            raise SpecError(f"kv_cache: {kv_cache!r} is not one of {', '.join(KV_CACHE_TYPES)}.")
    varied = {*sweep.templates, *sweep.kv_cache} - {"own", "f16"}
    attached = [quant.name for quant in quants if quant.url]
    if varied and attached:
        raise SpecError(
            f"quants: {', '.join(attached)}: a server that runs already keeps its own template and KV cache, so "
            f"{', '.join(sorted(varied))} cannot be asked of it. Leave the `url` or the `templates` and `kv_cache` out."
        )
    kept = [None if name == "own" else _keep(base / Path(name).expanduser(), out) for name in sweep.templates]
    arms = [
        Arm(_arm_name(quant, template, kv_cache, sweep), quant, template, kv_cache)
        for quant, template, kv_cache in product(quants, kept, sweep.kv_cache)
    ]
    sources = [
        f"{quant.paths[0] if quant.paths else quant.url} (template {template}, KV cache {kv_cache})"
        for quant, template, kv_cache in product(quants, sweep.templates, sweep.kv_cache)
    ]
    if sweep.replicate_reference:
        arms.insert(1, replace(arms[0], name=f"{arms[0].name} (again)", replicate=1))
        sources.insert(1, sources[0])
    named: dict[str, str] = {}
    for arm, source in zip(arms, sources, strict=True):
        if arm.name in named:
            raise SpecError(
                f"quants: two are named {arm.name!r}: {named[arm.name]} and {source}. Give a quant another `name`, rename "
                "a template's file, or drop what is there twice."
            )
        named[arm.name] = source
    return tuple(arms)


def _arm_name(quant: Quant, template: Path | None, kv_cache: str, sweep: Sweep) -> str:
    """Name an arm by its quant and by those dimensions that vary in the sweep."""
    parts = [f"template {template.stem if template else 'own'}"] if len(sweep.templates) > 1 else []
    parts += [f"kv {kv_cache}"] if len(sweep.kv_cache) > 1 else []
    return f"{quant.name} [{', '.join(parts)}]" if parts else quant.name


def _proxies(
    sweep: Sweep, quants: Sequence[Quant], tasks: Sequence[Task], profile: Profile, base: Path, out: Path
) -> tuple[PlannedProxy, ...]:
    """Return each proxy with what it is measured on."""
    proxies = []
    for entry in sweep.proxies:
        if entry.tool == "table":
            # pandas is slow to import, and most sweeps have no table.
            from evalsuite.proxy.table import read_rows  # noqa: PLC0415

            proxies.append(PlannedProxy(entry, rows=read_rows(base / Path(str(entry.table)).expanduser(), quants)))
        elif entry.tool == "llama-bench":
            proxies.append(PlannedProxy(entry))
        elif entry.task is not None:
            proxies.append(PlannedProxy(entry, entry.text, task=_conversations(entry, tasks)))
        else:
            text = _keep(_proxy_text(str(entry.text), base), out)
            _check_text(entry, text, quants[0], profile)
            proxies.append(PlannedProxy(entry, text.stem, text))
    named = Counter((proxy.entry.tool, corpus) for proxy in proxies for corpus in _corpora(proxy))
    for (tool, corpus), count in named.items():
        if count > 1:
            on = "" if corpus is None else f" on {corpus!r}"
            raise SpecError(
                f"proxies: {count} are {tool}{on}, and a report tells them apart by the tool and the name of the text only. "
                "Rename a text, or measure one of them under another `out`."
            )
    return tuple(proxies)


def _corpora(proxy: PlannedProxy) -> Iterable[str | None]:
    of_rows = dict.fromkeys(row.corpus for rows in proxy.rows.values() for row in rows)
    return of_rows if proxy.entry.tool == "table" else [proxy.corpus]


def _check_text(entry: ProxyEntry, text: Path, reference: Quant, profile: Profile) -> None:
    if entry.tool == "forced" and entry.ctx >= profile.ctx:
        raise SpecError(
            f"proxies: ctx: {entry.ctx} does not fit a slot of {profile.ctx} tokens; use less, or a larger `ctx`."
        )
    if entry.tool == "llama-perplexity" and reference.url:
        raise SpecError("proxies: llama-perplexity needs the file of the reference, not a `url`. Use `tool: forced`.")
    limit = reference.facts.context_length if reference.facts else None
    if limit is not None and entry.ctx > limit:
        raise SpecError(f"proxies: ctx: {entry.ctx} tokens, but {reference.name} was trained with {limit}.")
    n_bytes, n_tokens = text.stat().st_size, entry.ctx * (2 if entry.tool == "llama-perplexity" else 1)
    if n_bytes + 2 < n_tokens:  # no token is empty, but for a BOS and a blank that may be put before the text
        raise SpecError(
            f"proxies: text: {entry.text}: {n_bytes} bytes give fewer than the {n_tokens} tokens that {entry.tool} "
            "needs. Take a longer text or a smaller `ctx`."
        )
    check_groups(entry.chunks, entry.groups, entry.ctx)


def _conversations(entry: ProxyEntry, tasks: Sequence[Task]) -> Task:
    """Return the task of a proxy, cut to the samples whose conversations are forced."""
    if entry.tool != "forced":
        raise SpecError(f"proxies: text: {entry.text!r}: {entry.tool} knows no conversations. Use `tool: forced`.")
    named = {task.name: task for task in tasks}
    if entry.task not in named:
        raise SpecError(
            f"proxies: text: {entry.text!r}: the sweep asks no such task.{did_you_mean(str(entry.task), named)}"
        )
    task = named[entry.task]
    return replace(task, samples=task.samples[: entry.chunks])


def _proxy_text(name: str, base: Path) -> Traversable:
    """Return the file of a proxy's text: a path, or the name of a text that ships with evalsuite."""
    texts = shipped("tasks") / "texts"
    return texts / f"{name}.txt" if (texts / f"{name}.txt").is_file() else base / Path(name).expanduser()


def _keep(file: Traversable, out: Path) -> Path:
    """Copy a text to where nobody edits it while it is used; its folder is named by its content."""
    text = read_text(file)
    kept = out / "inputs" / text_sha256(text)[:16] / file.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(text, encoding="utf-8")
    return kept


def _quants(sweep: Sweep, base: Path, store: Store, say: Callable[[str], None]) -> list[Quant]:
    """Return the reference and then the quants, each once; the reference may be among the files of a glob."""
    found = [(sweep.reference, path) for path in _files(sweep.reference, base)]
    if len(found) != 1:
        raise SpecError(f"reference: {len(found)} files match; name one.")
    first = found[0][1]
    found += [
        (entry, path)
        for entry in sweep.quants
        for path in _files(entry, base)
        if path is None or first is None or path.resolve() != first.resolve()
    ]
    quants, problems = [], []
    for entry, path in found:
        say(f"reading {path.name if path else entry.url}")
        try:
            quants.append(_quant(entry, path, store))
        except SpecError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror}. Check the path and its permissions.")
    if problems:
        raise SpecError("\n    ".join([f"{len(problems)} of {len(found)} files cannot be used:", *problems]))
    if len(quants) < 2:
        raise SpecError("quants: nothing but the reference. Name at least one other file.")
    return quants


def _files(entry: QuantEntry, base: Path) -> Sequence[Path | None]:
    """Return the files of an entry, shards as their first file; `[None]` for a url."""
    if entry.url is not None:
        return [None]
    if entry.hf is not None and entry.file is not None:
        paths = _from_hub(entry.hf, entry.file)
    else:
        pattern = Path(str(entry.path)).expanduser()
        root = Path(pattern.anchor) if pattern.is_absolute() else base
        relative = str(pattern.relative_to(pattern.anchor)) if pattern.is_absolute() else str(pattern)
        paths = sorted(root.glob(relative)) if any(c in relative for c in "*?[") else [root / relative]
        if not paths:
            raise SpecError(
                f"quants: {root / relative}: no file matches. Check the pattern; it is relative to the sweep's folder."
            )
    return [
        path for path in paths if not fnmatch(path.name, "*-of-?????.gguf") or fnmatch(path.name, "*-00001-of-*.gguf")
    ]


def _from_hub(repository: str, pattern: str) -> list[Path]:
    """Return files of a hub repository, downloaded or from the hub's cache."""
    try:
        folder = fetch(repository, [pattern, f"*/{pattern}"], kind="model")
    except MachineError as error:
        raise MachineError(f"quants: hf: {error} Or give a local `path`.") from error
    paths = sorted(path for path in folder.rglob("*.gguf") if fnmatch(path.name, pattern))
    if not paths:
        raise SpecError(f"quants: hf: {repository} holds no file like {pattern!r}.")
    return paths


def _quant(entry: QuantEntry, path: Path | None, store: Store) -> Quant:
    if path is None:
        return Quant(str(entry.name), entry.provider, (), entry.url, int((entry.size_gb or 0) * 1e9), None, ())
    paths = shards(path.absolute())
    stamp = file_stamp(paths) or ()
    known = store.artifact(artifact_id(paths))
    facts = GgufFacts.from_json(known) if known else read_gguf(paths)
    if not known:
        store.put_artifact(facts.artifact_id, facts.as_json())
    name = entry.name or path.name.removesuffix(".gguf").split("-00001-of-")[0]
    return Quant(name, entry.provider, paths, None, facts.size_bytes, facts, stamp)


def _check_same_model(reference: Quant, others: Sequence[Quant]) -> None:
    if reference.facts is None:
        return
    problems = []
    for quant in others:
        if quant.facts is None:
            continue
        theirs, ours = quant.facts, reference.facts
        if (theirs.architecture, theirs.dimensions) != (ours.architecture, ours.dimensions):
            differing = [
                f"{key} {theirs.dimensions.get(key)} instead of {value}"
                for key, value in ours.dimensions.items() if theirs.dimensions.get(key) != value
            ] or [f"architecture {theirs.architecture} instead of {ours.architecture}"]  # fmt: skip
            problems.append(f"{quant.paths[0]}: a GGUF of another model than the reference: {', '.join(differing)}.")
        elif theirs.vocabulary_sha256 != ours.vocabulary_sha256:
            problems.append(
                f"{quant.paths[0]}: another vocabulary than the reference ({theirs.n_vocab} and {ours.n_vocab} tokens, or "
                "the same number with other pieces): its token probabilities cannot be compared."
            )
    if problems:
        raise SpecError("\n    ".join([*problems, f"(reference: {reference.paths[0]})"]))


def _check_context(profile: Profile, quants: Sequence[Quant]) -> None:
    for quant in quants:
        limit = quant.facts.context_length if quant.facts else None
        if limit is not None and profile.ctx > limit:
            raise SpecError(
                f"server: ctx: {profile.ctx} tokens per slot, but {quant.name} was trained with {limit}. Use at most {limit}."
            )


def proxy_id(plan: Plan, arm: Arm, proxy: PlannedProxy) -> str:
    """Name one measurement of one proxy: on one arm's settings, against one reference under its own.

    The model file is the other half of the key.
    """
    entry, task = proxy.entry, proxy.task
    measured_on = None if proxy.text is None else proxy.text.read_text(encoding="utf-8")
    if task is not None:
        sampling = plan.sweep.sampling.model_dump()
        measured_on = canonical_json([task.signature, [sample.sample_id for sample in task.samples], sampling])
    against = [plan.reference.quant.identity, plan.launch(plan.reference)] if measured_on else None
    return content_id("proxy", {
        "proxy": entry.model_dump(include={"tool", *PROXY_KEYS[entry.tool]}), "text": measured_on, "build": plan.build_id,
        "launch": plan.launch(arm), "replicate": arm.replicate, "reference": against,
    })  # fmt: skip
