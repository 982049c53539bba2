"""Quants behind a url: asked, never confused with one another, refused when they are another model."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from toys import HURRY, Bench

from evalsuite.errors import SpecError
from evalsuite.store import Store
from evalsuite.sweep import Finished, open_sweep, run_sweep


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def somebodys_server(bench: Bench, model: str, port: int, *, key: str = "") -> Iterator[str]:
    """Run the fake as somebody else would: on a port, under an alias that says nothing."""
    log = bench.folder / "theirs.log"
    words = ["-m", str(bench.folder / "models" / model), "--host", "127.0.0.1", "--port", str(port), "--alias", "model"]
    command = [sys.executable, "-m", "evalsuite.serve.fake", *words, "-np", "2", "-c", "1024", "--metrics"]
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | {"LLAMA_API_KEY": key}) as server,
    ):
        try:
            while not re.search("listening on", log.read_text()):
                assert server.poll() is None
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def run(bench: Bench, folder: str = "results") -> Finished:
    with Store(bench.folder / folder) as store:
        return run_sweep(open_sweep(bench.write(), store, llama_cpp=bench.fake, accept_changes=True), patience=HURRY)


def attach(bench: Bench, url: str, **more: object) -> None:
    bench.write(tasks=["ends", "echo"], quants=[{"name": "theirs", "url": url, **more}], replicate_reference=False)


def test_attached_quant_answers_like_a_launched_one(bench: Bench):
    """A quant behind a url earns the scores that the same file earns when we serve it."""
    bench.write(tasks=["ends", "echo"], replicate_reference=False)
    bench.run()
    ours = [row[1:9] for row in bench.items() if row[0] == "small"]
    with somebodys_server(bench, "small.gguf", free_port()) as url:
        attach(bench, url)
        assert run(bench).is_complete
    assert [row[1:9] for row in bench.items() if row[0] == "theirs"] == ours


def test_two_quants_behind_one_alias_and_port_are_never_confused(bench: Bench):
    """Another file behind the same url and alias is asked afresh, and the first one, when it comes back, is not."""
    port = free_port()
    with somebodys_server(bench, "small.gguf", port) as url:
        attach(bench, url)
        assert run(bench).arms[1].new == 8
    with somebodys_server(bench, "big.gguf", port):
        assert run(bench).arms[1].new == 8
    with somebodys_server(bench, "small.gguf", port):
        assert (run(bench).arms[1].new, run(bench).arms[1].reused) == (0, 8)


def test_url_of_another_model_is_refused(bench: Bench):
    """A url whose server has another vocabulary than the reference is refused before anything is asked."""
    for name in ("ref", "big", "small"):
        (bench.folder / "models" / f"{name}.gguf").unlink()
    from toys import toy_gguf  # noqa: PLC0415

    toy_gguf(bench.folder / "models" / "ref.gguf", vocabulary=500)
    (bench.folder / "models" / "theirs.bin").write_bytes(b"x")
    with somebodys_server(bench, "theirs.bin", free_port()) as url:
        attach(bench, url)
        with pytest.raises(SpecError, match="serves another model: a vocabulary of 440 tokens"):
            run(bench)


def test_url_with_a_key(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """A server that wants a key gets it from the environment; without it the arm says what is wrong."""
    with somebodys_server(bench, "small.gguf", free_port(), key="open sesame") as url:
        attach(bench, url)
        with pytest.raises(Exception, match="Invalid API Key"):
            run(bench)
        monkeypatch.setenv("EVALSUITE_API_KEY", "open sesame")
        assert run(bench).is_complete


def test_url_where_nothing_answers(bench: Bench):
    """A url where nothing listens is told by name."""
    attach(bench, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Exception, match=r"http://127\.0\.0\.1"):
        run(bench)


def test_our_server_is_proven_to_be_ours(bench: Bench):
    """A server that calls itself something else than it was told is not asked: somebody else answers there."""
    bench.faults({"flags": {"alias": "stranger"}})
    finished = bench.run()
    assert "another server answers: it calls itself 'stranger'" in finished.arms[0].reason
    assert all(arm.new == 0 for arm in finished.arms)


@pytest.mark.parametrize(
    ("flags", "said"), [({"ctx-size": 1024}, "context per slot"), ({"ctx-size": 1024, "parallel": 2}, "slots")]
)
def test_settings_are_read_back(bench: Bench, flags: dict[str, int], said: str):
    """A server with another context or number of slots than was asked for is not asked anything."""
    bench.faults({"flags": flags})
    finished = bench.run()
    assert said in finished.arms[0].reason


def test_environment_is_scrubbed_and_the_key_hidden(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """LLAMA_ARG_* never reaches a server, and the key is in nobody's process list."""
    seen = tmp_path / "seen"
    script = bench.fake / "llama-server"
    text = script.read_text().splitlines()
    script.write_text(
        "\n".join([text[0], f'case "$*" in *--model*) (echo "$@"; env) >> {seen};; esac', *text[1:]]) + "\n"
    )
    monkeypatch.setenv("LLAMA_ARG_TEMP", "5")
    monkeypatch.setenv("HF_TOKEN", "secret")
    bench.write(tasks=["ends"], replicate_reference=False)
    assert bench.run().is_complete
    lines = [line for line in seen.read_text().splitlines() if line.strip()]
    keys = {line.split("=", 1)[1] for line in lines if line.startswith("LLAMA_API_KEY=")}
    assert keys
    assert not any(line.startswith(("LLAMA_ARG", "HF_TOKEN")) for line in lines)
    assert not any(key in line for key in keys for line in lines if line.startswith("--model"))
