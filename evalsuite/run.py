"""The one place where servers and tasks meet: every arm of a plan is served and asked what it has not answered yet."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from evalsuite.errors import EvalsuiteError, MachineError, ServerError, SpecError, StoreError
from evalsuite.identity import answer_key, ask_key, canonical_json, content_id, request_json
from evalsuite.plan import Arm, Plan, file_stamp
from evalsuite.proxy.measure import forced_missing, measure_forced
from evalsuite.records import Generate, Outcome, Output, Request, Sample
from evalsuite.serve.client import Answered, DeadlineError, Endpoint, RefusedError, ServerGoneError
from evalsuite.serve.launch import arguments
from evalsuite.serve.llama_cpp import LlamaCpp
from evalsuite.serve.outcomes import Action
from evalsuite.serve.serving import Attached, Expected, Patience, Serving, effective_settings, watched
from evalsuite.store import Attempt, Generation, Store
from evalsuite.task.solvers import Dialogue, replay
from evalsuite.task.tasks import Task

T = TypeVar("T")


class Progress(Protocol):
    """What a run tells while it works."""

    def total(self, samples: int) -> None:
        """Say how many samples remain to be asked."""

    def phase(self, arm: str, doing: str) -> None:
        """Say what an arm is doing now."""

    def advance(self, samples: int = 1) -> None:
        """Say that samples were finished, answered or given up."""

    def say(self, text: str) -> None:
        """Say something that should stay on the screen."""


class Silent:
    """Progress for callers that do not watch."""

    def total(self, samples: int) -> None:
        """Ignore."""

    def phase(self, arm: str, doing: str) -> None:
        """Ignore."""

    def advance(self, samples: int = 1) -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Ignore."""


@dataclass(frozen=True)
class ArmResult:
    """What became of one arm; `reason` says why when it is not `ok`. Of `wall_s` in all, `asking_s` went to the tasks."""

    arm: str
    planned: int
    reused: int
    new: int
    unscored: int
    status: str
    reason: str = ""
    wall_s: float = 0.0
    asking_s: float = 0.0


@dataclass(frozen=True)
class Question:
    """One planned sample of one arm, with all that names its answers except the request itself."""

    task: Task
    sample: Sample
    repeat: int
    artifact_id: str
    build_id: str
    launch: Mapping[str, Any]
    replicate: int

    def key(self, step: int, request: Request) -> str:
        """Return the ask_key of one request of this sample."""
        return ask_key(
            artifact_id=self.artifact_id, build_id=self.build_id, launch=self.launch, task_id=self.task.task_id,
            sample_id=self.sample.sample_id, repeat=self.repeat, step=step, replicate=self.replicate, request=request,
        )  # fmt: skip


Identity = tuple[str, Mapping[str, Any]]
"""What an arm's keys are made of: the artifact id and the launch settings."""


@dataclass(frozen=True)
class Session:
    """What one run works with."""

    plan: Plan
    store: Store
    llama_cpp: LlamaCpp
    progress: Progress
    patience: Patience


@dataclass
class Asked:
    """Who is being asked, and what it has answered so far: the state of one arm while it runs."""

    serving: Serving
    serve_id: str
    answers: dict[str, tuple[str, Output]]
    asking_s: float = 0.0


class TaskStoppedError(EvalsuiteError):
    """A request of a task was refused in a way that every other one of it would be."""


