"""From the store to the three tables of analysis, and to files that anybody can read."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.describe import SHOWN_PROXIES
from evalsuite.errors import SpecError
from evalsuite.store import Store
from evalsuite.tables import CHUNK_COLUMNS, Tables


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
    facts = store.get_meta("samples") or {}
    items["facts"] = [
        facts.get(task, {}).get(sample) for task, sample in zip(items["task"], items["sample_id"], strict=True)
    ]
    items["stratum"] = [each["stratum"] if each else None for each in items["facts"]]
    tasks = pd.DataFrame(store.get_meta("tasks"))
    tasks["chance"] = tasks["chance"].astype(float)
    items["margin"] = items["margin"].astype(float).replace([np.inf, -np.inf], np.nan)
    proxies = pd.DataFrame(store.get_meta("proxies"), columns=["quant", "corpus", "tool", *SHOWN_PROXIES])
    # Stores from before the tokens of a chunk were counted have rows without them.
    chunks = [dict(zip(CHUNK_COLUMNS, row, strict=False)) for row in store.get_meta("chunks") or []]
    return Tables(
        quants=pd.DataFrame(store.get_meta("quants")), tasks=tasks, items=items,
        # A column that no tool fills is None throughout, and no number.
        proxies=proxies.astype(dict.fromkeys(SHOWN_PROXIES, float)),
        header=header, chunks=pd.DataFrame(chunks, columns=list(CHUNK_COLUMNS)),
    )  # fmt: skip


def export(store: Store, folder: Path) -> list[Path]:
    """Write proxies, chunks, scores and items as CSV, the items also as JSONL and Parquet, and a manifest of hashes.

    The columns are those that `correlate` reads. Same store, same bytes (Parquet: same pandas and pyarrow).
    """
    tables = read_tables(store)
    folder.mkdir(parents=True, exist_ok=True)
    quants = tables.quants.set_index("quant")
    items = tables.items.drop(columns=["metrics", "reason", "facts"])
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
    for name, table in {"proxies": proxies, "chunks": tables.chunks, "scores": scores, "items": items}.items():
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        written.append(folder / f"{name}.csv")
    items.to_json(folder / "items.jsonl", orient="records", lines=True, force_ascii=False)
    items.to_parquet(folder / "items.parquet", index=False)
    written += [folder / "items.jsonl", folder / "items.parquet"]
    manifest: Mapping[str, Any] = {
        "header": tables.header,
        "quants": store.get_meta("quants"),
        "tasks": store.get_meta("tasks"),
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in written},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return [*written, folder / "manifest.json"]
