"""The public fake server: as llama-server answers, and with the faults that its plan names."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.serve.fake import detokenize, tokenize

FAKE = "evalsuite.serve.fake"
CHAT = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 12}
FREE = {"prompt": "Hello", "temperature": 0, "n_predict": 1}


@dataclass
class Running:
    """A server process, an HTTP client on it, and its log."""

    process: subprocess.Popen[bytes]
    client: httpx.Client
    log: Path

    def ask(self, path: str, body: dict | None = None) -> httpx.Response:
        """GET a route, or POST to it."""
        return self.client.get(path) if body is None else self.client.post(path, json=body)

    def chat(self, **more: object) -> httpx.Response:
        """Ask for an answer to a short conversation."""
        return self.ask("/v1/chat/completions", CHAT | more)

    def complete(self, **more: object) -> dict:
        """Ask for the text after a short prompt."""
        return self.ask("/completion", FREE | more).json()


def start(folder: Path, *flags: str, module: str = FAKE, plan: dict | Path | None = None) -> subprocess.Popen[bytes]:
    text = str(plan) if isinstance(plan, Path) else json.dumps(plan or {})
    environment = os.environ | {"EVALSUITE_FAKE_PLAN": text, "LLAMA_API_KEY": "key"}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-m", module, *flags], stderr=log, stdout=log, env=environment)


def url(process: subprocess.Popen[bytes], log: Path) -> str:
    while process.poll() is None:
        for line in log.read_text().splitlines(keepends=True):
            if "listening on " in line and line.endswith("\n"):
                return line.split()[-1]
        time.sleep(0.01)
    raise AssertionError(log.read_text())


@contextmanager
def running(
    folder: Path, *flags: str, module: str = FAKE, plan: dict | Path | None = None, model: Path | None = None
) -> Iterator[Running]:
    if model is None:
        model = folder / "model.gguf"
        model.write_bytes(b"weights")
    arguments = ("--model", str(model), "--alias", "quant", "--host", "127.0.0.1", "--port", "0", "--metrics", *flags)
    process = start(folder, *arguments, module=module, plan=plan)
    try:
        headers = {"Authorization": "Bearer key"}
        with httpx.Client(base_url=url(process, folder / "log"), headers=headers, timeout=60) as client:
            yield Running(process, client, folder / "log")
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("fake"), "--parallel", "2", "--ctx-size", "1024") as it:
        yield it


# --- as llama-server -------------------------------------------------------------------------------------------------

REQUESTS: list[tuple[str, dict | None]] = [
    ("/health", None),
    ("/v1/models", None),
    ("/props", None),
    ("/metrics", None),
    ("/nowhere", None),
    ("/tokenize", {"content": "Hello world", "add_special": True, "parse_special": True}),
    ("/tokenize", {"content": "Hello world", "with_pieces": True}),
    ("/detokenize", {"tokens": [40, 41]}),
    ("/apply-template", {"messages": CHAT["messages"]}),
    ("/apply-template", {}),
    ("/completion", FREE | {"n_probs": 3}),
    ("/completion", FREE | {"n_probs": 3, "post_sampling_probs": True, "logit_bias": [[40, 2.0]]}),
    ("/completion", FREE | {"n_probs": 3, "grammar": "root ::= <[40]> <[41]>", "return_tokens": True}),
    ("/completion", FREE | {"grammar": "root ::= <[100000000]>"}),
    ("/completion", FREE | {"grammar": "root ::= ("}),
    ("/completion", FREE | {"n_predict": "many"}),
    ("/completion", FREE | {"prompt": ""}),
    ("/completion", FREE | {"prompt": "hi there " * 600}),
    ("/completion", {}),
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | {"verbose": True}),
    ("/v1/chat/completions", CHAT | {"messages": [{"role": "user", "content": "hi there " * 600}]}),
    ("/v1/chat/completions", {}),
]


def differences(ours: object, theirs: object, where: str) -> list[str]:
    """Name what the fake has that the real reply has not, at any depth; the first item of a list stands for all."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        extra = [f"{where}.{key} is not there" for key in ours.keys() - theirs.keys()]
        inner = [differences(ours[key], theirs[key], f"{where}.{key}") for key in ours.keys() & theirs.keys()]
        return sum(inner, extra)
    if isinstance(ours, list) and isinstance(theirs, list):
        return differences(ours[0], theirs[0], f"{where}[0]") if ours and theirs else []
    numbers = all(isinstance(value, int | float) for value in (ours, theirs))
    return [] if numbers or type(ours) is type(theirs) else [f"{where}: {ours!r}, not {theirs!r}"]