async def run(
    plan: Plan, store: Store, llama_cpp: LlamaCpp, *, progress: Progress | None = None, patience: Patience | None = None
) -> list[ArmResult]:
    """Serve every arm and ask it what the store has no answer for; an arm that fails leaves the others alone.

    Raises StoreError when answers can no longer be stored, and SpecError when a `url` serves another model: both would make
    everything that follows worthless.
    """
    session = Session(plan, store, llama_cpp, progress or Silent(), patience or Patience())
    identities: dict[str, Identity] = {}
    results: dict[str, ArmResult] = {}
    for arm in plan.arms:
        try:
            identities[arm.name] = await identify(session, arm)
        except ServerError as error:
            _failed(session, arm, error)
            results[arm.name] = ArmResult(arm.name, plan.n_samples, 0, 0, plan.n_samples, "failed", str(error))
    store.put_meta("identities", identities)
    served = [arm for arm in plan.arms if arm.name in identities]
    remaining = {arm.name: unanswered(plan, arm, store, *identities[arm.name]) for arm in served}
    session.progress.total(sum(len(questions) for questions in remaining.values()))
    for arm in served:
        results[arm.name] = await run_arm(session, arm, identities[arm.name], remaining[arm.name])
    return [results[arm.name] for arm in plan.arms]


def questions(plan: Plan, arm: Arm, artifact_id: str, launch: Mapping[str, Any]) -> Iterator[Question]:
    """Yield every planned sample of an arm, task by task."""
    for planned in plan.tasks:
        for repeat in range(planned.repeats):
            for sample in planned.task.samples:
                yield Question(planned.task, sample, repeat, artifact_id, plan.build_id, launch, arm.replicate)


def unanswered(plan: Plan, arm: Arm, store: Store, artifact_id: str, launch: Mapping[str, Any]) -> list[Question]:
    """Return the samples of an arm that stored answers alone do not finish."""
    answers = store.answers(artifact_id)
    return [
        question
        for question in questions(plan, arm, artifact_id, launch)
        if outputs_of(plan, question, answers) is None
    ]


def outputs_of(
    plan: Plan, question: Question, answers: Mapping[str, tuple[str, Output]], keys: list[str] | None = None
) -> tuple[Output, ...] | None:
    """Return the outputs of a sample from stored answers alone, or None; `keys` collects every ask_key that was needed."""

    def stored(step: int, request: Request) -> Output | None:
        key = question.key(step, request)
        if keys is not None:
            keys.append(key)
        return answers[key][1] if key in answers else None

    return replay(_dialogue(plan, question), stored)


async def identify(session: Session, arm: Arm) -> Identity:
    """Return what an arm's keys are made of; a `url` is asked what it serves.

    Raises ServerError when nothing answers there, and SpecError when it cannot be the model of the reference.
    """
    if arm.quant.facts is not None:
        return arm.quant.facts.artifact_id, session.plan.launch(arm)
    async with serve(session, arm) as serving:
        return await _attached_identity(session, arm, serving)


async def _attached_identity(session: Session, arm: Arm, serving: Serving) -> Identity:
    """Read what a url serves: the same description, and the same answer to a fixed text, is the same artifact."""
    endpoint = await serving.ready()
    meta = dict(endpoint.model.get("meta") or {})
    _check_attached(arm, session.plan, meta)
    described = {"model_path": endpoint.props.get("model_path"), **meta}
    artifact = _attached_id(session.store, described, serving.canary or 0.0)
    return artifact, {"attached": dict(effective_settings(endpoint))}


def _check_attached(arm: Arm, plan: Plan, meta: Mapping[str, Any]) -> None:
    reference = plan.reference.quant.facts
    if reference is not None and meta.get("n_vocab") not in {None, reference.n_vocab}:
        raise SpecError(
            f"{arm.quant.url} serves another model: a vocabulary of {meta['n_vocab']} tokens, the reference has "
            f"{reference.n_vocab}."
        )
    parameters = meta.get("n_params")
    if reference is not None and parameters and abs(parameters / reference.n_elements - 1) > 0.3:
        raise SpecError(
            f"{arm.quant.url} serves another model: {parameters} parameters, the reference has {reference.n_elements}."
        )
    size = meta.get("size")
    if arm.quant.size_bytes and size and abs(size / arm.quant.size_bytes - 1) > 0.05:
        raise SpecError(
            f"{arm.quant.url} serves {size / 1e9:.3f} GB, but size_gb says {arm.quant.size_bytes / 1e9:.3f}: another quant?"
        )


