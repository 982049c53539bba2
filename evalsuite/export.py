"""From the store to the three tables of analysis, and to files that anybody can read."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.errors import SpecError
from evalsuite.plan import Plan, proxy_id
from evalsuite.serve.llama_cpp import LlamaCpp
from evalsuite.store import Store
from evalsuite.tables import Tables

SHOWN_PROXIES = (
    "ppl", "ppl_se", "ppl_ratio", "ln_ppl_ratio", "ln_ppl_ratio_se", "kld_mean", "kld_mean_se", "kld_median", "kld_p99",
    "kld_p999", "kld_max", "rms_dp", "rms_dp_se", "same_top_p", "same_top_p_se", "ctx", "chunks", "n_tokens",
)  # fmt: skip


def describe(plan: Plan, store: Store, llama_cpp: LlamaCpp) -> None:
    """Write into the store what a report says of the run, so that `report` and `export` need nothing but the store."""
    results = {row["arm"]: row for row in store.get_meta("arms") or []}
    identities = store.get_meta("identities") or {}
    measured = store.proxies()
    quants, proxies = [], []
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
    store.put_meta("quants", quants)
    store.put_meta("proxies", proxies)
    store.put_meta("header", {
        "model": plan.sweep.model, "reference": plan.reference.name, "notes": list(plan.sweep.notes),
        "server": {
            "found": llama_cpp.origin, "kind": llama_cpp.kind, "version": llama_cpp.version, "build_id": plan.build_id,
            "profile": plan.profile.name, **plan.launch(plan.reference),
        },
        "sampling": plan.sweep.sampling.model_dump(),
        "tasks": {planned.task.name: planned.task.signature for planned in plan.tasks},
    })  # fmt: skip


def read_tables(store: Store) -> Tables:
    """Return the tables of the last run; raises SpecError when the directory holds none."""
    header = store.get_meta("header")
    if header is None:
        raise SpecError(f"{store.folder}: holds no finished run. Start one with `evalsuite run`.")
    columns = [
        "quant", "task", "sample_id", "repeat", "cluster", "outcome", "reason", "score", "answer", "margin", "metrics",
        "output",
    ]  # fmt: skip
    items = pd.DataFrame(store.items(), columns=columns)
    items["score"] = items["score"].astype(float)
    items["margin"] = items["margin"].astype(float).replace([np.inf, -np.inf], np.nan)
    return Tables(
        quants=pd.DataFrame(store.get_meta("quants")), tasks=pd.DataFrame(store.get_meta("tasks")),
        items=items, proxies=pd.DataFrame(store.get_meta("proxies"), columns=["quant", "corpus", "tool", *SHOWN_PROXIES]),
        header=header,
    )  # fmt: skip


def export(store: Store, folder: Path) -> list[Path]:
    """Write proxies, scores and items as CSV, the items also as JSONL and Parquet, and a manifest with their hashes.

    The columns are those that `correlate` reads. Same store, same bytes (Parquet: same pandas and pyarrow).
    """
    tables = read_tables(store)
    folder.mkdir(parents=True, exist_ok=True)
    quants = tables.quants.set_index("quant")
    items = tables.items.drop(columns=["metrics", "reason"])
    items.insert(1, "provider", items["quant"].map(quants["provider"]))
    per_item = items.groupby(["quant", "provider", "task", "sample_id"], sort=False, dropna=False)["score"].mean()
    grouped = per_item.groupby(level=["quant", "provider", "task"], sort=False, dropna=False)
    scores = grouped.agg(score="mean", n="count", se=lambda s: s.std(ddof=1) / np.sqrt(s.count())).reset_index()
    proxies = tables.proxies.copy()
    for at, (name, values) in enumerate({
        "model": tables.header["model"], "provider": proxies["quant"].map(quants["provider"]),
        "size_gb": proxies["quant"].map(quants["size_bytes"]) / 1e9, "bpw": proxies["quant"].map(quants["bpw"]),
    }.items()):  # fmt: skip
        proxies.insert(at, name, values)
    written = []
    for name, table in {"proxies": proxies, "scores": scores, "items": items}.items():
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        written.append(folder / f"{name}.csv")
    items.to_json(folder / "items.jsonl", orient="records", lines=True, force_ascii=False)
    items.to_parquet(folder / "items.parquet", index=False)
    written += [folder / "items.jsonl", folder / "items.parquet"]
    manifest: Mapping[str, Any] = {
        "header": tables.header,
        "quants": store.get_meta("quants"),
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in written},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return [*written, folder / "manifest.json"]
