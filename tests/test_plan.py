"""A plan holds what was read: nothing that is edited, moved or named alike afterwards gets under another's name."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pandas as pd
import pytest
from toys import HURRY, Bench, toy_gguf

from evalsuite.cli import main
from evalsuite.errors import SpecError
from evalsuite.export import read_tables
from evalsuite.gguf import read_gguf
from evalsuite.proxy.forced import load_passages
from evalsuite.run import Silent
from evalsuite.serve import fake
from evalsuite.store import Store
from evalsuite.sweep import Finished, open_sweep, out_folder, run_sweep

TEXT = "The fish in the harbour knows nothing about that, and so the boat went out over the water. " * 20
FORCED = {"tool": "forced", "text": "text.txt", "ctx": 64, "chunks": 2, "n_probs": 20}


class Watching(Silent):
    """Keeps what each arm was told to be doing."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def phase(self, arm: str, doing: str) -> None:
        self.seen.append((arm, doing))

    def forced(self) -> set[str]:
        """The arms that a text was forced upon."""
        return {arm for arm, doing in self.seen if doing.startswith("KLD")}


def forcing(bench: Bench) -> Path:
    (bench.folder / "text.txt").write_text(TEXT)
    return bench.write(tasks=["ends"], replicate_reference=False, proxies=[FORCED])


def watched(bench: Bench, *, accept_changes: bool = False) -> tuple[Finished, set[str]]:
    """Run the sweep; also give the arms that a text was forced upon."""
    watching = Watching()
    with Store(bench.folder / "results") as store:
        opened = open_sweep(bench.write(), store, llama_cpp=bench.fake, accept_changes=accept_changes)
        return run_sweep(opened, progress=watching, patience=HURRY), watching.forced()


