"""What a report says of a run beyond its answers, written into the store: `report` and `export` need nothing else."""

from evalsuite.plan import Plan, proxy_id
from evalsuite.serve.llama_cpp import LlamaCpp
from evalsuite.store import Store

SHOWN_PROXIES = (
    "ppl", "ppl_se", "ppl_ratio", "ln_ppl_ratio", "ln_ppl_ratio_se", "kld_mean", "kld_mean_se", "kld_median", "kld_p99",
    "kld_p999", "kld_max", "rms_dp", "rms_dp_se", "same_top_p", "same_top_p_se", "ctx", "chunks", "n_tokens",
)  # fmt: skip


def describe(plan: Plan, store: Store, llama_cpp: LlamaCpp) -> None:
    """Write a run's quants, their proxies and the settings they were measured under into its store."""
    results = {row["arm"]: row for row in store.get_meta("arms") or []}
    identities = store.get_meta("identities") or {}
    measured = store.proxies()
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
        })  # fmt: skip
        for proxy, text in plan.proxies:
            row = measured.get((artifact_id, proxy_id(plan, arm, proxy, text)))
            if row is not None:
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
        "model": plan.sweep.model, "reference": plan.reference.name, "notes": list(plan.sweep.notes),
        "server": {
            "found": llama_cpp.origin, "kind": llama_cpp.kind, "version": llama_cpp.version, "build_id": plan.build_id,
            "profile": plan.profile.name, **plan.launch(plan.reference),
        },
        "sampling": plan.sweep.sampling.model_dump(), "other_prompts": store.get_meta("other_prompts"),
        "tasks": {planned.task.name: planned.task.signature for planned in plan.tasks},
    })  # fmt: skip
