"""The analysis of planted worlds: what was put in must come out, and nothing else."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from wording import broken_rules

from evalsuite.analysis import analyse, analysis_json
from evalsuite.analysis.misleading import MAX_ROWS, listed
from evalsuite.analysis.pairs import MEAN_OF_TASKS, mean_of_estimates
from evalsuite.errors import SpecError
from evalsuite.stats.paired import mcnemar_exact, mean_p, tango
from evalsuite.stats.proportion import wilson
from evalsuite.tables import Tables

KEYS = {
    "schema", "header", "quants", "tasks", "proxies", "scores", "parts", "depths", "lengths",
    "effective_lengths", "pairs", "correlations", "range_curves", "volume",
    "volume_correlations", "misleading", "agreement",
    "proxy_agreement", "proxy_comparison", "size_adjusted", "providers", "leak", "regret",
    "pareto", "influence", "task_disagreement", "flips", "gates", "claims", "notes",
}  # fmt: skip

# Damage as (direction, volume): `same` changes nothing, `noisy` changes answers without a direction, `broken` loses.
PLANTED = {
    "F16": (0, 0),
    "same": (0, 0),
    "near": (0.02, 0.05),
    "mid": (0.15, 0.3),
    "low": (0.4, 0.5),
    "broken": (1.0, 0.8),
}
KLD = {"F16": 0.0, "same": 0.0005, "near": 0.003, "mid": 0.03, "low": 0.1, "broken": 0.8}


def planted(tasks: int = 2, samples: int = 400) -> Tables:
    """Return a world in which each sample has a margin that a quant lowers and shakes."""
    rng = np.random.default_rng(7)
    names = {**PLANTED, "F16 again": (0, 0.01)}
    quants = pd.DataFrame(
        {
            "quant": name, "provider": "acme", "size_bytes": 300e6 - 40e6 * index, "bpw": 16.0 - 2 * index,
            "sha256": f"{name}-hash", "is_reference": name == "F16", "replicate_of": None, "status": "ok",
            "reason": None,
        }
        for index, name in enumerate(PLANTED)
    )  # fmt: skip
    quants.loc[len(quants)] = {
        **quants.iloc[0].to_dict(),
        "quant": "F16 again",
        "is_reference": False,
        "replicate_of": "F16",
    }
    items = []
    for task in range(tasks):
        margin = rng.normal(0.9, 1, samples)
        for name, (lower, shake) in names.items():
            right = margin - lower + shake * rng.normal(size=samples) > 0
            items.append(
                pd.DataFrame(
                    {
                        "quant": name, "task": f"task{task}", "sample_id": [f"s{index}" for index in range(samples)],
                        "repeat": 0, "score": right.astype(float), "outcome": "ok", "cluster": None, "answer": "A",
                        "margin": np.nan, "output": "text",
                    }
                )
            )  # fmt: skip
    return Tables(
        quants=quants,
        tasks=pd.DataFrame(
            {"task": f"task{task}", "title": f"Task {task}", "chance": 0.25, "version": "1", "n_planned": samples}
            for task in range(tasks)
        ),
        items=pd.concat(items, ignore_index=True),
        proxies=pd.DataFrame(
            {
                "quant": name,
                "corpus": "wiki",
                "tool": "llama-perplexity",
                "ppl": 17 + 10 * kld,
                "kld_mean": kld,
                "n_tokens": 16000,
            }
            for name, kld in KLD.items()
        ),
        header={"model": "toy", "reference": "F16", "notes": ["a planted world"]},
    )


@pytest.fixture(scope="module")
def world() -> Tables:
    return planted()


@pytest.fixture(scope="module")
def found(world):
    return analyse(world)


def pair(analysis, quant, task="task0"):
    return next(row for row in analysis["pairs"] if (row["b"], row["task"]) == (quant, task))


def claim(analysis, identity):
    return next(row for row in analysis["claims"] if row["id"] == identity)


def test_top_level_keys(found):
    """The analysis has the documented keys and no others."""
    assert set(found) == KEYS


def test_planted_truth_is_found(found):
    """The broken quant is worse on every task; the one that changed nothing is shown to be equivalent."""
    for task in ("task0", "task1", MEAN_OF_TASKS):
        assert pair(found, "broken", task)["verdict"] == "worse"
        assert pair(found, "same", task)["verdict"] == "equivalent"
    same = pair(found, "same")
    assert (same["gained"], same["lost"], same["delta"], same["p"]) == (0, 0, 0, 1)
    assert same["low"] < 0 < same["high"]
    assert claim(found, "quant:broken")["status"] == "supported"
    assert claim(found, "quant:same")["verdict"] == "equivalent"


def test_pairs_are_recounted_by_hand(world, found):
    """Gained, lost, delta, interval and p of a pair follow from a plain count over the items."""
    scores = world.items[world.items["task"] == "task1"].pivot_table(index="sample_id", columns="quant", values="score")
    gained = int(((scores["F16"] == 0) & (scores["low"] == 1)).sum())
    lost = int(((scores["F16"] == 1) & (scores["low"] == 0)).sum())
    row, interval = pair(found, "low", "task1"), tango(400, gained, lost)
    assert (row["a"], row["gained"], row["lost"], row["n"]) == ("F16", gained, lost, 400)
    assert row["delta"] == pytest.approx(scores["low"].mean() - scores["F16"].mean())
    assert (row["low"], row["high"], row["p"]) == (interval.low, interval.high, mcnemar_exact(lost, gained))


def test_scores_are_wilson(world, found):
    """A score is the share of right answers with Wilson's interval."""
    right = int(world.items.query("quant == 'mid' and task == 'task0'")["score"].sum())
    row = next(row for row in found["scores"] if (row["quant"], row["task"]) == ("mid", "task0"))
    expected = wilson(right, 400)
    assert (row["value"], row["low"], row["high"], row["n"], row["unscored"]) == (
        expected.value, expected.low, expected.high, 400, 0,
    )  # fmt: skip
    assert row["outcomes"] == {"ok": 400}


