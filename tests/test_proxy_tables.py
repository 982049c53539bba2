"""A table of proxies in a sweep: its rows join the quants, need no server, and are refused where they mean nothing."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from toys import Bench

from evalsuite.cli import main
from evalsuite.errors import SpecError
from evalsuite.gguf import artifact_id
from evalsuite.store import Store
from evalsuite.sweep import measure_proxies, open_sweep

TABLE = """provider,quant,corpus,Mean KLD,kld_mean_se,Median KLD,99% KLD,99.9% KLD,Max KLD,ppl,Same top p,tokens
ours,ref,wiki,0,0,0,0,0,0,7.01,100,4080
ours,big,wiki,0.0102,0.0008,0.004,0.1,0.3,0.8,,94.1,4080
ours,small,wiki,0.31,0.01,0.2,2.5,4.1,7.7,9.9,71.2,4080
ours,small,code,0.22,,0.1,2.0,3.5,6.1,3.1,80.0,
"""


def tabled(bench: Bench, content: str, **changes: object) -> Path:
    (bench.folder / "published.csv").write_text(content, encoding="utf-8")
    return bench.write(
        tasks=["ends"], proxies=[{"table": "published.csv"}], **{"replicate_reference": False, **changes}
    )


def read(bench: Bench) -> None:
    with Store(bench.folder / "results") as store:
        open_sweep(bench.path, store, llama_cpp=bench.fake)


def rows(bench: Bench) -> dict[tuple[str, str | None], Mapping[str, Any]]:
    with Store(bench.folder / "results") as store:
        found, problems = measure_proxies(open_sweep(bench.path, store, llama_cpp=bench.fake))
    assert not problems
    return {(row["quant"], row["corpus"]): row for row in found}


def test_rows_of_a_table_join_the_quants(bench: Bench):
    """Numbers come as shares and nats with their errors, an empty cell as null; the replicate is no file of its own."""
    tabled(bench, TABLE, replicate_reference=True)
    finished = bench.run()
    found = rows(bench)
    assert finished.is_complete
    assert {(*key, row["tool"]) for key, row in found.items()} == {
        ("ref", "wiki", "table"), ("big", "wiki", "table"), ("small", "wiki", "table"), ("small", "code", "table"),
    }  # fmt: skip
    big = found["big", "wiki"]
    assert [big[key] for key in ("kld_mean", "kld_mean_se", "ppl", "same_top_p", "n_tokens")] == [
        0.0102, 0.0008, None, 0.941, 4080,
    ]  # fmt: skip
    assert big["notes"] == ["from published.csv"]
    assert [(text["tool"], text["corpus"], text["notes"]) for text in finished.analysis["header"]["proxies"]] == [
        ("table", "wiki", ["from published.csv"]), ("table", "code", ["from published.csv"]),
    ]  # fmt: skip
    assert {row["corpus"] for row in finished.analysis["proxies"]} == {"wiki", "code"}


def test_table_needs_no_server(bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """`proxies` of a sweep with nothing but a table starts no server and prints it, a text that is not named as a dash."""
    path = tabled(bench, "quant,kld_mean\nbig,0.5\n")
    (bench.fake / "plan.json").write_text('{"exit_code": 1}')
    monkeypatch.setattr(sys, "argv", ["evalsuite", "proxies", str(path), "--llama-cpp", str(bench.fake)])
    assert main() == 0
    assert capsys.readouterr().out.split() == ["big", "–", "table", "PPL", "–", "KLD", "0.500000"]
    assert not (bench.folder / "results" / "logs").exists()


def test_rows_join_by_content_provider_and_size(bench: Bench):
    """A hash or the exact size joins a row under another name, and the provider may stand before the name."""
    models = bench.folder / "models"
    quants = [{"name": "Q4", "provider": "them", "path": "models/big.gguf"}, "models/small.gguf"]
    size = (models / "small.gguf").stat().st_size
    (models / "small.gguf").write_bytes((models / "small.gguf").read_bytes() + bytes(32))
    export = bench.folder / "export"
    export.mkdir()
    (export / "proxies.csv").write_text("quant,kld_mean\ntheirs,0.5\nthem Q4,0.1\n")
    sha256 = artifact_id([models / "ref.gguf"]).removeprefix("sha256:")
    listed = f'[{{"quant": "theirs", "sha256": "{sha256}"}}, {{"quant": "them Q4"}}]'
    (export / "manifest.json").write_text(f'{{"header": {{"reference": "theirs"}}, "quants": {listed}}}')
    by_size = bench.folder / "sizes.csv"
    by_size.write_text(f"quant,size_gb,corpus,kld_mean\nanother,{(size + 32) / 1e9:.12f},wiki,0.7\n")
    bench.write(quants=quants, tasks=["ends"], proxies=[{"table": "export"}, {"table": "sizes.csv"}])
    found = {key: row["kld_mean"] for key, row in rows(bench).items()}
    assert found == {("ref", None): 0.5, ("Q4", None): 0.1, ("small", "wiki"): 0.7}


def test_one_file_under_two_names(bench: Bench):
    """Two names of one file each get the row that has their name, though hash and size fit both."""
    (bench.folder / "models" / "copy.gguf").write_bytes((bench.folder / "models" / "big.gguf").read_bytes())
    size_gb = (bench.folder / "models" / "big.gguf").stat().st_size / 1e9
    tabled(bench, f"quant,size_gb,kld_mean\nbig,{size_gb:.12f},0.1\ncopy,{size_gb:.12f},0.2\n")
    assert {key: row["kld_mean"] for key, row in rows(bench).items()} == {("big", None): 0.1, ("copy", None): 0.2}


REFUSED = [
    ("another quant", "quant,kld_mean\nbigg,0.1\n", "no quant of the sweep is named 'bigg'. Did you mean 'big'?"),
    ("no proxies", "quant,size_gb\nbig,0.1\n", "holds no proxies"),
    ("impossible value", "quant,kld_mean,ppl\nbig,0.1,0.5\n", "ppl"),
    ("several models", "model,quant,kld_mean\na,big,1\nb,big,2\n", "holds several models (a, b)"),
    ("two tools", "quant,tool,corpus,kld_mean\nbig,a,x,1\nbig,b,x,2\n", "two rows speak of big on 'x'"),
]


@pytest.mark.parametrize(("content", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_table_that_means_nothing_is_refused(bench: Bench, content: str, message: str):
    """What cannot be joined, or cannot be, is refused before any server starts, with the name of the file."""
    tabled(bench, content)
    with pytest.raises(SpecError, match=r"published\.csv") as caught:
        read(bench)
    assert message in str(caught.value)


def test_missing_table_is_refused(bench: Bench):
    """A table that is not there is the user's to mend."""
    bench.write(proxies=[{"table": "none.csv"}])
    with pytest.raises(SpecError, match=r"none\.csv: .*No such file"):
        read(bench)


def test_two_tables_of_one_text_are_refused(bench: Bench):
    """A report could not tell the two apart."""
    tabled(bench, TABLE)
    (bench.folder / "again.csv").write_text(TABLE, encoding="utf-8")
    bench.write(proxies=[{"table": "published.csv"}, {"table": "again.csv"}])
    with pytest.raises(SpecError, match="2 are table on 'code'"):
        read(bench)


def test_other_size_is_noted(bench: Bench):
    """Where table and file differ in size, the row says so: it may speak of another file of the same name."""
    tabled(bench, "quant,size_gb,kld_mean\nbig,1.5,0.1\n")
    (row,) = rows(bench).values()
    assert "the table says 1.500 GB, the file has 0.000: another file?" in row["notes"]
