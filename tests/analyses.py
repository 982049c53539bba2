"""Analyses with every key filled, as analysis.json has them, and the items behind them: for tests of the page.

The numbers hang together as far as a reader of the page would notice; no statistic of the program is used.
"""

from collections.abc import Mapping
from itertools import combinations
from math import sqrt
from typing import Any

import numpy as np
import pandas as pd

MEAN = "(mean of tasks)"
PROXIES = (("kld_mean", "wiki"), ("ppl", "wiki"), ("kld_mean", "chat"), ("size_bytes", None))
LATER = (
    "range_curves", "volume", "volume_correlations", "misleading", "agreement", "proxy_comparison", "size_adjusted",
    "providers", "leak", "regret", "pareto", "influence", "task_disagreement", "flips", "parts", "depths", "lengths",
    "effective_lengths",
)  # fmt: skip
NAMES = (
    "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "IQ4_XS", "Q4_0", "IQ4_NL", "Q3_K_L", "Q3_K_M", "IQ3_M",
    "Q3_K_S", "IQ3_XXS", "Q2_K_L", "Q2_K", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ1_M",
)  # fmt: skip
TASKS = ("mmlu_pro", "gsm8k", "tool_calls", "ifeval", "humaneval", "hellaswag", "winogrande", "long_recall")

Row = dict[str, Any]


