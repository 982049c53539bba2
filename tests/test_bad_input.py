"""What bad input gets: what is wrong, where, and what to do, with exit 2 or 3, before anything is served or lost."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from toys import Bench, toy_gguf

from evalsuite.cli import main
from evalsuite.store import Store


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Run the command line in this process; give its exit status and what it said on stderr."""

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["evalsuite", *map(str, words)])
        status = main()
        return status, " ".join(capsys.readouterr().err.split())

    return run


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 30)


def models(bench: Bench) -> Path:
    return bench.folder / "models"


def put(bench: Bench, name: str, content: str | bytes) -> str:
    path = bench.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def proxy(bench: Bench, *names: str, tool: str = "forced", content: bytes = b"word " * 99) -> None:
    """Measure a proxy on each text."""
    bench.write(proxies=[{"tool": tool, "text": put(bench, name, content), "ctx": 256} for name in names])


SWEEPS: list[tuple[str, Callable[[Bench], object], str]] = [
    ("missing reference", lambda b: b.write(reference="models/none.gguf"), "none.gguf: no such file. Check the path"),
    ("truncated file", lambda b: cut(models(b) / "small.gguf"), "small.gguf: not a readable GGUF file, or cut short"),
    ("not a GGUF", lambda b: (models(b) / "page.gguf").write_text("<html>"), "page.gguf: not a readable GGUF file"),
    ("another model", lambda b: toy_gguf(models(b) / "x.gguf", layers=2), "block_count 2 instead of 1"),
    (
        "another vocabulary",
        lambda b: toy_gguf(models(b) / "x.gguf", prefix="u"),
        "another vocabulary than the reference",
    ),
    ("missing shard", lambda b: toy_gguf(models(b) / "x-00001-of-00002.gguf"), "x-00002-of-00002.gguf: no such file"),
    ("empty glob", lambda b: b.write(quants=["quants/*.gguf"]), "quants/*.gguf: no file matches"),
    (
        "two quants with one name",
        lambda b: b.write(quants=["models/big.gguf", {"name": "big", "path": "models/small.gguf"}]),
        "two are named 'big'",
    ),
    ("only the reference", lambda b: b.write(quants=["models/ref.gguf"]), "nothing but the reference"),
    ("unknown key", lambda b: b.write(quant=["x"]), "unknown key 'quant'. Did you mean 'quants'?"),
    (
        "unknown nested key",
        lambda b: b.write(sampling={"temprature": 1}),
        "unknown key 'temprature'. Did you mean 'temperature'?",
    ),
    ("wrong type", lambda b: b.write(sampling={"temperature": -1}), "sampling.temperature"),
    ("missing key", lambda b: b.sweep.pop("model"), "the key 'model' is missing"),
    ("unknown task", lambda b: b.write(tasks=["leters"]), "no task or suite named 'leters'. Did you mean 'letters'?"),
    ("task named twice", lambda b: b.write(tasks=["ends", "ends"]), "asked twice"),
    ("unknown profile", lambda b: b.write(server="cpuu"), "no profile named 'cpuu'. Did you mean 'cpu'?"),
    ("flag that is ours", lambda b: b.write(server={"flags": {"host": "0.0.0.0"}}), "set by evalsuite itself"),  # noqa: S104
    ("flag switched off by false", lambda b: b.write(server={"flags": {"mmap": False}}), "no-mmap: true"),
    ("context larger than the model's", lambda b: b.write(server={"ctx": 65536}), "was trained with 32768"),
    ("context that is no multiple", lambda b: b.write(server={"ctx": 1000}), "say 1024"),
    ("unknown KV-cache type", lambda b: b.write(kv_cache=["q3"]), "kv_cache: 'q3' is not one of"),
    ("missing template", lambda b: b.write(templates=["own", "fixed.jinja"]), "fixed.jinja: cannot be read: No such"),
    (
        "template that is not UTF-8",
        lambda b: b.write(templates=[put(b, "latin.jinja", b"\xe9")]),
        "latin.jinja: cannot be read: not UTF-8 text",
    ),
    (
        "two templates with one name",
        lambda b: b.write(templates=[put(b, f"{when}/chat.jinja", when) for when in ("before", "after")]),
        "ref.gguf (template before/chat.jinja, KV cache f16) and FOLDER/models/ref.gguf (template after/chat.jinja, KV",
    ),
    ("a KV-cache type twice", lambda b: b.write(kv_cache=["f16", "f16"]), "two are named 'ref [kv f16]'"),
    (
        "a quant with the name of the replicate",
        lambda b: b.write(quants=[{"name": "ref (again)", "path": "models/big.gguf"}]),
        "two are named 'ref (again)'",
    ),
    (
        "KV cache for a url",
        lambda b: b.write(quants=[{"name": "theirs", "url": "http://127.0.0.1:9"}], kv_cache=["f16", "q8_0"]),
        "theirs: a server that runs already keeps its own template and KV cache, so q8_0 cannot be asked of it",
    ),
    (
        "template for a url",
        lambda b: b.write(quants=[{"name": "theirs", "url": "http://127.0.0.1:9"}], templates=["fixed.jinja"]),
        "fixed.jinja cannot be asked of it",
    ),
    (
        "missing proxy text",
        lambda b: b.write(proxies=[{"tool": "forced", "text": "wiki.txt"}]),
        "wiki.txt: cannot be read",
    ),
    (
        "proxy text that is not UTF-8",
        lambda b: proxy(b, "a.txt", content=b"\xff" * 999),
        "a.txt: cannot be read: not UTF-8",
    ),
    (
        "proxy text shorter than a chunk",
        lambda b: proxy(b, "a.txt", content=b"x" * 253),
        "253 bytes give fewer than the 256",
    ),
    (
        "proxy text shorter than two chunks",
        lambda b: proxy(b, "a.txt", tool="llama-perplexity", content=b"x" * 300),
        "300 bytes give fewer than the 512 tokens that llama-perplexity needs",
    ),
    ("two proxy texts with one name", lambda b: proxy(b, "a/x.txt", "b/x.txt"), "proxies: 2 are forced on 'x'"),
    (
        "llama-perplexity on a url",
        lambda b: [
            proxy(b, "a.txt", tool="llama-perplexity", content=b"x" * 999),
            b.write(reference={"name": "theirs", "url": "http://127.0.0.1:9"}),
        ],
        "llama-perplexity needs the file of the reference",
    ),
    (
        "a path that no system opens",
        lambda b: b.write(quants=[f"models/{'x' * 300}.gguf"]),
        "cannot be read: File name too long",
    ),
    (
        "proxy chunk larger than a slot",
        lambda b: b.write(proxies=[{"tool": "forced", "text": "demo", "ctx": 512}]),
        "proxies: ctx: 512",
    ),
    ("hub that cannot be reached", lambda b: b.write(quants=[{"hf": "no/such", "file": "*.gguf"}]), "no/such"),
    ("out that is a file", lambda b: (b.folder / "results").write_text("x"), "cannot be written"),
]


