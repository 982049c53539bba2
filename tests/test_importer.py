"""Tables from anywhere: every spelling, layout and format gives the same tables, and what cannot be is refused by cell.

The facts in the published tables below are a few rows each, copied from the sources that are named beside them.
"""

import json
import os
import random
import tempfile
from collections.abc import Callable
from contextlib import suppress
from math import exp, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Bench

from evalsuite.errors import SpecError
from evalsuite.export import export, read_tables
from evalsuite.importer.cells import Number, number, rounding
from evalsuite.importer.headers import Meaning, meaning, nominal_bits
from evalsuite.importer.read import read_files
from evalsuite.store import Store
from evalsuite.tables import Tables

Give = Callable[..., Tables]

LADDER = """quant,size_gb,bpw,ppl,kld_mean,mmlu,mmlu_n
F16,16.0,16.0,6.23,,65.3,1000
Q8_0,8.5,8.5,6.2342,0.0013,65.2,1000
Q4_K_M,4.9,4.9,6.4071,0.0312,64.6,1000
Q2_K,3.0,3.0,9.7515,0.4451,55.9,1000
"""


@pytest.fixture
def give(tmp_path: Path) -> Give:
    """Read tables given as texts, or bytes, by file name."""

    def read(*texts: str, reference: str | None = None, **named: str | bytes) -> Tables:
        files = {f"table{index}.csv": text for index, text in enumerate(texts)} | {
            name.replace("_dot_", "."): text for name, text in named.items()
        }
        for name, text in files.items():
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_files([tmp_path / name for name in files], reference=reference)

    return read


def refusal(give: Give, *texts: str, **more: Any) -> str:
    with pytest.raises(SpecError) as caught:
        give(*texts, **more)
    return str(caught.value)


def cells(frame: pd.DataFrame, *columns: str) -> list[list[Any]]:
    return frame[list(columns)].to_numpy().tolist()


def rules(tables: Tables) -> list[tuple[str, str]]:
    return [(found["rule"], found["quant"]) for found in tables.header["import"]]


def assert_same(one: Tables, other: Tables, *, but: tuple[str, ...] = ("files",)) -> None:
    for name in ("quants", "tasks", "items", "proxies", "scores", "chunks"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), obj=name)
    assert {k: v for k, v in one.header.items() if k not in but} == {
        k: v for k, v in other.header.items() if k not in but
    }


# What headers and cells say.


@pytest.mark.parametrize(
    ("headers", "meant"),
    [
        (("PPL", "Perplexity", "mean_ppl", "Mean PPL(Q)", "Final PPL"), Meaning("ppl")),
        (("ppl_wiki", "PPL (wiki)", "wiki_ppl"), Meaning("ppl", "wiki")),
        (("ppl_wikitext2",), Meaning("ppl", "wikitext2")),
        (("ppl_wiki_err", "PPL wiki ±", "ppl_wiki_se"), Meaning("ppl", "wiki", "se")),
        (("KLD", "Mean KLD", "kld_mean", "KL divergence", "avg KLD"), Meaning("kld_mean")),
        (("kld_err",), Meaning("kld_mean", part="se")),
        (("kld_mean_ub",), Meaning("kld_mean", "ub")),
        (("99.9% KLD", "KLD 99.9%", "kld_999", "kld_p999", "p99.9 KLD"), Meaning("kld_p999")),
        (("99.0% KLD", "kld_99", "KLD_P99", "99th percentile KLD"), Meaning("kld_p99")),
        (("Median KLD", "kld_median", "KLD 50%"), Meaning("kld_median")),
        (("Maximum KLD", "max KLD", "kld_max"), Meaning("kld_max")),
        (("Mean PPL(Q)/PPL(base)", "PPL ratio", "Mean PPL ratio"), Meaning("ppl_ratio")),
        (("Mean ln(PPL(Q)/PPL(base))", "ln_ppl_ratio"), Meaning("ln_ppl_ratio")),
        (("Mean PPL(Q)-PPL(base)", "Mean ΔPPL", "dppl"), Meaning("ppl_diff")),
        (("RMS Δp", "Δp RMS", "rms_dp"), Meaning("rms_dp")),
        (("rms_dp_pct", "RMS Δp (%)"), Meaning("rms_dp", unit="%")),
        (("Same top p", "same_top_p"), Meaning("same_top_p")),
        (("as_printed_kld",), Meaning("kld_mean", source="printed")),
        (("kld_mean_assumed",), Meaning("kld_mean", source="assumed")),
        (
            ("Disk GB", "size_gb", "File size (GB)", "GB", "model_size_gb_excl_embeddings"),
            Meaning("size_bytes", unit="gb"),
        ),
        (("size_gib", "Size [GiB]"), Meaning("size_bytes", unit="gib")),
        (("bpw", "Bits per weight", "bits/weight"), Meaning("bpw")),
        (("pp512_tps", "pp512", "pp512 t/s"), Meaning("pp_tps")),
        (("quant", "Quant Level", "Quantization", "file", "what", "GGUF"), Meaning("quant")),
        (("provider", "Quantizer", "uploader", "family"), Meaning("provider")),
        (
            ("mmlu", "PPL correlation", "kld_mean_baseline", "old_kld_max", "Mean Δp", "99.9% Δp", "ppl_increase", ""),
            None,
        ),
    ],
)
def test_spellings_of_one_thing_mean_one_thing(headers: tuple[str, ...], meant: Meaning | None):
    """Headers as published tables spell them are understood; those of other things are not."""
    assert {header: meaning(header) for header in headers} == dict.fromkeys(headers, meant)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("6.2331", (6.2331, None, "")),
        ("5.794552 ± 0.032298", (5.794552, 0.032298, "")),
        ("-2.710 ± 0.023 %", (-2.71, 0.023, "%")),
        ("97.36%", (97.36, None, "%")),
        ("9.0703 +/- 0.07223", (9.0703, 0.07223, "")),
        ("4.58 GiB", (4.58, None, "GiB")),
        ("14,042", (14042, None, "")),
        ("9e-06", (9e-6, None, "")),
        ("−0.5", (-0.5, None, "")),
        *((text, None) for text in ("", "-", "—", "n/a", "NaN", "None")),
    ],
)
def test_cells_are_numbers_with_errors_and_units(text: str, read: tuple[float, float | None, str] | None):
    """A cell gives its number, its printed error and its unit; a dash is no number and no fault."""
    assert number(text, decimal_comma=False) == (read and Number(*read))


@pytest.mark.parametrize(
    "text", ["Q4_K_M", "inf", "1e999", "1.2.3", "<0.001", "0x10", "5 apples", "9" * 10**6, " " * 99 + "x"]
)
def test_texts_are_no_numbers(text: str):
    """A text, a bound and an overflow are refused instead of guessed at."""
    with pytest.raises(ValueError, match="no number"):
        number(text, decimal_comma=False)