def test_replicate_stands_apart(found):
    """The second run of the reference is a pair of its own kind, outside Holm's family and the correlations."""
    row = pair(found, "F16 again")
    assert (row["a"], row["kind"], row["p_holm"], row["verdict"]) == ("F16", "replicate", None, None)
    assert {row["n"] for row in found["correlations"]} == {5}
    floors = [pair(found, "F16 again", task) for task in ("task0", "task1")]
    flips = sum(row["gained"] + row["lost"] for row in floors)
    assert f"changed {flips} of 800 scores" in claim(found, "noise-floor")["text"]


def test_same_input_same_bytes(world):
    """The rows of every table may come in any order, and the JSON is the same to the byte."""
    shuffled = replace(
        world,
        items=world.items.sample(frac=1, random_state=1),
        quants=world.quants.sample(frac=1, random_state=2),
        proxies=world.proxies.sample(frac=1, random_state=3),
    )
    assert analysis_json(analyse(shuffled)) == analysis_json(analyse(world))


def test_json_round_trips(found):
    """The JSON holds no NaN and reads back to the same analysis."""
    text = analysis_json(found)
    assert json.loads(text, parse_constant=pytest.fail) == found


def test_unscored_samples_leave_the_pair(world):
    """A timeout of ours leaves both sides, is counted, and never counts as wrong."""
    items = world.items.copy()
    gone = (items["quant"] == "mid") & (items["task"] == "task0") & (items.index % 10 == 0)
    items.loc[gone, ["score", "outcome"]] = [np.nan, "timeout"]
    analysis = analyse(replace(world, items=items))
    row = pair(analysis, "mid")
    assert (row["n"], row["unscored"]) == (360, 40)
    score = next(row for row in analysis["scores"] if (row["quant"], row["task"]) == ("mid", "task0"))
    assert (score["unscored"], score["outcomes"]) == (40, {"ok": 360, "timeout": 40})
    failed = {row["name"] for row in analysis["gates"] if row["passed"] is False}
    assert failed == {"unscored at most 2 %", "unscored alike for all quants"}


