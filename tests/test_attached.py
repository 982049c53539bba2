"""Quants behind a url: asked, never confused with one another, refused when they are another model."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from toys import HURRY, Bench

from evalsuite.errors import ServerError, SpecError
from evalsuite.records import Generate, Sampling
from evalsuite.run import Progress, Silent
from evalsuite.serve.client import Endpoint, RefusedError, ServerGoneError
from evalsuite.serve.process import Address
from evalsuite.serve.serving import Attached, watched
from evalsuite.store import Store
from evalsuite.sweep import Finished, open_sweep, run_sweep

CHAT = ({"role": "user", "content": "hi"},)


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


def run(bench: Bench, progress: Progress | None = None) -> Finished:
    with Store(bench.folder / "results") as store:
        opened = open_sweep(bench.write(), store, llama_cpp=bench.fake, accept_changes=True)
        return run_sweep(opened, progress=progress, patience=HURRY)


class Once(Silent):
    """Does something when the attached quant is at some point for the first time."""

    def __init__(self, point: str, act: Callable[[], object]) -> None:
        self.point, self.act = point, act

    def phase(self, arm: str, doing: str) -> None:
        if (arm, doing) == ("theirs", self.point):
            self.point = ""
            self.act()


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
        assert "Invalid API Key" in run(bench).arms[1].reason
        monkeypatch.setenv("EVALSUITE_API_KEY", "open sesame")
        assert run(bench).is_complete


def test_url_where_nothing_answers(bench: Bench):
    """A url where nothing listens fails its own quant, which names it; the others are asked."""
    url = f"http://127.0.0.1:{free_port()}"
    attach(bench, url)
    ours, theirs = run(bench).arms
    assert (ours.status, theirs.status, theirs.unscored) == ("ok", "failed", 8)
    assert url in theirs.reason


def test_url_that_changes_before_it_is_asked(bench: Bench):
    """A url that serves another quant when its turn comes than when it was identified is not asked anything."""
    port = free_port()
    with ExitStack() as first, ExitStack() as second:
        url = first.enter_context(somebodys_server(bench, "small.gguf", port))
        attach(bench, url)

        def swap() -> None:
            first.close()
            second.enter_context(somebodys_server(bench, "big.gguf", port))

        theirs = run(bench, Once("loading", swap)).arms[1]
    assert (theirs.status, theirs.new) == ("failed", 0)
    assert "another quant than a moment ago" in theirs.reason


def test_url_that_is_restarted_is_waited_for(bench: Bench):
    """A server at a url that goes away in the middle and comes back seconds later is asked the rest: nothing is missing."""
    port = free_port()
    with ExitStack() as first, ExitStack() as second:
        url = first.enter_context(somebodys_server(bench, "small.gguf", port))
        attach(bench, url)
        back = threading.Timer(0.5, lambda: second.enter_context(somebodys_server(bench, "small.gguf", port)))

        def stop() -> None:
            first.close()
            back.start()

        finished = run(bench, Once("ends", stop))
        back.join()
    assert finished.is_complete


@pytest.mark.parametrize("check", ["finish", "recover"])
def test_url_whose_answer_moves_is_another_quant(bench: Bench, check: str):
    """A url whose log-probability of the fixed text has moved by 0.05 nats is refused, at the end and on reconnecting."""

    async def move(url: str) -> None:
        async with watched(Attached(url, patience=HURRY, note=lambda *_: None)) as serving:
            endpoint = await serving.ready()
            await serving.finish()
            assert not await serving.recover(endpoint, "one reply was lost")
            assert serving.canary is not None
            serving.canary += 0.05
            with pytest.raises(ServerError, match="does not serve what it did"):
                await (serving.finish() if check == "finish" else serving.recover(endpoint, "one reply was lost"))

    with somebodys_server(bench, "small.gguf", free_port()) as url:
        asyncio.run(move(url))


def test_server_is_closed_whatever_becomes_of_the_watch(bench: Bench):
    """A watch that fails does not keep a server from being closed, and once closed it is not brought up again."""

    class Blind(Attached):
        async def watch(self) -> None:
            raise OSError("the log is gone")

    async def use(url: str) -> None:
        serving = Blind(url, patience=HURRY, note=lambda *_: None)
        with pytest.raises(OSError, match="the log is gone"):
            async with watched(serving):
                await serving.ready()
        with pytest.raises(ServerError, match="was closed"):
            await serving.ready()

    with somebodys_server(bench, "small.gguf", free_port()) as url:
        asyncio.run(use(url))


def test_no_connection_waits_for_a_thread(bench: Bench):
    """Neither our server nor somebody else's, with default settings, gets more connections than it has threads for."""
    with somebodys_server(bench, "small.gguf", free_port()) as url:
        attach(bench, url)
        assert run(bench).is_complete
    logs = [bench.folder / "theirs.log", *(bench.folder / "results" / "logs").iterdir()]
    assert len(logs) == 2
    assert not any("a connection waits" in log.read_text() for log in logs)