@pytest.mark.parametrize(("spoil", "said"), [pytest.param(*case[1:], id=case[0]) for case in SWEEPS])
def test_bad_sweep(bench: Bench, command: Callable[..., tuple[int, str]], monkeypatch, spoil, said: str):
    """A sweep with one thing wrong is refused by name with exit 2 or 3 and no traceback, and no server is started."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    spoil(bench)
    status, message = command("run", bench.write(), "--llama-cpp", bench.fake)
    assert status in {2, 3}
    assert said.replace("FOLDER", str(bench.folder)) in message
    assert not (bench.folder / "results" / "logs").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: [unclosed", "not valid YAML"),
        ("- a list", "a mapping of keys was expected"),
        (
            "model: x\nreference: a.gguf\nquants: [b.gguf]\ntasks: [t]\nlimits: 5\n",
            "sweep.yaml:5: unknown key 'limits'",
        ),
    ],
)
def test_file_that_is_no_sweep(tmp_path: Path, command: Callable[..., tuple[int, str]], text: str, said: str):
    """A file that is not a sweep is refused with the line."""
    (tmp_path / "sweep.yaml").write_text(text)
    status, message = command("run", tmp_path / "sweep.yaml")
    assert (status, said in message) == (2, True)


def test_every_bad_file_is_told_at_once(bench: Bench, command: Callable[..., tuple[int, str]]):
    """Several files that cannot be used are listed together, so that they are mended in one go."""
    cut(models(bench) / "small.gguf")
    (models(bench) / "page.gguf").write_text("<html>")
    _, message = command("run", bench.write(), "--llama-cpp", bench.fake)
    assert "2 of 4 files cannot be used" in message
    assert "small.gguf" in message
    assert "page.gguf" in message


def test_directory_in_use(bench: Bench, command: Callable[..., tuple[int, str]]):
    """A results directory that another run holds is refused with the process that holds it."""
    code = f"""