def test_samples_never_asked_are_missed(world):
    """What was planned and has no row is counted as not run; the denominator cannot shrink unseen."""
    items = world.items[~((world.items["quant"] == "low") & (world.items["sample_id"] == "s3"))]
    analysis = analyse(replace(world, items=items))
    score = next(row for row in analysis["scores"] if (row["quant"], row["task"]) == ("low", "task0"))
    assert (score["n"], score["unscored"], score["outcomes"]) == (399, 1, {"ok": 399, "not_run": 1})
    assert "low lacks samples" in next(
        row["detail"] for row in analysis["gates"] if row["name"] == "every quant complete"
    )


def test_one_file_under_two_names_counts_once(world):
    """A quant with the hash of another is dropped from n with a note; with the reference's hash it is an A/A pair."""
    quants = world.quants.copy()
    quants.loc[quants["quant"] == "low", "sha256"] = "mid-hash"
    quants.loc[quants["quant"] == "same", "sha256"] = "F16-hash"
    analysis = analyse(replace(world, quants=quants))
    assert {row["n"] for row in analysis["correlations"]} == {3}
    assert "low is byte for byte mid: it is no further point in the correlations" in analysis["notes"]
    assert pair(analysis, "same")["kind"] == "replicate"


def test_correlation_is_given_as_it_stands(world):
    """ρ(proxy, score) keeps its sign: KLD that works is negative, file size that works is positive."""
    rows = {
        (row["proxy"], row["method"]): row for row in analyse(world)["correlations"] if row["task"] == MEAN_OF_TASKS
    }
    assert rows["kld_mean", "kendall"]["rho"] <= -0.8
    assert rows["size_bytes", "kendall"]["rho"] >= 0.8
    assert rows["size_bytes", "kendall"]["tool"] == "size"
    assert rows["size_bytes", "kendall"]["corpus"] is None
    assert rows["kld_mean", "spearman"]["rho"] is None
    assert rows["kld_mean", "spearman"]["notes"]


def test_holm_family_is_quants_by_tasks(found):
    """p_holm corrects for five quants on two tasks, and the means of the tasks for five."""
    rows = [row for row in found["pairs"] if row["kind"] == "quant"]
    smallest = min((row for row in rows if row["task"] != MEAN_OF_TASKS), key=lambda row: row["p"])
    assert smallest["p_holm"] == pytest.approx(min(10 * smallest["p"], 1))
    smallest = min((row for row in rows if row["task"] == MEAN_OF_TASKS), key=lambda row: row["p"])
    assert smallest["p_holm"] == pytest.approx(min(5 * smallest["p"], 1))


def test_mean_of_tasks_adds_variances():
    """With symmetric intervals the half-width of a mean of two is √(h₁² + h₂²) / 2."""
    wide, narrow = tango(100, 10, 10), tango(400, 8, 8)
    mean = mean_of_estimates([wide, narrow])
    assert mean.high == pytest.approx(np.hypot(wide.high, narrow.high) / 2)
    assert mean.n == 500


def test_mean_of_tasks_keeps_its_error_rate():
    """In 600 equal pairs over three tasks the interval holds 0 in about 95 %, and p < .05 in about 5 %."""
    rng = np.random.default_rng(5)
    held, found = [], []
    for counts in rng.multinomial(200, [0.05, 0.05, 0.9], size=(600, 3)):
        estimate = mean_of_estimates([tango(200, int(gained), int(lost)) for gained, lost, _ in counts])
        held.append(estimate.low <= 0 <= estimate.high)
        changes = [np.repeat([-1.0, 1.0, 0.0], [lost, gained, kept]) for gained, lost, kept in counts]
        found.append(mean_p([(change, None) for change in changes])[1] < 0.05)
    assert 0.93 <= np.mean(held) <= 0.98
    assert np.mean(found) <= 0.07


def test_graded_scores_and_clusters_change_the_test(world):
    """Graded scores get a t test, clusters a clustered one, and neither prints a McNemar mid-p."""
    items = world.items.copy()
    items["score"] = items["score"] * 0.5 + 0.25
    graded = pair(analyse(replace(world, items=items)), "broken")
    assert (graded["test"], graded["p_midp"]) == ("paired t", None)
    clusters = world.items["sample_id"].str[1:].astype(int) // 10
    clustered = pair(analyse(replace(world, items=world.items.assign(cluster=clusters.astype(str)))), "broken")
    assert (clustered["test"], clustered["n"], clustered["p_midp"]) == ("clustered t", 400, None)
    plain = pair(analyse(world), "broken")
    assert (clustered["delta"], clustered["lost"]) == (pytest.approx(plain["delta"]), plain["lost"])