def test_sweep_by_a_relative_path(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """A sweep named from its own folder finds its models, templates and texts, although servers run elsewhere."""
    forcing(bench)
    (bench.folder / "plain.jinja").write_text("{{ messages }}")
    bench.write(templates=["plain.jinja"])
    monkeypatch.chdir(bench.folder)
    path = Path(bench.path.name)
    with Store(out_folder(path)) as store:
        finished = run_sweep(open_sweep(path, store, llama_cpp=bench.fake), patience=HURRY)
    assert ([arm.reason for arm in finished.arms], finished.is_complete) == ([""] * 3, True)


def test_what_is_edited_after_the_check_is_not_used(bench: Bench):
    """Template and text are served and measured as they were when the sweep was read, line ends as line feeds."""
    (bench.folder / "mine.jinja").write_bytes(b"first\r\n{{ messages }}")
    forcing(bench)
    with Store(bench.folder / "results") as store:
        opened = open_sweep(bench.write(templates=["mine.jinja"]), store, llama_cpp=bench.fake)
        (bench.folder / "mine.jinja").write_text("second {{ messages }}")
        (bench.folder / "text.txt").write_text("Something else. " * 99)
        assert run_sweep(opened, patience=HURRY).is_complete
        served = {
            json.loads(settings)["chat_template"] for (settings,) in store.db.execute("SELECT settings FROM serve")
        }
        measured = {row["corpus_sha256"] for row in store.proxies().values()}
    assert served == {"first\n{{ messages }}"}
    assert measured == {hashlib.sha256(TEXT.encode()).hexdigest()}


def test_kld_belongs_to_its_reference(bench: Bench):
    """Another reference is refused by default, and every quant is measured against it afresh."""
    forcing(bench)
    assert watched(bench)[1] == {"ref", "big", "small"}
    assert watched(bench)[1] == set()
    bench.write(reference="models/big.gguf")
    with pytest.raises(SpecError, match="reference: was"):
        watched(bench)
    finished, forced = watched(bench, accept_changes=True)
    assert (finished.is_complete, forced) == (True, {"ref", "big", "small"})
    rows = {row["quant"]: row["kld_mean"] for row in finished.analysis["proxies"]}
    assert (rows["big"], rows["ref"] > 0, rows["small"] > 0) == (0, True, True)


def conversing(bench: Bench, *tasks: str, **more: object) -> Path:
    """Write a sweep that forces the conversations of tasks."""
    entries = [{"tool": "forced", "text": f"task:{task}", "n_probs": 20, **more} for task in tasks]
    return bench.write(replicate_reference=False, proxies=entries)


def proxy_rows(bench: Bench) -> dict[tuple[str, str], dict[str, Any]]:
    with Store(bench.folder / "results") as store:
        return {(row["corpus"], row["quant"]): row for row in store.get_meta("proxies")}


def test_conversations_of_a_task_are_forced_upon_every_quant(bench: Bench):
    """Every kind of task gives the reference's answers, or its right choices, to all quants: the same tokens."""
    conversing(bench, "echo", "ends", "letters")
    finished, forced = watched(bench)
    rows = proxy_rows(bench)
    assert (finished.is_complete, forced) == (True, {"ref", "big", "small"})
    assert {corpus for corpus, _ in rows} == {"task:echo", "task:ends", "task:letters"}
    for corpus in ("task:echo", "task:ends", "task:letters"):
        same = [rows[corpus, quant] for quant in ("ref", "big", "small")]
        assert len({(row["corpus_sha256"], row["n_tokens"], row["chunks"]) for row in same}) == 1
        assert same[0]["kld_mean"] == 0 < same[1]["kld_mean"]
    assert [rows[f"task:{task}", "big"]["chunks"] for task in ("echo", "ends", "letters")] == [4, 4, 4]
    assert rows["task:letters", "big"]["n_tokens"] == 4  # a letter each


def test_forced_answer_is_what_the_reference_wrote(bench: Bench):
    """The tokens that are scored are those of the reference's stored answers, after the rendered prompt of each sample."""
    conversing(bench, "echo")
    finished = bench.run()
    with Store(bench.folder / "results") as store:
        written = {row[2]: row[-1] for row in store.items() if row[0] == "ref" and row[1] == "echo"}
    (kept,) = (bench.folder / "results" / "proxies").glob("*.npz")
    passages = load_passages(kept)
    assert [fake.detokenize(passage.ids[passage.first :]) for passage in passages] == list(written.values())
    assert all(fake.detokenize(passage.ids[: passage.first]).endswith("assistant\n") for passage in passages)
    assert finished.analysis["proxies"][0]["chunks"] == sum(map(bool, written.values()))


def test_chunks_tell_how_many_tokens_they_have(bench: Bench):
    """The mean of a quant's chunks, counted by their tokens, is its value; rows of a store without counts are read too."""
    conversing(bench, "echo")
    bench.run()
    with Store(bench.folder / "results") as store:
        tables = read_tables(store)
        store.put_meta("chunks", [row[:-1] for row in store.get_meta("chunks")])
        uncounted = read_tables(store).chunks
    measured = tables.proxies.set_index("quant")
    for quant, rows in tables.chunks.groupby("quant"):
        assert np.average(rows["kld"], weights=rows["n_tokens"]) == pytest.approx(measured.loc[quant, "kld_mean"])
        assert rows["n_tokens"].sum() == measured.loc[quant, "n_tokens"]
    assert len(set(tables.chunks["n_tokens"])) > 1
    assert uncounted["n_tokens"].isna().all()
    pd.testing.assert_frame_equal(uncounted.drop(columns="n_tokens"), tables.chunks.drop(columns="n_tokens"))


def test_conversations_are_a_prefix_of_the_samples(bench: Bench):
    """`chunks` limits the conversations, and a new quant is forced alone, with the tokens that the others had."""
    conversing(bench, "echo", chunks=2)
    watched(bench)
    rows = proxy_rows(bench)
    assert rows["task:echo", "big"]["chunks"] == 2
    toy_gguf(bench.folder / "models" / "new.gguf", weight=0.9)
    finished, forced = watched(bench)
    assert (finished.is_complete, forced) == (True, {"new"})
    assert proxy_rows(bench)["task:echo", "new"]["corpus_sha256"] == rows["task:echo", "big"]["corpus_sha256"]


def test_answers_come_before_their_conversations(bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch):
    """`proxies` alone, before the task was asked, says to ask it first, and measures the text all the same."""
    (bench.folder / "text.txt").write_text(TEXT)
    path = bench.write(proxies=[{"tool": "forced", "text": "task:echo", "n_probs": 20}, FORCED])
    monkeypatch.setattr(sys, "argv", ["evalsuite", "proxies", str(path), "--llama-cpp", str(bench.fake), "--json"])
    assert main() == 1
    said = json.loads(capsys.readouterr().out)
    assert "task:echo: the reference has not answered 4 of 4 samples" in said["problems"][0]
    assert {row["corpus"] for row in said["proxies"]} == {"text"}


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"tool": "forced", "text": "task:ecko"}, "the sweep asks no such task. Did you mean 'echo'?"),
    ({"tool": "llama-perplexity", "text": "task:echo"}, "llama-perplexity knows no conversations. Use `tool: forced`"),
    ({"tool": "forced"}, "forced needs a `text`"),
    ({"tool": "forced", "text": "demo", "groups": 2}, "`groups` means nothing to forced, which knows chunks, ctx"),
    ({"tool": "llama-bench", "text": "demo"}, "`text` means nothing to llama-bench, which knows pp, tg"),
    (
        {"tool": "llama-perplexity", "text": "demo", "ctx": 64, "chunks": 16, "groups": 8},
        "8 groups of 16 chunks have 62 scored tokens each",
    ),
    ({"tool": "llama-perplexity", "text": "demo", "ctx": 65536}, "ref was trained with 32768"),
]