import sys, time
from pathlib import Path
from evalsuite.store import Store
with Store(Path({str(bench.folder / "results")!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        status, message = command("run", bench.write(), "--llama-cpp", bench.fake)
        holder.stdin.close()
    assert status == 3
    assert f"in use by process {holder.pid}" in message


def test_edited_sweep_is_refused_and_loses_nothing(bench: Bench, command: Callable[..., tuple[int, str]]):
    """A sweep whose edit makes finished answers worthless is refused with what changed; the old sweep goes on as it was."""
    bench.write(tasks=["echo"])
    assert command("run", bench.path, "--llama-cpp", bench.fake)[0] == 0
    before = bench.items()
    bench.write(sampling={"temperature": 0.7})
    status, message = command("run", bench.path, "--llama-cpp", bench.fake)
    assert status == 2
    assert "sampling: was" in message
    assert "--accept-changes" in message
    assert bench.items() == before
    bench.write(sampling={})
    assert command("run", bench.path, "--llama-cpp", bench.fake)[0] == 0


def test_added_quant_is_taken_as_it_comes(bench: Bench, command: Callable[..., tuple[int, str]]):
    """A quant that joins the folder is told and asked; the others are not asked again."""
    bench.write(tasks=["ends"])
    command("run", bench.path, "--llama-cpp", bench.fake)
    toy_gguf(models(bench) / "new.gguf", weight=0.9)
    status, message = command("run", bench.path, "--llama-cpp", bench.fake)
    assert (status, "quant new is new" in message) == (0, True)
    with Store(bench.folder / "results") as store:
        assert {row["arm"]: row["new"] for row in store.get_meta("arms")}["new"] == 4


def test_data_with_line_separators_and_bad_rows(bench: Bench, command: Callable[..., tuple[int, str]]):
    """JSONL is split at line feeds only, and a row that is no sample is named by its number."""
    file = bench.folder / "tasks" / "ends" / "samples.jsonl"
    rows = file.read_text(encoding="utf-8").splitlines()
    first = json.loads(rows[0]) | {"prompt": "one\u2028two\u0085three"}
    file.write_text("\n".join([json.dumps(first, ensure_ascii=False), *rows[1:]]) + "\n", encoding="utf-8")
    assert command("plan", bench.write(tasks=["ends"]), "--llama-cpp", bench.fake)[0] == 0
    file.write_text("\n".join([*rows, '{"prompt": 1']) + "\n", encoding="utf-8")
    status, message = command("plan", bench.path, "--llama-cpp", bench.fake)
    assert (status, "samples.jsonl:5: not a sample" in message) == (2, True)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"target": "B"}, "target: 'B' is not the index (from 0) of one of at least two choices; there are 2"),
        ({"target": 2}, "target: 2 is not the index"),
        ({"target": -1}, "target: -1 is not the index"),
        ({"target": True}, "target: True is not the index"),
        ({"choices": []}, "target: 0 is not the index (from 0) of one of at least two choices; there are 0"),
        ({"choices": None}, "target: 0 is not the index"),
        ({"choices": [" A"]}, "target: 0 is not the index"),
        ({"choices": "AB"}, "not a sample: choices"),
        ({"prompt": ["role", "user"]}, "not a sample: prompt"),
    ],
)
def test_sample_that_cannot_be_scored(bench: Bench, command: Callable[..., tuple[int, str]], row: dict, said: str):
    """A row of an own task whose right choice is not among its choices is named by its line before anything is asked."""
    sample = {"prompt": "One", "target": 0, "choices": [" A", " B"]}
    rows = [json.dumps(entry) + "\n" for entry in (sample, sample | row)]
    (bench.folder / "tasks" / "letters" / "samples.jsonl").write_text("".join(rows))
    status, message = command("plan", bench.write(tasks=["letters"]), "--llama-cpp", bench.fake)
    assert (status, f"samples.jsonl:2: {said}" in message) == (2, True)