@given(st.decimals(-9999, 9999, places=4).filter(lambda value: value == value.normalize()))
def test_rounding_is_half_a_unit_of_the_last_digit(value: Any):
    """The error of a printed number is half a unit of its last digit, whatever its size."""
    assert rounding(float(value.normalize())) == pytest.approx(
        0.5 * 10.0 ** min(0, value.normalize().as_tuple().exponent)
    )


def test_names_tell_bits():
    """A quant's name gives its bits: of a mixture the quantised part's."""
    names = (
        "BF16",
        "UD-IQ4_XS",
        "q8_0",
        "L2 7b q2_K",
        "MXFP4_MOE_BF16",
        "8bit",
        "F16.gguf",
        "GPTQ-4",
        "Qwen3-0.6B fp16",
    )
    assert [nominal_bits(name) for name in names] == pytest.approx([16, 4, 8, 2, 4, 8, 16, nan, 16], nan_ok=True)


# Layouts and formats.


def test_wide_table(give: Give):
    """Proxies and a task in one table: percents come as shares, gigabytes as bytes, counts beside their task."""
    tables = give(LADDER)
    assert tables.quants["quant"].tolist() == ["F16", "Q2_K", "Q4_K_M", "Q8_0"]
    assert tables.quants["size_bytes"].tolist() == [16e9, 3e9, 4.9e9, 8.5e9]
    assert tables.proxies.set_index("quant").loc["Q4_K_M", ["corpus", "tool", "ppl", "kld_mean"]].tolist() == [
        None, "table", 6.4071, 0.0312,
    ]  # fmt: skip
    assert tables.scores.to_dict("records")[2] == pytest.approx(
        {"quant": "Q4_K_M", "task": "mmlu", "score": 0.646, "n": 1000, "se": nan}, nan_ok=True
    )
    assert tables.items.empty


def markdown(text: str) -> str:
    head, *rows = text.splitlines()
    lines = [head, ",".join("---" for _ in head.split(",")), *rows]
    return "".join(f"| {line.replace(',', ' | ')} |\n" for line in lines)


def json_lines(text: str) -> str:
    head, *rows = (line.split(",") for line in text.splitlines())
    values = [[None if cell == "" else cell if at == 0 else float(cell) for at, cell in enumerate(row)] for row in rows]
    return "".join(json.dumps(dict(zip(head, row, strict=True))) + "\n" for row in values)