@pytest.mark.parametrize(("entry", "message"), REFUSED)
def test_proxy_that_cannot_be_is_refused(bench: Bench, entry: dict[str, object], message: str):
    """What a proxy cannot be told, or lacks, is refused before any server starts."""
    with Store(bench.folder / "results") as store, pytest.raises(SpecError) as caught:
        open_sweep(bench.write(proxies=[entry]), store, llama_cpp=bench.fake)
    assert message in str(caught.value)


def test_lost_positions_are_measured_again(bench: Bench):
    """A new quant in a directory whose file of positions is gone is measured: the reference is forced once more."""
    forcing(bench)
    watched(bench)
    for kept in (bench.folder / "results" / "proxies").iterdir():
        kept.unlink()
    toy_gguf(bench.folder / "models" / "new.gguf", weight=0.9)
    finished, forced = watched(bench)
    assert (finished.is_complete, forced) == (True, {"ref", "new"})


def test_nothing_is_forced_without_the_reference(bench: Bench):
    """Where the reference could not be served, the others say so without forcing the text first."""
    watching = Watching()
    with Store(bench.folder / "results") as store:
        opened = open_sweep(forcing(bench), store, llama_cpp=bench.fake)
        toy_gguf(bench.folder / "new.gguf", weight=0.75).replace(bench.folder / "models" / "ref.gguf")
        finished = run_sweep(opened, progress=watching, patience=HURRY)
    assert all("the reference has not been measured" in arm.reason for arm in finished.arms[1:])
    assert watching.forced() == set()


PERPLEXITY = f"""#!{sys.executable}
import struct, sys
from pathlib import Path
gold = Path({str(Path(__file__).parent / "gold" / "llama-perplexity")!r})
words, ppl = sys.argv[1:], "25.449536"
base = Path(words[words.index("--kl-divergence-base") + 1])
with open(Path(__file__).with_name("asked"), "a") as asked:
    print(*words, *struct.unpack("<i", base.read_bytes()[16:20]) if base.exists() else (), file=asked)
if "--kl-divergence" in words:
    log = (gold / "Q4_0.log").read_text(encoding="utf-8")
    print("" if "small.gguf" in words[1] else log.replace("25.449536", ppl))
elif "short.txt" in words[words.index("-f") + 1]:
    print((gold / "short.log").read_text(encoding="utf-8"))
else:
    base.write_bytes(struct.pack("<8sIii", b"_logits_", 256, 440, 5) + bytes(4 * 256 * 5 + 2 * 5 * 127 * 444))
    print((gold / "base.log").read_text(encoding="utf-8"))
"""


def perplexing(bench: Bench, *texts: str, program: str = PERPLEXITY, groups: int = 1, **changes: object) -> Path:
    """Write a sweep with a stand-in for llama-perplexity, which fails for `small` and finds `short.txt` too short."""
    tool = bench.fake / "llama-perplexity"
    tool.write_text(program, encoding="utf-8")
    tool.chmod(0o755)
    for text in texts:
        (bench.folder / text).write_text(TEXT)
    entries = [{"tool": "llama-perplexity", "text": text, "ctx": 256, "chunks": 5, "groups": groups} for text in texts]
    return bench.write(tasks=["ends"], replicate_reference=False, proxies=entries, **changes)