def test_repeats_are_averaged_first(world):
    """Four identical repeats of every sample are 400 samples, not 1600."""
    repeated = pd.concat([world.items.assign(repeat=repeat) for repeat in range(4)], ignore_index=True)
    once, four = pair(analyse(world), "low"), pair(analyse(replace(world, items=repeated)), "low")
    assert {key: four[key] for key in ("n", "delta", "p", "low")} == {
        key: once[key] for key in ("n", "delta", "p", "low")
    }


@pytest.mark.parametrize("world_", ["no items", "one quant", "one sample", "all right", "a failed quant", "no proxies"])
def test_degenerate_worlds_give_null_with_a_reason(world, world_):
    """Where there is nothing to compute the analysis has nulls and notes, and no exception."""
    none = world.items.iloc[:0]
    changed = {
        "no items": replace(world, items=none, tasks=world.tasks.iloc[:0]),
        "one quant": replace(
            world,
            quants=world.quants.iloc[:1],
            items=world.items.query("quant == 'F16'"),
            proxies=world.proxies.iloc[:1],
        ),
        "one sample": replace(
            world, items=world.items.query("sample_id == 's0'"), tasks=world.tasks.assign(n_planned=1)
        ),
        "all right": replace(world, items=world.items.assign(score=1.0)),
        "a failed quant": replace(
            world,
            quants=world.quants.assign(status=np.where(world.quants["quant"] == "mid", "failed", "ok")),
            items=world.items.query("quant != 'mid'"),
        ),
        "no proxies": replace(world, proxies=world.proxies.iloc[:0]),
    }[world_]
    analysis = analyse(changed)
    json.loads(analysis_json(analysis), parse_constant=pytest.fail)
    for row in (*analysis["scores"], *analysis["pairs"]):
        assert row.get("value", row.get("delta")) is not None or row["notes"]
    for row in analysis["correlations"]:
        assert row["rho"] is not None or row["notes"]


def test_impossible_values_fail_their_gate(world):
    """A perplexity below 1 fails the gate, which names the cell."""
    proxies = world.proxies.copy()
    proxies.loc[proxies["quant"] == "mid", "ppl"] = 0.35
    gate = next(
        row for row in analyse(replace(world, proxies=proxies))["gates"] if row["name"] == "proxy values possible"
    )
    assert (gate["passed"], gate["detail"]) == (False, "mid: ppl 0.35")


JUDGING = (
    "misleading", "agreement", "proxy_comparison", "size_adjusted", "regret", "pareto", "influence", "task_disagreement",
)  # fmt: skip
"""What gates take tasks and proxies out of."""


def tasks_of(rows):
    """Return the tasks that rows of any kind speak of."""
    return {row.get(key) for row in rows for key in ("task", "first", "second", "name")} & {
        "task0", "task1", "task2", MEAN_OF_TASKS
    }  # fmt: skip


def gate_of(analysis, name):
    return next(row for row in analysis["gates"] if row["name"] == name)