FORMATS: dict[str, Callable[[str], str | bytes]] = {
    "a_dot_csv": lambda text: text,
    "b_dot_csv": lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(),
    "c_dot_tsv": lambda text: text.replace(",", "\t"),
    "d_dot_csv": lambda text: text.replace(",", ";").replace(".", ","),
    "e_dot_csv": lambda text: text.replace(",", "\t").encode("utf-16"),
    "f_dot_csv": lambda text: "\n" + text.replace("\n", "\n\n"),
    "g_dot_md": lambda text: "Some words.\n\n" + markdown(text) + "\nMore words.\n",
    "h_dot_md": lambda text: markdown(text).replace("| Q8_0", "| [**Q8_0**](https://example.org/q8)"),
    "i_dot_csv": lambda text: text.replace(",", ", "),
    "j_dot_jsonl": json_lines,
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_agree(give: Give, name: str):
    """CSV, TSV, `;` with decimal commas, UTF-16, blank lines, a pasted table and JSONL give the same tables."""
    written: Any = {name: FORMATS[name](LADDER)}
    plain, other = give(LADDER), give(**written)
    assert_same(plain, other, but=("files", "model", "import"))
    assert rules(plain) == rules(other) == [("reference_row", "F16")]


def test_long_tables_join_by_quant(give: Give):
    """Proxies, scores and items told apart by their columns meet in one quant; items outrank a score of the same task."""
    proxies = (
        "model,provider,quant,size_gb,kld_mean,corpus\n"
        "M,acme,Q8_0,8.5,0.001,wiki\nM,acme,Q8_0,8.5,0.002,chat\nM,acme,F16,16,,wiki\n"
    )
    scores = "quant,task,score,n,se\nQ8_0,arc,70.5,200,3.2\nF16,arc,71,200,3.2\nQ8_0,own,0.5,4,\n"
    items = "quant,task,sample_id,score\n" + "".join(
        f"{quant},own,{sample},{score}\n" for quant in ("Q8_0", "F16") for sample, score in enumerate("1010")
    )
    tables = give(proxies, scores, items)
    assert cells(tables.proxies, "quant", "corpus", "kld_mean") == [
        ["Q8_0", "chat", 0.002],
        ["Q8_0", "wiki", 0.001],
    ]
    assert cells(tables.scores, *tables.scores) == [
        ["F16", "arc", 0.71, 200, 0.032],
        ["Q8_0", "arc", 0.705, 200, 0.032],
    ]
    assert tables.tasks.set_index("task")["n_planned"].to_dict() == pytest.approx({"arc": nan, "own": 4}, nan_ok=True)
    assert (len(tables.items), tables.header["model"], tables.header["reference"]) == (8, "M", "F16")
    assert rules(tables) == [("percent_or_share", ""), ("reference_row", "F16")]
    tables = give(proxies, scores.replace("own,0.5", "own,0.6"), items)
    assert ("score_of_other_items", "Q8_0") in rules(tables)


def test_each_text_has_its_row(give: Give):
    """Columns that name their text give a row a quant and text; an abbreviation and an error find their column."""
    tables = give(
        "provider,quant,ppl_wiki,ppl_wiki_err,ppl_ubergarm_corpus,ppl_ub_err,kld_mean_ub,kld_err\n"
        "bf16,,9.0703,0.07223,15.1443,0.10239,,\nubergarm,IQ4_KS,8.9862,0.07061,15.182811,0.102278,0.014617,6.8e-05\n"
    )
    row = tables.proxies.set_index(["quant", "corpus"]).loc[("IQ4_KS", "ubergarm_corpus")]
    assert row[["ppl", "ppl_se", "kld_mean", "kld_mean_se"]].tolist() == [15.182811, 0.102278, 0.014617, 6.8e-05]
    assert tables.proxies["corpus"].unique().tolist() == ["ubergarm_corpus", "wiki"]
    assert tables.header["reference"] == "bf16"
    assert rules(tables) == [("abbreviated_text", ""), ("reference_row", "bf16")]


# llama.cpp, tools/perplexity/README.md: LLaMA-2 7B beside LLaMA-3 8B.
TURNED = """metric,L2 7b q2_K,L2 7b q4_K_M,L2 7b q8_0,L3 8b q2_K,L3 8b q8_0
Mean PPL,5.794552 ± 0.032298,5.877078 ± 0.032781,5.798542 ± 0.032366,9.751568 ± 0.063312,6.234284 ± 0.037878
Mean PPL ratio,1.107955 ± 0.001427,1.014242 ± 0.000432,1.000689 ± 0.000107,1.564849 ± 0.004525,1.000425 ± 0.000161
Mean ΔPPL,0.625552 ± 0.008725,0.082526 ± 0.002530,0.003990 ± 0.000624,3.519934 ± 0.033863,0.002650 ± 0.001006
PPL correlation,97.36%,99.71%,99.98%,89.62%,99.96%
Mean KLD,0.108903 ± 0.000645,0.012686 ± 0.000079,0.000369 ± 0.000007,0.445132 ± 0.001835,0.001355 ± 0.000006
99.9% Δp,37.184%,17.461%,3.387%,50.003%,6.402%
Same top p,85.584 ± 0.086 %,94.665 ± 0.055 %,98.846 ± 0.026 %,71.138 ± 0.119 %,97.674 ± 0.040 %
"""


def test_turned_table_with_a_wrong_cell(give: Give):
    """A metric a row, value ± error in a cell: read, and the PPL that contradicts its ratio and difference is named."""
    tables = give(TURNED)
    row = tables.proxies.set_index("quant").loc["L3 8b q2_K"]
    assert row[["ppl", "ppl_se", "kld_mean", "same_top_p", "same_top_p_se"]].tolist() == [
        9.751568, 0.063312, 0.445132, 0.71138, 0.00119,
    ]  # fmt: skip
    found = [each for each in tables.header["import"] if each["rule"] != "column_not_read"]
    assert [(each["rule"], each["quant"]) for each in found] == [
        ("ppl_inconsistent", "L2 7b q2_K"), ("several_references", "L2 7b q4_K_M"),
    ]  # fmt: skip
    assert found[0]["column"] == "Mean PPL"
    assert "A PPL of 6.4201 would fit both" in found[0]["detail"]
    assert "5.7946, 6.2316" in found[1]["detail"]
    assert "row 'Mean KLD', column 'L2 7b q2_K': 'a lot' is no number" in refusal(
        give, TURNED.replace("0.108903 ± 0.000645", "a lot")
    )


def test_columns_of_another_file_are_left_out(give: Give):
    """A column that speaks of another file than its row is no measurement of the row, and the reader hears of it."""
    tables = give(
        "quant,size_gb,kld_mean,kld_mean_baseline,mmlu,mmlu_qat\nQ8_0,8,0.01,0.02,70,71\nQ4_0,4,0.1,0.2,60,61\n"
    )
    assert (tables.tasks["task"].tolist(), tables.proxies["kld_mean"].tolist()) == (["mmlu"], [0.1, 0.01])
    assert rules(tables) == [("column_not_read", "")] * 2
    message = refusal(give, "quant,old_size_gb,new_size_gb,old_kld_max,new_kld_max\nUD-Q2_K_XL,12.0,11.3,8.237,8.155\n")
    assert "'old_size_gb', 'new_size_gb', 'old_kld_max', 'new_kld_max' speak of several files in one row" in message


def test_unknown_columns_of_scores_are_tasks_and_said_to_be(give: Give):
    """A numeric column that nothing else explains is a task, with its interval as an error; the reader hears of it."""
    tables = give("quant,fcr,fcr_lo,fcr_hi,seeds,comment\nF16,0.822,0.797,0.847,3,good\nQ8_0,0.826,0.804,0.85,3,\n")
    assert cells(tables.scores, "quant", "task", "score") == [["F16", "fcr", 0.822], ["Q8_0", "fcr", 0.826]]
    assert tables.scores["se"].tolist() == pytest.approx([0.05 / 3.92, 0.046 / 3.92])
    assert [(each["rule"], each["column"]) for each in tables.header["import"]] == [
        ("column_not_read", "comment"), ("column_not_read", "seeds"), ("taken_as_score", "fcr"),
    ]  # fmt: skip


def test_means_of_tasks_are_marked(give: Give):
    """A column that averages the others is marked, so that no mean counts it as one more task."""
    tasks = give("quant,arc,piqa,avg\nQ8_0,70,80,75\nQ4_0,60,70,65\n").tasks
    assert cells(tasks, "task", "mean_of_tasks") == [["arc", False], ["avg", True], ["piqa", False]]


def test_other_forms_of_a_proxy(give: Give):
    """A logarithm of the ratio gives the ratio, and a share of changed top tokens the share of equal ones."""
    tables = give(
        "quant,bpw,kld_median,top_tokens_differ,ln_ppl_ratio\nIQ1_S,1.78,0.5495,0.384,0.9235\nQ2_K,3,0.0588,0.1492,0.1103\n"
    )
    assert tables.proxies["same_top_p"].tolist() == [0.616, 0.8508]
    assert tables.proxies["ppl_ratio"].tolist() == [exp(0.9235), exp(0.1103)]


def test_units_come_from_headers_cells_and_size(give: Give):
    """A size without a unit is in gigabytes or bytes by its magnitude; an error is in the unit of its value."""
    # llama.cpp, tools/perplexity/README.md.
    rows = "f16,14.97 GiB,0.787,0.004\nq8_0,8547235432,1.198,0.007\nq4_0,4.34,8.434,0.061\n"
    tables = give("quant,size,rms_dp_pct,rms_dp_err\n" + rows)
    assert tables.quants["size_bytes"].tolist() == [14.97 * 2**30, 4.34e9, 8547235432]
    assert cells(tables.proxies, "rms_dp", "rms_dp_se") == [[0.00787, 0.00004], [0.08434, 0.00061], [0.01198, 0.00007]]


def test_pasted_cells_lose_their_markup(give: Give):
    """Bold type, code, links and escaped pipes of a pasted table are not part of what it says."""
    table = "| Quant | **PPL** |\n|:--|--:|\n| [`Q8_0`](https://example.org) | **6.23** |\n| a\\|b F16 | 6.2 |\n"
    for pasted in ({"table_dot_md": table}, {"table_dot_csv": table}):
        assert cells(give(**pasted).proxies, "quant", "ppl") == [["Q8_0", 6.23], ["a|b F16", 6.2]]
    answer = "| a | b |\n|---|---|\n| 1 | 2 |"
    items = give(f'quant,task,sample_id,score,output\nF16,t,1,1,"{answer}"\n').items
    assert items["output"].tolist() == [answer]


# Who is who.


def test_names_are_as_long_as_they_must(give: Give):
    """Quants of one name are told apart by provider, by recipe, and by size where nothing else differs."""
    several = "provider,quant,imatrix,bpw,kld_mean\na,Q4,,4,0.1\nb,Q4,,4,0.2\nb,Q4,wiki,4,0.3\nb,Q5,,5,0.4\n"
    assert give(several).quants["quant"].tolist() == ["a Q4", "b Q4", "b Q4 wiki", "b Q5"]
    by_recipe = "quant,imatrix,bpw,kld_mean\nQ4,,4,0.2\nQ4,wiki,4,0.3\n"
    assert give(by_recipe).quants["quant"].tolist() == ["Q4", "Q4 wiki"]
    by_size = "quant,size_gb,kld_mean\nQ4_K_XL,19.17,0.0137\nQ4_K_XL,20.7,0.01\nQ8_0,36,0.001\n"
    assert give(by_size).quants["quant"].tolist() == ["Q4_K_XL 19.17 GB", "Q4_K_XL 20.7 GB", "Q8_0"]


def test_a_name_that_fits_several_quants_is_refused(give: Give):
    """A file without providers joins where its names fit one quant each, and is refused where they fit several."""
    proxies = "provider,quant,kld_mean\na,Q4_0,0.1\nb,Q4_0,0.2\nb,Q8_0,0.01\n"
    assert give(proxies, "quant,mmlu\nQ8_0,70\n").scores["quant"].tolist() == ["b Q8_0"]
    assert "Q4_0 may be any of a Q4_0, b Q4_0" in refusal(give, proxies, "quant,mmlu\nQ4_0,60\n")


@pytest.mark.parametrize(
    ("text", "reference", "why"),
    [
        (LADDER, "F16", "the largest file"),
        ("quant,size_gb,ppl\nIQ4_KS,15.3,9.3\nbf16,,9.1\nQ8_0,30,9.1\n", "bf16", "not quantised, by its name"),
        ("quant,bpw,ppl\nIQ3_XXS,3.2,7\nIQ1_S,1.8,9\n", "IQ3_XXS", "the quant with the most bits per weight"),
        ("quant,size_gb,ppl\nK_A,,7\nK_B,3,9\n", "K_B", "the largest file whose size is known"),
        ("quant,ppl\nUD-IQ2_XXS,9\nIQ3_S,8\n", "IQ3_S", "the quant with the most bits by its name"),
    ],
)  # fmt: skip
def test_the_largest_quant_is_the_reference(give: Give, text: str, reference: str, why: str):
    """Without a reference the largest quant is it, by the best evidence there is, and the notes say so."""
    tables = give(text)
    assert tables.header["reference"] == reference
    assert tables.quants.loc[tables.quants["is_reference"], "quant"].tolist() == [reference]
    assert tables.header["notes"] == [f"{reference} is the reference: no reference was named, and it is {why}"]


def test_a_named_reference(give: Give):
    """A reference may be named as far as it is unique; one that is not there is refused with what was meant."""
    table = "provider,quant,size_gb,kld_mean\na,Q4_0,4,0.1\nb,Q4_0,4,0.2\nb,Q8_0,8,0.0005\n"
    for name in ("b Q8_0", "Q8_0"):
        tables = give(table, reference=name)
        assert (tables.header["reference"], tables.header["notes"]) == ("b Q8_0", [])
    assert "reference 'Q4_0' may be any of a Q4_0, b Q4_0" in refusal(give, table, reference="Q4_0")
    assert "reference 'b Q8' is not among the quants. Did you mean 'b Q8_0'?" in refusal(give, table, reference="b Q8")
    assert "no table says which quant is the largest" in refusal(give, "quant,ppl\nbig,7\nsmall,8\n")


def test_hashes_name_the_files(give: Give):
    """A SHA-256 beside a quant is its identity, with or without the algorithm's name; two for one quant are refused."""
    digest = "ab" * 32
    table = f"quant,sha256,bpw,kld_mean\nQ8_0,sha256:{digest.upper()},8,0.001\nQ4_0,,4,0.1\n"
    assert give(table).quants.set_index("quant")["sha256"].dropna().to_dict() == {"Q8_0": digest}
    assert "Q8_0: the tables give it the SHA-256 abababab… and cdcdcdcd…" in refusal(
        give, table, f"quant,sha256,mmlu\nQ8_0,{'cd' * 32},70\n"
    )
    assert "row 2 (Q8_0), column 'sha256': 'abc' is no SHA-256" in refusal(give, "quant,sha256,ppl\nQ8_0,abc,7\n")


def test_kld_from_elsewhere_is_said(give: Give):
    """A reference with a mean KLD of its own is not what the proxies were measured against, and the notes say so."""
    notes = give("quant,size_gb,kld_mean\nQ8_0,8,0.0026\nQ4_0,4,0.1\n").header["notes"]
    assert "Q8_0 itself has a mean KLD of 0.0026: the proxies were measured against another file" in notes[1]


def test_one_model_is_read(give: Give):
    """Of several models the one with most quants is read, or the reference's; the reader hears of the others."""
    table = "model,quant,size_gb,mmlu\n8B,F16,16,65.2\n8B,Q8_0,8,65.1\n8B,Q4_0,4,64\n70B,Q4_0,40,80\n70B,Q2_K,26,70.7\n"
    tables = give(table)
    assert (tables.header["model"], tables.header["reference"], len(tables.scores)) == ("8B", "F16", 3)
    assert "2 quants of 70B are left out" in next(
        each["detail"] for each in tables.header["import"] if each["rule"] == "other_model"
    )
    tables = give(table, reference="70B Q4_0")
    assert (tables.header["model"], tables.quants["quant"].tolist()) == ("70B", ["Q2_K", "Q4_0"])


# What cannot be, and what should not be.


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("ppl", "0.9", "row 3 (Q8_0), column 'ppl': 0.9 is impossible: a perplexity is never below 1"),
        ("ppl_ratio", "0", "'ppl_ratio': 0 is impossible: a ratio of perplexities is above 0"),
        ("kld_mean", "-0.002", "'kld_mean': -0.002 is impossible: a KL divergence is never negative"),
        ("kld_p999", "0.001", "'kld_p99': 0.01 is impossible beside 'kld_p999', which is 0.001"),
        ("kld_max", "0.0009", "'kld_p999': 0.1 is impossible beside 'kld_max', which is 0.0009"),
        ("same_top_p", "101", "'same_top_p': 101 is neither a share nor a percentage"),
        ("same_top_p", "-0.1", "'same_top_p': -0.1 is neither a share nor a percentage"),
        ("mmlu", "650", "'mmlu': 650 is neither a share nor a percentage"),
        ("mmlu", "0.65", "'mmlu': 0.65 stands among percentages like 66. Write 65, or 0.65 % if that is meant"),
        ("mmlu", "7O.2", "'mmlu': '7O.2' is no number. Correct the cell, or leave it empty"),
        ("mmlu_n", "0", "'mmlu_n': 0 is impossible: a count is at least 1"),
        ("ppl_se", "-1", "'ppl_se': -1 is impossible: an error is never negative"),
        ("size_gb", "0", "'size_gb': 0 is impossible: a file has a size"),
        ("bpw", "99", "'bpw': 99 is impossible: a weight has between 0 and 64 bits"),
        ("tg128", "0", "'tg128': 0 is impossible: a speed is above 0"),
        ("quant", "", "row 3 names no quant"),
        ("quant", "a\x07b", "row 3, column 'quant': 'a\\x07b' holds a control character"),
        ("quant", "Q" * 201, "has 201 characters. Names have at most 200"),
    ],
)  # fmt: skip
def test_impossible_values_are_refused_by_cell(give: Give, column: str, value: str, said: str):
    """A value that cannot be is refused with its file, row, column and value, and with what to do."""
    columns = {
        "quant": ("F16", "Q8_0", "Q4_0"), "size_gb": (16, 8, 4), "bpw": (16, 8, 4), "ppl": (6.1, 6.2, 6.4),
        "ppl_se": (0.1, 0.1, 0.1), "ppl_ratio": (1, 1.016, 1.05), "kld_mean": (0, 0.001, 0.03),
        "kld_p99": (0.001, 0.01, 0.4), "kld_p999": (0.01, 0.1, 2), "kld_max": (0.02, 1, 20),
        "same_top_p": (99.9, 99, 95), "mmlu": (66, 65, 64), "mmlu_n": (100, 100, 100), "tg128": (10, 20, 30),
    }  # fmt: skip
    frame = pd.DataFrame(columns).astype(object)
    assert give(frame.to_csv(index=False)).header["reference"] == "F16"
    frame.loc[1, column] = value
    message = refusal(give, frame.to_csv(index=False))
    assert message.startswith("table0.csv: ")
    assert said in message