@pytest.mark.parametrize(("data", "said"), [(".", "Is a directory"), ("none.jsonl", "No such file")])
def test_data_that_is_no_file(bench: Bench, command: Callable[..., tuple[int, str]], data: str, said: str):
    """--data that names a folder or nothing is refused with the path."""
    words = ("--data", f"ends={bench.folder / data}", "--llama-cpp", bench.fake)
    status, message = command("plan", bench.write(tasks=["ends"]), *words)
    assert (status, f"cannot be read: {said}" in message) == (2, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_model_that_may_not_be_read(bench: Bench, command: Callable[..., tuple[int, str]]):
    """A GGUF without read permission is told like any other file that cannot be used."""
    (models(bench) / "small.gguf").chmod(0)
    status, message = command("plan", bench.write(), "--llama-cpp", bench.fake)
    assert (status, "small.gguf: cannot be read: Permission denied" in message) == (2, True)


def test_llama_cpp_folder_without_server(bench: Bench, tmp_path: Path, command: Callable[..., tuple[int, str]]):
    """A --llama-cpp folder that holds no llama-server is refused, never passed over."""
    (tmp_path / "empty").mkdir()
    status, message = command("run", bench.write(), "--llama-cpp", tmp_path / "empty")
    assert (status, "llama-server" in message) == (2, True)


@pytest.mark.parametrize("words", [["frob"], ["run"], ["run", "x.yaml", "--frob"]])
def test_unknown_words(command: Callable[..., tuple[int, str]], words: list[str]):
    """An unknown command, a missing argument and an unknown option are exit 2."""
    assert command(*words)[0] == 2


def test_missing_and_foreign_directories(tmp_path: Path, command: Callable[..., tuple[int, str]]):
    """`report` and `export` of something that is no results directory say so."""
    for name in ("report", "export"):
        status, message = command(name, tmp_path)
        assert (status, "not a results directory" in message) == (2, True)


def test_own_profile_by_path(bench: Bench, command: Callable[..., tuple[int, str]]):
    """A profile can be a file of the user's own, and a value of 0 in it is a value."""
    profile = {"name": "mine", "ctx": 512, "parallel": 2, "threads": 1, "flags": {"n-gpu-layers": 0}}
    (bench.folder / "mine.yaml").write_text(yaml.safe_dump(profile))
    assert command("run", bench.write(tasks=["ends"], server="./mine.yaml"), "--llama-cpp", bench.fake)[0] == 0
    with Store(bench.folder / "results") as store:
        assert store.get_meta("header")["server"]["flags"] == {"n-gpu-layers": 0}
    shutil.rmtree(bench.folder / "results")
