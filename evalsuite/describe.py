"""What a report says of a run beyond its answers, written into the store: `report` and `export` need nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evalsuite.plan import Arm, Plan, PlannedProxy, proxy_id
from evalsuite.serve.llama_cpp import LlamaCpp
from evalsuite.store import Store

SHOWN_PROXIES = (
    "ppl", "ppl_se", "ppl_ratio", "ln_ppl_ratio", "ln_ppl_ratio_se", "kld_mean", "kld_mean_se", "kld_median",
    "kld_median_se", "kld_p99", "kld_p99_se", "kld_p999", "kld_p999_se", "kld_max", "kld_max_se", "rms_dp", "rms_dp_se",
    "same_top_p", "same_top_p_se", "pp_tps", "pp_tps_se", "tg_tps", "tg_tps_se", "ctx", "chunks", "n_tokens",
)  # fmt: skip


def describe(plan: Plan, store: Store, llama_cpp: LlamaCpp) -> None:
    """Write a run's quants, their proxies and the settings they were measured under into its store."""
    results = {row["arm"]: row for row in store.get_meta("arms") or []}
    identities = store.get_meta("identities") or {}
    measured, sandbox = store.proxies(), store.get_meta("sandbox")
    quants, proxies, chunks = [], [], []
    for arm in plan.arms:
        facts, result = arm.quant.facts, results.get(arm.name, {})
        artifact_id = (identities.get(arm.name) or [""])[0]
        quants.append({
            "quant": arm.name, "provider": arm.quant.provider, "size_bytes": arm.quant.size_bytes or None,
            "bpw": facts.bpw if facts else None, "sha256": artifact_id.removeprefix("sha256:") or None,
            "is_reference": arm == plan.reference, "replicate_of": plan.reference.name if arm.replicate else None,
            "status": result.get("status", "failed"), "reason": result.get("reason", "not run"),
            "tensor_types": dict(facts.tensor_types) if facts else {}, "name": facts.name if facts else None,
            "notes": dict(facts.notes) if facts else {},
            "imatrix": facts.imatrix if facts else None,
        })  # fmt: skip
        for proxy in plan.proxies:
            for row in _rows(plan, arm, artifact_id, proxy, measured):
                proxies.append({"quant": arm.name, "corpus": row["corpus"], "tool": row["tool"]} | {
                    key: row.get(key) for key in SHOWN_PROXIES
                } | {"corpus_sha256": row["corpus_sha256"], "notes": row["notes"]})  # fmt: skip
                chunks += [
                    (arm.name, row["corpus"], row["tool"], number, *means)
                    for number, means in enumerate(row["chunk_means"])
                ]
    store.put_meta("quants", quants)
    store.put_meta("proxies", proxies)
    store.put_meta("chunks", chunks)
    store.put_meta("header", {
        "model": plan.sweep.model, "reference": plan.reference.name, "notes": [*plan.sweep.notes, *_said(plan, sandbox)],
        "server": {
            "found": llama_cpp.origin, "kind": llama_cpp.kind, "version": llama_cpp.version, "build_id": plan.build_id,
            "profile": plan.profile.name, **plan.launch(plan.reference),
        },
        "sampling": plan.sweep.sampling.model_dump(), "other_prompts": store.get_meta("other_prompts"),
        "tasks": {planned.task.name: planned.task.signature for planned in plan.tasks},
        "proxies": _texts(proxies), "sandbox": sandbox,
    })  # fmt: skip


def _said(plan: Plan, sandbox: Mapping[str, Any] | None) -> list[str]:
    """Return what a reader must know of the data and of the place that programs ran in."""
    notes = [note for planned in plan.tasks for note in planned.task.notes]
    if sandbox is not None and sandbox["kind"] == "none":
        notes.append("Programs of the models ran without a sandbox: their scores can be forged.")
    return notes


def _rows(
    plan: Plan, arm: Arm, artifact_id: str, proxy: PlannedProxy, measured: Mapping[tuple[str, str], Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return what is known of an arm by one proxy: a table speaks of a file, served as the reference is."""
    if proxy.entry.tool != "table":
        row = measured.get((artifact_id, proxy_id(plan, arm, proxy)))
        return [] if row is None else [row]
    first, own = ((each.template, each.kv_cache, each.replicate) for each in (plan.reference, arm))
    return [asdict(row) for row in proxy.rows.get(arm.quant.name, ())] if own == first else []


def _texts(proxies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each text that a tool measured on, with what was noted there, and of which quants where not of all."""
    texts: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in proxies:
        texts.setdefault((row["tool"], row["corpus"], row["corpus_sha256"]), []).append(row)
    described = []
    for (tool, corpus, digest), rows in texts.items():
        noted = {note: [row["quant"] for row in rows if note in row["notes"]] for row in rows for note in row["notes"]}
        notes = [note if len(of) == len(rows) else f"{', '.join(of)}: {note}" for note, of in noted.items()]
        described.append({"tool": tool, "corpus": corpus, "corpus_sha256": digest, "notes": notes})
    return described