def _attached_id(store: Store, described: Mapping[str, Any], canary: float) -> str:
    known = store.get_meta("attached") or []
    for entry in known:
        if entry["described"] == described and abs(entry["canary"] - canary) < Attached.drift_nats:
            return str(entry["artifact_id"])
    artifact = content_id("attached", {"described": described, "canary": round(canary, 3)})
    store.put_meta("attached", [*known, {"described": described, "canary": canary, "artifact_id": artifact}])
    return artifact


async def run_arm(session: Session, arm: Arm, identity: Identity, remaining: Sequence[Question]) -> ArmResult:
    """Serve one arm and ask what remains; whatever goes wrong with it is in its result."""
    plan, store, progress = session.plan, session.store, session.progress
    artifact_id, launch = identity
    planned = plan.n_samples
    reused = planned - len(remaining)
    if not remaining and not forced_missing(plan, arm, artifact_id, store):
        return ArmResult(arm.name, planned, reused, 0, 0, "ok")
    started, asked, reasons = time.monotonic(), None, list[str]()
    try:
        progress.phase(arm.name, "loading")
        async with serve(session, arm) as serving:
            endpoint = await serving.ready()
            if arm.quant.facts is None and await _attached_identity(session, arm, serving) != identity:
                raise ServerError(
                    f"{arm.quant.url} serves another quant than a moment ago. Run again.", kind="wrong_model"
                )
            asked = Asked(serving, _serve_id(store, arm, plan, launch, endpoint), store.answers(artifact_id))
            if stopped := await _ask_all(session, arm, remaining, asked):
                reasons.append(f"tasks stopped by the server's refusal: {', '.join(stopped)}")
            try:
                await measure_forced(plan, arm, artifact_id, serving, store, progress.phase)
            except (MachineError, SpecError) as error:
                reasons.append(_failed(session, arm, error))
            await serving.finish()
    except (MachineError, SpecError) as error:
        reasons.append(_failed(session, arm, error))
        if isinstance(error, ServerError) and error.kind == "wrong_model" and asked is not None:
            voided = sum(store.void(instance) for instance in asked.serving.instances)
            progress.say(f"{arm.name}: {voided} answers are withdrawn.")
    answers = store.answers(artifact_id)
    missing = sum(outputs_of(plan, question, answers) is None for question in remaining)
    wall_s = time.monotonic() - started
    asking_s = asked.asking_s if asked else 0.0
    status = "failed" if reasons else "partial" if missing else "ok"
    reason = " ".join(dict.fromkeys(reasons))
    return ArmResult(arm.name, planned, reused, len(remaining) - missing, missing, status, reason, wall_s, asking_s)


def _failed(session: Session, arm: Arm, error: EvalsuiteError) -> str:
    """Note and tell what went wrong with one arm; raises StoreError again, since nothing can be noted any more."""
    if isinstance(error, StoreError):
        raise error
    session.store.log("failed", arm.name, str(error))
    session.progress.say(f"{arm.name}: {error}")
    return str(error)


@asynccontextmanager
async def serve(session: Session, arm: Arm) -> AsyncIterator[Serving]:
    """Serve one arm for the length of a block."""
    plan, store, patience = session.plan, session.store, session.patience

    def note(kind: str, detail: str) -> None:
        store.log(kind, arm.name, detail)

    if arm.quant.facts is None:
        serving: Serving = Attached(str(arm.quant.url), patience=patience, note=note)
    else:
        facts = arm.quant.facts
        template = facts.chat_template if arm.template is None else arm.template.read_text(encoding="utf-8")
        expected = Expected(
            arm.quant.paths[0], facts.size_bytes, plan.profile.ctx, plan.profile.parallel, facts.n_vocab, template
        )
        serving = Serving(
            session.llama_cpp.server,
            lambda process: arguments(
                plan.profile, model=arm.quant.paths[0], host=process.host, port=0, alias=process.alias,
                kv_cache=arm.kv_cache, template=arm.template, seed=plan.sweep.sampling.seed,
            ),
            expected, log=plan.out / "logs" / f"{content_id('arm', arm.name)}.log",
            cache_prompt="cache-prompt" in plan.profile.flags, patience=patience, note=note,
            unchanged=lambda: file_stamp(arm.quant.paths) == arm.quant.stamp,
        )  # fmt: skip
    async with watched(serving):
        yield serving


