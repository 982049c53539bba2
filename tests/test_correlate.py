"""From tables to findings: what people bring, and worlds of which the truth is known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner
from wording import broken_rules, unsupported
from worlds import World, s1_ladder, s3_providers, s4_misleading

from evalsuite.analysis import analyse, analysis_json
from evalsuite.analysis.columns import CHUNK_OF, proxy_columns
from evalsuite.cli import app
from evalsuite.errors import SpecError
from evalsuite.importer.read import read_files
from evalsuite.report.html import write_html
from evalsuite.report.write import write_report
from evalsuite.tables import CHUNK_COLUMNS, Tables

PROXIES = """model,provider,quant,Disk GB,PPL,Mean KLD,99.9% KLD
toy,acme,Q8_0,8.5,7.01,0.0004,0.02
toy,acme,Q6_K,6.6,7.03,0.0011,0.05
toy,acme,Q5_K_M,5.7,7.06,0.0042,0.17
toy,other,Q4_K_M,4.9,7.05,0.0120,0.61
toy,other,IQ4_XS,4.4,7.19,0.0190,0.80
toy,other,Q2_K,3.2,8.40,0.1500,3.10
"""

SCORES = "quant,task,score,n\n" + "\n".join(
    f"{quant},mmlu,{score},2000"
    for quant, score in {
        "Q8_0": 0.70,
        "Q6_K": 0.70,
        "Q5_K_M": 0.69,
        "Q4_K_M": 0.69,
        "IQ4_XS": 0.68,
        "Q2_K": 0.45,
    }.items()
)


def tables(world: World, chunks: int = 64, corpus: str = "wiki") -> Tables:
    """Turn a world into tables: one task, one proxy whose chunks scatter by 5 % about its value."""
    rng = np.random.default_rng(3)
    quants = [f"q{index:02}" for index in range(len(world.proxy))]
    names, scores = ["F16", *quants], np.vstack((world.reference, world.scores))
    providers = [None] * len(quants) if world.providers is None else [f"maker {code}" for code in world.providers]
    noise = np.exp(0.05 * rng.standard_normal((len(quants), chunks)))
    kld = np.vstack((np.zeros(chunks), world.proxy[:, np.newaxis] * noise))
    return Tables(
        quants=pd.DataFrame({
            "quant": names, "provider": [None, *providers], "size_bytes": np.linspace(16e9, 2e9, len(names)),
            "bpw": np.linspace(16, 2, len(names)), "sha256": names, "is_reference": [name == "F16" for name in names],
            "replicate_of": None, "status": "ok", "reason": "",
        }),
        tasks=pd.DataFrame([{"task": "sums", "title": "Sums", "chance": 0.1, "version": "1", "n_planned": scores.shape[1]}]),
        items=pd.DataFrame({
            "quant": np.repeat(names, scores.shape[1]), "task": "sums",
            "sample_id": np.tile([f"s{index}" for index in range(scores.shape[1])], len(names)), "repeat": 0,
            "score": scores.ravel(), "outcome": "ok", "cluster": None, "answer": None, "output": "",
        }),
        proxies=pd.DataFrame({
            "quant": names, "corpus": corpus, "tool": "llama-perplexity", "kld_mean": kld.mean(axis=1), "n_tokens": 16_000,
        }),
        header={"model": "planted", "reference": "F16"},
        chunks=pd.DataFrame([
            (name, corpus, "llama-perplexity", chunk, 2 + value, value, value, np.sqrt(value), 1 - value, 250)
            for name, row in zip(names, kld, strict=True) for chunk, value in enumerate(row)
        ], columns=list(CHUNK_COLUMNS)),
    )  # fmt: skip


def verdict_of(analysis: dict, better: str, worse: str) -> str:
    return next(
        row["verdict"]
        for row in analysis["misleading"]
        if (row["proxy"], row["better_by_proxy"], row["worse_by_proxy"]) == ("kld_mean", better, worse)
    )


def test_chunks_of_unequal_length_count_by_their_tokens():
    """What is drawn and tested has as its mean the value over all tokens, and the plain one where no tokens are known."""
    given = tables(s1_ladder(np.random.default_rng(5)), chunks=8)
    tokens = np.array([9, 3, 31, 4, 12, 25, 1, 7])
    long = given.chunks.assign(n_tokens=tokens[given.chunks["chunk"]])
    # Tables of several runs may lack the tokens of some quants; they are those of the text.
    partly = long.assign(n_tokens=long["n_tokens"].where(long["quant"] != "q01"))
    unknown = long.assign(n_tokens=np.nan)
    values = given.proxies.assign(rms_dp=0.1, same_top_p=0.9, ppl=8.0)
    for chunks, weights in ((long, tokens), (partly, tokens), (unknown, np.ones(8))):
        columns = [column for column in proxy_columns(values, chunks, []) if column.proxy in CHUNK_OF]
        assert {column.proxy for column in columns} == {"kld_mean", "ppl", "rms_dp", "same_top_p"}
        for column in columns:
            name, power = CHUNK_OF[column.proxy]
            sign = -1 if column.proxy == "same_top_p" else 1
            for quant, rows in chunks.groupby("quant"):
                mean = np.average(sign * rows.sort_values("chunk")[name] ** power, weights=weights)
                assert column.chunks[str(quant)].mean() == pytest.approx(mean)


def test_the_summary_names_no_task_of_several(tmp_path):
    """Over several published tasks the summary counts quants that are worse on any of them, and says so in each process."""
    file = tmp_path / "scores.csv"
    file.write_text(
        "quant,task,score,n\n"
        + "".join(
            f"{quant},{task},{score},2000\n"
            for quant, score in (("F16", 0.8), ("Q2_K", 0.5))
            for task in ("arc", "piqa")
        )
    )
    analysis = analyse(read_files([file], reference="F16"))
    (text,) = [claim["text"] for claim in analysis["claims"] if claim["text"].startswith("Of 1 quant compared")]
    assert "1 is worse on at least one task, 0" in text


@pytest.fixture(scope="module")
def misled() -> dict:
    return analyse(tables(s4_misleading(np.random.default_rng(11), n=8000)))


def test_a_planted_pair_is_called_misleading(misled: dict):
    """In a world where KLD misleads about known pairs, the clear ones are named, and none that does not mislead is."""
    truly = {("q03", "q04"), ("q03", "q05"), ("q03", "q06"), ("q04", "q06"), ("q05", "q06")}
    named = {
        (row["better_by_proxy"], row["worse_by_proxy"])
        for row in misled["misleading"]
        if row["verdict"] == "misleading" and row["proxy"] == "kld_mean"
    }
    assert {("q03", "q04"), ("q03", "q06")} <= named <= truly
    assert verdict_of(misled, "q00", "q09") == "consistent"
    texts = [row["text"] for row in misled["claims"] if row["id"].startswith("misleading:kld_mean")]
    assert any("q04 is better than q03 on sums" in text for text in texts)


def test_verdict_counts_the_pairs(misled: dict):
    """The first sentence counts the pairs that are decided with the proxy, against it, and not at all."""
    rows = [row for row in misled["misleading"] if row["proxy"] == "kld_mean"]
    counts = [sum(row["verdict"] == verdict for row in rows) for verdict in ("consistent", "misleading", "undecided")]
    [first] = [row for row in misled["claims"] if row["id"] == "verdict:1"]
    assert f"{counts[0]} of {len(rows)} pairs" in first["text"]
    assert f"{counts[1]} against it, and {counts[2]} are undecided" in first["text"]
    assert first["status"] == "refuted"


def test_a_faithful_proxy_misleads_nowhere():
    """Where the scores follow the proxy, no pair is called misleading, and it costs next to nothing to choose by it."""
    analysis = analyse(tables(s1_ladder(np.random.default_rng(5), n=2000)))
    assert not [row for row in analysis["misleading"] if row["verdict"] == "misleading"]
    [cost] = [row for row in analysis["regret"] if row["proxy"] == "kld_mean"]
    assert cost["naive"] < 0.02 < cost["random"]
    assert next(row for row in analysis["influence"])["n"] == 10


def test_pooling_providers_is_flagged():
    """Where KLD orders each maker's quants rightly and the makers wrongly, the row says so."""
    analysis = analyse(tables(s3_providers(np.random.default_rng(2), n=1000)))
    [row] = [row for row in analysis["providers"] if row["proxy"] == "kld_mean"]
    assert row["simpson"] is True
    assert row["within"] < -0.8 < 0 < row["pooled"]
    subsets = {row["subset"] for row in analysis["correlations"]}
    assert {"all", "provider:maker 0", "provider:maker 1", "provider:maker 2"} <= subsets