def test_rounding_is_no_fault(give: Give):
    """A KLD a little below 0, equal percentiles, and percents below 1 that say so are taken as they are."""
    tables = give(
        "quant,bpw,kld_mean,kld_median,kld_p99,gsm8k\nF16,16,-0.0005,0.0,0.0,77\nQ1_0,1,5,4,9,0.5 %\nQ2_0,2,1,1,2,20\n"
    )
    assert tables.proxies["kld_mean"].min() == -0.0005
    assert tables.scores.set_index("quant").loc["Q1_0", "score"] == 0.005


def test_a_percentage_among_shares_is_refused(give: Give):
    """One percentage in a column of shares is named; small percentages beside one above 1 are what they say."""
    table = "quant,bpw,mmlu\nQ8_0,8,0.65\nQ5_0,5,0.64\nQ4_0,4,70\nQ3_0,3,0.6\n"
    assert "row 4 (Q4_0), column 'mmlu': 70 stands among shares like 0.65. Write 0.7, or 70 % if" in refusal(
        give, table
    )
    assert give("quant,bpw,aime\nQ8_0,8,1.7\nQ5_0,5,0.8\nQ4_0,4,0.4\n").scores["score"].tolist() == [
        0.004,
        0.008,
        0.017,
    ]


def test_swapped_columns_are_named(give: Give):
    """PPL under KLD and KLD under PPL is refused by that name, with what to do: rename, or exchange the cells."""
    # Unsloth's page on MiniMax-M2.5, as it is printed.
    printed = "provider,quant,ppl,kld\nUnsloth,UD-IQ2_XXS,0.3552,9.0338\nAesSedai,IQ3_S,0.2441,8.2849\n"
    message = refusal(give, printed)
    assert "row 2 (UD-IQ2_XXS), column 'ppl': PPL 0.3552 and KLD 9.0338 are swapped" in message
    assert "the reference's PPL comes to 6.33. Rename the columns: 'ppl' holds the KLD and 'kld' the PPL" in message
    assert "Exchange the cells 'ppl' and 'kld' in 1 of 2 rows" in refusal(
        give, printed.replace("0.3552,9.0338", "9.0338,0.3552")
    )
    assert give(printed.replace("ppl,kld", "kld,ppl")).proxies["ppl"].tolist() == [8.2849, 9.0338]
    alone = printed.replace("ppl,kld", "as_printed_ppl,as_printed_kld")
    assert "are swapped" in refusal(give, alone)