def _serve_id(store: Store, arm: Arm, plan: Plan, launch: Mapping[str, Any], endpoint: Endpoint) -> str:
    """Name the effective settings; raises ServerError when the same launch has given others before."""
    settings = effective_settings(endpoint)
    serve_id = content_id("serve", {"build": plan.build_id, "launch": launch, "effective": settings})
    artifact = arm.quant.facts.artifact_id if arm.quant.facts else arm.name
    launch_id = content_id("launch", {"build": plan.build_id, "launch": launch, "artifact": artifact})
    before = store.serve_id(launch_id, serve_id, settings)
    if before != serve_id:
        raise ServerError(
            "the server reports other settings than when it gave the answers that are stored. Use another `out`.",
            kind="wrong_settings",
        )
    return serve_id


async def _ask_all(session: Session, arm: Arm, remaining: Sequence[Question], asked: Asked) -> list[str]:
    """Ask every sample, as many side by side as keep the slots busy; return the tasks that the server refused.

    Those that are answered with a text come first: the last answers are short ones then, and all slots end together. Within
    a task prompts that begin alike stand together, so that a server with a prompt cache reads what they share once.
    """
    progress = session.progress
    endpoint = await asked.serving.ready()
    order = {planned.task.name: number for number, planned in enumerate(session.plan.tasks)}

    def place(question: Question) -> tuple[bool, int, str]:
        scored, prompt = turn(next(_dialogue(session.plan, question), ()))
        return scored, order[question.task.name], prompt

    queue = iter(sorted(remaining, key=place))
    stopped: Counter[str] = Counter()
    started = time.monotonic()

    async def worker() -> None:
        for question in queue:
            if question.task.name not in stopped:
                progress.phase(arm.name, question.task.name)
                try:
                    await _converse(session.plan, question, asked, session.store)
                except TaskStoppedError as error:
                    if not stopped[question.task.name]:
                        progress.say(f"{arm.name}: {question.task.name} stopped: {error}")
                    stopped[question.task.name] += 1
            progress.advance()

    # Three times the places at the server: while some wait for an answer, others render and tokenise.
    await _together(worker() for _ in range(3 * endpoint.in_flight))
    asked.asking_s = time.monotonic() - started
    return sorted(stopped)


async def _together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all of it side by side; what is left when one part fails, or we are cancelled, does not go on behind our back."""
    tasks = [asyncio.create_task(part) for part in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _converse(plan: Plan, question: Question, asked: Asked, store: Store) -> None:
    """Drive one sample's dialogue, from the store where it has the answer, else from the server."""
    dialogue = _dialogue(plan, question)
    step = 0
    try:
        requests = next(dialogue)
        while True:
            outputs = await _together(
                _answer(question, step + offset, request, asked, store) for offset, request in enumerate(requests)
            )
            if any(output is None for output in outputs):
                return  # the machine failed: the sample stays unscored
            step += len(requests)
            requests = dialogue.send(tuple(output for output in outputs if output is not None))
    except StopIteration:
        return


