"""Asking a server: chat through `openai`, llama-server's own routes through `httpx`, both on one pool of connections.

The SDK's retries are off: what is retried is decided by `serve.outcomes` alone, and each attempt is stored.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Self, cast

import aiohttp
import httpx
import openai
import orjson
from httpx_aiohttp import AiohttpTransport

from evalsuite.errors import EvalsuiteError, ServerError
from evalsuite.identity import canonical_json, text_sha256
from evalsuite.records import Choose, Generate, Loglikelihood, Outcome, Output, Prompt, Request, Sampling
from evalsuite.serve import forcing
from evalsuite.serve.launch import SPARE
from evalsuite.serve.outcomes import Action, Verdict, finish, judge, split_reasoning
from evalsuite.serve.process import Address
from evalsuite.serve.streaming import joined

_OFF = {
    "dynatemp_range": 0.0, "dynatemp_exponent": 1.0, "xtc_probability": 0.0, "xtc_threshold": 0.1,
    "dry_multiplier": 0.0, "mirostat": 0, "top_n_sigma": -1.0, "repeat_last_n": 64, "ignore_eos": False,
}  # fmt: skip
"""Samplers that evalsuite does not offer: sent all the same, since a model file may carry defaults for them."""

_CANARY = "The capital of France is Paris, and the capital of Japan is Tokyo."

_HEADERS = {
    "accept", "accept-encoding", "connection", "content-type", "content-length", "host", "user-agent",
    "x-stainless-raw-response",  # the SDK's note to itself
}  # fmt: skip
"""What a request carries besides our key: the SDK adds whatever OPENAI_* says, and that is meant for others."""

_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, asyncio.CancelledError, RuntimeError)
"""Causes of a request that no server has seen; the last two are a pool that was closed while it waited, or before."""


class ServerGoneError(EvalsuiteError):
    """The connection was refused, reset or closed before the end of a reply.

    `at_work` is True when the server was working on this very completion, which may then be what killed it.
    """

    def __init__(self, message: str, *, at_work: bool = False) -> None:
        super().__init__(message)
        self.at_work = at_work


class DeadlineError(EvalsuiteError):
    """No reply within the deadline of a request."""


class RefusedError(EvalsuiteError):
    """A reply that is no answer; `verdict` says what to do about it."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.detail)
        self.verdict = verdict


@dataclass(frozen=True)
class Answered:
    """One output with what is needed to store it: the rendered prompt's hash and the server's own timings (ms)."""

    output: Output
    prompt_sha256: str
    timings: Mapping[str, Any] = field(default_factory=dict)


class Gate:
    """Lets `width` requests through side by side, or one alone: a request that was in flight at a crash is tried alone."""

    def __init__(self, width: int) -> None:
        """`width` is at least 1."""
        self._width = width
        self._free = asyncio.Semaphore(width)
        self._alone = asyncio.Lock()

    @asynccontextmanager
    async def enter(self, *, alone: bool) -> AsyncIterator[None]:
        """Wait for one place, or for all of them."""
        if not alone:
            async with self._free:
                yield
            return
        async with self._alone:  # two that each hold half of the places would wait for ever
            taken = 0
            try:
                for _ in range(self._width):
                    await self._free.acquire()
                    taken += 1
                yield
            finally:
                for _ in range(taken):
                    self._free.release()


@dataclass
class Pace:
    """How long a server takes for a token, by what its replies tell; it outlives the process.

    `token_s`: to write one; the slowest seen, forgotten slowly, since a deadline must hold when all slots are busy.
    `prompt_token_s`: to read one; the fastest seen, since what is told of a prompt includes waiting for its neighbours.
    None until measured.
    """

    token_s: float | None = None
    prompt_token_s: float | None = None

    def learn(self, timings: Mapping[str, Any]) -> None:
        """Learn from the `timings` of a reply."""
        written, read = timings.get("predicted_n") or 0, timings.get("prompt_n") or 0
        if written >= 8:  # the server's clock starts at the first token, so a short answer tells nothing
            measured = (timings.get("predicted_ms") or 0.0) / 1000 / (written - 1)
            self.token_s = max(measured, 0.98 * (self.token_s or 0.0))
        if read:
            self.prompt_token_s = min((timings.get("prompt_ms") or 0.0) / 1000 / read, self.prompt_token_s or math.inf)