def test_a_table_that_corrects_itself_is_read(give: Give):
    """Beside columns that correct them, printed columns are left aside, and their swap is still named."""
    tables = give(
        "provider,quant,kld_mean_assumed,ppl_assumed,as_printed_ppl,as_printed_kld\n"
        "Unsloth,UD-IQ2_XXS,0.3552,9.0338,0.3552,9.0338\nAesSedai,IQ3_S,0.2441,8.2849,0.2441,8.2849\n"
    )
    assert cells(tables.proxies, "quant", "kld_mean", "ppl") == [
        ["IQ3_S", 0.2441, 8.2849],
        ["UD-IQ2_XXS", 0.3552, 9.0338],
    ]
    assert rules(tables) == [
        ("corrected_column", ""), ("corrected_column", ""), ("swapped_ppl_kld", "IQ3_S"), ("swapped_ppl_kld", "UD-IQ2_XXS"),
    ]  # fmt: skip


# IST-DASLab/gptq-gguf-toolkit, README.
COPIED = """quant,bpw,ppl_c4,ppl_fineweb_edu,ppl_wikitext2,arc_easy_norm,hellaswag_norm
F32,32.00,11.01,9.14,6.73,0.796,0.792
Q3_K_M,3.84,11.88,9.66,7.18,0.782,0.776
GPTQ-4,4.50,11.35,9.36,6.89,0.788,0.787
EvoPress-GPTQ-3,3.47,13.17,10.66,7.89,0.753,0.748
EvoPress-GPTQ-4,4.50,11.35,9.36,6.89,0.788,0.787
EvoPress-kQuant-im-3.01,3.01,13.17,10.66,7.89,0.777,0.759
"""


def test_copied_rows_and_proxies_are_flagged(give: Give):
    """Equal rows, equal proxies beside unequal scores, and the unquantised row are named, and nothing else is."""
    tables = give(COPIED)
    assert rules(tables) == [
        ("equal_proxies", "EvoPress-kQuant-im-3.01"), ("equal_rows", "GPTQ-4"), ("reference_row", "F32"),
    ]  # fmt: skip
    same = tables.quants.set_index("quant")["same_as"].dropna()
    assert same.to_dict() == {"GPTQ-4": "EvoPress-GPTQ-4"}
    again = give(COPIED, reference="GPTQ-4").quants.set_index("quant")["same_as"].dropna()
    assert again.to_dict() == {"EvoPress-GPTQ-4": "GPTQ-4"}