def test_one_failed_measurement_leaves_the_others_alone(bench: Bench):
    """A text that proves too short and a quant that fails are told, and everything else is measured."""
    perplexing(bench, "first.txt", "short.txt", "last.txt")
    finished = bench.run()
    assert [problem[:42] for problem in finished.problems] == [
        "small: llama-perplexity: 0 of 1 chunks hav",
        "llama-perplexity on short: The text has 19",
        "small: llama-perplexity: 0 of 1 chunks hav",
    ]
    measured = {(row["quant"], row["corpus"]) for row in finished.analysis["proxies"]}
    assert measured == {(quant, corpus) for quant in ("ref", "big") for corpus in ("first", "last")}


def test_each_arm_is_measured_with_its_own_kv_cache(bench: Bench):
    """llama-perplexity gets the KV-cache type of the arm, the base that of the reference."""
    perplexing(bench, "text.txt", kv_cache=["q8_0", "f16"], quants=["models/big.gguf"])
    finished = bench.run()
    asked = (bench.fake / "asked").read_text(encoding="utf-8")
    kinds = [line.split(" -ctk ")[1].split()[0] for line in asked.splitlines()]
    assert (finished.problems, kinds) == ((), ["q8_0", "q8_0", "f16", "q8_0", "f16"])
    assert len(finished.analysis["proxies"]) == 4


def test_base_is_split_into_groups_and_nothing_is_left(bench: Bench):
    """With `groups` a quant is compared with the whole base and with each part of it; base, parts and old remains go."""
    perplexing(bench, "text.txt", groups=2, quants=["models/big.gguf"])
    folder = bench.folder / "results" / "proxies"
    folder.mkdir(parents=True)
    (folder / "base.kld.part").write_bytes(bytes(99))  # of a run that was killed
    bench.run()
    asked = (bench.fake / "asked").read_text(encoding="utf-8").splitlines()
    assert [line.split()[-1] for line in asked[1:]] == ["5", "2", "3"] * 2  # chunks in the base file, by quant
    row = proxy_rows(bench)["text", "big"]
    assert (row["kld_p99_se"], row["kld_max_se"], row["kld_p999_se"]) == (0, 0, None)
    assert [path.name for path in folder.iterdir()] == ["llama-perplexity.log"]


def test_undefined_proxy_is_a_dash(bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """`proxies` prints a dash where a broken quant has no perplexity, and every other figure."""
    broken = PERPLEXITY.replace('ppl = sys.argv[1:], "25.449536"', 'ppl = sys.argv[1:], "nan"')
    path = perplexing(bench, "text.txt", program=broken, quants=["models/big.gguf"])
    monkeypatch.setattr(sys, "argv", ["evalsuite", "proxies", str(path), "--llama-cpp", str(bench.fake)])
    assert main() == 0
    assert [line.split()[0::2] for line in capsys.readouterr().out.splitlines()] == [
        ["ref", "llama-perplexity", "–", "0.292739"],
        ["big", "llama-perplexity", "–", "0.292739"],
    ]


def test_imatrix_is_told(tmp_path: Path):
    """File, data set and counts of the matrix come from the header, with a note where llama-quantize cut a name.

    A count that is no number is no count.
    """
    writer = gguf.GGUFWriter(tmp_path / "q.gguf", "llama")
    writer.add_string("quantize.imatrix.file", "x" * 127)
    writer.add_string("quantize.imatrix.dataset", "calibration.txt")
    writer.add_int32("quantize.imatrix.entries_count", 210)
    writer.add_string("quantize.imatrix.chunks_count", "many")
    writer.add_tensor("token_embd.weight", np.zeros((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_gguf([tmp_path / "q.gguf"]).imatrix == {
        "file": "x" * 127, "dataset": "calibration.txt", "chunks": None, "entries": 210, "notes": ["file is cut at 127 bytes"],
    }  # fmt: skip
    assert read_gguf([toy_gguf(tmp_path / "plain.gguf")]).imatrix is None


def test_a_plan_needs_neither_tables_nor_servers():
    """Reading a plan imports no pandas and nothing that starts processes: `check` of a sweep without tables is quick."""
    code = "import sys, evalsuite.plan; print(*{'pandas', 'evalsuite.serve.process'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
