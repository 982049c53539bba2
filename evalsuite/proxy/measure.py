"""Measuring the proxies of a plan: forced ones while an arm is served, those of programs and tables when no server runs."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from evalsuite.errors import EvalsuiteError, MachineError, ServerError, SpecError, StoreError
from evalsuite.identity import canonical_json, text_sha256
from evalsuite.plan import Arm, Plan, PlannedProxy, proxy_id
from evalsuite.proxy.conversations import conversations
from evalsuite.proxy.forced import (
    Ask,
    Passage,
    Position,
    Progress,
    cut_conversations,
    cut_text,
    force,
    load_passages,
    load_positions,
    save_positions,
    summarise,
)
from evalsuite.proxy.llama_bench import run_bench
from evalsuite.proxy.llama_perplexity import proxy_row, run_base, run_groups, run_kld
from evalsuite.proxy.programs import Tool
from evalsuite.proxy.records import ProxyRow
from evalsuite.serve.client import DeadlineError, Endpoint, RefusedError, ServerGoneError
from evalsuite.serve.launch import thread_count
from evalsuite.serve.llama_cpp import LlamaCpp
from evalsuite.serve.serving import Serving
from evalsuite.store import Store

Told = Callable[[str, str], None]
"""Told (arm, what is being done)."""


def forced_missing(plan: Plan, arm: Arm, artifact_id: str, store: Store) -> list[PlannedProxy]:
    """Return the forced proxies of an arm that are not measured yet, of the reference also those whose file is gone."""
    measured = store.proxies()
    return [
        proxy
        for proxy in plan.proxies
        if proxy.entry.tool == "forced"
        and (
            (artifact_id, proxy_id(plan, arm, proxy)) not in measured
            or (arm == plan.reference and not _kept(plan, proxy).exists())
        )
    ]


def _kept(plan: Plan, proxy: PlannedProxy) -> Path:
    """Return the file of the reference's positions, which the other arms are compared with."""
    return plan.out / "proxies" / f"{proxy_id(plan, plan.reference, proxy)}.npz"


async def measure_forced(plan: Plan, arm: Arm, artifact_id: str, serving: Serving, store: Store, told: Told) -> None:
    """Measure what is missing of the forced proxies of a served arm, against the reference's stored positions.

    The reference is measured first and compared with itself. Raises ServerError when the server is lost for good; what one
    proxy alone lacks (tokens of its text, answers or positions of the reference) is a MachineError after all the others.
    """
    problems = []
    for proxy in forced_missing(plan, arm, artifact_id, store):
        try:
            row = await _forced(plan, arm, proxy, serving, store, told)
        except StoreError:
            raise
        except (MachineError, SpecError) as error:
            if isinstance(error, ServerError) and error.kind != "refused":
                raise
            problems.append(str(error))
        else:
            store.put_proxy(artifact_id, proxy_id(plan, arm, proxy), asdict(row))
    if problems:
        raise MachineError(" ".join(problems))


async def _forced(plan: Plan, arm: Arm, proxy: PlannedProxy, serving: Serving, store: Store, told: Told) -> ProxyRow:
    kept, is_reference = _kept(plan, proxy), arm == plan.reference
    if not is_reference and not kept.exists():
        raise MachineError(f"KLD of {arm.name}: the reference has not been measured. Run again once it is served.")

    async def passages(ask: Ask) -> list[Passage]:
        if proxy.text is not None:
            text = proxy.text.read_text(encoding="utf-8")
            return await cut_text(ask, text, ctx=proxy.entry.ctx, chunks=proxy.entry.chunks)
        if proxy.task is None or not is_reference:
            return load_passages(kept)
        return await cut_conversations(ask, conversations(plan, proxy.task, store), longest=proxy.entry.ctx)

    def progress(done: int, total: int) -> None:
        told(arm.name, f"KLD {done}/{total}")

    forced, positions = await _positions(serving, passages, proxy.entry.n_probs, progress)
    if is_reference:
        kept.parent.mkdir(exist_ok=True)
        save_positions(kept, forced, positions)
    return _row(proxy, forced, load_positions(kept), positions)


def _row(
    proxy: PlannedProxy, passages: Sequence[Passage], reference: list[list[Position]], positions: list[list[Position]]
) -> ProxyRow:
    if proxy.text is not None:
        sha256 = text_sha256(proxy.text.read_text(encoding="utf-8"))
    else:
        sha256 = text_sha256(canonical_json([passage.ids for passage in passages]))
    longest = max(len(passage.ids) for passage in passages)
    row = summarise(reference, positions, ctx=longest, corpus=str(proxy.corpus), corpus_sha256=sha256)
    if proxy.task is None:
        return row
    said = f"{len(passages)} of {len(proxy.task.samples)} conversations have an answer to force, its reasoning left out"
    return replace(row, notes=(*row.notes, said))


async def _positions(
    serving: Serving, passages: Callable[[Ask], Awaitable[list[Passage]]], n_probs: int, progress: Progress
) -> tuple[list[Passage], list[list[Position]]]:
    """Force passages upon the model; a server that dies under it is restarted and asked from the beginning."""
    while True:
        endpoint = await serving.ready()
        serving.in_flight += 1
        try:
            ask = _asker(endpoint)
            cut = await passages(ask)
            return cut, await force(ask, cut, n_probs=n_probs, parallel=endpoint.slots, progress=progress)
        except ServerError as error:
            if error.kind != "gone" or not await serving.recover(endpoint, str(error)):
                raise
        finally:
            serving.in_flight -= 1