def test_agreement_in_few_digits_is_no_copy(give: Give):
    """Two quants that share a size and a score of two digits, or a PPL of three, may do so by chance."""
    tables = give("quant,size_gb,ppl,mmlu\nQ5_K_S,5.2,6.3,65\nQ5_0,5.2,6.3,65\nQ4_0,4.3,6.7,64\nQ4_1,4.8,6.7,63\n")
    assert rules(tables) == []


def test_a_ratio_beyond_its_kld_is_flagged(give: Give):
    """A PPL that moved more than twice the mean KLD is flagged; the other way round is what instruct models do."""
    table = "quant,bpw,ppl_ratio,kld_mean\nQ4_0,4,1.05,0.02\nQ3_0,3,1.05,0.2\nQ2_0,2,0.8,0.1\nQ8_0,8,1.05,0.001\n"
    assert rules(give(table)) == [("ln_ratio_above_kld", "Q2_0"), ("ln_ratio_above_kld", "Q4_0")]


@pytest.mark.parametrize(
    ("table", "flagged"),
    [
        ("quant,ppl_wiki2\nbf16,9.0656\nIQK-1,9.9517\n", True),
        ("quant,size_gb,mmlu\nfp16,13.98,65.20\nQ8_0,7.43,65.23\n", True),
        ("quant,size_gib,ppl,kld_mean\nf16,14.97,6.233160,0.000551\nq8_0,7.96,6.234284,0.001355\n", False),
        ("quant,mmlu\nfp16,65.20\nQ8_0,65.23\n", False),
        ("quant,size_gb,ppl\nMXFP4_MOE_F16,20.55,6.59\nQ8_0,36,6.53\n", False),
    ],
)  # fmt: skip
def test_unquantised_rows_among_the_quants_are_flagged(give: Give, table: str, flagged: bool):
    """An unquantised row is flagged where it would be a point of a correlation; one with a KLD of its own is a floor."""
    assert [rule for rule, _ in rules(give(table))] == ["reference_row"] * flagged


@settings(max_examples=25)
@given(
    st.integers(0, 10_000), st.integers(4, 12), st.sampled_from(["none", "size", "ppl", "share", "swap", "parameters"])
)
def test_one_wrong_cell_is_found_and_nothing_else(seed: int, count: int, fault: str):
    """In a table of one model whose cells fit together exactly the one planted wrong cell is named."""
    rng = np.random.default_rng(seed)
    bpw, kld = np.linspace(3, 9, count), np.geomspace(0.5, 0.002, count) * rng.uniform(0.8, 1.2, count)
    ppl, top = 6.2 * np.exp(kld), 100 * (1 - 0.3 * np.sqrt(kld))
    table = pd.DataFrame({
        "quant": [f"K{index}" for index in range(count)], "size_gb": (8.03 * bpw / 8).round(3), "bpw": bpw.round(3),
        "ppl": ppl.round(4), "ppl_ratio": (ppl / 6.2).round(5), "dppl": (ppl - 6.2).round(4), "kld_mean": kld.round(6),
        "same_top_p": top.round(3), "mmlu": (70 - 5 * np.sqrt(kld)).round(2),
    })  # fmt: skip
    at = int(rng.integers(count))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        match fault:
            case "size":
                table.loc[at, "size_gb"] = round(table.loc[at, "size_gb"] / 1.073741824, 3)
            case "ppl":
                table.loc[at, "ppl"] = round(table.loc[at, "ppl"] * 1.3, 4)
            case "parameters":
                table.loc[at, "size_gb"] *= 2
            case "share":
                table.loc[at, "mmlu"] = round(float(table["mmlu"].median()) / 100, 4)
            case "swap":
                table.loc[at, ["ppl", "kld_mean"]] = table.loc[at, ["kld_mean", "ppl"]].tolist()
        table.to_csv(path, index=False)
        if fault in {"share", "swap"}:
            with pytest.raises(
                SpecError, match=f"(?s)K{at}\\).*({'stands among percentages' if fault == 'share' else 'are swapped'})"
            ):
                read_files([path])
            return
        rule = {"size": "gb_gib", "ppl": "ppl_inconsistent", "parameters": "implied_parameters"}
        assert rules(read_files([path])) == ([(rule[fault], f"K{at}")] if fault in rule else [])


def test_two_files_about_one_quant(give: Give):
    """Sizes of two files that are a GB and a GiB, or two uploads, are flagged; two values of a proxy are refused."""
    table = "quant,size_gb,kld_mean\nQ8_0,8.5,0.001\nQ4_0,4.5,0.1\n"
    assert rules(give(table, "quant,size_gb,mmlu\nQ8_0,7.92,70\nQ4_0,4.5,60\n")) == [("gb_gib", "Q8_0")]
    assert rules(give(table, "quant,size_gb,mmlu\nQ8_0,9.9,70\nQ4_0,4.5,60\n")) == [("sizes_differ", "Q8_0")]
    assert rules(give(table, "quant,size_gib,mmlu\nQ8_0,7.92,70\nQ4_0,4.19,60\n")) == []
    message = refusal(give, table, "quant,kld_mean\nQ8_0,0.002\n")
    assert "table1.csv: row 2 (Q8_0), column 'kld_mean': 0.002, but table0.csv: row 2 (Q8_0)" in message


# Items.

ITEMS = (
    "quant,task,sample_id,score,outcome\nF16,t,1,1,ok\nF16,t,2,0,truncated\nQ8_0,t,1,,server_died\nQ8_0,t,2,True,ok\n"
)


def test_items_keep_the_models_failures_and_drop_ours(give: Give):
    """A truncated answer is a score, a dead server is none, and without an outcome a missing score was not run."""
    items = give(ITEMS).items
    assert cells(items, "quant", "sample_id", "outcome") == [
        ["F16", "1", "ok"], ["F16", "2", "truncated"], ["Q8_0", "1", "server_died"], ["Q8_0", "2", "ok"],
    ]  # fmt: skip
    assert items["score"].tolist() == pytest.approx([1, 0, nan, 1], nan_ok=True)
    assert (items["repeat"].tolist(), items["cluster"].tolist()) == ([0] * 4, [None] * 4)
    without = give("quant,sample_id,score\nF16,a,1\nF16,b,\n", reference="F16").items
    assert (without["outcome"].tolist(), without["task"].unique().tolist()) == (["ok", "not_run"], ["table0"])
    tables = give(ITEMS.replace("1,,server_died", "1,0,server_died"))
    assert (tables.items["score"].isna().sum(), rules(tables)) == (1, [("score_of_a_failure", "Q8_0")])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("True,ok", "70,ok", "row 5 (Q8_0), column 'score': '70' lies outside [0, 1]. Divide percentages by 100"),
        ("True,ok", ",ok", "column 'score': '' is no score, but the outcome is a result of the model"),
        ("True,ok", "yes,ok", "column 'score': 'yes' is no number"),
        ("True,ok", "1,okay", "column 'outcome': 'okay' is no outcome. Did you mean 'ok'?"),
        ("Q8_0,t,2", "Q8_0,,2", "column 'task': '' is empty. Name it"),
        ("F16,t,2", "F16,t,1", "F16 × t × 1 × repeat 0 appears twice, with different results"),
    ],
)  # fmt: skip
def test_impossible_items_are_refused_by_cell(give: Give, old: str, new: str, said: str):
    """An item that cannot be is refused with its row, column and value."""
    assert said in refusal(give, ITEMS.replace(old, new))