def test_sentences_keep_the_rules(misled: dict):
    """Every claim of a whole analysis keeps the rules of wording."""
    assert broken_rules([row["text"] for row in misled["claims"]]) == []
    assert unsupported(misled["claims"]) == []


def test_proxies_alone_prove_nothing_about_tasks(tmp_path: Path):
    """A table of proxies ends in their agreement with each other, and says that it cannot say more."""
    (tmp_path / "table.csv").write_text(PROXIES, encoding="utf-8")
    result = CliRunner().invoke(
        app, ["correlate", str(tmp_path / "table.csv"), "--out", str(tmp_path / "out"), "--json"]
    )
    assert result.exit_code == 0
    analysis = json.loads(result.stdout)["analysis"]
    assert analysis["scores"] == analysis["misleading"] == []
    [first] = [row for row in analysis["claims"] if row["id"] == "verdict:1"]
    assert "no score of any task" in first["text"]
    pair = next(
        row for row in analysis["proxy_agreement"] if (row["first"], row["second"]) == ("perplexity", "mean KLD")
    )
    assert pair["differing"] == [["Q4_K_M", "Q5_K_M"]]
    assert json.loads((tmp_path / "out" / "analysis.json").read_text(encoding="utf-8")) == analysis


def test_published_scores_are_compared_unpaired(tmp_path: Path):
    """Scores without samples give unpaired tests: a clear loss is found, close quants stay undecided with an n."""
    (tmp_path / "proxies.csv").write_text(PROXIES, encoding="utf-8")
    (tmp_path / "scores.csv").write_text(SCORES, encoding="utf-8")
    analysis = analyse(read_files([tmp_path / "proxies.csv", tmp_path / "scores.csv"], reference="Q8_0"))
    pairs = {row["b"]: row for row in analysis["pairs"]}
    assert (pairs["Q2_K"]["verdict"], pairs["Q2_K"]["test"]) == ("worse", "unpaired z")
    assert pairs["Q5_K_M"]["verdict"] == "undecided"
    assert pairs["Q5_K_M"]["lost"] is None
    close = [
        row for row in analysis["misleading"] if {row["better_by_proxy"], row["worse_by_proxy"]} == {"Q5_K_M", "IQ4_XS"}
    ]
    assert all(row["verdict"] == "undecided" and row["n_needed"] > 2000 for row in close)
    assert not [row for row in analysis["misleading"] if row["verdict"] == "misleading"]