@pytest.mark.live
def test_answers_as_a_real_server_does(tmp_path: Path, fake: Running) -> None:
    """The same requests get the same status and top-level keys, and below them nothing that a real reply has not."""
    model = os.environ.get("EVALSUITE_TEST_MODEL")
    if not model:
        pytest.skip("EVALSUITE_TEST_MODEL names no model")
    flags = ("--parallel", "2", "--ctx-size", "1024", "--jinja", "--threads", "1", "--threads-batch", "1")
    with running(tmp_path, *flags, module="evalsuite.serve.embedded", model=Path(model)) as real:
        for path, body in REQUESTS:
            theirs, ours = real.ask(path, body), fake.ask(path, body)
            where = f"{path} {body}"[:200]
            assert (where, ours.status_code) == (where, theirs.status_code)
            assert (where, ours.headers["content-type"]) == (where, theirs.headers["content-type"])
            if path == "/metrics":
                assert metrics(ours).keys() <= metrics(theirs).keys()
            else:
                assert (where, sorted(ours.json())) == (where, sorted(theirs.json()))
                assert differences(ours.json(), theirs.json(), where) == []


def metrics(response: httpx.Response) -> dict[str, float]:
    lines = [line.split() for line in response.text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_a_slot_has_its_share_of_the_context(tmp_path: Path) -> None:
    """Slots share the context in steps of 256 tokens, up to the training context, as measured on llama-server."""
    measured = {(4096, 4): 1024, (1000, 3): 512, (32768, 2): 8192}
    for (total, slots), n_ctx in measured.items():
        with running(tmp_path, "-c", str(total), "-np", str(slots), plan={"n_ctx_train": 8192}) as it:
            props = it.ask("/props").json()
        assert (props["default_generation_settings"]["n_ctx"], props["total_slots"]) == (n_ctx, slots)


def test_unknown_flags_are_ignored(tmp_path: Path) -> None:
    """Flags that the fake does not know, and their values, change nothing."""
    flags = ("-mg", "0", "-ctk", "f16", "-ngl", "99", "--no-kv-unified", "--cache-ram", "0", "-c", "512", "-np", "1")
    with running(tmp_path, *flags) as it:
        assert it.ask("/props").json()["default_generation_settings"]["n_ctx"] == 512


def test_listens_on_a_unix_socket(tmp_path: Path) -> None:
    """A host that ends in .sock is a unix socket, named in the log; a socket file left over refuses the next server."""
    (tmp_path / "model.gguf").write_bytes(b"weights")
    with tempfile.TemporaryDirectory(prefix="fake") as short:
        flags = ("-m", str(tmp_path / "model.gguf"), "--host", f"{short}/s.sock", "--port", "0")
        process = start(tmp_path, *flags)
        assert url(process, tmp_path / "log") == f"unix://{short}/s.sock"
        with httpx.Client(transport=httpx.HTTPTransport(uds=f"{short}/s.sock"), base_url="http://fake") as client:
            assert client.get("/health").json() == {"status": "ok"}
        process.terminate()
        assert process.wait() == 0
        assert start(tmp_path, *flags).wait() == 1
        assert "couldn't bind HTTP server socket" in (tmp_path / "log").read_text()


def test_every_route_but_health_wants_the_key(fake: Running) -> None:
    """Without the key of LLAMA_API_KEY everything but /health is 401."""
    with httpx.Client(base_url=fake.client.base_url) as stranger:
        assert stranger.get("/health").status_code == 200
        assert stranger.get("/props").status_code == 401
        assert stranger.post("/v1/chat/completions", json=CHAT).json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("content", [b"BAD file", None])
def test_a_bad_or_missing_model_ends_it(tmp_path: Path, content: bytes | None) -> None:
    """A model that does not load is exit 1 and an error line in the log."""
    model = tmp_path / "model.gguf"
    if content is not None:
        model.write_bytes(content)
    assert start(tmp_path, "-m", str(model), "--port", "0").wait() == 1
    assert f"E srv    load_model: failed to load model, '{model}'" in (tmp_path / "log").read_text()


def test_answers_503_while_it_loads(tmp_path: Path) -> None:
    """Every route is 503 until the model is loaded, and the socket is bound before."""
    (tmp_path / "model.gguf").write_bytes(b"weights")
    with tempfile.TemporaryDirectory(prefix="fake") as short:
        path = Path(short) / "s.sock"
        process = start(tmp_path, "-m", str(tmp_path / "model.gguf"), "--host", str(path), plan={"start_delay_s": 60})
        transport = httpx.HTTPTransport(uds=str(path), retries=50)
        with httpx.Client(transport=transport, base_url="http://fake") as client:
            while not path.exists():
                time.sleep(0.01)
            reply = client.get("/health")
        process.terminate()
        assert (reply.status_code, reply.json()["error"]["type"]) == (503, "unavailable_error")
        assert process.wait() == 0
        assert "listening" not in (tmp_path / "log").read_text()


def test_sigterm_waits_for_a_request_in_flight(tmp_path: Path) -> None:
    """With a request in flight the server stays after SIGTERM until that client leaves, as llama-server does."""
    with running(tmp_path, plan={"replies": [{"match": "hold", "reply": "hang"}]}) as it:
        with pytest.raises(httpx.ReadTimeout):
            it.client.post("/completion", json={"prompt": "hold"}, timeout=0.3)
        with socket.create_connection((it.client.base_url.host, it.client.base_url.port)) as held:
            body = b'{"prompt": "hold"}'
            held.sendall(
                b"POST /completion HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            while metrics(it.ask("/metrics"))["llamacpp:requests_processing"] != 1:
                time.sleep(0.01)
            it.process.terminate()
            while "cleaning up" not in it.log.read_text():
                time.sleep(0.01)
            assert it.process.poll() is None
        assert it.process.wait() == 0


# --- the toy model ---------------------------------------------------------------------------------------------------


@given(st.text())
def test_text_survives_the_tokenizer(text: str) -> None:
    """Tokenising and back gives the text, with special tokens parsed or not."""
    assert detokenize(tokenize(text)) == text
    assert detokenize(tokenize(text, parse_special=False)) == text


def test_a_letter_after_a_blank_is_one_token() -> None:
    """An option letter, with its blank or without, is one token, so that it can be chosen."""
    assert [len(tokenize(f"{blank}{letter}")) for letter in "ABCDEFGHIJ" for blank in (" ", "")] == [1] * 20


def test_two_processes_say_the_same(tmp_path: Path) -> None:
    """Replies depend on the bytes of the model file, not on its name, the process or the slots."""
    said = []
    for name, content in {"a.gguf": b"weights", "b.gguf": b"weights", "c.gguf": b"others"}.items():
        (tmp_path / name).write_bytes(content)
        with running(tmp_path, "-np", str(1 + len(said)), "-c", "4096", model=tmp_path / name) as it:
            chat, warm = it.chat().json(), it.chat(temperature=1, seed=7, max_tokens=20).json()
            said.append(
                (
                    chat["choices"],
                    warm["choices"],
                    it.complete(n_probs=5)["completion_probabilities"][0]["top_logprobs"],
                )
            )
    assert said[0] == said[1]
    assert all(ours != theirs for ours, theirs in zip(said[0], said[2], strict=True))


def test_seeds_differ_only_where_tokens_are_drawn(fake: Running) -> None:
    """Two seeds give one text at temperature 0 and two at temperature 1."""
    texts = {
        heat: {fake.complete(temperature=heat, seed=seed, n_predict=12)["content"] for seed in (1, 2)}
        for heat in (0, 1)
    }
    assert [len(texts[0]), len(texts[1])] == [1, 2]


def full_softmax(fake: Running, prompt: object = FREE["prompt"]) -> dict[int, float]:
    entry = fake.complete(prompt=prompt, n_probs=100_000)["completion_probabilities"][0]
    return {token["id"]: token["logprob"] for token in entry["top_logprobs"]}


def test_probabilities_sum_to_one(fake: Running) -> None:
    """The log-probabilities of the whole vocabulary are a softmax, the greedy token its largest."""
    softmax = full_softmax(fake)
    assert math.fsum(map(math.exp, softmax.values())) == pytest.approx(1, abs=1e-12)
    assert fake.complete(return_tokens=True)["tokens"] == [max(softmax, key=softmax.__getitem__)]


def test_forcing_a_token_tells_its_free_probability(fake: Running) -> None:
    """A grammar of token ids forces them, and reports for each the log-probability of the unforced softmax."""
    first, second = tokenize(" B people")
    forced = fake.complete(grammar=f"root ::= <[{first}]> <[{second}]>", n_predict=2, n_probs=1)
    logprobs = {entry["id"]: entry["logprob"] for entry in forced["completion_probabilities"]}
    assert forced["content"] == " B people"
    after_first = full_softmax(fake, [*tokenize("Hello"), first])
    assert logprobs == {first: full_softmax(fake)[first], second: after_first[second]}


def test_a_grammar_cannot_name_every_token(fake: Running) -> None:
    """Half a character, the end and ids beyond the vocabulary cannot be forced: 500, as llama-server answers."""
    for token in (tokenize("é")[0], tokenize("<|im_end|>")[0], 10**6):
        reply = fake.ask("/completion", FREE | {"grammar": f"root ::= <[{token}]>"})
        assert reply.status_code == 500
        assert "Unexpected empty grammar stack" in reply.json()["error"]["message"]


def test_probabilities_after_sampling_follow_the_bias(fake: Running) -> None:
    """With only the temperature sampler, at 1, they are the softmax of logprob + bias."""
    a, b = tokenize(" A B")
    settings = {"temperature": 1, "samplers": ["temperature"], "n_probs": 100_000, "post_sampling_probs": True}
    entry = fake.complete(logit_bias=[[a, 9.0], [b, False]], **settings)["completion_probabilities"][0]
    ours = {token["id"]: token["prob"] for token in entry["top_probs"]}
    weights = {
        token: math.exp(logprob + 9.0 * (token == a)) for token, logprob in full_softmax(fake).items() if token != b
    }
    expected = {token: weight / math.fsum(weights.values()) for token, weight in weights.items()}
    assert ours == pytest.approx(expected)


def test_a_text_ends_at_a_stop_string_the_limit_or_the_context(fake: Running) -> None:
    """The three ends of a text are told apart by stop_type, and the end of the context by `truncated`."""
    whole = fake.complete(n_predict=12)["content"]
    stopped = fake.complete(n_predict=12, stop=[whole.split()[-1]])
    assert (stopped["stop_type"], stopped["content"]) == ("word", whole[: whole.index(whole.split()[-1])])
    limited = fake.complete(n_predict=1)
    assert (limited["stop_type"], limited["truncated"]) == ("limit", False)
    full = fake.complete(ignore_eos=True, n_predict=-1)
    assert (full["stop_type"], full["truncated"]) == ("limit", True)
    assert full["tokens_evaluated"] + full["tokens_predicted"] == 512


def test_settings_are_repeated_in_single_precision(fake: Running) -> None:
    """The reply repeats the settings of the request, floats rounded to single precision as the server holds them."""
    settings = fake.chat(verbose=True, temperature=0.8, top_k=7, seed=3).json()["__verbose"]["generation_settings"]
    asked = {"temperature": 0.800000011920929, "top_k": 7, "seed": 3, "n_predict": 12, "max_tokens": 12}
    assert {name: settings[name] for name in asked} == asked


# --- the faults ------------------------------------------------------------------------------------------------------

ERRORS = {
    "500": (500, "server_error", "a fault of the plan"),
    "500_context": (500, "server_error", "Context size has been exceeded."),
    "500_tool_parse": (500, "server_error", "does not match the expected"),
    "500_compute": (500, "server_error", "Compute error."),
    "503": (503, "unavailable_error", "Loading model"),
    "429": (429, "gateway", "Too Many Requests"),
    "502": (502, "gateway", "Bad Gateway"),
    "400": (400, "invalid_request_error", "a fault of the plan"),
    "400_overflow": (400, "exceed_context_size_error", "request (1025 tokens) exceeds the available context size"),
    "401": (401, "authentication_error", "Invalid API Key"),
}


def once(*replies: object) -> dict:
    return {"replies": [{"match": "", "times": 1, "reply": reply} for reply in replies]}


def test_error_replies(tmp_path: Path) -> None:
    """Each error of the plan has llama-server's status, type and message, once; then the server answers again."""
    with running(tmp_path, "-np", "1", "-c", "1024", plan=once(*ERRORS)) as it:
        for status, kind, message in ERRORS.values():
            reply = it.chat()
            error = reply.json()["error"]
            assert (reply.status_code, error["code"], error["type"]) == (status, status, kind)
            assert message in error["message"]
        assert it.chat().status_code == 200


def test_garbage_replies(tmp_path: Path) -> None:
    """Replies that are no replies: a page, half of the JSON, nothing, no choices, a body or a connection cut off."""
    plan = once("html", "broken_json", "empty_body", "no_choices", "truncated_body", "close")
    with running(tmp_path, plan=plan) as it:
        page = it.chat()
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html")
        half = it.chat()
        assert half.status_code == 200
        with pytest.raises(json.JSONDecodeError):
            half.json()
        assert it.chat().content == b""
        assert "choices" not in it.chat().json()
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            it.chat()
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            it.chat()
        assert it.chat().json()["choices"]


def test_answers_of_the_plan(tmp_path: Path) -> None:
    """The plan sets the text, takes it away, puts reasoning before it, or cuts it off."""
    plan = once({"constant": "42"}, "null_content", "reasoning", "length", {"constant": "42"})
    with running(tmp_path, plan=plan) as it:
        chats = [it.chat(max_tokens=200).json()["choices"][0] for _ in range(4)]
        assert it.complete()["content"] == "42"
        own = it.chat(max_tokens=200).json()["choices"][0]
    said = [(chat["message"]["content"], chat["finish_reason"]) for chat in chats]
    text = own["message"]["content"]
    assert said == [
        ("42", "stop"),
        (None, "stop"),
        (f"<think>\nLet me see.\n</think>\n\n{text}", "stop"),
        (text, "length"),
    ]


def test_a_reply_is_chosen_by_path_or_body(tmp_path: Path) -> None:
    """An entry counts only the requests that it matches, in their path or in their body."""
    plan = {"replies": [{"match": "/props", "reply": "500"}, {"match": "second", "times": 2, "reply": "503"}]}
    with running(tmp_path, plan=plan) as it:
        statuses = [it.ask("/completion", FREE | {"prompt": text}).status_code for text in ("first", *["second"] * 3)]
        assert statuses == [200, 503, 503, 200]
        assert [it.ask("/props").status_code for _ in range(3)] == [500] * 3


def test_replies_without_what_they_are_asked_for(tmp_path: Path) -> None:
    """`no_choices` leaves out tokens and prompts as well; `nan` leaves null where probabilities were."""
    with running(tmp_path, plan=once("no_choices", "no_choices", "nan")) as it:
        assert it.ask("/tokenize", {"content": "a"}).json() == {}
        assert it.ask("/apply-template", {"messages": CHAT["messages"]}).json() == {}
        [entry] = it.complete(n_probs=2)["completion_probabilities"]
        assert [entry["logprob"], *(top["logprob"] for top in entry["top_logprobs"])] == [None] * 3


def test_clock_of_writing_starts_at_the_first_token(tmp_path: Path) -> None:
    """One token takes 0.001 ms, as llama-server has it; more take the time after the first, which belongs to the prompt."""
    with running(tmp_path, plan={"token_s": 0.01, "prompt_token_s": 0.002}) as it:
        short, long = (it.complete(n_predict=n, ignore_eos=True)["timings"] for n in (1, 5))
    assert (short["predicted_n"], short["predicted_ms"], short["predicted_per_token_ms"]) == (1, 0.001, 0.001)
    assert (long["predicted_n"], long["predicted_ms"]) == (5, pytest.approx(40))
    assert long["prompt_ms"] == pytest.approx(10 + 2 * long["prompt_n"])


def test_a_connection_keeps_its_thread(tmp_path: Path) -> None:
    """With one HTTP thread a second connection is served when the first is closed, and the log says that it waits."""
    with running(tmp_path, "--threads-http", "1") as it:
        it.ask("/health")
        address = (it.client.base_url.host, it.client.base_url.port)
        with socket.create_connection(address) as second, second.makefile("rb") as replies:
            second.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            while "a connection waits" not in it.log.read_text():
                time.sleep(0.05)
            it.client.close()
            assert replies.readline() == b"HTTP/1.1 200 OK\r\n"


def test_drip_sends_the_reply_in_bytes(tmp_path: Path) -> None:
    """A dripping reply begins with one byte of the body, its length announced."""
    plan = {"replies": [{"match": "", "reply": "drip"}]}
    with running(tmp_path, plan=plan) as it, it.client.stream("POST", "/completion", json=FREE) as reply:
        assert int(reply.headers["content-length"]) > 100
        assert next(reply.iter_raw()) == b"{"


@pytest.mark.parametrize("keeps_state", [True, False])
def test_crash_after_n_generations(tmp_path: Path, *, keeps_state: bool) -> None:
    """After n answers the next generation kills the process: once with a state file, else in every process."""
    plan = {"crash_after": 1, **({"state": str(tmp_path / "state.json")} if keeps_state else {})}
    with running(tmp_path, plan=plan) as it:
        assert [it.ask("/props").status_code, it.chat().status_code, it.ask("/props").status_code] == [200] * 3
        with pytest.raises(httpx.RemoteProtocolError):
            it.chat()
        assert it.process.wait() == -signal.SIGKILL
    with running(tmp_path, plan=plan) as it:
        assert it.chat().status_code == 200
        if keeps_state:
            assert it.chat().status_code == 200
        else:
            with pytest.raises(httpx.RemoteProtocolError):
                it.chat()


def test_times_are_counted_across_processes(tmp_path: Path) -> None:
    """With a state file a reply that comes twice comes twice, however often the server is started."""
    plan = {"state": str(tmp_path / "state.json"), "replies": [{"match": "", "times": 2, "reply": "500"}]}
    statuses = []
    for _ in range(3):
        with running(tmp_path, plan=plan) as it:
            statuses.append(it.chat().status_code)
    assert statuses == [500, 500, 200]


def test_hang_after_n_generations(tmp_path: Path) -> None:
    """A wedged server takes requests, decodes nothing, says that it is healthy and is deaf to SIGTERM."""
    with running(tmp_path, plan={"hang_after": 1}) as it:
        assert it.chat().status_code == 200
        before = metrics(it.ask("/metrics"))["llamacpp:n_decode_total"]
        for _ in range(2):
            with pytest.raises(httpx.ReadTimeout):
                it.client.post("/completion", json=FREE, timeout=0.3)
        it.process.send_signal(signal.SIGTERM)
        assert it.ask("/health").status_code == 200
        after = metrics(it.ask("/metrics"))
        assert (after["llamacpp:n_decode_total"], after["llamacpp:requests_processing"]) == (before, 2)
        assert it.process.poll() is None


def test_requests_wait_for_a_slot(tmp_path: Path) -> None:
    """More requests than slots are deferred, not refused."""
    with running(tmp_path, "-np", "1", "-c", "512", plan={"hang_after": 0}) as it:
        for _ in range(2):
            with pytest.raises(httpx.ReadTimeout):
                it.client.post("/completion", json=FREE, timeout=0.3)
        counts = metrics(it.ask("/metrics"))
    assert (counts["llamacpp:requests_processing"], counts["llamacpp:requests_deferred"]) == (1, 1)


def test_flood_log(tmp_path: Path) -> None:
    """Each generation writes at least the asked number of bytes to the log."""
    with running(tmp_path, plan={"flood_log": 100_000}) as it:
        before = it.log.stat().st_size
        it.chat()
        assert it.log.stat().st_size - before >= 100_000


def test_the_plan_may_overrule_the_flags(tmp_path: Path) -> None:
    """A plan, here in a file, makes a server of another name or a smaller context than was asked for."""
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"flags": {"alias": "another", "ctx-size": 256, "parallel": 1}}))
    with running(tmp_path, "-c", "4096", plan=plan) as it:
        assert it.ask("/v1/models").json()["data"][0]["id"] == "another"
        assert it.ask("/props").json()["default_generation_settings"]["n_ctx"] == 256