async def _answer(question: Question, step: int, request: Request, asked: Asked, store: Store) -> Output | None:
    """Return the stored or the server's output, stored before it is returned; None when the machine gave up on it."""
    key = question.key(step, request)
    if key in asked.answers:
        return asked.answers[key][1]
    tries: Counter[Outcome] = Counter()
    patience = asked.serving.patience
    limits = {
        Outcome.SERVER_DIED: patience.strikes - 1, Outcome.TIMEOUT: patience.timeouts,
        Outcome.TRANSPORT_ERROR: patience.garbage, Outcome.NOT_RUN: patience.bystander,
    }  # fmt: skip
    while True:
        endpoint = await asked.serving.ready()
        started, instance = time.monotonic(), asked.serving.instance
        asked.serving.in_flight += 1
        try:
            answered = await endpoint.ask(request, alone=tries[Outcome.SERVER_DIED] > 0)
        except (ServerGoneError, DeadlineError, RefusedError) as error:
            outcome = await _understand(error, asked.serving, endpoint)
            tries[outcome] += 1
            final = tries[outcome] > limits[outcome]
            await store.append(Attempt(key, outcome, str(error), time.monotonic() - started, instance, final))
            if final:
                return None
        else:
            wall_s = time.monotonic() - started
            await _keep(
                question, step, request, answered, key=key, asked=asked, store=store, wall_s=wall_s, instance=instance
            )
            return answered.output
        finally:
            asked.serving.in_flight -= 1
        await asyncio.sleep(patience.pause_s(tries.total()))


async def _understand(
    error: ServerGoneError | DeadlineError | RefusedError, serving: Serving, endpoint: Endpoint
) -> Outcome:
    """Decide what a failed try counts as, and bring the server back where it is gone."""
    if isinstance(error, ServerGoneError):
        if not await serving.recover(endpoint, str(error)) and error.at_work:
            return Outcome.TRANSPORT_ERROR
        return Outcome.SERVER_DIED if error.at_work else Outcome.NOT_RUN
    if isinstance(error, DeadlineError):
        await serving.recover(endpoint, str(error))
        return Outcome.TIMEOUT
    match error.verdict.action:
        case Action.WAIT:
            await serving.recover(endpoint, str(error))
            return Outcome.NOT_RUN
        case Action.RESTART:
            await serving.recover(endpoint, str(error), device_lost=True)
            return Outcome.SERVER_DIED
        case Action.STOP_TASK:
            raise TaskStoppedError(str(error)) from error
        case Action.STOP_QUANT:
            raise ServerError(
                f"the server shares one context among its slots: {error}", kind="wrong_settings"
            ) from error
        case Action.STOP_RUN:
            raise ServerError(f"the server refuses our key: {error}", kind="unauthorized") from error
        case _:
            return Outcome.TRANSPORT_ERROR


async def _keep(
    question: Question, step: int, request: Request, answered: Answered, *, key: str, asked: Asked, store: Store,
    wall_s: float, instance: str,
) -> None:  # fmt: skip
    gen_key = answer_key(key, serve_id=asked.serve_id, prompt_sha256=answered.prompt_sha256)
    await store.append(Generation(
        ask_key=key, gen_key=gen_key, artifact_id=question.artifact_id, serve_id=asked.serve_id,
        task_id=question.task.task_id, sample_id=question.sample.sample_id, repeat=question.repeat, step=step,
        request=request_json(request), prompt_sha256=answered.prompt_sha256, output=answered.output,
        timings=answered.timings, wall_s=wall_s, instance=instance,
    ))  # fmt: skip
    asked.answers[key] = (gen_key, answered.output)
    asked.serving.progressed()


def turn(requests: Sequence[Request]) -> tuple[bool, str]:
    """Say whether a sample is scored rather than written, and what its prompt is ordered by; templates put tools in front."""
    first = requests[0] if requests else None
    tools = first.tools if isinstance(first, Generate) else ()
    return not isinstance(first, Generate), canonical_json([tools, first.prompt if first else ""])


def _dialogue(plan: Plan, question: Question) -> Dialogue:
    sampling = plan.sampling(question.sample.sample_id, question.repeat)
    return question.task.solve(question.sample, sampling)