def test_an_average_column_is_no_task_of_its_own(tmp_path: Path):
    """A column that averages the tasks is shown and compared, and is in no task's family, count or disagreement."""
    quants = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "Q2_K")
    rows = [(0.80 - 0.01 * at, 0.70 - 0.02 * at) for at in range(len(quants))]
    for name, average in (("with", ",avg"), ("without", "")):
        (tmp_path / f"{name}.csv").write_text(
            f"quant,Disk GB,kld_mean,arc,mmlu{average}\n" + "".join(
                f"{quant},{16 - 2 * at},{0.01 * at},{arc},{mmlu}" + (f",{(arc + mmlu) / 2}" if average else "") + "\n"
                for at, (quant, (arc, mmlu)) in enumerate(zip(quants, rows, strict=True))
            ), encoding="utf-8"
        )  # fmt: skip
    both, alone = (read_files([tmp_path / f"{name}.csv"], reference="F16") for name in ("with", "without"))
    found, other = (analyse(replace(each, scores=each.scores.assign(n=2000))) for each in (both, alone))
    tasks = [row for row in found["pairs"] if row["task"] != "avg"]
    assert tasks == other["pairs"]
    assert len(found["pairs"]) - len(tasks) == 7
    assert [(row["first"], row["second"]) for row in found["task_disagreement"]] == [("arc", "mmlu")]
    assert "avg" in {row["task"] for row in found["correlations"]}
    texts = [row["text"] for row in found["claims"] if row["id"].startswith("quant:")]
    assert any("on any of 2 tasks" in text for text in texts)
    assert not [text for text in texts if "3 tasks" in text]