@pytest.mark.parametrize("fault", ["at chance", "saturated"])
def test_a_task_that_fails_its_gate_is_shown_and_not_judged_by(fault):
    """What compares quants and proxies is the same as if the failing task were not there, and a sentence names it."""
    world = planted(tasks=3)
    others = replace(world, items=world.items.query("task != 'task1'"), tasks=world.tasks.query("task != 'task1'"))
    if fault == "at chance":
        name, why, world = "above chance: task1", "F16 is not above chance", replace(
            world, tasks=world.tasks.assign(chance=[0.25, 0.9, 0.25])
        )  # fmt: skip
    else:
        score = world.items["score"].where(world.items["task"] != "task1", 1.0)
        name, world = "not saturated: task1", replace(world, items=world.items.assign(score=score))
        why = "saturated: the scores differ on 0.0 % of the samples"
    found, without = analyse(world), analyse(others)
    gate = gate_of(found, name)
    assert (gate["passed"], [(each["task"], each["quant"]) for each in gate["removes"]]) == (False, [("task1", None)])
    assert gate_of(found, name.replace("task1", "task2"))["removes"] == []
    for key in JUDGING:
        assert "task1" not in tasks_of(found[key])
    for key in ("scores", "pairs", "correlations", "volume"):
        assert "task1" in tasks_of(found[key])
    assert found["misleading"] == without["misleading"]
    assert found["influence"] == without["influence"]
    front = ("axis", "name", "quant", "value", "on_front")
    assert [[row[key] for key in front] for row in found["pareto"]] == [
        [row[key] for key in front] for row in without["pareto"]
    ]
    assert claim(found, "verdict:left-out")["text"] == (
        "Left out of misleading pairs, regret, fronts and all else that compares proxies: "
        f"task1 ({why}); the mean of the tasks is over the others there."
    )
    assert broken_rules([row["text"] for row in found["claims"]]) == []
    assert "verdict:left-out" not in {row["id"] for row in without["claims"]}


@pytest.mark.parametrize("fault", ["unscored", "other prompts"])
def test_a_quant_that_fails_a_gate_is_left_out_on_that_task(world, fault):
    """A quant that lacks samples or was asked something else is compared on its other tasks only; the rest stay."""
    if fault == "unscored":
        items = world.items.copy()
        gone = (items["quant"] == "mid") & (items["task"] == "task0") & (items.index % 10 == 0)
        items.loc[gone, ["score", "outcome"]] = [np.nan, "timeout"]
        failing, why = replace(world, items=items), "more than 2 % of the samples have no score"
    else:
        other = [{"quant": quant, "task": "task0", "differing": 3, "n": 400} for quant in ("mid", "F16 again")]
        failing = replace(world, header=dict(world.header) | {"other_prompts": other})
        why = "it was asked other prompts than the reference"
    found = analyse(failing)
    compared = {
        (row["task"], quant)
        for row in found["misleading"] for quant in (row["better_by_proxy"], row["worse_by_proxy"])
    }  # fmt: skip
    everybody = {"same", "near", "mid", "low", "broken"}
    assert compared == {
        (task, quant)
        for task in ("task0", "task1", MEAN_OF_TASKS)
        for quant in everybody
        if quant != "mid" or task == "task1"
    }
    assert {(row["task"], row["pairs"]) for row in found["agreement"]} == {
        ("task0", 6), ("task1", 10), (MEAN_OF_TASKS, 6)
    }  # fmt: skip
    assert all(row["low"] is not None for row in found["agreement"])
    assert pair(found, "mid")["n"] in {360, 400}
    assert f": mid on task0 ({why}); the mean" in claim(found, "verdict:left-out")["text"]


def test_where_nothing_can_be_judged_that_is_the_verdict(world):
    """With every task at chance no pair is judged, and the first sentence says why."""
    found = analyse(replace(world, tasks=world.tasks.assign(chance=0.99)))
    assert found["misleading"] == found["regret"] == found["task_disagreement"] == []
    assert [row["id"] for row in found["claims"] if row["id"].startswith("verdict")] == ["verdict:left-out"]
    assert claim(found, "verdict:left-out")["text"].endswith("task0, task1 (F16 is not above chance).")


ALL_PROXIES = {"ppl", "kld_mean", "kld_p99", "kld_p999"}