def test_equal_copies_of_items_count_once(give: Give, tmp_path: Path):
    """The same items as CSV, JSONL and Parquet are one set of items, and the reader hears of the copies."""
    frame = pd.DataFrame(
        {"quant": ["F16", "F16", "Q8_0"], "task": "t", "sample_id": [1, 2, 1], "score": [1.0, 0.5, 0.0]}
    )
    frame.to_parquet(tmp_path / "items.parquet")
    (tmp_path / "items.jsonl").write_text(frame.to_json(orient="records", lines=True), encoding="utf-8")
    frame.to_csv(tmp_path / "items.csv", index=False)
    paths = [tmp_path / f"items.{kind}" for kind in ("csv", "jsonl", "parquet")]
    together, alone = read_files(paths), read_files(paths[:1])
    pd.testing.assert_frame_equal(together.items, alone.items)
    assert {rule for rule, _ in rules(together)} == {"duplicate_row"}
    for path in paths[1:]:
        assert_same(read_files([path]), alone)


def test_an_export_reads_back_as_it_was(bench: Bench):
    """The folder that `export` writes gives the tables it was written from, identities and reference included."""
    bench.write(tasks=["echo"])
    bench.run()
    with Store(bench.folder / "results") as store:
        store.put_meta("proxies", [
            {"quant": name, "corpus": "wiki", "tool": "forced", "ppl": 7.25, "kld_mean": kld, "n_tokens": 99}
            for name, kld in (("big", 0.01), ("small", 0.1))
        ])  # fmt: skip
        before = read_tables(store)
        export(store, bench.folder / "export")
    after = read_files([bench.folder / "export"])
    known = ["quant", "size_bytes", "sha256", "is_reference", "replicate_of", "status"]
    for one, other, key in (
        (before.quants[known], after.quants[known], ["quant"]),
        (before.items[after.items.columns], after.items, ["quant", "task", "sample_id", "repeat"]),
        (before.proxies[after.proxies.columns], after.proxies, ["quant"]),
    ):
        pd.testing.assert_frame_equal(
            one.sort_values(key, ignore_index=True), other.sort_values(key, ignore_index=True), check_dtype=False
        )
    assert {name: after.header[name] for name in ("model", "reference", "tasks", "import")} == {
        name: before.header[name] for name in ("model", "reference", "tasks")
    } | {"import": []}
    # Of the items, which an export holds three times, one form is enough.
    (bench.folder / "export" / "items.csv").unlink()
    assert_same(read_files([bench.folder / "export"]), after)
    # Without the manifest the files alone still give every number.
    files = read_files(
        [bench.folder / "export" / name for name in ("proxies.csv", "scores.csv", "items.jsonl")], reference="ref"
    )
    pd.testing.assert_frame_equal(files.items, after.items)
    assert (len(files.scores), rules(files)) == (0, [])


def test_chunks_are_read_under_the_quants_names(give: Give):
    """A table of chunks joins the proxies by quant, and two values of one chunk are refused."""
    chunks = "quant,corpus,tool,chunk,ln_ppl,kld\nQ4_K_M,wiki,forced,1,2.5,0.03\nQ4_K_M,wiki,forced,0,2.25,0.02\n"
    found = give(LADDER, chunks).chunks
    assert cells(found, "quant", "chunk", "ln_ppl", "kld") == [
        ["Q4_K_M", 0, 2.25, 0.02],
        ["Q4_K_M", 1, 2.5, 0.03],
    ]
    assert found["n_tokens"].isna().all()
    counted = chunks.replace("kld\n", "kld,n_tokens\n").replace("0.03\n", "0.03,12\n").replace("0.02\n", "0.02,7\n")
    assert list(give(LADDER, counted).chunks["n_tokens"]) == [7, 12]
    assert "column 'n_tokens': '0' is no number of tokens" in refusal(give, LADDER, counted.replace(",12", ",0"))
    assert "Q4_K_M × wiki × forced × 0 appears twice" in refusal(give, LADDER, chunks.replace("forced,1", "forced,0"))


# Anything at all.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"quant,ppl\n", "holds no rows"),
        (b"quant,ppl\nQ4_0,\xff\n", "is not UTF-8 text (byte 15)"),
        (b"quant,ppl\nQ4_0,\x00\n", "holds NUL characters"),
        (b'quant,ppl\nQ4_0,"7\n', "EOF inside string"),
        (b"quant,ppl\nQ4_0,7,8\n", "Expected 2 fields in line 2, saw 3"),
        (b"PAR1 and no more", "cannot be read as Parquet"),
        (b'{"quant": "Q4_0"\n', ":1: is not JSON"),
        (b'{"a": 1}\n[1]\n', ":2: is not a JSON object"),
        (b"[" * 100_000 + b"\n1", "no column names the quants"),
        (b"model,accuracy\nLlama,47\n", "no column names the quants. Columns: 'model', 'accuracy'"),
        (b"quant,note\nQ4_0,good\n", "holds no proxy and no score. Columns: 'quant', 'note'"),
        (b"quant,ppl,PPL\nQ4_0,7,8\n", "the columns 'ppl' and 'PPL' both mean ppl"),
        (b"quant,task,score\nQ4_0,,1\n", "row 2 names no task"),
    ],
)  # fmt: skip
def test_files_that_are_no_tables_are_refused(give: Give, content: bytes, said: str):
    """A file that is no table is refused with what it is instead."""
    assert said in refusal(give, a_dot_csv=content)


def test_paths_that_hold_nothing_are_refused(tmp_path: Path):
    """A path that is not there, an empty folder, and no path at all are the user's to mend."""
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "manifest.json").write_text("{}", encoding="utf-8")
    for paths, said in (
        ([tmp_path / "none.csv"], "No such file"),
        ([tmp_path], "holds no export, no table and no log"),
        ([tmp_path / "export"], "is no manifest of an export"),
        ([], "no file to read"),
    ):
        with pytest.raises(SpecError, match=said):
            read_files(paths)