@pytest.mark.parametrize("prompt", ["hi", CHAT])
@pytest.mark.parametrize("is_socket", [False, True])
def test_refused_connection_is_no_requests_fault(tmp_path: Path, prompt: str | tuple[dict, ...], *, is_socket: bool):
    """A request that finds nobody listening was not at work in the server, so it is not what killed it."""
    address = Address("http://localhost", tmp_path / "s.sock", "key")
    address = address if is_socket else Address(f"http://127.0.0.1:{free_port()}", None, "key")

    async def ask() -> None:
        async with Endpoint(address, in_flight=1, cache_prompt=False, grace_s=1) as endpoint:
            await endpoint.ask(Generate(prompt, Sampling()))

    with pytest.raises(ServerGoneError) as gone:
        asyncio.run(ask())
    assert not gone.value.at_work


def test_closed_pool_is_a_server_that_is_gone(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """A pool that is closed ends the requests that wait in it as those that are under way: the server is gone."""
    monkeypatch.setenv("EVALSUITE_FAKE_PLAN", '{"replies": [{"match": "", "reply": "hang"}]}')

    async def ask(url: str) -> list[object]:
        endpoint = Endpoint(Address(url, None, "none"), in_flight=1, spare=0, cache_prompt=False, grace_s=9)
        asked = asyncio.gather(
            endpoint.ask(Generate(CHAT, Sampling())), endpoint.tokenize("waits for the connection"), endpoint.decoded(),
            return_exceptions=True,
        )  # fmt: skip
        await asyncio.sleep(0.3)
        await endpoint.http.aclose()
        return await asked

    with somebodys_server(bench, "small.gguf", free_port()) as url:
        under_way, waiting, decoded = asyncio.run(ask(url))
    assert isinstance(under_way, ServerGoneError)
    assert isinstance(waiting, ServerGoneError)
    assert decoded is None


def test_settings_for_openai_go_nowhere_else(monkeypatch: pytest.MonkeyPatch):
    """What OPENAI_* says of keys, organisations and headers reaches no server: it gets our key alone."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer theirs\nX-Gateway: theirs")
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "theirs")
    seen: list[Message] = []

    class Recorder(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.headers)
            self.send_error(500)

        def log_message(self, *_: object) -> None: ...

    async def ask(url: str) -> None:
        async with Endpoint(Address(url, None, "ours"), in_flight=1, cache_prompt=False, grace_s=9) as endpoint:
            await endpoint.ask(Generate(CHAT, Sampling()))

    with HTTPServer(("127.0.0.1", 0), Recorder) as server:
        threading.Thread(target=server.handle_request).start()
        with pytest.raises(RefusedError):
            asyncio.run(ask(f"http://127.0.0.1:{server.server_port}"))
    assert seen[0]["Authorization"] == "Bearer ours"
    assert not any("theirs" in value for value in seen[0].values())


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