@pytest.mark.parametrize(
    ("cells", "quants", "name", "removed"),
    [
        ({"ppl": 0.35}, ["low"], "proxy values possible", {"ppl"}),
        ({"kld_p99": 9.0}, ["low"], "proxy values possible", {"kld_p99", "kld_p999"}),
        ({"n_tokens": 39_000}, ["low"], "proxies on the same text", ALL_PROXIES),
        ({"ctx": 2048}, ["low"], "proxies on the same text", ALL_PROXIES),
        ({"ppl": 412.0}, ["F16"], "perplexity below 50: wiki", {"ppl"}),
        (
            {"kld_mean": 0.002, "kld_p99": 0.02, "kld_p999": 0.04}, ["F16"], "reference against itself",
            {"kld_mean", "kld_p99", "kld_p999"},
        ),
        ({"n_tokens": 16_000}, list(KLD), "99.9 % KLD over 30 tokens of the tail", {"kld_p999"}),
    ],
    ids=["impossible", "order", "tokens", "context", "perplexity", "self-run", "tail"],
)  # fmt: skip
def test_a_proxy_that_fails_its_gate_is_shown_and_not_judged_by(world, cells, quants, name, removed):
    """A proxy that a gate removes stays in the matrix, leaves pairs, agreement, regret and fronts, and is named."""
    sound = world.proxies.assign(
        n_tokens=40_000, ctx=512, kld_p99=world.proxies["kld_mean"] * 10, kld_p999=world.proxies["kld_mean"] * 20
    )
    broken = sound.assign(**{
        column: sound[column].mask(sound["quant"].isin(quants), value) for column, value in cells.items()
    })  # fmt: skip
    before, found = (analyse(replace(world, proxies=proxies)) for proxies in (sound, broken))
    assert [row["name"] for row in before["gates"] if row["passed"] is False] == []
    verdict = None if "tail" in name else False  # a short text is no fault
    assert [row["name"] for row in found["gates"] if row["passed"] is False] == ([name] if verdict is False else [])
    assert gate_of(found, name)["passed"] is verdict
    assert {each["proxy"] for each in gate_of(found, name)["removes"]} == removed
    assert all(
        (each["tool"], each["corpus"]) == ("llama-perplexity", "wiki") for each in gate_of(found, name)["removes"]
    )
    for key in ("misleading", "agreement", "regret", "size_adjusted", "pareto"):
        shown, left = (
            {row.get("proxy", row.get("name")) for row in analysis[key]} & ALL_PROXIES for analysis in (before, found)
        )
        assert left <= ALL_PROXIES - removed
        assert shown - removed <= left
    assert {row["name"] for row in before["pareto"] if row["axis"] == "proxy"} == ALL_PROXIES
    assert {row["proxy"] for row in found["correlations"]} >= ALL_PROXIES
    assert " on wiki (" in claim(found, "left-out")["text"]
    assert broken_rules([claim(found, "left-out")["text"]]) == []
    assert "left-out" not in {row["id"] for row in before["claims"]}


def test_a_published_reference_may_be_a_quant_of_a_larger_file(world):
    """In tables that were read, a KLD of the reference may be against a file that they lack: that is no noise."""
    proxies = world.proxies.assign(kld_mean=world.proxies["kld_mean"] + 0.002)
    gates = [
        gate_of(
            analyse(replace(world, proxies=proxies, header=dict(world.header) | header)), "reference against itself"
        )
        for header in ({}, {"import": []})
    ]
    assert [gate["passed"] for gate in gates] == [False, None]


def test_nobody_is_ranked_by_the_maximum(world):
    """The largest KLD is correlated, with a note, and ranks quants nowhere."""
    found = analyse(replace(world, proxies=world.proxies.assign(kld_max=world.proxies["kld_mean"] * 50)))
    assert "kld_max" in {row["proxy"] for row in found["correlations"]}
    for key in ("range_curves", *JUDGING):
        assert "kld_max" not in {row.get("proxy", row.get("name")) for row in found[key]}
        assert not [row for row in found[key] if "maximum KLD" in {row.get("first"), row.get("second")}]