def test_hostile_names_stay_names(give: Give):
    """Formulas, markup and half characters in names are text like any other; a giant output is kept whole."""
    names = ["=cmd|' /C calc'!A0", "<script>alert(1)</script>", "Q4|0"]
    lines = [
        {"quant": name, "task": "t", "sample_id": 1, "score": 1, "output": "x" * 10**6}
        for name in [*names, "half \ud83d"]
    ]
    tables = give(items_dot_jsonl="".join(json.dumps(line) + "\n" for line in lines), reference="Q4|0")
    assert tables.quants["quant"].tolist() == sorted([*names, "half \ufffd"])
    assert tables.items["output"].str.len().tolist() == [10**6] * 4


CELLS = {
    "size_gb": ("8.5", "4,9", "4.9 GiB", "16"), "bpw": ("8.5", "4.9", "16"), "ppl": ("6.23", "6.41 ± 0.04", "9.75", "6.23"),
    "ppl_wiki": ("7.1", "8.25"), "Mean KLD": ("0.0013", "0.0312", "0"), "KLD 99.9%": ("12.5", "13"), "max KLD": ("20", "30"),
    "Same top p": ("99.1 %", "85.2"), "mmlu": ("65.3", "55.9", "40"), "mmlu_n": ("1000", "50"), "own bench": ("12", "90"),
    "provider": ("a", "b", ""), "imatrix": ("", "wiki"), "notes": ("", "good"), "sample_id": ("1", "2", "3"),
    "task": ("t", "u"), "score": ("1", "0", "0.5"), "outcome": ("ok", "truncated", "timeout", ""), "corpus": ("wiki", "chat"),
}  # fmt: skip
HOSTILE = (
    "", "-", "nan", "inf", "-1", "0", "1e400", "1e-320", "9" * 400, "1,024", "0,5", "250", "<b>x</b>", "=1+1", "a|b", '"', "'",
    "\u202e", "é", "x" * 10**4, "None", "±", "%", "\x01", "\r",
)  # fmt: skip


@st.composite
def tables_as_found(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    """A table that could be one, with some cells that could not."""
    names = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=6, unique=draw(st.integers(0, 9)) > 0))
    header = ["quant", *names]
    rng = random.Random(draw(st.integers(0, 2**32)))
    quants = ["F16", "Q8_0", "Q4_K_M", "IQ2_XS", "Q4_K_M"]
    rows = [
        [quants[index % 5], *(rng.choice(CELLS[name]) for name in names)]
        for index in range(draw(st.sampled_from([3, 4, 2, 5, 1])))
    ]
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3])) if rows else 0):
        rng.choice(rows)[rng.randrange(len(header))] = draw(st.sampled_from(HOSTILE))
    if draw(st.integers(0, 9)) == 0:
        header[rng.randrange(len(header))] = draw(st.sampled_from(HOSTILE))
    return header, rows


def read_cells(header: list[str], rows: list[list[str]], folder: Path) -> Tables | None:
    path = folder / "table.csv"
    pd.DataFrame(rows, columns=header).to_csv(path, index=False)
    try:
        return read_files([path])
    except SpecError:
        return None


@settings(max_examples=80)
@given(tables_as_found(), st.randoms(use_true_random=False))
def test_anything_gives_tables_or_a_refusal_and_order_changes_nothing(
    found: tuple[list[str], list[list[str]]], shuffle: random.Random
):
    """A table as people publish them, faults included, gives tables or a SpecError; shuffled rows give the same again."""
    header, rows = found
    with tempfile.TemporaryDirectory() as folder:
        tables = read_cells(header, rows, Path(folder))
        shuffled = shuffle.sample(rows, len(rows))
        again = read_cells(header, shuffled, Path(folder))
        assert (tables is None) == (again is None)
        if tables is not None and again is not None:
            assert_same(tables, again)
            assert tables.quants["is_reference"].sum() == 1
            assert tables.quants["quant"].is_unique
            json.dumps(tables.header, allow_nan=False)
            # Rows that are there twice are one row.
            twice = read_cells(header, [*rows, *rows], Path(folder))
            assert twice is not None
            assert_same(tables, twice, but=("files", "import"))


@settings(max_examples=60)
@given(
    st.sampled_from(["csv", "md", "jsonl", "parquet", "tsv"]),
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)),
)
def test_any_bytes_give_tables_or_a_refusal(kind: str, content: bytes):
    """No bytes under any name end in anything but tables or a SpecError."""
    with tempfile.TemporaryDirectory() as folder:
        for text in (content, b"quant,ppl,mmlu\n" + content, b'{"quant": "Q4_0", "ppl": 7}\n' + content):
            path = Path(folder) / f"table.{kind}"
            path.write_bytes(text)
            with suppress(SpecError):
                assert read_files([path]).quants["is_reference"].sum() == 1


# Published tables, where they are.

FLAGS = {
    "minimax_m25_unsloth_claim.csv": {"swapped_ppl_kld": 2},
    "llama2_vs_llama3_llamacpp_readme.csv": {"ppl_inconsistent": 1},
    "llama31_8b_instruct_daslab.csv": {"equal_rows": 1, "equal_proxies": 1, "reference_row": 1},
    "llama3_mmlu_matt_c1.csv": {"equal_rows": 1, "reference_row": 3},
    "qwen3_30b_a3b_ikawrakow_imatrix.csv": {"equal_rows": 1, "reference_row": 1},
    "qwen3_30b_a3b_ubergarm.csv": {"reference_row": 1},
    "llama31_8b_kurt_partial.csv": {"reference_row": 1},
}
REFUSED = {
    "dutta_mmlu_flips.csv": "no column names the quants", "literature_correlations.csv": "no column names the quants",
    "redhat_bf16_or_death_recovery.csv": "no column names the quants",
    "qwen35_35b_a3b_unsloth_maxkld.csv": "speak of several files in one row",
}  # fmt: skip
KINDS = {
    "swapped_ppl_kld", "ppl_inconsistent", "equal_rows", "equal_proxies", "reference_row", "gb_gib", "implied_parameters",
    "percent_or_share", "ln_ratio_above_kld", "duplicate_row", "sizes_differ",
}  # fmt: skip


def test_published_tables_raise_their_flags_and_no_others():
    """Every published table is read or refused by name, with exactly the flags that its faults deserve."""
    folder = os.environ.get("EVALSUITE_TABLES")
    if not folder:
        pytest.skip("set EVALSUITE_TABLES to a folder of published tables")
    for path in sorted(Path(folder).glob("*.csv")):
        if path.name in REFUSED:
            with pytest.raises(SpecError, match=REFUSED[path.name]):
                read_files([path])
            continue
        raised = [rule for rule, _ in rules(read_files([path])) if rule in KINDS]
        assert {rule: raised.count(rule) for rule in raised} == FLAGS.get(path.name, {}), path.name