class Endpoint:
    """What answers requests: one server at one address, with its settings read once."""

    def __init__(
        self, address: Address, *, in_flight: int, cache_prompt: bool, grace_s: float, spare: int = SPARE,
        pace: Pace | None = None,
    ) -> None:  # fmt: skip
        """`in_flight` completions are under way at once, the others wait here; `spare` connections more do the rest.

        `grace_s` is what a request may take beyond four times the time that its tokens should, by `pace`.
        """
        self.in_flight = in_flight
        self.gate = Gate(in_flight)
        self.broke = False  # a connection broke, and nobody has looked yet whether the server lives
        self.pace = pace or Pace()
        self.props: Mapping[str, Any] = {}
        self.model: Mapping[str, Any] = {}
        self.alias = ""
        self.exact_grammar = True
        self.n_ctx = 0
        self.n_vocab = 0
        self._cache_prompt = cache_prompt
        self._grace_s = grace_s
        limits = httpx.Limits(max_connections=in_flight + spare)
        socket = str(address.socket) if address.socket else None

        async def sign(request: httpx.Request) -> None:
            kept = {name: value for name, value in request.headers.items() if name in _HEADERS}
            request.headers = httpx.Headers({**kept, "Authorization": f"Bearer {address.key}"})

        self.http = httpx.AsyncClient(
            base_url=address.url, transport=AiohttpTransport(uds=socket, limits=limits), event_hooks={"request": [sign]},
            timeout=httpx.Timeout(None, connect=5.0),
        )  # fmt: skip
        self._openai = openai.AsyncOpenAI(
            base_url=f"{address.url}/v1", api_key=address.key, max_retries=0, timeout=None,
            http_client=cast("Any", self.http),  # the SDK takes httpx clients, its annotations name the successor only
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection, which also frees the slots of requests in flight."""
        await self.http.aclose()

    @property
    def slots(self) -> int:
        """How many sequences the server works on side by side."""
        return int(self.props.get("total_slots") or 1)

    async def read_settings(self) -> None:
        """Read `/props` and `/v1/models`: context per slot, vocabulary size, alias; raises like `get`, and ServerError."""
        self.props = await self.get("/props")
        models = await self.get("/v1/models")
        try:
            self.model = models["data"][0]
            self.alias = str(self.model["id"])
            self.n_vocab = int((self.model.get("meta") or {}).get("n_vocab") or 0)
            self.n_ctx = int(self.props["default_generation_settings"]["n_ctx"])
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise ServerError(
                f"the server at {self.http.base_url} does not answer like llama-server: {error!r} in /props or /v1/models.",
                kind="wrong_settings",
            ) from error

    async def get(self, path: str) -> Mapping[str, Any]:
        """Return the JSON object behind a route; raises ServerGoneError, DeadlineError or RefusedError."""
        return await self._send("GET", path, None, deadline_s=30.0)

    async def post(self, path: str, body: Mapping[str, Any], *, deadline_s: float = 60.0) -> Mapping[str, Any]:
        """Return the JSON object that a route answers with; raises like `get`."""
        return await self._send("POST", path, body, deadline_s=deadline_s)

    async def decoded(self) -> float | None:
        """Return the server's count of decode calls, which grows while it works; None where it does not tell."""
        try:
            async with _not_cancelled(), asyncio.timeout(10):
                text = (await self.http.get("/metrics")).text
        except (httpx.HTTPError, TimeoutError, RuntimeError, ServerGoneError):
            return None
        values = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith("llamacpp:n_decode_total ")]
        return float(values[0]) if values else None

    async def render(self, prompt: Prompt) -> str:
        """Return the text that the model sees; a conversation goes through the server's own template."""
        if isinstance(prompt, str):
            return prompt
        reply = await self.post("/apply-template", {"messages": [dict(m) for m in prompt]})
        with _reading(reply):
            return str(reply["prompt"])

    async def tokenize(self, text: str, *, add_special: bool = True) -> tuple[list[int], list[bool]]:
        """Return token ids, and for each whether its text is complete (False: it ends inside a character)."""
        body = {"content": text, "add_special": add_special, "parse_special": True, "with_pieces": True}
        reply = await self.post("/tokenize", body)
        with _reading(reply):
            tokens = reply["tokens"]
            return [token["id"] for token in tokens], [isinstance(token["piece"], str) for token in tokens]

    async def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, none put before it."""
        reply = await self.post("/tokenize", {"content": text, "add_special": False, "parse_special": True})
        with _reading(reply):
            return len(reply["tokens"])

    async def ask(self, request: Request, *, alone: bool = False) -> Answered:
        """Answer one request; raises ServerGoneError, DeadlineError or RefusedError."""
        try:
            match request:
                case Generate(prompt=str()):
                    return await self._complete(request, alone=alone)
                case Generate():
                    return await self._chat(request, alone=alone)
                case Choose():
                    return await self._choose(request, alone=alone)
                case Loglikelihood():
                    return await self._loglikelihood(request, alone=alone)
        except RefusedError as error:
            if error.verdict.action is not Action.RESULT:
                raise
            # The server says nothing of the prompt it refused: the conversation stands for its rendering.
            unrendered = canonical_json(request.prompt)
            return Answered(Output(error.verdict.outcome, detail=error.verdict.detail), text_sha256(unrendered))

    async def logprob(self, text: str) -> float:
        """Return the log-probability (nats) of a text after its first token: the canary's heartbeat."""
        ids, _ = await self.tokenize(text)
        forced, _ = await self._force(ids[:1], ids[1:], [True] * (len(ids) - 1), alone=False)
        return forced.logprob

    async def canary(self) -> float:
        """Return the log-probability of a fixed text, which another model, or the same one broken, does not give."""
        return await self.logprob(_CANARY)

    async def verify_forcing(self) -> float:
        """Compare forced log-probabilities with the full softmax, and choose the way that agrees.

        Returns the largest difference in nats. Above 1e-3 the grammar is given up for one request a token; raises
        ServerError when that disagrees as well, or when option probabilities do.
        """
        text = "The capital of France is"
        prompt, _ = await self.tokenize(text)
        words = [(await self.tokenize(text + word))[0] for word in (" Paris", " the", " a", " in")]
        token, *options = [whole[len(prompt)] for whole in words]
        reply = await self.complete(forcing.softmax_body(prompt, token, self.n_vocab))
        softmax = forcing.read_softmax(reply)
        if softmax is None and reply.get("completion_probabilities"):
            raise ServerError("its probabilities are not numbers: is the quant broken?", kind="wrong_settings")
        if softmax is None or token not in softmax or not set(options) <= set(softmax):
            raise ServerError(
                "the server gives no full softmax: log-likelihoods cannot be checked.", kind="wrong_settings"
            )
        truth = softmax[token]
        by_grammar = forcing.read_grammar_reply(await self.complete(forcing.grammar_body(prompt, [token])), [token])
        difference = abs(by_grammar.logprob - truth) if by_grammar else math.inf
        if not difference <= 1e-3:
            self.exact_grammar = False
            by_bias = forcing.read_bias_reply(await self.complete(forcing.bias_body(prompt, token)), token)
            difference = abs(by_bias.logprob - truth) if by_bias else math.inf
        probabilities = forcing.read_choice(await self.complete(forcing.choice_body(prompt, options)), options)
        weights = [math.exp(softmax[option] - max(map(softmax.__getitem__, options))) for option in options]
        expected = [weight / math.fsum(weights) for weight in weights]
        for got, wanted in zip(probabilities or [math.inf] * 3, expected, strict=True):
            difference = max(difference, abs(got - wanted))
        if not difference <= 1e-3:
            raise ServerError(
                f"log-probabilities of this server are off by {difference:.2g} from its own full softmax: "
                "log-likelihood and choice tasks would be wrong. Use another build of llama.cpp.",
                kind="wrong_settings",
            )
        return difference

    async def complete(self, body: Mapping[str, Any], *, alone: bool = False) -> Mapping[str, Any]:
        """Post to `/completion` when a place is free."""
        tokens = int(body["n_predict"]) + len(body["prompt"])
        async with self._place(alone=alone):
            sent = {**body, "cache_prompt": self._cache_prompt}
            try:
                reply = await self.post("/completion", sent, deadline_s=self._deadline_s(tokens))
            except ServerGoneError as error:
                raise ServerGoneError(str(error), at_work=_was_sent(error)) from error
        self.pace.learn(reply.get("timings") or {})
        return reply

    @asynccontextmanager
    async def _place(self, *, alone: bool) -> AsyncIterator[None]:
        """Wait for a place at the server; one that went away meanwhile is not asked any more."""
        async with self.gate.enter(alone=alone):
            if self.http.is_closed or self.broke:
                raise ServerGoneError("the server was gone before it was asked")
            try:
                yield
            except (ServerGoneError, openai.APIConnectionError) as error:
                self.broke = self.broke or not isinstance(error, openai.APITimeoutError)
                raise

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, deadline_s: float
    ) -> Mapping[str, Any]:
        content = None if body is None else orjson.dumps(body)
        try:
            async with _not_cancelled(), asyncio.timeout(deadline_s):
                reply = await self.http.request(
                    method,
                    path,
                    content=content,
                    headers={"Content-Type": "application/json"} if body is not None else None,
                )
        except (httpx.ReadTimeout, httpx.PoolTimeout, httpx.WriteTimeout, TimeoutError) as error:
            raise DeadlineError(f"no reply to {path} within {deadline_s:.0f} s") from error
        except (httpx.TransportError, RuntimeError) as error:  # RuntimeError: the pool was closed under the request
            raise ServerGoneError(f"{path}: {error or type(error).__name__}") from error
        return _answer(judge(reply.status_code, reply.content))

    async def _chat(self, request: Generate, *, alone: bool) -> Answered:
        sampling, extra = (
            request.sampling,
            {**_samplers(request.sampling), "cache_prompt": self._cache_prompt, "verbose": True},
        )
        optional: dict[str, Any] = {"tools": [dict(tool) for tool in request.tools]} if request.tools else {}
        if request.tool_choice is not None:
            optional["tool_choice"] = request.tool_choice
        if request.tools and (self.props.get("chat_template_caps") or {}).get("supports_tools") is False:
            # The server would leave the tools out and answer all the same.
            detail = "the chat template takes no tools: give one that does, `templates: [FILE.jinja]`"
            raise RefusedError(Verdict(Action.STOP_TASK, Outcome.NOT_RUN, detail))
        deadline_s = self._deadline_s(sampling.max_tokens + self.n_ctx)
        messages: Any = [dict(message) for message in request.prompt if not isinstance(message, str)]
        create = self._streamed if request.stream else self._whole
        try:
            async with self._place(alone=alone), _not_cancelled(), asyncio.timeout(deadline_s):
                verdict = await create(
                    model=self.alias, messages=messages, max_tokens=sampling.max_tokens, extra_body=extra, **optional
                )
        except openai.APIStatusError as error:
            verdict = judge(error.status_code, error.response.content)
        except (openai.APIConnectionError, TimeoutError, RuntimeError) as error:
            if isinstance(error, TimeoutError) or isinstance(error.__cause__, httpx.ReadTimeout):
                raise DeadlineError(f"no answer within {deadline_s:.0f} s") from error
            raise ServerGoneError(f"chat: {error.__cause__ or error}", at_work=_was_sent(error)) from error
        return self._read_chat(_answer(verdict), request)

    async def _whole(self, **asked: Any) -> Verdict:
        reply = await self._openai.chat.completions.with_raw_response.create(**asked)
        return judge(reply.status_code, reply.content)

    async def _streamed(self, **asked: Any) -> Verdict:
        """Put the pieces of a streamed answer together, as a client would."""
        # The server closes a connection behind a stream without a word, and the next request would break on it.
        asked |= {"stream": True, "stream_options": {"include_usage": True}, "extra_headers": {"Connection": "close"}}
        async with self._openai.chat.completions.with_streaming_response.create(**asked) as reply:
            lines = [line async for line in reply.iter_lines()]
        try:
            body = joined(lines)
        except (KeyError, IndexError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
            return Verdict(Action.RETRY, Outcome.TRANSPORT_ERROR, f"no stream of an answer: {error!r}: {lines[:5]}")
        if said := body.get("error"):  # in the middle of the answer
            return judge(int(said.get("code") or 500), orjson.dumps(body))
        if body["choices"][0]["finish_reason"] is None:
            return Verdict(Action.RETRY, Outcome.TRANSPORT_ERROR, "the stream broke off")
        return Verdict(Action.RESULT, Outcome.OK, body=body)

    def _read_chat(self, body: Mapping[str, Any], request: Generate) -> Answered:
        with _reading(body):
            choice = body["choices"][0]
            message, usage = choice["message"], body.get("usage") or {}
            verbose = body.get("__verbose") or {}
            content, reasoning = message.get("content") or "", message.get("reasoning_content") or ""
        self.pace.learn(body.get("timings") or {})
        _check_samplers(verbose.get("generation_settings") or {}, request.sampling)
        if not reasoning:
            reasoning, content = split_reasoning(content)
        calls = tuple(message.get("tool_calls") or ())
        return self._generated(
            request, text=content, reasoning=reasoning, calls=calls, finish_reason=choice.get("finish_reason"),
            prompt=str(verbose.get("prompt", "")), prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"), timings=body.get("timings") or {},
        )  # fmt: skip

    async def _complete(self, request: Generate, *, alone: bool) -> Answered:
        prompt = str(request.prompt)
        body = {"prompt": prompt, "n_predict": request.sampling.max_tokens, "stop": list(request.stop)}
        reply = await self.complete({**body, **_samplers(request.sampling)}, alone=alone)
        with _reading(reply):
            content = str(reply["content"] or "")
        _check_samplers(reply.get("generation_settings") or {}, request.sampling)
        reasoning, text = split_reasoning(content)
        return self._generated(
            request, text=text, reasoning=reasoning, calls=(),
            finish_reason="length" if reply.get("stop_type") == "limit" else "stop", prompt=prompt,
            prompt_tokens=reply.get("tokens_evaluated"), completion_tokens=reply.get("tokens_predicted"),
            timings=reply.get("timings") or {},
        )  # fmt: skip

    def _generated(
        self, request: Generate, *, text: str, reasoning: str, calls: Sequence[Mapping[str, Any]], finish_reason: str | None,
        prompt: str, prompt_tokens: int | None, completion_tokens: int | None, timings: Mapping[str, Any],
    ) -> Answered:  # fmt: skip
        cut = cut_at(text, request.stop)
        if cut is not None:
            text, finish_reason = cut, "stop"  # what came after the stop string would not have been written
        outcome, detail = finish(
            finish_reason=finish_reason, answer=text, has_call=bool(calls),
            total_tokens=(prompt_tokens or 0) + (completion_tokens or 0), n_ctx=self.n_ctx,
        )  # fmt: skip
        output = Output(
            outcome, text=text, reasoning=reasoning, tool_calls=tuple(calls), finish_reason=finish_reason,
            prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, detail=detail,
        )  # fmt: skip
        return Answered(output, text_sha256(prompt), timings)

    async def _choose(self, request: Choose, *, alone: bool) -> Answered:
        text = await self.render(request.prompt)
        (prompt, _), *wholes = await asyncio.gather(
            self.tokenize(text), *(self.tokenize(text + option) for option in request.options)
        )
        for option, (whole, _) in zip(request.options, wholes, strict=True):
            if whole[:-1] != prompt:
                detail = f"the option {option!r} is not one token after the prompt: use the loglikelihood solver"
                raise RefusedError(Verdict(Action.STOP_TASK, Outcome.NOT_RUN, detail))
        options = [whole[-1] for whole, _ in wholes]
        if len(set(options)) != len(options):
            raise RefusedError(Verdict(Action.STOP_TASK, Outcome.NOT_RUN, "two options are the same token"))
        reply = await self.complete(forcing.choice_body(prompt, options), alone=alone)
        probabilities = forcing.read_choice(reply, options)
        if probabilities is None:
            detail = f"not exactly the options came back: {str(reply.get('completion_probabilities'))[:200]}"
            raise RefusedError(Verdict(Action.RETRY, Outcome.TRANSPORT_ERROR, detail))
        output = Output(Outcome.OK, option_probs=probabilities, prompt_tokens=len(prompt), completion_tokens=1)
        return Answered(output, text_sha256(text), reply.get("timings") or {})

    async def _loglikelihood(self, request: Loglikelihood, *, alone: bool) -> Answered:
        text = await self.render(request.prompt)
        context = text.rstrip(" ")
        continuation = text[len(context) :] + request.continuation
        (base, _), (whole, complete) = await asyncio.gather(
            self.tokenize(context), self.tokenize(context + continuation)
        )
        base = base if context else []
        prompt, ids, complete, detail = base, whole[len(base) :], complete[len(base) :], ""
        if whole[: len(base)] != base or not ids:
            ids, complete = await self.tokenize(continuation, add_special=False)
            detail = "the two texts merge at their border: each keeps its own tokens"
        if not prompt:
            start = self.props.get("bos_token") or self.props.get("eos_token") or "\n"
            prompt = (await self.tokenize(str(start)))[0][:1]
        forced, timings = await self._force(prompt, ids, complete, alone=alone)
        output = Output(
            Outcome.OK, logprob=forced.logprob, is_greedy=forced.is_greedy, prompt_tokens=len(prompt),
            completion_tokens=len(ids), detail=detail,
        )  # fmt: skip
        return Answered(output, text_sha256(text), timings)

    async def _force(
        self, prompt: Sequence[int], ids: Sequence[int], complete: Sequence[bool], *, alone: bool
    ) -> tuple[forcing.Forced, Mapping[str, Any]]:
        """Score tokens in one request where the grammar can express them all, else one request a token."""
        if self.exact_grammar and all(complete):
            try:
                reply = await self.complete(forcing.grammar_body(prompt, ids), alone=alone)
            except RefusedError as error:
                if error.verdict.action is not Action.FALLBACK:
                    raise
            else:
                if forced := forcing.read_grammar_reply(reply, ids):
                    return forced, reply.get("timings") or {}
        total, greedy = [], True
        for index, token in enumerate(ids):
            step = await self._force_one([*prompt, *ids[:index]], token, alone=alone)
            total.append(step.logprob)
            greedy = greedy and step.is_greedy
        return forcing.Forced(math.fsum(total), greedy), {}

    async def _force_one(self, prompt: Sequence[int], token: int, *, alone: bool) -> forcing.Forced:
        reply = await self.complete(forcing.bias_body(prompt, token), alone=alone)
        if forced := forcing.read_bias_reply(reply, token):
            return forced
        printable = (await self.tokenize("a"))[0][-1]
        reply = await self.complete(forcing.softmax_body(prompt, printable, self.n_vocab), alone=alone)
        softmax = forcing.read_softmax(reply)
        if softmax is None or token not in softmax:
            detail = f"no log-probability for token {token}: {str(reply)[:200]}"
            raise RefusedError(Verdict(Action.RETRY, Outcome.TRANSPORT_ERROR, detail))
        return forcing.Forced(softmax[token], next(iter(softmax)) == token)

    def _deadline_s(self, tokens: int) -> float:
        return tokens * 4 * (self.pace.token_s or 0.5) + self._grace_s


def cut_at(text: str, stops: Sequence[str]) -> str | None:
    """Return a text up to its first stop string; None where it has none."""
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else None


def _answer(verdict: Verdict) -> Mapping[str, Any]:
    if verdict.action is Action.RESULT and verdict.body is not None:
        return verdict.body
    raise RefusedError(verdict)


@contextmanager
def _reading(reply: Mapping[str, Any]) -> Iterator[None]:
    """Take a 200 that lacks what every reply to its route holds for garbage, which is asked again."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        detail = f"200 without an answer, {error!r}: {str(reply)[:200]}"
        raise RefusedError(Verdict(Action.RETRY, Outcome.TRANSPORT_ERROR, detail)) from error


@asynccontextmanager
async def _not_cancelled() -> AsyncIterator[None]:
    """Take what the pool cancels when it is closed, requests that wait in it, for what it is; nobody meant to end us."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ServerGoneError("the pool was closed under the request") from error


def _was_sent(error: BaseException | None) -> bool:
    """Say whether a failed request can have reached the server: httpx has one name for refused and for broken connections."""
    while error is not None:
        if isinstance(error, _NEVER_SENT):
            return False
        error = error.__cause__
    return True


def _samplers(sampling: Sampling) -> dict[str, Any]:
    """Return every sampler as llama-server names it."""
    named = {key: value for key, value in asdict(sampling).items() if key != "max_tokens"}
    return {**named, **_OFF}


def _check_samplers(used: Mapping[str, Any], sampling: Sampling) -> None:
    """Compare what the server says it used with what was sent; raises ServerError with the first difference."""
    for name, sent in _samplers(sampling).items():
        if name in used and not math.isclose(float(used[name]), float(sent), rel_tol=1e-5, abs_tol=1e-6):
            raise ServerError(f"the server used {name} = {used[name]} instead of {sent}.", kind="wrong_settings")
