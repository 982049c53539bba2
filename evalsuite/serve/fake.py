"""A stand-in for llama-server: the same flags, routes, replies and log lines, a toy model, and faults on request.

    python -m evalsuite.serve.fake -m FILE --host /tmp/s.sock -np 4 -c 4096 --metrics

`install_fake` writes a program named llama-server that runs it: a folder with the fake passes for a llama.cpp build.

The model file may hold anything, but a missing file, or one that begins with `BAD`, fails to load. Whatever the model
says is a function of the file's bytes and the token ids before; only the wording of the template is fixed (ChatML), and
`--chat-template-file` changes what `/props` reports, not what is rendered. Of grammars it knows token ids:
`root ::= <[5]> <[7]> | <[9]>`. Streaming, several choices and tool calls are left out.

The environment variable EVALSUITE_FAKE_PLAN holds a plan of faults: JSON, or the path of a JSON file. Its keys:

* `start_delay_s`: how long every route answers 503 before the model is loaded.
* `delay_s`: how long each generation takes, spread over its tokens.
* `token_s`, `prompt_token_s`: how long each written token, and each token of a prompt, takes.
* `flags`: `{"alias": …, "parallel": …, "ctx-size": …}` replace what the command line says.
* `n_ctx_train`: the training context, which caps a slot's context (32768).
* `flood_log`: bytes written to the log at each generation.
* `crash_after`: n generations are answered, the next one kills the process (SIGKILL).
* `hang_after`: n generations are answered; from then on none is, no token is decoded and SIGTERM does nothing.
* `state`: a file where the counts behind `crash_after`, `hang_after` and `times` survive the process: with it a crash
  happens once, without it once in each process.
* `replies`: a list of `{"match": TEXT, "times": K, "reply": R}`. The first entry whose text occurs in the path or the
  body of a request, and which has not been used K times (null or absent: always), decides the reply:
  `500`, `500_context`, `500_tool_parse`, `500_compute`, `503`, `400`, `400_overflow`, `401` (llama-server's errors),
  `429`, `502` (those of a gateway before it),
  `html` (a page, 200), `broken_json` (half of it), `empty_body`, `no_choices` (nor content, prompt, tokens),
  `null_content`, `nan` (null for every probability, as llama-server writes a NaN),
  `truncated_body` (the connection closes in the middle), `close` (no reply), `crash` (SIGKILL, as by the system),
  `hang` (until the client leaves),
  `drip` (a byte of the reply every 50 ms), `length` (cut off by the token limit),
  `reasoning` (a `<think>` block first), or `{"constant": TEXT}`; null is an undisturbed reply.

Formats: llama.cpp's tools/server, as its builds of 2026 answer.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import shlex
import signal
import socket
import struct
import sys
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

VERSION = "fake-1"

Json = dict[str, Any]


def install_fake(folder: Path, plan: Mapping[str, Any] | None = None) -> Path:
    """Write an executable `llama-server` into `folder` that runs the fake with this plan; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    script, plan_file = folder / "llama-server", folder / "plan.json"
    plan_file.write_text(json.dumps(plan or {}), encoding="utf-8")
    script.write_text(
        f"#!/bin/sh\nEVALSUITE_FAKE_PLAN={shlex.quote(str(plan_file.absolute()))} "
        f'exec {shlex.quote(sys.executable)} -m evalsuite.serve.fake "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    return folder


# --- the toy model ---------------------------------------------------------------------------------------------------

_SPECIAL = (b"<|endoftext|>", b"<|im_start|>", b"<|im_end|>")
_WORDS = re.findall(
    rb" \w+",
    b" the of and to in is that for it as was with be by on not he his but at are this have from or had an they"
    b" which one you were all her she there would their we him been has when who will no more if out so up said"
    b" what its about than into them can only other time new some could these two may first then do any like my"
    b" now over such our man me even most made after also did many off before must well back through years where"
    b" much your way down should because long each just state people those too mr how little good world make"
    b" very still see work life",
)
_VOCABULARY = (
    *_SPECIAL,
    *(bytes([byte]) for byte in range(256)),
    *(f" {character}".encode() for character in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"),
    *_WORDS,
)
_IDS = {piece: token for token, piece in enumerate(_VOCABULARY)}
_FIRST_WORD = len(_SPECIAL) + 256
_EOS = 2


def _pattern(pieces: Sequence[bytes]) -> re.Pattern[bytes]:
    longest_first = sorted(pieces, key=len, reverse=True)
    return re.compile(b"|".join(map(re.escape, longest_first)), re.DOTALL)


_PLAIN_PIECE = _pattern(_VOCABULARY[len(_SPECIAL) :])
_ANY_PIECE = _pattern(_VOCABULARY)


def tokenize(text: str, *, parse_special: bool = True) -> list[int]:
    """Return the token ids of a text: the longest piece first, single bytes where nothing else fits."""
    pattern = _ANY_PIECE if parse_special else _PLAIN_PIECE
    return [_IDS[piece] for piece in pattern.findall(text.encode(errors="surrogatepass"))]


def detokenize(tokens: Sequence[int]) -> str:
    """Return the text of token ids, with a replacement character for bytes that are not UTF-8."""
    return b"".join(_VOCABULARY[token] for token in tokens).decode(errors="replace")


def _logits(model_key: bytes, context: Sequence[int]) -> list[float]:
    """Return the logit of every token: words in [0, 10], single bytes 8 lower, and now and then the end."""
    size = len(_VOCABULARY)
    digest = hashlib.shake_256(model_key + array("I", context).tobytes()).digest(2 * size + 1)
    logits = [value / 6553.5 for value in struct.unpack(f"<{size}H", digest[:-1])]
    for token in range(_FIRST_WORD):
        logits[token] -= 8.0
    if digest[-1] < 16:
        logits[_EOS] = 12.0
    return logits


def _log_softmax(logits: Mapping[int, float]) -> dict[int, float]:
    highest = max(logits.values())
    total = highest + math.log(math.fsum(math.exp(logit - highest) for logit in logits.values()))
    return {token: logit - total for token, logit in logits.items()}


# --- sampling --------------------------------------------------------------------------------------------------------

_SETTINGS: Json = {
    "seed": 4294967295, "temperature": 0.8, "dynatemp_range": 0.0, "dynatemp_exponent": 1.0, "top_k": 40, "top_p": 0.95,
    "min_p": 0.05, "top_n_sigma": -1.0, "xtc_probability": 0.0, "xtc_threshold": 0.1, "typical_p": 1.0,
    "repeat_last_n": 64, "repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
    "dry_multiplier": 0.0, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": 64,
    "mirostat": 0, "mirostat_tau": 5.0, "mirostat_eta": 0.1, "adaptive_target": -1.0, "adaptive_decay": 0.9,
    "max_tokens": -1, "n_predict": -1, "n_keep": 0, "n_discard": 0, "ignore_eos": False, "stream": False, "n_probs": 0,
    "min_keep": 0, "chat_format": "Content-only", "reasoning_format": "none", "reasoning_in_content": False,
    "generation_prompt": "",
    "samplers": ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"],
    "speculative.types": "none", "timings_per_token": False, "post_sampling_probs": False, "backend_sampling": False,
    "lora": [],
}  # fmt: skip
_REQUEST_SETTINGS: Json = {
    "stop": [], "grammar": "", "grammar_lazy": False, "grammar_triggers": [], "preserved_tokens": [],
    "dry_sequence_breakers": ["\n", ":", '"', "*"],
}  # fmt: skip


class _Refused(Exception):  # noqa: N818 - a reply of the server, not an error of ours
    """An error reply of llama-server."""

    def __init__(self, code: int, kind: str, message: str, **more: int) -> None:
        super().__init__(message)
        self.code = code
        self.body = {"error": {"code": code, "message": message, "type": kind, **more}}


def _overflow(n_prompt: int, n_ctx: int) -> _Refused:
    message = f"request ({n_prompt} tokens) exceeds the available context size ({n_ctx} tokens), try increasing it"
    return _Refused(400, "exceed_context_size_error", message, n_prompt_tokens=n_prompt, n_ctx=n_ctx)


def _single(value: Any) -> Any:
    """Round a float to single precision, as the server's settings are."""
    return struct.unpack("f", struct.pack("f", value))[0] if isinstance(value, float) else value


def _settings(body: Json) -> Json:
    """Return the settings in force for a request, in the form that the reply repeats them."""
    settings = {**_SETTINGS, **_REQUEST_SETTINGS}
    for name, default in settings.items():
        value = body.get(name)
        if value is None:
            continue
        if isinstance(default, int | float) and not isinstance(value, int | float):
            kind = "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"
            raise _Refused(
                400, "invalid_request_error",
                f"Field '{name}': [json.exception.type_error.302] type must be number, but is {kind}",
            )  # fmt: skip
        settings[name] = float(value) if type(default) is float else value
    limits = [body[name] for name in ("n_predict", "max_completion_tokens", "max_tokens") if body.get(name) is not None]
    settings["n_predict"] = settings["max_tokens"] = limits[0] if limits else -1
    settings["stop"] = [settings["stop"]] if isinstance(settings["stop"], str) else settings["stop"]
    settings["logit_bias"] = [{"bias": bias, "token": token} for token, bias in _biases(body.get("logit_bias") or [])]
    return {name: _single(value) for name, value in settings.items()}


def _biases(given: Json | list[Any]) -> list[tuple[int, float | None]]:
    """Return (token, bias) pairs; None bans the token."""
    pairs = list(given.items()) if isinstance(given, dict) else given
    return [
        (token, None if bias is False else float(bias))
        for word, bias in pairs
        if bias is not True
        for token in ([int(word)] if str(word).isdigit() else tokenize(str(word)))
        if token < len(_VOCABULARY)
    ]


def _parse_grammar(text: str) -> list[list[int]]:
    """Return the sequences of token ids that a grammar allows; none for no grammar."""
    if not text.strip():
        return []
    match = re.fullmatch(r"\s*root\s*::=((?:\s*<\[\d+\]>|\s*\|)+)\s*", text)
    if match is None:
        raise _Refused(400, "invalid_request_error", "Failed to initialize samplers: failed to parse grammar")
    return [[int(token) for token in re.findall(r"\d+", branch)] for branch in match[1].split("|")]


def _allowed(grammar: Sequence[Sequence[int]], generated: Sequence[int]) -> set[int]:
    done = len(generated)
    open_branches = [branch for branch in grammar if list(branch[:done]) == list(generated)]
    following = {branch[done] for branch in open_branches if len(branch) > done and _expressible(branch[done])}
    return following | ({_EOS} if any(len(branch) == done for branch in open_branches) else set())


def _expressible(token: int) -> bool:
    """Say whether a grammar may name a token: the end, and pieces that are not UTF-8 by themselves, it may not."""
    with contextlib.suppress(UnicodeDecodeError):
        return token < len(_VOCABULARY) and token != _EOS and bool(_VOCABULARY[token].decode())
    return False


def _candidates(logits: Mapping[int, float], settings: Json) -> dict[int, float]:
    """Return what the samplers leave over: token → probability, the likeliest first."""
    used = settings["samplers"]
    kept = dict(sorted(logits.items(), key=lambda item: -item[1]))
    if "temperature" in used and settings["temperature"] <= 0:
        return {next(iter(kept)): 1.0}
    if "top_k" in used and settings["top_k"] > 0:
        kept = dict(list(kept.items())[: settings["top_k"]])
    probabilities = {token: math.exp(logprob) for token, logprob in _log_softmax(kept).items()}
    if "top_p" in used and settings["top_p"] < 1:
        before = 0.0
        for token, probability in probabilities.items():
            if before >= settings["top_p"]:
                del kept[token]
            before += probability
    if "min_p" in used:
        floor = settings["min_p"] * max(probabilities.values())
        kept = {token: logit for token, logit in kept.items() if probabilities[token] >= floor}
    if "temperature" in used:
        kept = {token: logit / settings["temperature"] for token, logit in kept.items()}
    return {token: math.exp(logprob) for token, logprob in _log_softmax(kept).items()}


def _draw(candidates: Mapping[int, float], settings: Json, context: Sequence[int]) -> int:
    key = f"{settings['seed']}".encode() + array("I", context).tobytes()
    left = int.from_bytes(hashlib.sha256(key).digest()[:8]) / 2**64
    for token, probability in candidates.items():
        left -= probability
        if left < 0:
            return token
    return next(iter(candidates))


def _sample(
    logits: Sequence[float], settings: Json, allowed: set[int] | None, context: Sequence[int]
) -> tuple[int, dict[int, float]]:
    """Return a token and what it was drawn from: freely first, under the grammar only if that forbids the token."""
    scores = dict(enumerate(logits))
    for bias in settings["logit_bias"]:
        if bias["bias"] is None:
            scores.pop(bias["token"], None)
        elif bias["token"] in scores:
            scores[bias["token"]] += bias["bias"]
    if settings["ignore_eos"]:
        scores.pop(_EOS, None)
    candidates = _candidates(scores, settings)
    token = _draw(candidates, settings, context)
    if allowed is not None and token not in allowed:
        scores = {token: score for token, score in scores.items() if token in allowed}
        if not scores:
            piece = f"{detokenize([token])} ({token})"
            message = f"got exception: Unexpected empty grammar stack after accepting piece: {piece}"
            raise _Refused(500, "server_error", message)
        candidates = _candidates(scores, settings)
        token = _draw(candidates, settings, context)
    return token, candidates


def _probabilities(token: int, candidates: Mapping[int, float], logits: Sequence[float], settings: Json) -> Json:
    """Return one entry of `completion_probabilities`: the raw softmax, or what the samplers left over."""

    def entry(ranked_token: int, name: str, value: float) -> Json:
        piece = b"" if ranked_token < len(_SPECIAL) else _VOCABULARY[ranked_token]
        return {"id": ranked_token, "token": piece.decode(errors="replace"), "bytes": list(piece), name: value}

    after = settings["post_sampling_probs"]
    values = candidates if after else _log_softmax(dict(enumerate(logits)))
    ranked = sorted(values.items(), key=lambda item: -item[1])[: int(settings["n_probs"])]
    name, tops = ("prob", "top_probs") if after else ("logprob", "top_logprobs")
    return entry(token, name, values[token]) | {tops: [entry(other, name, value) for other, value in ranked]}


@dataclass
class _Generation:
    prompt: list[int]
    settings: Json
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    probabilities: list[Json] = field(default_factory=list)
    stop_type: str = "none"
    stopping_word: str = ""
    truncated: bool = False
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


def _generate(model_key: bytes, prompt: list[int], settings: Json, n_ctx: int) -> _Generation:
    """Write tokens until the end, a stop string, the limit or the end of the context."""
    if len(prompt) >= n_ctx:
        raise _overflow(len(prompt), n_ctx)
    grammar = _parse_grammar(settings["grammar"])
    made = _Generation(prompt, settings)
    limit = max(1, settings["n_predict"]) if settings["n_predict"] >= 0 else n_ctx
    while prompt and made.stop_type == "none":
        context = prompt + made.tokens
        logits = _logits(model_key, context)
        allowed = _allowed(grammar, made.tokens) if grammar else None
        token, candidates = _sample(logits, settings, allowed, context)
        made.tokens.append(token)
        if settings["n_probs"] > 0:
            made.probabilities.append(_probabilities(token, candidates, logits, settings))
        made.text = detokenize([made_token for made_token in made.tokens if made_token >= len(_SPECIAL)])
        made.truncated = len(context) + 1 >= n_ctx and len(made.tokens) < limit
        stops = [stop for stop in settings["stop"] if stop and stop in made.text]
        if token == _EOS:
            made.stop_type = "eos"
        elif stops:
            made.stopping_word = min(stops, key=made.text.index)
            made.text = made.text[: made.text.index(made.stopping_word)]
            made.stop_type = "word"
        elif len(made.tokens) >= limit or made.truncated:
            made.stop_type = "limit"
    return made


# --- the replies -----------------------------------------------------------------------------------------------------

_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _render(body: Json) -> str:
    if "messages" not in body:
        raise _Refused(400, "invalid_request_error", "'messages' is required")
    turns = [("tools", json.dumps(body["tools"], sort_keys=True))] if body.get("tools") else []
    for message in body["messages"]:
        content = message.get("content") or ""
        text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        calls = json.dumps(message["tool_calls"], sort_keys=True) if message.get("tool_calls") else ""
        turns.append((message["role"], text + calls))
    rendered = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)
    return rendered + ("<|im_start|>assistant\n" if body.get("add_generation_prompt", True) else "")


def _prompt_tokens(prompt: Any) -> list[int]:
    if isinstance(prompt, str):
        return tokenize(prompt)
    return [token for part in prompt for token in (tokenize(part) if isinstance(part, str) else [part])]


def _timings(made: _Generation) -> Json:
    def side(name: str, count: int, spent_ms: float) -> Json:
        spent_ms = max(0.001, spent_ms)
        each = {"per_token_ms": spent_ms / max(1, count), "per_second": 1000 * count / spent_ms}
        return {f"{name}_n": count, f"{name}_ms": spent_ms} | {f"{name}_{key}": each[key] for key in each}

    return {
        "cache_n": 0, **side("prompt", len(made.prompt), made.prompt_ms),
        **side("predicted", len(made.tokens), made.predicted_ms),
    }  # fmt: skip


def _completion(made: _Generation, body: Json, alias: str) -> Json:
    return {
        "index": 0, "content": made.text, "tokens": made.tokens if body.get("return_tokens") else [], "id_slot": 0,
        "stop": True, "model": alias, "tokens_predicted": len(made.tokens), "tokens_evaluated": len(made.prompt),
        "generation_settings": made.settings, "prompt": detokenize(made.prompt), "has_new_line": "\n" in made.text,
        "truncated": made.truncated, "stop_type": made.stop_type, "stopping_word": made.stopping_word,
        "tokens_cached": max(0, len(made.prompt) + len(made.tokens) - 1), "timings": _timings(made),
    } | ({"completion_probabilities": made.probabilities} if made.probabilities else {})  # fmt: skip


def _chat_completion(made: _Generation, body: Json, alias: str) -> Json:
    n_prompt, n_made = len(made.prompt), len(made.tokens)
    message = {"role": "assistant", "content": made.text}
    finish = "length" if made.stop_type == "limit" else "stop"
    request = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    reply = {
        "choices": [{"finish_reason": finish, "index": 0, "message": message}],
        "created": int(time.time()), "model": alias, "system_fingerprint": VERSION, "object": "chat.completion",
        "usage": {
            "completion_tokens": n_made, "prompt_tokens": n_prompt, "total_tokens": n_prompt + n_made,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
        "id": f"chatcmpl-{request[:32]}", "timings": _timings(made),
    }  # fmt: skip
    return {**reply, "__verbose": _completion(made, body, alias)} if body.get("verbose") else reply


def _pieces(tokens: Sequence[int]) -> list[Json]:
    def shown(piece: bytes) -> str | list[int]:
        with contextlib.suppress(UnicodeDecodeError):
            return piece.decode()
        return list(piece)

    return [{"id": token, "piece": shown(_VOCABULARY[token])} for token in tokens]


_ERRORS: Mapping[str, Callable[[int], _Refused]] = {
    "500": lambda _: _Refused(500, "server_error", "a fault of the plan"),
    "500_context": lambda _: _Refused(500, "server_error", "Context size has been exceeded."),
    "500_tool_parse": lambda _: _Refused(
        500, "server_error", "The model produced output that does not match the expected peg-native format"
    ),
    "500_compute": lambda _: _Refused(500, "server_error", "Compute error."),
    "503": lambda _: _Refused(503, "unavailable_error", "Loading model"),
    "429": lambda _: _Refused(429, "gateway", "Too Many Requests"),
    "502": lambda _: _Refused(502, "gateway", "Bad Gateway"),
    "400": lambda _: _Refused(400, "invalid_request_error", "a fault of the plan"),
    "400_overflow": lambda n_ctx: _overflow(n_ctx + 1, n_ctx),
    "401": lambda _: _Refused(401, "authentication_error", "Invalid API Key"),
}


# --- the plan of faults ----------------------------------------------------------------------------------------------


class _Faults:
    """The plan and its counts; with a `state` file the counts outlive the process."""

    def __init__(self, plan: Json) -> None:
        self.plan = plan
        self._lock = threading.Lock()
        self._state = Path(plan["state"]) if "state" in plan else None
        self._counts: dict[str, int] = {}
        if self._state and self._state.exists():
            self._counts = json.loads(self._state.read_text(encoding="utf-8"))

    def count(self, name: str) -> int:
        """Count one more of `name` and return how many there have been."""
        with self._lock:
            return self._add(name)

    def reply(self, path: str, body: str) -> Any:
        """Return the reply that the plan has for a request, or None."""
        with self._lock:
            for index, entry in enumerate(self.plan.get("replies", [])):
                left = entry.get("times") is None or self._counts.get(f"reply {index}", 0) < entry["times"]
                if left and (entry["match"] in path or entry["match"] in body):
                    self._add(f"reply {index}")
                    return entry["reply"]
        return None

    def _add(self, name: str) -> int:
        self._counts[name] = self._counts.get(name, 0) + 1
        if self._state:
            scratch = self._state.with_suffix(".tmp")
            scratch.write_text(json.dumps(self._counts), encoding="utf-8")
            scratch.replace(self._state)
        return self._counts[name]


def _read_plan(given: str) -> Json:
    text = given if given.lstrip().startswith("{") else Path(given).read_text(encoding="utf-8")
    plan: Json = json.loads(text)
    return plan


# --- the server ------------------------------------------------------------------------------------------------------

_FLAGS = {
    "-m": "model", "--model": "model", "--host": "host", "--port": "port", "-a": "alias", "--alias": "alias",
    "-np": "parallel", "--parallel": "parallel", "-c": "ctx-size", "--ctx-size": "ctx-size",
    "--chat-template-file": "template", "--threads-http": "threads-http",
}  # fmt: skip


class _Fake:
    """What one process knows: its settings, its toy model and its counters."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        self.started = time.monotonic()
        self.faults = _Faults(_read_plan(environ.get("EVALSUITE_FAKE_PLAN", "{}")))
        plan = self.faults.plan
        given: Json = {_FLAGS[word]: value for word, value in zip(argv, [*argv[1:], ""], strict=True) if word in _FLAGS}
        given |= plan.get("flags", {})
        self.model = str(given.get("model", ""))
        self.host, self.port = str(given.get("host", "127.0.0.1")), int(given.get("port", 8080))
        self.alias = str(given.get("alias", self.model))
        self.parallel = int(given.get("parallel", 4))
        self.n_ctx_train = int(plan.get("n_ctx_train", 32768))
        total = int(given.get("ctx-size", self.n_ctx_train))
        self.n_ctx = min(-(-total // (256 * self.parallel)) * 256, self.n_ctx_train)
        template = given.get("template")
        self.template = Path(template).read_text(encoding="utf-8") if template else _TEMPLATE
        self.has_metrics = "--metrics" in argv
        self.key = environ.get("LLAMA_API_KEY", "")
        self.model_key = b""
        self.ready = False
        self.wedged = False
        self.slots = threading.BoundedSemaphore(self.parallel)
        threads = given.get("threads-http") or max(self.parallel + 4, (os.cpu_count() or 1) - 1)
        self.threads = threading.BoundedSemaphore(int(threads))
        self.counters = Counter[str]()
        self._lock = threading.Lock()

    def count(self, name: str, by: int = 1) -> None:
        with self._lock:
            self.counters[name] += by

    def log(self, line: str) -> None:
        seconds = time.monotonic() - self.started
        sys.stderr.write(f"0.{int(seconds):02d}.{int(seconds % 1 * 1000):03d}.000 {line}\n")
        sys.stderr.flush()

    def load(self) -> bool:
        """Read the model file; a missing or bad one is logged as llama-server logs it."""
        self.log(f"I srv    load_model: loading model '{self.model}'")
        try:
            with Path(self.model).open("rb") as file:
                if file.read(3) != b"BAD":
                    file.seek(0)
                    self.model_key = hashlib.file_digest(file, "sha256").digest()
                    return True
                self.log("E gguf_init_from_reader: invalid magic characters: 'BAD', expected 'GGUF'")
        except OSError as error:
            self.log(f"E gguf_init_from_file: failed to open GGUF file '{self.model}' ({error.strerror})")
        self.log(f"E srv    load_model: failed to load model, '{self.model}'")
        self.log("E srv  llama_server: exiting due to model loading error")
        return False

    def answer(self, method: str, path: str, text: str) -> Json | str:
        """Return what a route replies, or raise the refusal."""
        if method == "GET" and path in _GETS:
            return _GETS[path](self)
        if method == "POST" and path in _POSTS:
            try:
                body = json.loads(text)
            except ValueError as error:
                message = f"[json.exception.parse_error.101] parse error: {error}"
                raise _Refused(500, "server_error", message) from None
            return _POSTS[path](self, body)
        raise _Refused(404, "not_found_error", "File Not Found")

    def completion(self, body: Json) -> Json:
        if "prompt" not in body:
            message = "[json.exception.out_of_range.403] key 'prompt' not found"
            raise _Refused(400, "invalid_request_error", message)
        return _completion(self._ask(_prompt_tokens(body["prompt"]), body), body, self.alias)

    def chat_completion(self, body: Json) -> Json:
        prompt = tokenize(_render(body))
        return _chat_completion(self._ask(prompt, body), body, self.alias)

    def _ask(self, prompt: list[int], body: Json) -> _Generation:
        made = _generate(self.model_key, prompt, _settings(body), self.n_ctx)
        plan, size = self.faults.plan, len(made.tokens)
        reading = plan.get("prompt_token_s", 0) * len(prompt)
        pause = plan.get("token_s", 0) + plan.get("delay_s", 0) / max(1, size)
        # As llama-server has it, the clock of writing starts with the first token, which belongs to the prompt.
        made.prompt_ms, made.predicted_ms = 1000 * (reading + pause), 1000 * pause * (size - 1)
        self.count("prompt_tokens_total", len(prompt))
        time.sleep(reading)
        for _ in made.tokens:
            time.sleep(pause)
            self.count("n_decode_total")
            self.count("tokens_predicted_total")
        return made

    def props(self) -> Json:
        return {
            "default_generation_settings": {
                "params": {name: _single(value) for name, value in _SETTINGS.items()}, "n_ctx": self.n_ctx,
            },
            "total_slots": self.parallel, "model_alias": self.alias, "model_ftype": "all F32",
            "model_path": self.model, "modalities": {"vision": False, "video": False, "audio": False},
            "media_marker": "<__media__>", "endpoint_slots": True, "endpoint_props": False,
            "endpoint_metrics": self.has_metrics, "ui": False, "ui_settings": {}, "chat_template": self.template,
            "chat_template_caps": {
                "supports_object_arguments": False, "supports_parallel_tool_calls": False,
                "supports_preserve_reasoning": False, "supports_reasoning_effort": False,
                "supports_string_content": True, "supports_system_role": True, "supports_tool_calls": False,
                "supports_tools": False, "supports_typed_content": False,
            },
            "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "build_info": VERSION, "is_sleeping": False,
            "cors_proxy_enabled": False,
        }  # fmt: skip

    def models(self) -> Json:
        meta = {
            "vocab_type": 2, "n_vocab": len(_VOCABULARY), "n_ctx": self.n_ctx, "n_ctx_train": self.n_ctx_train,
            "n_embd": 1, "n_params": 1, "size": 1, "ftype": "all F32",
        }  # fmt: skip
        model = {
            "id": self.alias, "aliases": [self.alias], "tags": [], "object": "model", "created": int(time.time()),
            "owned_by": "llamacpp", "meta": meta,
        }  # fmt: skip
        return {"models": [{"name": self.alias, "model": self.alias}], "object": "list", "data": [model]}

    def metrics(self) -> str:
        if not self.has_metrics:
            message = "This server does not support metrics endpoint. Start it with `--metrics`"
            raise _Refused(501, "not_supported_error", message)
        names = (
            "prompt_tokens_total", "tokens_predicted_total", "n_decode_total",
            "requests_processing", "requests_deferred",
        )  # fmt: skip
        values = {name: self.counters[name] for name in names}
        values["n_busy_slots_per_decode"] = int(self.counters["n_decode_total"] > 0)
        return "".join(
            f"# HELP llamacpp:{name} {name.replace('_', ' ')}\n"
            f"# TYPE llamacpp:{name} {'counter' if name.endswith('_total') else 'gauge'}\nllamacpp:{name} {value}\n"
            for name, value in values.items()
        )


def _tokenize_route(_: _Fake, body: Json) -> Json:
    tokens = tokenize(body.get("content", ""), parse_special=body.get("parse_special", True))
    return {"tokens": _pieces(tokens) if body.get("with_pieces") else tokens}


_GETS: Mapping[str, Callable[[_Fake], Json | str]] = {
    "/health": lambda _: {"status": "ok"},
    "/v1/health": lambda _: {"status": "ok"},
    "/v1/models": _Fake.models,
    "/models": _Fake.models,
    "/props": _Fake.props,
    "/metrics": _Fake.metrics,
}
_POSTS: Mapping[str, Callable[[_Fake, Json], Json]] = {
    "/tokenize": _tokenize_route,
    "/detokenize": lambda _, body: {"content": detokenize(body.get("tokens", []))},
    "/apply-template": lambda _, body: {"prompt": _render(body)},
    "/completion": _Fake.completion,
    "/completions": _Fake.completion,
    "/chat/completions": _Fake.chat_completion,
    "/v1/chat/completions": _Fake.chat_completion,
}
_GENERATES = {"/completion", "/completions", "/chat/completions", "/v1/chat/completions"}


class _Handler(BaseHTTPRequestHandler):
    """One connection: keys, faults, and the bytes of the replies."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet, or every reply waits for an acknowledgement
    fake: _Fake  # set in the class that `main` makes

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def address_string(self) -> str:
        return "client"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Say nothing: llama-server does not log requests at this level."""

    def _serve(self, method: str) -> None:
        fake = self.fake
        path = self.path.partition("?")[0]
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        try:
            if not fake.ready:
                raise _ERRORS["503"](fake.n_ctx)
            if path not in {"/health", "/v1/health"} and not self._has_key():
                raise _ERRORS["401"](fake.n_ctx)
            if method == "POST" and path in _GENERATES:
                self._in_a_slot(path, text)
            else:
                self._reply(method, path, text)
        except _Refused as refused:
            self._send(refused.code, json.dumps(refused.body).encode())

    def _has_key(self) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ") or self.headers.get("X-Api-Key", "")
        return not self.fake.key or given == self.fake.key

    def _in_a_slot(self, path: str, text: str) -> None:
        fake = self.fake
        fake.count("requests_deferred")
        with fake.slots:
            fake.count("requests_deferred", -1)
            fake.count("requests_processing")
            try:
                self._generation_faults()
                self._reply("POST", path, text)
            finally:
                fake.count("requests_processing", -1)

    def _generation_faults(self) -> None:
        fake, plan = self.fake, self.fake.faults.plan
        asked = fake.faults.count("generations")
        for _ in range(plan.get("flood_log", 0) // 100):
            fake.log("W srv  llama_server: " + "x" * 65)
        if "crash_after" in plan and asked == plan["crash_after"] + 1:
            os.kill(os.getpid(), signal.SIGKILL)
        fake.wedged |= "hang_after" in plan and asked == plan["hang_after"] + 1
        if fake.wedged:
            threading.Event().wait()

    def _reply(self, method: str, path: str, text: str) -> None:
        fault = self.fake.faults.reply(path, text)
        if isinstance(fault, str) and fault in _ERRORS:
            raise _ERRORS[fault](self.fake.n_ctx)
        if fault == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            self._wait_for_client_to_leave()
            return
        answer = self.fake.answer(method, path, text)
        if isinstance(answer, str):
            self._send(200, answer.encode(), "text/plain; version=0.0.4")
            return
        data = json.dumps(_altered(answer, fault)).encode()
        match fault:
            case "html":
                self._send(200, b"<!doctype html><title>Bad gateway</title>", "text/html")
            case "broken_json":
                self._send(200, data[: len(data) // 2])
            case "empty_body":
                self._send(200, b"")
            case "close":
                self.close_connection = True
            case "truncated_body":
                self._send(200, data, cut=len(data) // 2)
            case "drip":
                self._send(200, data, drip_s=0.05)
            case _:
                self._send(200, data)

    def _wait_for_client_to_leave(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            while self.connection.recv(1, socket.MSG_PEEK):
                time.sleep(0.05)

    def _send(
        self, status: int, data: bytes, kind: str = "application/json; charset=utf-8", *,
        cut: int | None = None, drip_s: float = 0,
    ) -> None:  # fmt: skip
        with contextlib.suppress(OSError):  # a client that has left is none of the server's business
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if drip_s:
                for byte in data:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(drip_s)
            else:
                self.wfile.write(data[:cut])
        if cut is not None:
            self.close_connection = True


def _altered(answer: Json, fault: Any) -> Json:
    """Return an answer with a fault of content in it."""
    match fault:
        case "no_choices":
            return {key: answer[key] for key in answer.keys() - {"choices", "content", "prompt", "tokens"}}
        case "nan":
            return {key: _without_numbers(value) for key, value in answer.items()}
        case "null_content":
            return _with_content(answer, lambda _: None)
        case "reasoning":
            return _with_content(answer, lambda text: f"<think>\nLet me see.\n</think>\n\n{text}")
        case {"constant": text}:
            return _with_content(answer, lambda _: text)
        case "length":
            choices = [{**choice, "finish_reason": "length"} for choice in answer.get("choices", [])]
            return {**answer, **({"choices": choices} if choices else {"stop_type": "limit"})}
    return answer


def _without_numbers(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {key: None if key in {"logprob", "prob"} else _without_numbers(answer[key]) for key in answer}
    return [_without_numbers(item) for item in answer] if isinstance(answer, list) else answer


def _with_content(answer: Json, change: Callable[[str], str | None]) -> Json:
    if "choices" not in answer:
        return {**answer, "content": change(answer.get("content", "")), "stop_type": "eos"}
    [choice] = answer["choices"]
    message = {**choice["message"], "content": change(choice["message"]["content"])}
    return {**answer, "choices": [{**choice, "finish_reason": "stop", "message": message}]}


class _Server(ThreadingHTTPServer):
    """A TCP server, or one on a unix socket."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, fake: _Fake) -> None:
        self.is_unix = fake.host.endswith(".sock")
        self.address_family = socket.AF_UNIX if self.is_unix else socket.AF_INET
        handler = type("_FakeHandler", (_Handler,), {"fake": fake})
        self.fake = fake
        address: Any = fake.host if self.is_unix else (fake.host, fake.port)
        super().__init__(address, handler)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, which keeps one of the HTTP threads as long as it is open, as llama-server's do."""
        if not self.fake.threads.acquire(timeout=1):
            self.fake.log("W fake: a connection waits, since others keep every HTTP thread")
            self.fake.threads.acquire()
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.fake.threads.release()

    def handle_error(self, _request: Any, _client: Any) -> None:
        """Say nothing of clients that leave in the middle; anything else is a bug."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(_request, _client)

    def server_bind(self) -> None:
        """Bind without the base class's look-up of the host's name; also where one that was killed has just listened."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)

    @property
    def url(self) -> str:
        name = self.socket.getsockname()
        return f"unix://{name}" if self.is_unix else f"http://{name[0]}:{name[1]}"


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM: exit 0, or 1 for anything that went wrong, as llama-server does."""
    if "--version" in argv:
        sys.stderr.write(f"version: {VERSION}\n")
        return 0
    fake = _Fake(argv, os.environ)
    fake.log("I srv  llama_server: initializing ...")
    try:
        server = _Server(fake)
    except OSError:
        fake.log(f"E srv         start: couldn't bind HTTP server socket, hostname: {fake.host}, port: {fake.port}")
        fake.log("E srv  llama_server: exiting due to HTTP server error")
        return 1
    stop = threading.Event()
    _stop_on_signals(fake, stop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if not fake.load():
        return 1
    if stop.wait(fake.faults.plan.get("start_delay_s", 0)):
        return 0
    fake.ready = True
    fake.log("I srv  llama_server: model loaded")
    fake.log(f"I srv  llama_server: listening on {server.url}")
    stop.wait()
    fake.log("I srv    operator(): operator(): cleaning up before exit...")
    while fake.counters["requests_processing"]:  # llama-server, too, waits for requests in flight
        time.sleep(0.02)
    return 0


def _stop_on_signals(fake: _Fake, stop: threading.Event) -> None:
    """Let the first signal ask the server to end and the second end it at once; a wedged server heeds neither."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if fake.wedged:
            return
        if stop.is_set():
            os._exit(1)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
