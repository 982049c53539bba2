"""Measuring the proxies of a plan: forced ones while an arm is served, llama-perplexity's when no server runs."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evalsuite.errors import EvalsuiteError, MachineError, ServerError, StoreError
from evalsuite.identity import text_sha256
from evalsuite.plan import Arm, Plan, proxy_id
from evalsuite.proxy.forced import force, load_positions, save_positions, summarise
from evalsuite.proxy.llama_perplexity import Tool, proxy_row, run_base, run_kld
from evalsuite.serve.client import DeadlineError, Endpoint, RefusedError, ServerGoneError
from evalsuite.serve.launch import thread_count
from evalsuite.serve.llama_cpp import LlamaCpp
from evalsuite.serve.serving import Serving
from evalsuite.spec import ProxyEntry
from evalsuite.store import Store

Told = Callable[[str, str], None]
"""Told (arm, what is being done)."""


def forced_missing(plan: Plan, arm: Arm, artifact_id: str, store: Store) -> list[tuple[ProxyEntry, Path]]:
    """Return the forced proxies of an arm that are not measured yet, of the reference also those whose file is gone."""
    measured = store.proxies()
    return [
        (proxy, text)
        for proxy, text in plan.proxies
        if proxy.tool == "forced"
        and (
            (artifact_id, proxy_id(plan, arm, proxy, text)) not in measured
            or (arm == plan.reference and not _kept(plan, proxy, text).exists())
        )
    ]


def _kept(plan: Plan, proxy: ProxyEntry, text: Path) -> Path:
    """Return the file of the reference's positions, which the other arms are compared with."""
    return plan.out / "proxies" / f"{proxy_id(plan, plan.reference, proxy, text)}.npz"


async def measure_forced(plan: Plan, arm: Arm, artifact_id: str, serving: Serving, store: Store, told: Told) -> None:
    """Measure what is missing of the forced proxies of a served arm, against the reference's stored positions.

    The reference is measured first and compared with itself. Raises ServerError when the server is lost for good,
    MachineError when the reference has not been measured, and SpecError when the text has too few tokens.
    """
    for proxy, text in forced_missing(plan, arm, artifact_id, store):
        kept = _kept(plan, proxy, text)
        if arm != plan.reference and not kept.exists():
            raise MachineError(f"KLD of {arm.name}: the reference has not been measured. Run again once it is served.")
        content = text.read_text(encoding="utf-8")
        positions = await _positions(serving, proxy, content, lambda done, total: told(arm.name, f"KLD {done}/{total}"))
        if arm == plan.reference:
            kept.parent.mkdir(exist_ok=True)
            save_positions(kept, positions)
        row = summarise(
            load_positions(kept), positions, ctx=proxy.ctx, corpus=text.stem, corpus_sha256=text_sha256(content)
        )
        store.put_proxy(artifact_id, proxy_id(plan, arm, proxy, text), asdict(row))


async def _positions(serving: Serving, proxy: ProxyEntry, text: str, progress: Callable[[int, int], None]) -> Any:
    """Force a text upon the model; a server that dies under it is restarted and asked from the beginning."""
    while True:
        endpoint = await serving.ready()
        serving.in_flight += 1
        try:
            return await force(
                _asker(endpoint), text, ctx=proxy.ctx, chunks=proxy.chunks, n_probs=proxy.n_probs,
                parallel=endpoint.slots, progress=progress,
            )  # fmt: skip
        except ServerError as error:
            if error.kind != "gone" or not await serving.recover(endpoint, str(error)):
                raise
        finally:
            serving.in_flight -= 1


def _asker(endpoint: Endpoint) -> Callable[[str, dict[str, Any]], Any]:
    async def ask(path: str, body: dict[str, Any]) -> Mapping[str, Any]:
        try:
            return await endpoint.post(path, body, deadline_s=600.0)
        except (ServerGoneError, DeadlineError) as error:
            raise ServerError(str(error), kind="gone") from error
        except RefusedError as error:
            raise ServerError(str(error), kind="refused") from error

    return ask


def measure_perplexity(plan: Plan, llama_cpp: LlamaCpp, store: Store, told: Told) -> list[str]:
    """Run llama-perplexity on every quant of the plan that lacks a row; the base file is removed afterwards.

    Templates do not matter to it, so one of them is measured. Returns what went wrong, a sentence a quant or a text: a
    machine without the tool still gets everything else. Raises StoreError.
    """
    problems: list[str] = []
    for proxy, text in plan.proxies:
        if proxy.tool != "llama-perplexity":
            continue
        measured = store.proxies()
        missing = [
            arm for arm in plan.arms
            if arm.quant.facts and not arm.replicate and arm.template == plan.reference.template
            and (arm.quant.identity, proxy_id(plan, arm, proxy, text)) not in measured
        ]  # fmt: skip
        try:
            problems += _perplexities(plan, proxy, text, missing, llama_cpp, store, told) if missing else []
        except StoreError:
            raise
        except EvalsuiteError as error:
            problems.append(f"llama-perplexity on {text.stem}: {error}")
    return problems


def _perplexities(
    plan: Plan, proxy: ProxyEntry, text: Path, arms: list[Arm], llama_cpp: LlamaCpp, store: Store, told: Told
) -> list[str]:
    program, reference = llama_cpp.tools.get("perplexity"), plan.reference.quant
    if program is None or reference.facts is None:
        raise MachineError(
            f"llama-perplexity is not there ({llama_cpp.origin}). Run `evalsuite llama-cpp build`, or use `tool: forced`."
        )
    folder = plan.out / "proxies"
    folder.mkdir(exist_ok=True)
    base, problems = folder / "base.kld", []
    layers = str(plan.profile.flags.get("n-gpu-layers", 0))
    tool = Tool(program, thread_count(plan.profile), folder / "llama-perplexity.log", layers)

    def telling(arm: str) -> Callable[[int, int], None]:
        return lambda done, total: told(arm, f"llama-perplexity {done}/{total}")

    try:
        printout = run_base(
            tool, reference.paths[0], text, base, ctx=proxy.ctx, chunks=proxy.chunks, n_vocab=reference.facts.n_vocab,
            kv_cache=plan.reference.kv_cache, progress=telling("base"),
        )  # fmt: skip
        base_ppl, sha256 = printout.statistics["Final PPL"][0], text_sha256(text.read_text(encoding="utf-8"))
        for arm in arms:
            try:
                kld = run_kld(tool, arm.quant.paths[0], base, kv_cache=arm.kv_cache, progress=telling(arm.name))
            except EvalsuiteError as error:
                problems.append(f"{arm.name}: {error}")
                continue
            row = proxy_row(kld, ctx=proxy.ctx, corpus=text.stem, corpus_sha256=sha256, base_ppl=base_ppl)
            store.put_proxy(arm.quant.identity, proxy_id(plan, arm, proxy, text), asdict(row))
    finally:
        base.unlink(missing_ok=True)
    return problems