def world(quants: int = 12, tasks: int = 3, samples: int = 200, words: int = 12) -> tuple[Row, pd.DataFrame]:
    """Return an analysis with every key filled, and its items with outputs of so many words."""
    rng = np.random.default_rng(20)
    names, task_names = NAMES[:quants], TASKS[:tasks]
    kappa = dict(zip(names, np.geomspace(0.003, 0.4, quants) * np.exp(0.15 * rng.normal(size=quants)), strict=True))
    sizes = {name: 8.5e9 * 0.93**index for index, name in enumerate(names)}
    right = {task: _answers(kappa, samples, rng) for task in task_names}
    score = {(name, task): float(right[task][name].mean()) for name in ("F16", *names) for task in task_names}
    score |= {(name, MEAN): float(np.mean([score[name, task] for task in task_names])) for name in ("F16", *names)}
    all_tasks = [*task_names, MEAN]
    pairs = [_pair(name, task, right, task_names) for name in names for task in all_tasks]
    proxies = [
        _proxy(name, corpus, kappa.get(name, 0.0) * (1.3 if corpus == "chat" else 1))
        for corpus in ("chat", "wiki") for name in ("F16", *names)
    ]  # fmt: skip
    damage = {
        (proxy, corpus): {
            name: -sizes[name] if proxy == "size_bytes" else
            next(row[proxy] for row in proxies if (row["quant"], row["corpus"]) == (name, corpus))
            for name in names
        }
        for proxy, corpus in PROXIES
    }  # fmt: skip
    misleading = [
        row for (proxy, corpus), values in damage.items() for task in task_names
        for row in _misleading(proxy, corpus, task, values, right[task], sizes)
    ]  # fmt: skip
    misleading.sort(key=lambda row: (row["verdict"] != "misleading", -row["low"]))
    analysis: Row = {
        "schema": 2,
        "header": {
            "model": "Toy-8B", "reference": "F16", "notes": ["The reference is the file the weights came in."],
            "command": "evalsuite run sweep.yaml", "builds": {"llama.cpp": "b1"}, "seed": 1,
            "decidability": [
                {"task": task, "n": samples, "quants": quants, "discordance": 0.08, "mde": 2.8 * sqrt(0.08 / samples),
                 "mde_family": 4.1 * sqrt(0.08 / samples), "separable": quants, "pairs": quants * (quants - 1) // 2,
                 "live": 0.21, "snr": 3.4, "reliability": 0.82, "flip_rate_aa": 0.012}
                for task in task_names
            ],
        },
        "quants": [
            {"quant": name, "provider": None if name == "F16" else ("alpha", "beta")[index % 2], "size_bytes":
             sizes.get(name, 16e9), "bpw": 16.0 if name == "F16" else 8.5 - 0.3 * index, "sha256": f"{index:064x}",
             "is_reference": name == "F16", "replicate_of": None, "status": "ok", "reason": None, "duplicate_of": None}
            for index, name in enumerate(("F16", *names))
        ],
        "tasks": [
            {"task": task, "title": task.replace("_", " "), "chance": 0.25, "version": "1", "n_planned": samples,
             "n_samples": samples, "graded": False, "clusters": None}
            for task in task_names
        ],
        "proxies": proxies,
        "scores": [
            _score(name, task, score[name, task], samples * (1 if task != MEAN else tasks))
            for name in ("F16", *names) for task in all_tasks
        ],
        "pairs": pairs,
        "correlations": [
            row for (proxy, corpus), values in damage.items() for task in all_tasks
            for row in _correlations(proxy, corpus, task, values, {name: score[name, task] for name in names})
        ],
        "range_curves": [
            row for (proxy, corpus), values in damage.items() for task in all_tasks
            for row in _range_curves(proxy, corpus, task, values, {name: score[name, task] for name in names})
        ],
        "parts": [
            {"task": "gsm8k", "kind": kind, "part": part, "quant": name, "value": 0.5, "low": 0.4, "high": 0.6, "n": 100}
            for name in ("F16", *names)
            for kind, part in (("stratum", "algebra"), ("stratum", "numbers"), ("group", "mean"), ("metric", "strict"))
        ],
        "depths": [
            {"task": "gsm8k", "quant": name, "length": length, "depth": depth, "value": 1 - length * depth, "low": 0.1,
             "high": 1.0, "n": 40, "notes": []}
            for name in ("F16", *names) for length in (0.25, 0.95) for depth in (0.0, 0.5, 1.0)
        ],
        "lengths": [
            {"task": "gsm8k", "quant": name, "family": family, "length": length, "tokens": 4000 * length, "value": 0.7,
             "low": 0.6, "high": 0.8, "n": 120, "notes": []}
            for name in ("F16", *names) for family in ("all", "keys") for length in (0.25, 0.95)
        ],
        "effective_lengths": [
            {"task": "gsm8k", "quant": name, "family": "all", "value": 0.95, "low": 0.25, "high": 0.95, "tokens": 3800.0,
             "recall": 0.7, "n": 240, "notes": ["the longest length asked: it may be more"]}
            for name in ("F16", *names)
        ],
        "volume": [_volume(task, name, right[task]) for task in task_names for name in names],
        "volume_correlations": [
            {"proxy": proxy, "corpus": corpus, "task": task, "subset": subset, "rho_volume": 0.94,
             "rho_direction": 0.31, "n": quants}
            for proxy, corpus in PROXIES for task in task_names for subset in ("all", "near_reference")
        ],
        "misleading": misleading,
        "agreement": [
            {"proxy": proxy, "corpus": corpus, "task": task, "pa": 0.81 - 0.02 * index, "low": 0.66, "high": 0.93,
             "concordant": 53, "pairs": 66, "pa_sig": 17 / 19, "sig_concordant": 17, "sig_pairs": 19, "undecided": 47,
             "spa": 0.86, "acc23": 0.71, "epsilon": 0.08}
            for index, (proxy, corpus) in enumerate(PROXIES) for task in task_names
        ],
        "proxy_comparison": [
            {"task": task, "first": "kld_mean on wiki", "second": other, "tau": 0.9, "delta_abs_rho": 0.04,
             "low": -0.11, "high": 0.2, "n": quants, "williams_t": 0.8, "williams_p": 0.44, "swap_p": None,
             "verdict": verdict, "notes": ["below 12 quants no swap test"]}
            for task in task_names for other, verdict in (("ppl on wiki", "indistinguishable"), ("size", "undecided"))
        ],
        "size_adjusted": [
            {"proxy": "kld_mean", "corpus": "wiki", "task": task, "rho": -0.1, "low": -0.6, "high": 0.45,
             "partial": 0.05, "partial_p": 0.88, "n": quants}
            for task in task_names
        ],
        "providers": [
            {"proxy": "kld_mean", "corpus": "wiki", "task": task, "pooled": 0.39, "within": -0.98, "between": 0.9,
             "low": 0.8, "high": 1.7, "simpson": True, "n": quants}
            for task in task_names
        ],
        "leak": [
            {"provider": "alpha", "plain": "wiki", "task_text": "chat", "index": -0.35, "low": -0.5, "high": -0.2,
             "n": quants // 2, "notes": []},
            {"provider": "beta", "plain": "wiki", "task_text": "chat", "index": 0.35, "low": 0.2, "high": 0.5,
             "n": quants // 2, "notes": []},
        ],
        "regret": [_regret(task, proxy, corpus, sizes, damage, score, names) for task in task_names
                   for proxy, corpus in (("kld_mean", "wiki"), ("size_bytes", None), ("random", None))],
        "pareto": [
            *(row for task in task_names for row in _front("score", task, None, sizes,
                                                          {name: score[name, task] for name in names})),
            *_front("proxy", "kld_mean", "wiki", sizes, damage["kld_mean", "wiki"]),
        ],
        "influence": [
            {"proxy": "kld_mean", "corpus": "wiki", "task": task, "quant": name, "rho": -0.8,
             "rho_without": -0.8 + (0.4 if name == names[-1] else 0.01), "change": 0.4 if name == names[-1] else 0.01,
             "flag": name == names[-1]}
            for task in task_names for name in names
        ],
        "task_disagreement": [
            {"first": first, "second": second, "tau": 0.41, "ceiling": 0.8, "ceiling_low": 0.55, "n": quants,
             "verdict": "differ"}
            for first, second in combinations(task_names, 2)
        ],
        "flips": [row for task in task_names for row in _flips(task, right[task], names)],
        "gates": [
            {"name": "reference repeated (A/A)", "passed": True, "detail": "the noise floor is measured"},
            {"name": "above chance: gsm8k", "passed": False, "detail": "F16 24.0 %, chance 25.0 %"},
            {"name": "proxies on the same text", "passed": None, "detail": "there are no proxies"},
        ],
        "claims": _claims(quants),
        "notes": ["gsm8k: samples come in 40 clusters; intervals and tests are cluster-robust"],
    }  # fmt: skip
    return analysis, _items(right, words, rng)


def emptied(analysis: Row) -> Row:
    """Return the analysis with every key of schema 2 that schema 1 lacked empty."""
    header = {key: value for key, value in analysis["header"].items() if key != "decidability"}
    return analysis | {key: [] for key in LATER} | {"header": header}


def nulled(analysis: Row) -> Row:
    """Return the analysis with null for every number that may be undefined."""
    kept = {
        "task",
        "quant",
        "n",
        "n_samples",
        "size_bytes",
        "length",
        "depth",
        "schema",
        "n_planned",
        "quants",
        "lost",
        "gained",
        "damage_sign",
        "ok",
    }

    def null(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: null(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [null(inner, key) for inner in value]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return None if number and key not in kept else value

    numbers = {name: null(analysis[name]) for name in ("scores", "pairs", "correlations", "proxies", "claims", *LATER)}
    return analysis | numbers


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Put other names in the place of those in `names`, keys of mappings included, wherever they stand alone."""
    if isinstance(value, Mapping):
        return {names.get(key, key): renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


def hostile(analysis: Row, items: pd.DataFrame, text: str) -> tuple[Row, pd.DataFrame]:
    """Return the analysis and its items with a text in or in place of everything that comes from outside."""
    told = ("Q8_0", "F16", "gsm8k", "wiki", "alpha", "Toy-8B", "llama-perplexity", "b1")
    names = {name: f"{name}{text}" for name in told}
    changed = renamed(analysis, names)
    changed["claims"] = [claim | {"text": text} for claim in changed["claims"]]
    changed["gates"] = [gate | {"name": text, "detail": text} for gate in changed["gates"]]
    changed |= {"notes": [text], "header": changed["header"] | {text: text, "notes": [text]}}
    return changed, items.assign(output=text, answer=text).replace({"quant": names, "task": names})


def _answers(kappa: dict[str, float], samples: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    margin = rng.normal(0.9, 1, samples)
    return {"F16": margin > 0} | {
        name: margin - 0.6 * sqrt(value) + 0.9 * sqrt(value) * rng.normal(size=samples) > 0
        for name, value in kappa.items()
    }


def _interval(value: float, half: float) -> Row:
    return {"low": value - half, "high": value + half}


def _score(name: str, task: str, value: float, n: int) -> Row:
    return {"quant": name, "task": task, "value": value, "n": n, "unscored": 0, "outcomes": {"ok": n}, "notes": []} | (
        _interval(value, 1.96 * sqrt(value * (1 - value) / n))
    )


def _pair(name: str, task: str, right: dict[str, dict[str, np.ndarray]], tasks: tuple[str, ...]) -> Row:
    chosen = tasks if task == MEAN else (task,)
    change = np.concatenate([right[each][name].astype(float) - right[each]["F16"] for each in chosen])
    delta, half = float(change.mean()), float(1.96 * change.std() / sqrt(len(change)))
    verdict = "worse" if delta < -1.5 * half else "equivalent" if half < 0.01 else "undecided"
    return {
        "task": task, "a": "F16", "b": name, "kind": "quant", "delta": delta, "n": len(change), "unscored": 0,
        "lost": int((change < 0).sum()), "gained": int((change > 0).sum()), "test": "exact McNemar", "p": 0.01,
        "p_midp": 0.009, "p_holm": 0.04 if verdict == "worse" else 0.3, "delta_fail_as_zero": delta, "mde": 1.43 * half,
        "mde_family": 2 * half, "verdict": verdict, "equivalent": verdict == "equivalent", "margin": 0.01, "notes": [],
    } | _interval(delta, half)  # fmt: skip


def _proxy(name: str, corpus: str, kld: float) -> Row:
    return {
        "quant": name, "corpus": corpus, "tool": "llama-perplexity", "ppl": 9 * float(np.exp(kld)), "ppl_se": 0.07,
        "kld_mean": float(kld), "kld_mean_se": float(kld) / 15, "same_top_p": float(1 - sqrt(kld) / 4),
        "n_tokens": 16320,
    }  # fmt: skip


def _ranks(values: dict[str, float], names: list[str]) -> np.ndarray:
    return np.argsort(np.argsort([values[name] for name in names]))


def _rho(damage: dict[str, float], score: dict[str, float], names: list[str]) -> float:
    return float(np.corrcoef(_ranks(damage, names), _ranks(score, names))[0, 1])


def _correlations(
    proxy: str, corpus: str | None, task: str, damage: dict[str, float], score: dict[str, float]
) -> list[Row]:
    names, sign, rows = list(damage), -1 if proxy == "size_bytes" else 1, []
    for subset, chosen in (("all", names), ("near_reference", sorted(names, key=damage.__getitem__)[:5])):
        rho = _rho(damage, score, chosen)
        for method in ("spearman", "kendall"):
            limits = {"low": max(sign * rho - 0.3, -1), "high": min(sign * rho + 0.3, 1)} if len(chosen) > 7 else {
                "low": None, "high": None}  # fmt: skip
            rows.append(
                {"proxy": proxy, "tool": "llama-perplexity", "corpus": corpus, "task": task, "method": method,
                 "subset": subset, "rho": sign * (rho if method == "spearman" else 0.8 * rho), "p": 0.02, "p_bh": 0.04,
                 "n": len(chosen), "damage_sign": sign, "question": "other quants and other samples", "ceiling": 0.88,
                 "low_items": None, "high_items": None, "low_quants": None, "high_quants": None, "notes": []} | limits
            )  # fmt: skip
    return rows


def _range_curves(
    proxy: str, corpus: str | None, task: str, damage: dict[str, float], score: dict[str, float]
) -> list[Row]:
    order = sorted(damage, key=damage.__getitem__)
    windows = [("upto", order[:size], damage[order[size - 1]]) for size in range(6, len(order) + 1)]
    windows += [("from", order[start:], damage[order[start]]) for start in range(len(order) - 5)]
    rows = []
    for direction, names, limit in windows:
        sign = -1 if proxy == "size_bytes" else 1
        rho = _rho(damage, score, names)
        ceiling = 0.3 + 0.6 * len(names) / len(order)
        reading = "works" if rho < -0.6 else "blind here" if ceiling > 0.7 else "cannot tell"
        rows.append(
            {"proxy": proxy, "tool": "llama-perplexity", "corpus": corpus, "task": task, "direction": direction,
             "limit": sign * limit, "n": len(names), "rho": sign * rho, "low": max(sign * rho - 0.35, -1),
             "high": min(sign * rho + 0.35, 1), "tau": sign * 0.8 * rho, "ceiling": ceiling, "reading": reading}
        )  # fmt: skip
    return rows


def _volume(task: str, name: str, right: dict[str, np.ndarray]) -> Row:
    n = len(right["F16"])
    lost, gained = int((right["F16"] & ~right[name]).sum()), int((~right["F16"] & right[name]).sum())
    harm = lost / (lost + gained) if lost + gained else None
    return {
        "task": task, "quant": name, "n": n, "lost": lost, "gained": gained, "moved": None,
        "volume": (lost + gained) / n, "direction": (lost - gained) / n, "harm": harm,
        "harm_low": None if harm is None else max(harm - 0.2, 0), "harm_high": None if harm is None else
        min(harm + 0.2, 1),
    }  # fmt: skip


def _misleading(
    proxy: str, corpus: str | None, task: str, damage: dict[str, float], right: dict[str, np.ndarray],
    sizes: dict[str, float],
) -> list[Row]:  # fmt: skip
    rows = []
    for first, second in combinations(sorted(damage, key=damage.__getitem__), 2):
        change = right[second].astype(float) - right[first]
        delta, half = float(change.mean()), float(2.6 * change.std() / sqrt(len(change)))
        verdict = "misleading" if delta > half else "consistent" if delta < -half else "undecided"
        rows.append(
            {"proxy": proxy, "tool": "llama-perplexity", "corpus": corpus, "task": task, "better_by_proxy": first,
             "worse_by_proxy": second, "better_by_task": {"misleading": second, "consistent": first}.get(verdict),
             "proxy_gap": damage[second] - damage[first], "p_proxy": 0.001, "delta": delta, "p_holm": 0.03 if
             verdict != "undecided" else 0.6, "verdict": verdict, "n_needed": None if verdict != "undecided" else 4200,
             "equivalent": half < 0.012, "gb_saved": (sizes[first] - sizes[second]) / 1e9, "notes": []}
            | _interval(delta, half)
        )  # fmt: skip
    return rows


def _regret(
    task: str, proxy: str, corpus: str | None, sizes: dict[str, float], damage: dict[Any, dict[str, float]],
    score: dict[tuple[str, str], float], names: tuple[str, ...],
) -> Row:  # fmt: skip
    steps = []
    for budget in sorted(sizes.values()):
        fitting = [name for name in names if sizes[name] <= budget]
        values = damage.get((proxy, corpus))
        pick = min(fitting, key=values.__getitem__) if values else fitting[len(fitting) // 2]
        best = max(fitting, key=lambda name: score[name, task])
        steps.append(
            {"size_bytes": budget, "pick": pick, "best": best, "regret": score[best, task] - score[pick, task]}
        )
    return {
        "task": task, "proxy": proxy, "corpus": corpus, "crossfit": 0.0017, "naive": 0.0068, "largest_fit": 0.0025,
        "random": 0.0198, "skill": 0.66, "budgets": steps,
    }  # fmt: skip


def _front(axis: str, name: str, corpus: str | None, sizes: dict[str, float], values: dict[str, float]) -> list[Row]:
    sign = 1 if axis == "score" else -1
    return [
        {"axis": axis, "name": name, "corpus": corpus, "quant": quant, "size_bytes": sizes[quant], "value": value,
         "on_front": not any(sizes[other] <= sizes[quant] and sign * values[other] > sign * value for other in values),
         "probability": 0.5 + 0.02 * index}
        for index, (quant, value) in enumerate(values.items())
    ]  # fmt: skip


def _flips(task: str, right: dict[str, np.ndarray], names: tuple[str, ...]) -> list[Row]:
    rows = []
    for index, reference in enumerate(right["F16"]):
        changed = [name for name in names if right[name][index] != reference]
        if changed:
            lost = changed if reference else []
            gained = [] if reference else changed
            rows.append(
                {"task": task, "sample_id": f"s{index:04}", "lost": len(lost), "gained": len(gained),
                 "quants": len(names), "lost_by": lost, "gained_by": gained}
            )  # fmt: skip
    return rows


def _claims(quants: int) -> list[Row]:
    texts = {
        "verdict:1": "Over all quants, mean KLD on wiki ranks these quants much as the mean of the tasks does: Spearman"
        f" ρ −0.86 [−0.97, −0.55] over other quants and other samples, n = {quants} quants.",
        "verdict:2": "Near the reference these samples cannot tell (ceiling .31): of 66 pairs, 2 are misleading, 17"
        " consistent and 47 undecided.",
        "summary": f"Of {quants} quants compared with F16, 5 are worse on the mean of the tasks, 0 are better, and"
        f" {quants - 5} are undecided (36 comparisons, Holm-corrected at 5 %).",
        "noise-floor": "Noise floor: run again, F16 changed 7 of 600 scores (1.2 %); the largest difference is 0.5"
        " points (gsm8k, 95 % [−0.9, +1.9]).",
        "quant:Q8_0": "Q8_0 shows no significant difference from F16 on any of 3 tasks: the smallest difference found"
        " with 80 % power is 2.5 points.",
        "quant:Q2_K": "Q2_K is worse than F16 on the mean of the tasks (−9.0 points [−11.5, −6.2]); n = 600, Holm p"
        " ≤ 0.0010; 1 of 3 tasks undecided: the smallest difference found with 80 % power is 2.5 points.",
        "misleading:kld_mean": "By mean KLD on wiki, 2 of 66 pairs are misleading on gsm8k, 17 consistent and 47"
        " undecided (Holm-corrected at 5 %).",
        "something:new": "Q6_K is equivalent to F16 within ±1.0 points on gsm8k (90 % interval [−0.6, +0.4], n = 200).",
    }
    verdicts = {"quant:Q8_0": "undecided", "quant:Q2_K": "worse"}
    return [
        {"id": identity, "text": text, "estimate": -0.09, "low": -0.115, "high": -0.062, "test": "two-sided, Holm",
         "p_adj": 0.001, "n": 600, "quants": quants, "family": "quants × tasks", "question": "other samples",
         "status": "undecided" if "cannot tell" in text or "no significant" in text else "supported", "inputs": []}
        | ({"verdict": verdicts[identity]} if identity in verdicts else {})
        for identity, text in texts.items()
    ]  # fmt: skip


def _items(right: dict[str, dict[str, np.ndarray]], words: int, rng: np.random.Generator) -> pd.DataFrame:
    lexicon = np.array(
        ["the", "answer", "is", "seven", "because", "then", "we", "add", "two", "and", "carry", "one", "so", "hence"]
    )
    frames = []
    for task, of_task in right.items():
        samples = len(of_task["F16"])
        starts = [" ".join(rng.choice(lexicon, max(words // 2, 1))) for _ in range(samples)]
        for quant, correct in of_task.items():
            ends = [" ".join(rng.choice(lexicon, words - words // 2)) for _ in range(min(samples, 50))]
            frames.append(
                pd.DataFrame(
                    {"quant": quant, "task": task, "sample_id": [f"s{index:04}" for index in range(samples)],
                     "repeat": 0, "score": correct.astype(float), "outcome": "ok", "cluster": None,
                     "answer": np.where(correct, "7", "9"), "margin": np.nan,
                     "output": [f"{start} {ends[index % len(ends)]}" for index, start in enumerate(starts)]}
                )
            )  # fmt: skip
    return pd.concat(frames, ignore_index=True)