def _asker(endpoint: Endpoint) -> Ask:
    async def ask(path: str, body: dict[str, Any]) -> Mapping[str, Any]:
        try:
            return await endpoint.post(path, body, deadline_s=600.0)
        except (ServerGoneError, DeadlineError) as error:
            raise ServerError(str(error), kind="gone") from error
        except RefusedError as error:
            raise ServerError(str(error), kind="refused") from error

    return ask


def measure_files(plan: Plan, llama_cpp: LlamaCpp, store: Store, told: Told) -> list[str]:
    """Run llama-perplexity and llama-bench on every quant of the plan that lacks a row.

    Templates do not matter to them, so one of them is measured. Returns what went wrong, a sentence a quant or a text: a
    machine without a program still gets everything else. Raises StoreError.
    """
    problems: list[str] = []
    for proxy in plan.proxies:
        measure = _BY_PROGRAM.get(proxy.entry.tool)
        if measure is None:
            continue
        try:
            missing = _unmeasured(plan, proxy, store)
            problems += measure(plan, proxy, missing, llama_cpp, store, told) if missing else []
        except StoreError:
            raise
        except EvalsuiteError as error:
            problems.append(f"{proxy.entry.tool}{f' on {proxy.corpus}' if proxy.corpus else ''}: {error}")
    return problems


def _unmeasured(plan: Plan, proxy: PlannedProxy, store: Store) -> list[Arm]:
    measured = store.proxies()
    return [
        arm for arm in plan.arms
        if arm.quant.facts and not arm.replicate and arm.template == plan.reference.template
        and (arm.quant.identity, proxy_id(plan, arm, proxy)) not in measured
    ]  # fmt: skip


def _tool(plan: Plan, proxy: PlannedProxy, llama_cpp: LlamaCpp, otherwise: str) -> Tool:
    """Return the program of a proxy as this plan runs it; MachineError when the build lacks it."""
    name = proxy.entry.tool
    program = llama_cpp.tools.get(name.removeprefix("llama-"))
    if program is None:
        raise MachineError(f"{name} is not there ({llama_cpp.origin}). Run `evalsuite llama-cpp build`{otherwise}.")
    folder = plan.out / "proxies"
    folder.mkdir(exist_ok=True)
    layers = str(plan.profile.flags.get("n-gpu-layers", 0))
    return Tool(program, thread_count(plan.profile), folder / f"{name}.log", layers)


def _perplexities(
    plan: Plan, proxy: PlannedProxy, arms: list[Arm], llama_cpp: LlamaCpp, store: Store, told: Told
) -> list[str]:
    """Write the reference's base file once, compare every arm with it, and remove it."""
    tool = _tool(plan, proxy, llama_cpp, ", or use `tool: forced`")
    reference, entry, text = plan.reference.quant, proxy.entry, proxy.text
    assert reference.facts is not None  # noqa: S101 - the plan has refused these
    assert text is not None  # noqa: S101
    base, problems = tool.log.with_name("base.kld"), []
    for left in tool.log.parent.glob(f"{base.name}*"):  # by a run that was killed: the space is needed now
        left.unlink()

    def telling(arm: str, what: str = "") -> Progress:
        return lambda done, total: told(arm, f"llama-perplexity {what}{done}/{total}")

    try:
        printout = run_base(
            tool, reference.paths[0], text, base, ctx=entry.ctx, chunks=entry.chunks, n_vocab=reference.facts.n_vocab,
            kv_cache=plan.reference.kv_cache, groups=entry.groups, progress=telling("base"),
        )  # fmt: skip
        base_ppl, sha256 = printout.statistics["Final PPL"][0], text_sha256(text.read_text(encoding="utf-8"))
        for arm in arms:
            model, kv_cache = arm.quant.paths[0], arm.kv_cache
            try:
                kld = run_kld(tool, model, base, kv_cache=kv_cache, progress=telling(arm.name))
                groups = run_groups(
                    tool, model, base, entry.groups, kv_cache=kv_cache, progress=telling(arm.name, "group ")
                )
            except EvalsuiteError as error:
                problems.append(f"{arm.name}: {error}")
                continue
            row = proxy_row(
                kld, ctx=entry.ctx, corpus=str(proxy.corpus), corpus_sha256=sha256, base_ppl=base_ppl, groups=groups
            )
            store.put_proxy(arm.quant.identity, proxy_id(plan, arm, proxy), asdict(row))
    finally:
        base.unlink(missing_ok=True)
    return problems


def _speeds(
    plan: Plan, proxy: PlannedProxy, arms: list[Arm], llama_cpp: LlamaCpp, store: Store, told: Told
) -> list[str]:
    tool, problems = _tool(plan, proxy, llama_cpp, ""), []
    for arm in arms:
        told(arm.name, proxy.entry.tool)
        try:
            row = run_bench(tool, arm.quant.paths[0], pp=proxy.entry.pp, tg=proxy.entry.tg, kv_cache=arm.kv_cache)
        except EvalsuiteError as error:
            problems.append(f"{arm.name}: {error}")
        else:
            store.put_proxy(arm.quant.identity, proxy_id(plan, arm, proxy), asdict(row))
    return problems


_BY_PROGRAM = {"llama-perplexity": _perplexities, "llama-bench": _speeds}
