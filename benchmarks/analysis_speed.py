"""How long the analysis takes on a large table, beside a plain loop over `scipy.stats.bootstrap`.

    uv run python benchmarks/analysis_speed.py [--quants 40] [--tasks 10] [--samples 12000] [--proxies 12] [--draws 10000]

The table is a made-up world: quants of falling size whose answers get noisier and worse, scored on `--samples` samples of
each task, and proxies on texts of 64 chunks. Printed are the seconds of `analyse` from tables to rows, the largest memory of
the process, and the seconds that `scipy.stats.bootstrap` takes for the intervals of the scores alone, measured on one quant
and task and multiplied. Their ratio flatters the loop: `analyse` gives some twenty kinds of row more.
"""

import argparse
import resource
import time

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from evalsuite.analysis import analyse
from evalsuite.tables import CHUNK_COLUMNS, Tables


def main() -> None:
    """Make the table, analyse it, and print the figures."""
    args = _parser().parse_args()
    rng = np.random.default_rng(1)
    tables = make_tables(rng, args.quants, args.tasks, args.samples, args.proxies)
    before = _peak_gb()
    start = time.monotonic()
    analysis = analyse(tables, draws=args.draws)
    ours = time.monotonic() - start
    peak = _peak_gb()
    scores = tables.items["score"].to_numpy()[: args.samples]
    start = time.monotonic()
    bootstrap((scores,), np.mean, n_resamples=args.draws, batch=200, method="percentile", rng=rng)
    loop = (time.monotonic() - start) * args.quants * args.tasks
    print(
        f"{args.quants} quants × {args.proxies} proxies × {args.tasks} tasks × {args.samples:,} samples, {args.draws:,} draws"
    )
    print(f"analyse: {ours:.1f} s, {sum(len(v) for v in analysis.values() if isinstance(v, list)):,} rows")
    print(f"memory: {peak:.2f} GB at most, {before:.2f} GB of it before the analysis, for the table and the libraries")
    print(f"scipy.stats.bootstrap, scores only: {loop:.1f} s ({loop / ours:.1f} × analyse)")


def make_tables(rng: np.random.Generator, quants: int, tasks: int, samples: int, proxies: int) -> Tables:
    """Return a world of `quants` quants besides the reference; proxies come in threes on one text."""
    names = ["reference", *(f"quant {index:02}" for index in range(quants))]
    damage = np.append(0, np.geomspace(0.003, 0.4, quants))
    ids = pd.Categorical([f"s{index}" for index in range(samples)])
    parts = []
    for task in range(tasks):
        margin = 0.9 + rng.standard_normal(samples)
        for name, hurt in zip(names, damage, strict=True):
            right = margin - 0.6 * np.sqrt(hurt) + 0.9 * np.sqrt(hurt) * rng.standard_normal(samples) > 0
            parts.append((name, f"task {task}", right))
    items = pd.DataFrame({
        "quant": pd.Categorical(np.repeat([name for name, _, _ in parts], samples)),
        "task": pd.Categorical(np.repeat([task for _, task, _ in parts], samples)),
        "sample_id": pd.Categorical.from_codes(np.tile(ids.codes, len(parts)), ids.categories),
        "score": np.concatenate([right for _, _, right in parts]).astype(np.float64),
    })  # fmt: skip
    items = items.assign(repeat=0, outcome=pd.Categorical(["ok"] * len(items)), cluster=None, answer=None, output=None)
    texts = [f"text {index}" for index in range(-(-proxies // 3))]
    chunks = pd.DataFrame([
        (name, text, "forced", chunk, 3 + hurt, hurt, hurt * noise, np.sqrt(hurt) * noise, 1 - hurt * noise, 255)
        for text in texts for name, hurt in zip(names, damage, strict=True)
        for chunk, noise in enumerate(np.exp(0.3 * rng.standard_normal(64)))
    ], columns=list(CHUNK_COLUMNS))  # fmt: skip
    means = chunks.groupby(["quant", "corpus", "tool"], sort=False).mean().reset_index()
    return Tables(
        quants=pd.DataFrame([
            {"quant": name, "provider": f"maker {index % 4}", "size_bytes": 16e9 / (1 + index), "bpw": 16 / (1 + index),
             "sha256": name, "is_reference": index == 0, "replicate_of": None, "status": "ok", "reason": ""}
            for index, name in enumerate(names)
        ]),
        tasks=pd.DataFrame([
            {"task": f"task {task}", "title": None, "chance": 0.25, "version": "1", "n_planned": samples}
            for task in range(tasks)
        ]),
        items=items,
        proxies=pd.DataFrame({
            "quant": means["quant"], "corpus": means["corpus"], "tool": means["tool"], "ppl": np.exp(means["ln_ppl"]),
            "kld_mean": means["kld"], "same_top_p": means["same_top_p"],
        }),
        header={"model": "made up", "reference": "reference"},
        chunks=chunks,
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("quants", 40), ("proxies", 12), ("tasks", 10), ("samples", 12_000), ("draws", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