def test_swapped_labels_are_refused_by_name(tmp_path: Path):
    """A perplexity below 1 beside a KLD of nine nats is refused with exit 2, and the message names the swap."""
    table = "quant,size_gb,ppl,kld_mean\nA,80,0.3552,9.0338\nB,91,0.2441,8.2849\n"
    (tmp_path / "table.csv").write_text(table, encoding="utf-8")
    with pytest.raises(SpecError, match="swap"):
        read_files([tmp_path / "table.csv"])


NAMES = st.sampled_from(["Q8_0", "<b>Q4</b>", "</script><script>alert(1)</script>", "=1+1", "Q4\u2028K", "é" * 40])
NUMBERS = st.one_of(st.none(), st.floats(0, 2), st.sampled_from([0.0, 1.0, 1e300, 1e-300]))


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(st.tuples(NAMES, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=12),
    seed=st.integers(0, 99),
)
@example(rows=[("Q8_0", 0.5, 0.0, None), ("<b>Q4</b>", 1.0, 1.0, None)], seed=0)  # no logarithm of a KLD of 0
@example(rows=[("Q8_0", None, 0.0, None), ("Q8_0", 0.5, None, None), ("<b>Q4</b>", 1.0, 1.0, None)], seed=0)
def test_any_table_ends_in_an_analysis_or_a_refusal(rows: list, seed: int, tmp_path_factory: pytest.TempPathFactory):
    """Any numbers and names, some twice, end in a page that runs none of them, or a refusal; the order of rows is nothing."""
    folder = tmp_path_factory.mktemp("any")
    frame = pd.DataFrame(rows, columns=["quant", "size_gb", "kld_mean", "acc"])
    shuffled = frame.sample(frac=1, random_state=seed)
    written = []
    for name, each in (("one", frame), ("two", shuffled)):
        (folder / name).mkdir()
        each.to_csv(folder / name / "table.csv", index=False)
        try:
            written.append(analysis_json(analyse(read_files([folder / name / "table.csv"]), draws=50)))
        except SpecError as error:
            written.append(f"refused: {str(error).count('table.csv') > 0}")
    if not written[0].startswith("refused"):
        first, second = (json.loads(text, parse_constant=pytest.fail) for text in written)
        assert {key: first[key] for key in first if key != "header"} == {
            key: second[key] for key in second if key != "header"
        }
        write_html(first, read_files([folder / "one" / "table.csv"]).items, folder / "page.html")
        page = (folder / "page.html").read_text("utf-8")
        assert not any(name in page for name in frame["quant"] if "<" in name)
        assert "NaN" not in page.split("<script>")[0]
    else:
        assert written[1].startswith("refused")


def test_hostile_names_stay_text(tmp_path: Path):
    """A quant named like a script is text on the page, in the figures' data too."""
    hostile = "</script><script>alert(1)</script>"
    (tmp_path / "table.csv").write_text(PROXIES.replace("IQ4_XS", hostile), encoding="utf-8")
    _, page = write_report(read_files([tmp_path / "table.csv"]), tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert hostile not in text
    assert "alert(1)" in text
    assert "NaN" not in text.split("<script>")[0]