def test_a_contradiction_of_published_values_fails_a_gate(world):
    """Values that contradict each other fail a gate by name; how a table was read does not, nor tables of our own."""
    read = {"rule": "column_not_read", "file": "a.csv", "quant": "", "column": "note", "detail": "is no proxy."}
    wrong = {
        "rule": "ppl_inconsistent",
        "file": "a.csv",
        "quant": "low",
        "column": "PPL",
        "detail": "PPL 7 is another.",
    }
    gates = [
        gate_of(analyse(replace(world, header=dict(world.header) | header)), "published values consistent")
        for header in ({}, {"import": [read]}, {"import": [read, wrong]})
    ]
    assert [gate["passed"] for gate in gates] == [None, True, False]
    assert gates[2]["detail"] == "low: PPL: PPL 7 is another"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda w: replace(w, quants=w.quants.assign(is_reference=False)), "0 rows have is_reference"),
        (
            lambda w: replace(w, items=pd.concat([w.items, w.items.iloc[:1]])),
            "F16 × task0 × s0 × repeat 0 appears twice",
        ),
        (lambda w: replace(w, items=w.items.assign(score=w.items["score"] * 100)), "Scores lie in"),
        (lambda w: replace(w, items=w.items.assign(task="other")), "task 'other' is not in the tasks table"),
        (lambda w: replace(w, quants=w.quants.query("quant != 'mid'")), "'mid' is not in the quants table"),
        (lambda w: replace(w, proxies=pd.concat([w.proxies, w.proxies])), "appears twice"),
    ],
)
def test_contradictions_are_refused(world, fault, message):
    """Tables that contradict themselves are refused with the place and the remedy."""
    with pytest.raises(SpecError, match=message):
        analyse(fault(world))


def test_wording(found):
    """No sentence says worse or better without support, or no significant difference without the MDE."""
    for row in found["claims"]:
        text = row["text"]
        if row["id"].startswith("quant:"):
            shown = "is worse than" in text or "is better than" in text or "is equivalent to" in text
            assert shown == (row["status"] == "supported")
            assert "undecided" in text or "inside the margin" in text
            assert ("no significant difference" in text) <= ("80 % power" in text)
        if "Spearman" in text or "Kendall" in text:
            assert "n = " in text
            assert "interval" in text
        assert "outperform" not in text
        assert row["inputs"] or row["n"] == 0


def test_every_claim_carries_its_numbers(found):
    """Each quant's claim has the estimate, limits and n of the pair that it leads with."""
    for row in found["claims"]:
        if row["id"].startswith("quant:"):
            shown = pair(found, row["id"].removeprefix("quant:"), row["task"])
            assert (row["estimate"], row["low"], row["high"], row["n"]) == (
                shown["delta"], shown["low"], shown["high"], shown["n"],
            )  # fmt: skip


def test_a_long_list_is_cut_after_it_was_counted():
    """Beyond the largest number of rows pairs are left out of the list with a note, and the claims count all of them."""
    rows = [{"verdict": "undecided", "at": at} for at in range(MAX_ROWS + 7)]
    kept, note = listed(rows)
    assert kept == rows[:MAX_ROWS]
    assert note == f"misleading: {MAX_ROWS:,} of {MAX_ROWS + 7:,} pairs are listed; the claims count all"
    assert listed(rows[:9]) == (rows[:9], None)


def test_changes_are_held_against_the_noise_floor(world):
    """A quant that changes more than the reference's second run is above the floor; samples the machine failed at are not."""
    items = world.items.copy()
    failed = (
        (items["quant"] == "same") & (items["task"] == "task0") & items["sample_id"].isin([f"s{i}" for i in range(80)])
    )
    items.loc[failed, ["score", "outcome"]] = [np.nan, "timeout"]
    quants = world.quants.assign(replicate_of=lambda rows: rows["quant"].map({"F16 again": "F16"}))
    rows = {
        row["quant"]: row
        for row in analyse(replace(world, items=items, quants=quants))["volume"]
        if row["task"] == "task0"
    }
    assert rows["broken"]["p_above_floor"] < 0.001
    assert rows["same"]["p_above_floor"] >= 0.5


def test_changes_of_clustered_samples_are_not_held_against_single_ones(world):
    """Where samples come in clusters there is no test against the floor, and a note says so."""
    items = world.items.assign(cluster=lambda rows: rows["sample_id"].str[:2])
    quants = world.quants.assign(replicate_of=lambda rows: rows["quant"].map({"F16 again": "F16"}))
    rows = analyse(replace(world, items=items, quants=quants))["volume"]
    assert {row["p_above_floor"] for row in rows} == {None}
    assert all("samples in clusters: no test against the A/A floor" in row["notes"] for row in rows)
