"""Teacher-forced PPL and KLD: the bound is a bound, and forcing scores the very tokens that llama-perplexity scores."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy, spearmanr
from toys import Bench

from evalsuite.errors import MachineError, ServerError, SpecError
from evalsuite.proxy import forced, llama_perplexity
from evalsuite.proxy.forced import (
    Conversation,
    Passage,
    Position,
    answer_with_calls,
    cut_conversations,
    cut_text,
    force,
    kld_lower_bound,
    load_passages,
    load_positions,
    save_positions,
    summarise,
)
from evalsuite.proxy.programs import Tool
from evalsuite.serve import fake
from evalsuite.serve.llama_cpp import LlamaCpp, find_llama_cpp
from evalsuite.serve.process import ServerProcess
from evalsuite.store import Store

HARBOUR = Path(__file__).parent / "gold" / "llama-perplexity" / "text.txt"
CORPUS = {"corpus": "harbour", "corpus_sha256": "0"}


def silent(done: int, planned: int) -> None:
    pass


def position(log_p: np.ndarray, n: int | None = None, token: int = 0) -> Position:
    """List the `n` likeliest tokens of a distribution."""
    top = np.argsort(-log_p, kind="stable")[:n]
    return Position(token, float(log_p[token]), top.astype(np.int32), log_p[top].astype(np.float32))


def listed(tokens: list[int], p: list[float]) -> Position:
    return Position(tokens[0], float(np.log(p[0])), np.array(tokens, np.int32), np.log(np.array(p, np.float32)))


def test_oracle():
    """By hand: p .6 .2 .1 (tail .1) against q .5 .3 .05 (tail .15) is .0570681 nats."""
    bound = kld_lower_bound([listed([7, 8, 9], [0.6, 0.2, 0.1])], [listed([8, 7, 9], [0.3, 0.5, 0.05])])
    assert bound == pytest.approx([0.0570681], abs=1e-7)


def test_token_on_one_list_only_goes_to_both_tails():
    """A token that the quant does not list is counted once, in the tails: cells .6 and .4 against .5 and .5."""
    bound = kld_lower_bound([listed([7, 8], [0.6, 0.3])], [listed([7, 9], [0.5, 0.4])])
    assert bound == pytest.approx([0.6 * np.log(0.6 / 0.5) + 0.4 * np.log(0.4 / 0.5)], abs=1e-6)


logits = arrays(np.float64, 40, elements=st.floats(-12, 12))


def log_softmax(values: np.ndarray) -> np.ndarray:
    return values - np.log(np.exp(values).sum())


@given(logits, logits, st.integers(1, 40), st.integers(0, 20))
def test_bound_never_exceeds_kl_and_grows_with_n(one, other, n, more):
    """Whatever the distributions and the lists' lengths: bound(n) ≤ bound(n + more) ≤ KL, and equal for whole lists."""
    log_p, log_q = log_softmax(one), log_softmax(other)
    exact = entropy(np.exp(log_p), np.exp(log_q))
    short, longer, whole = (
        kld_lower_bound([position(log_p, size)], [position(log_q, size)])[0] for size in (n, n + more, None)
    )
    assert -1e-6 <= short <= longer + 1e-5
    assert longer <= exact + 1e-5
    assert whole == pytest.approx(exact, abs=1e-5)


FRAGMENTS, END, BOS, N_VOCAB = range(128, 256), 1, 2, 256


@dataclass
class FakeModel:
    """A language model over bytes behind llama-server's two routes, with its faults, that knows its own softmax.

    Bytes above 127 are pieces of a character: a grammar with one is answered with 500, or with 200 and entries missing.
    Byte 1 is an end token: 500 in a grammar.
    """

    seed: int
    bos: bool = False
    lenient: bool = False
    asked: list[Mapping[str, Any]] = field(default_factory=list)

    def log_softmax(self, prompt: list[int]) -> np.ndarray:
        """Natural-log probabilities of the next token; models with other seeds differ a little."""
        noise = np.random.default_rng(prompt).normal(size=N_VOCAB)
        return log_softmax(2 * noise + 0.3 * np.random.default_rng([self.seed, *prompt]).normal(size=N_VOCAB))

    async def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer as parsed JSON, as the HTTP client would."""
        return json.loads(json.dumps(self.tokenize(body) if path == "/tokenize" else self.complete(body)))

    def tokenize(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """One token a byte."""
        ids = [BOS] * (self.bos and body.get("add_special", False)) + list(body["content"].encode())
        if not body.get("with_pieces"):
            return {"tokens": ids}
        return {"tokens": [{"id": i, "piece": [i] if i in FRAGMENTS else chr(i)} for i in ids]}

    def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Write what the grammar or the bias forces, and list the likeliest tokens from before it."""
        self.asked.append(body)
        wanted = [int(number) for number in re.findall(r"<\[(\d+)\]>", body.get("grammar", ""))]
        if END in wanted or (not self.lenient and set(wanted) & set(FRAGMENTS)):
            raise ServerError("HTTP 500: Unexpected empty grammar stack", kind="refused")
        written = wanted or [token for token, _ in body["logit_bias"]]
        entries = []
        for at, token in enumerate(written):
            log_p = self.log_softmax([*body["prompt"], *written[:at]])
            top = np.argsort(-log_p)[: body["n_probs"]].tolist()
            listed = [{"id": i, "logprob": float(log_p[i])} for i in top]
            if token not in FRAGMENTS:
                entries.append({"id": token, "logprob": float(log_p[token]), "top_logprobs": listed})
        return {"completion_probabilities": entries, "tokens_predicted": len(written)}


async def forced_text(
    ask: forced.Ask, text: str, *, ctx: int = 16, chunks: int = 9, n_probs: int = 20, progress: Any = silent
) -> list[list[Position]]:
    passages = await cut_text(ask, text, ctx=ctx, chunks=chunks)
    return await force(ask, passages, n_probs=n_probs, parallel=2, progress=progress)


def write(model: FakeModel, text: str, **more: Any) -> list[list[Position]]:
    return asyncio.run(forced_text(model.ask, text, **more))


TEXT = "The fish 🐟 knows nöthing\x01 about that."  # 41 bytes: an emoji, an umlaut and an end token


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("lenient", [False, True])
def test_forcing_scores_what_llama_perplexity_scores(bos, lenient):
    """All tokens after a chunk's first half and one more, in the chunk's own context, fragments and end tokens too."""
    model = FakeModel(seed=1, bos=bos, lenient=lenient)
    ids = [BOS] * bos + list(TEXT.encode())
    chunks = write(model, TEXT)
    assert len(chunks) == 2
    for number, chunk in enumerate(chunks):
        own = ids[16 * number : 16 * number + 16]
        own[0] = BOS if bos else own[0]
        assert [at.token_id for at in chunk] == own[9:]
        for offset, at in enumerate(chunk, 9):
            log_p = model.log_softmax(own[:offset])
            assert at.logprob == pytest.approx(log_p[own[offset]])
            assert at.top_ids.tolist() == np.argsort(-log_p)[:20].tolist()
            assert at.top_logprobs == pytest.approx(np.sort(log_p)[::-1][:20])


def test_long_stretches_are_cut_so_that_replies_stay_small():
    """With long lists a stretch is forced in pieces, each after what was forced before; the positions are the same."""
    pieces, model, plain = FakeModel(seed=1), FakeModel(seed=1), "Nothing but plain letters here, thirty-two and more."
    in_pieces = write(pieces, plain, n_probs=32_000)
    at_once = write(model, plain, n_probs=N_VOCAB)
    assert [body["n_predict"] for body in pieces.asked[:4]] == [2, 2, 2, 1]
    assert len(pieces.asked) == 4 * len(model.asked)
    assert [[vars_of(at) for at in chunk] for chunk in in_pieces] == [
        [vars_of(at) for at in chunk] for chunk in at_once
    ]


def test_progress_counts_positions():
    """The last report says that all positions are done."""
    reports = []
    write(FakeModel(seed=1), TEXT, progress=lambda *report: reports.append(report))
    assert reports[-1] == (14, 14)


def test_short_text_is_refused():
    """A text of fewer tokens than a chunk is the user's to mend."""
    with pytest.raises(SpecError, match="has 5 tokens and a chunk 16"):
        write(FakeModel(seed=1), "short")


def test_dead_server_is_one_server_error():
    """When the server dies half-way the caller gets its ServerError, not a group, whatever else was under way."""
    model = FakeModel(seed=1)

    async def dying(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/completion" and len(model.asked) > 2:
            raise ServerError("the server is gone")
        return await model.ask(path, body)

    with pytest.raises(ServerError, match="gone"):
        asyncio.run(forced_text(dying, TEXT))


def test_broken_quant_is_named():
    """Log-probabilities that are null (the server's NaN) end the run with the cause."""
    model = FakeModel(seed=1)

    async def broken(path: str, body: dict[str, Any]) -> dict[str, Any]:
        return json.loads(re.sub(r'"logprob": -[\d.e+-]+', '"logprob": null', json.dumps(await model.ask(path, body))))

    with pytest.raises(MachineError, match="not numbers"):
        asyncio.run(forced_text(broken, TEXT))


def test_summary_of_whole_lists_is_exact():
    """With the whole vocabulary listed every figure is what NumPy and SciPy find from the two models' softmaxes."""
    reference, quant = FakeModel(seed=1), FakeModel(seed=2)
    positions = [write(model, TEXT, n_probs=N_VOCAB) for model in (reference, quant)]
    found = summarise(*positions, ctx=16, **CORPUS)
    ids = list(TEXT.encode())
    contexts = [[ids[16 * number : 16 * number + at] for at in range(9, 16)] for number in range(2)]
    log_p, log_q = (np.array([[m.log_softmax(c) for c in chunk] for chunk in contexts]) for m in (reference, quant))
    kld = entropy(np.exp(log_p), np.exp(log_q), axis=2)
    tokens = np.array([[ids[16 * number + at] for at in range(9, 16)] for number in range(2)])[..., None]
    own_p, own_q = (np.take_along_axis(logs, tokens, axis=2)[..., 0] for logs in (log_p, log_q))
    dp = np.exp(own_q) - np.exp(own_p)
    assert found.ppl == pytest.approx(np.exp(-own_q.mean()))
    assert found.ppl_base == pytest.approx(np.exp(-own_p.mean()))
    assert found.ln_ppl_ratio == pytest.approx((own_p - own_q).mean())
    assert found.kld_mean == pytest.approx(kld.mean(), abs=1e-6)
    assert (found.kld_median, found.kld_p99) == pytest.approx(np.quantile(kld, [0.5, 0.99]), abs=1e-6)
    assert (found.kld_min, found.kld_max) == pytest.approx((kld.min(), kld.max()), abs=1e-6)
    assert found.kld_mean_se == pytest.approx(kld.mean(axis=1).std(ddof=1) / np.sqrt(2), abs=1e-6)
    assert (found.mean_dp, found.rms_dp) == pytest.approx((dp.mean(), np.sqrt((dp**2).mean())))
    assert found.same_top_p == (log_p.argmax(axis=2) == log_q.argmax(axis=2)).mean()
    assert found.correlation == pytest.approx(np.corrcoef(own_p.ravel(), own_q.ravel())[0, 1])
    assert (found.chunks, found.n_tokens) == (2, 14)


def test_one_chunk_has_no_standard_error():
    """One chunk leaves the errors undefined, with a note."""
    one = write(FakeModel(seed=1), TEXT, chunks=1)
    found = summarise(one, one, ctx=16, **CORPUS)
    assert (found.ppl_se, found.kld_mean_se, found.mean_dp_se) == (None, None, None)
    assert any("one chunk" in note for note in found.notes)


def test_other_tokens_are_refused():
    """A quant that cuts the text into other tokens than the reference cannot be compared."""
    with pytest.raises(SpecError, match="different tokens"):
        summarise(write(FakeModel(1), TEXT), write(FakeModel(1, bos=True), TEXT), ctx=16, **CORPUS)


def test_errors_of_quantiles_need_tokens_beyond_them():
    """Of 14 tokens the median has an error and the 99 % has none, with a note that says why."""
    found = summarise(write(FakeModel(1), TEXT), write(FakeModel(2), TEXT), ctx=16, **CORPUS)
    halves = [kld_lower_bound(*pair) for pair in zip(write(FakeModel(1), TEXT), write(FakeModel(2), TEXT), strict=True)]
    # Of two halves one is left when the other is left out: the jackknife is half their difference.
    assert found.kld_median_se == pytest.approx(abs(np.median(halves[0]) - np.median(halves[1])) / 2)
    assert (found.kld_p99_se, found.kld_p999_se) == (None, None)
    assert "kld_p99 has no standard error: 14 tokens are too few so far out" in found.notes
    assert found.kld_max_se > 0


def rendering(model: FakeModel) -> forced.Ask:
    """A server whose template writes roles in front of what they say."""

    async def ask(path: str, body: dict[str, Any]) -> Mapping[str, Any]:
        if path == "/apply-template":
            tools = "".join(f"[{tool['name']}]" for tool in body.get("tools", ()))
            said = "".join(f"{message['role']}: {message['content']}\n" for message in body["messages"])
            return {"prompt": f"{tools}{said}assistant: "}
        return await model.ask(path, body)

    return ask


def cut(conversations: list[Conversation], ask: forced.Ask, longest: int = 99) -> list[Passage]:
    return asyncio.run(cut_conversations(ask, conversations, longest=longest))


def test_answer_is_scored_after_its_rendered_prompt():
    """Template, tools and BOS come before the answer unscored; the blank at the end of a prompt goes with the answer."""
    chat = Conversation(({"role": "user", "content": "Fish?"},), "A pike.", ({"name": "net"},))
    passages = cut([chat, Conversation("Fish:", " trout")], rendering(FakeModel(seed=1, bos=True)))
    texts = [(bytes(p.ids[1 : p.first]).decode(), bytes(p.ids[p.first :]).decode()) for p in passages]
    assert texts == [("[net]user: Fish?\nassistant:", " A pike."), ("Fish:", " trout")]
    assert [passage.ids[0] for passage in passages] == [BOS, BOS]


CALL = {"type": "function", "id": "1", "function": {"name": "net", "arguments": '{"mesh": 3}'}}


def calling(model: FakeModel, rendered: str) -> forced.Ask:
    """A server whose template writes `rendered` for tool calls, which it drops where none is given."""
    plain = rendering(model)

    async def ask(path: str, body: dict[str, Any]) -> Mapping[str, Any]:
        if path != "/apply-template":
            return await plain(path, body)
        turns = [{**each, "content": each["content"] + rendered * ("tool_calls" in each)} for each in body["messages"]]
        return await plain(path, body | {"messages": turns})

    return ask


FISH = ({"role": "user", "content": "Fish?"},)


def test_tool_call_is_forced_as_the_template_renders_it():
    """The answer is what the model said and its call, without the end of the turn."""
    ask = calling(FakeModel(1), "<call>net</call>")
    (passage,) = cut([Conversation(FISH, "Wait. ", calls=(CALL,))], ask)
    assert bytes(passage.ids[: passage.first]).decode() == "user: Fish?\nassistant:"
    assert bytes(passage.ids[passage.first :]).decode() == " Wait. <call>net</call>"


def refusing(ask: forced.Ask, kind: str) -> forced.Ask:
    """A server that does not render tool calls."""

    async def asked(path: str, body: dict[str, Any]) -> Mapping[str, Any]:
        if any("tool_calls" in message for message in body.get("messages", ())):
            raise ServerError("HTTP 500: Failed to parse tool call arguments as JSON", kind=kind)
        return await ask(path, body)

    return asked


def prefixing(ask: forced.Ask) -> forced.Ask:
    """A server whose template opens a thinking block for the model that no message of the past has."""

    async def asked(path: str, body: dict[str, Any]) -> Mapping[str, Any]:
        reply = await ask(path, body)
        return {"prompt": f"{reply['prompt']}<think>\n"} if path == "/apply-template" else reply

    return asked


BEGUN = (*FISH, {"role": "assistant", "content": "Well,"})
NO_CALL: list[tuple[str, tuple[Mapping[str, Any], ...], Callable[[forced.Ask], forced.Ask]]] = [
    ("<call>", FISH, prefixing),  # the rendering does not continue the prompt
    ("<call>", FISH, lambda ask: refusing(ask, "refused")),
    ("<call>", BEGUN, lambda ask: ask),  # the call would be another turn than the one begun
    ("", FISH, lambda ask: ask),  # dropped
]


@pytest.mark.parametrize(("rendered", "prompt", "template"), NO_CALL)
@pytest.mark.parametrize("said", ["", "Wait. "])
def test_call_that_is_not_rendered_where_it_was_written_is_left_out(rendered, prompt, template, said):
    """The other conversations are scored, without it; where there is no other, the error says why."""
    ask = template(calling(FakeModel(1), rendered))
    called, plain = Conversation(prompt, said, calls=(CALL,)), Conversation("Fish:", " trout")
    passages = cut([called, plain], ask)
    assert [bytes(passage.ids).decode() for passage in passages] == ["Fish: trout"]
    with pytest.raises(MachineError, match="No conversation has an answer"):
        cut([called], ask)


def test_server_that_is_gone_is_no_refusal():
    """A call whose rendering fails with the server leaves nothing out, but ends the run with the cause."""
    with pytest.raises(ServerError, match="HTTP 500"):
        cut([Conversation(FISH, "", calls=(CALL,))], refusing(calling(FakeModel(1), "<call>"), "gone"))


def test_stored_calls_of_the_reference_are_forced(bench: Bench):
    """What a task stored as a tool call is rendered and forced; a sample that is answered with nothing is left out."""
    bench.write(tasks=["echo"], replicate_reference=False)
    bench.run()
    stored = "UPDATE generation SET output = json_set(output, '$.text', '', '$.tool_calls', json(?)) WHERE ask_key = ?"
    with Store(bench.folder / "results") as store:
        answered = store.answers(store.get_meta("identities")["ref"][0])
        for ask_key, calls in zip(answered, ([CALL], [CALL, CALL], [], []), strict=True):
            store.db.execute(stored, (json.dumps(calls), ask_key))
    bench.write(proxies=[{"tool": "forced", "text": "task:echo", "n_probs": 20, "ctx": 999}])
    assert bench.run().is_complete
    (kept,) = (bench.folder / "results" / "proxies").glob("*.npz")
    answers = [fake.detokenize(passage.ids[passage.first :]) for passage in load_passages(kept)]
    assert sorted(map(json.loads, answers), key=len) == [[CALL], [CALL, CALL]]


texts = st.text(st.sampled_from(["a", "b", " ", "\n", "<", forced._MARK]))
ends = st.text(st.sampled_from(["a", "b", " ", "\n", "<"]))


@given(texts, texts, ends, ends)
def test_what_is_cut_out_continues_the_prompt_and_ends_with_the_turn(prompt, said, call, end):
    """Prompt, answer and end make the rendering up again, unless the call is blank; another prompt or end gives nothing."""
    called, marked = prompt + said + call + end, prompt + said + forced._MARK + end
    answer = answer_with_calls(prompt, called, marked)
    assert answer == (said + call if call.strip() else "")
    assert answer_with_calls(f"{prompt}x", called, marked) == ""
    assert answer_with_calls(prompt, called, f"{marked}x") == ""


def test_long_answers_are_cut_and_empty_ones_left_out():
    """At most `longest` tokens of an answer are scored, and a conversation without any is no passage."""
    passages = cut([Conversation("Fish:", " trout"), Conversation("Fish:", "")], rendering(FakeModel(1)), longest=3)
    assert [bytes(passage.ids).decode() for passage in passages] == ["Fish: tr"]


def test_text_that_merges_at_the_border_keeps_both_sides_tokens():
    """Where prompt and answer share a token, each is cut by itself, and the answer is scored from its first token on."""

    async def merging(_: str, body: dict[str, Any]) -> Mapping[str, Any]:
        ids = [ord(letter) for letter in body["content"].replace("ab", "\N{LATIN SMALL LETTER AE}")]
        return {"tokens": [{"id": i, "piece": chr(i)} for i in ids]}

    (passage,) = cut([Conversation("xa", "bc")], merging)
    assert (passage.ids, passage.first) == ([*b"xabc"], 2)


def test_first_token_of_all_is_not_scored():
    """Without a prompt and a BOS there is nothing to predict the first token from."""
    (passage,) = cut([Conversation("", "fish")], rendering(FakeModel(1)))
    assert (passage.ids, passage.first) == ([*b"fish"], 1)


def test_conversations_of_unequal_length_are_scored_token_by_token():
    """Figures are over all tokens, whose errors count conversations by their tokens."""
    ask = rendering(FakeModel(seed=1))
    passages = cut([Conversation("Fish:", " trout"), Conversation("Boat:", " a long and narrow one")], ask)
    chunks = [
        asyncio.run(force(FakeModel(seed).ask, passages, n_probs=N_VOCAB, parallel=2, progress=silent))
        for seed in (1, 2)
    ]
    found = summarise(*chunks, ctx=30, **CORPUS)
    kld = [kld_lower_bound(*pair) for pair in zip(*chunks, strict=True)]
    assert [len(chunk) for chunk in kld] == [6, 22]
    assert found.kld_mean == pytest.approx(np.concatenate(kld).mean())
    apart = kld[0].mean() - kld[1].mean()
    assert found.kld_mean_se == pytest.approx(2 * 6 * 22 / 28**2 * abs(apart))
    assert found.chunk_means[0].kld == pytest.approx(kld[0].mean())
    assert [chunk.n_tokens for chunk in found.chunk_means] == [6, 22]


def test_positions_are_stored(tmp_path):
    """What was saved is loaded again, lists of different lengths included; a damaged file is a MachineError."""
    path, model = tmp_path / "reference.npz", FakeModel(1)
    passages, chunks = asyncio.run(cut_text(model.ask, TEXT, ctx=16, chunks=9)), write(model, TEXT)
    chunks[0][1] = position(np.log(np.full(4, 0.25)))
    save_positions(path, passages, chunks)
    loaded = load_positions(path)
    assert [[vars_of(at) for at in chunk] for chunk in loaded] == [[vars_of(at) for at in chunk] for chunk in chunks]
    assert load_passages(path) == passages
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(MachineError, match="Delete it"):
        load_positions(path)


def vars_of(at: Position) -> tuple[Any, ...]:
    return at.token_id, at.logprob, at.top_ids.tolist(), at.top_logprobs.tolist()


@asynccontextmanager
async def asking(program: LlamaCpp, model: Path, log: Path, *more: str) -> AsyncIterator[forced.Ask]:
    process = ServerProcess(program.server, log)
    flags = {"model": model, "host": process.host, "port": 0, "alias": process.alias, "ctx-size": 2048, "parallel": 4}
    flags |= {"threads": 1, "threads-batch": 1, "flash-attn": "on", "fit": "off", "cache-ram": 0, "ctx-checkpoints": 0}
    process.spawn([*(word for name, value in flags.items() for word in (f"--{name}", str(value))), *more])
    try:
        address = await process.ready(model_bytes=0)
        transport = httpx.AsyncHTTPTransport(uds=str(address.socket)) if address.socket else None
        headers = {"Authorization": f"Bearer {address.key}"}
        async with httpx.AsyncClient(transport=transport, base_url=address.url, headers=headers, timeout=600) as client:

            async def ask(path: str, body: dict[str, Any]) -> dict[str, Any]:
                reply = await client.post(path, json=body)
                if reply.is_error:
                    raise ServerError(reply.text, kind="refused")
                return reply.json()

            yield ask
    finally:
        await process.stop()


CHATML_WITH_CALLS = r"""
{%- for tool in tools or [] %}{{ "<|im_start|>system\n" }}{{ tool | tojson }}{{ "<|im_end|>\n" }}{% endfor %}
{%- for message in messages %}
    {{- "<|im_start|>" + message.role + "\n" + message.content }}
    {%- for call in message.tool_calls or [] %}
        {{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
        {{- call.function.arguments | tojson }}
        {{- "}\n</tool_call>" }}
    {%- endfor %}
    {{- "<|im_end|>\n" }}
{%- endfor %}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\n" }}{% endif %}"""
CALLED = """\
Let me look.
<tool_call>
{"name": "weather", "arguments": {"city": "Łódź", "days": 2}}
</tool_call>
<tool_call>
{"name": "weather", "arguments": {}}
</tool_call>"""


@pytest.mark.live
def test_tool_calls_are_forced_as_a_real_template_renders_them(smollm2, tmp_path):
    """Between the prompt and the end of the turn stand the very tokens that the template gives; they can be scored."""
    template = tmp_path / "calls.jinja"
    template.write_text(CHATML_WITH_CALLS, encoding="utf-8")
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    calls = [
        {"type": "function", "id": f"call{at}", "function": {"name": "weather", "arguments": arguments}}
        for at, arguments in enumerate(['{"city":"Łódź","days":2}', "{}"])
    ]
    asked = ({"role": "user", "content": "Rain?"},)
    whole = Conversation(asked, "Let me look.", (tool,), tuple(calls))
    calls[1] = calls[1] | {"function": {"name": "weather", "arguments": '{"city":"Par'}}
    broken = replace(whole, calls=tuple(calls))

    async def measure() -> tuple[list[Passage], list[list[Position]], list[int]]:
        program, flags = find_llama_cpp(Path("embedded")), ("--jinja", "--chat-template-file", str(template))
        async with asking(program, smollm2, tmp_path / "log", *flags) as ask:
            passages = await cut_conversations(ask, [whole, broken], longest=99)
            prompt = (await ask("/apply-template", {"messages": asked, "tools": whole.tools}))["prompt"]
            rendered = await ask("/tokenize", {"content": f"{prompt}{CALLED}<|im_end|>\n", "parse_special": True})
            positions = await force(ask, passages, n_probs=9, parallel=1, progress=silent)
        return passages, positions, rendered["tokens"]

    (passage,), (positions,), rendered = asyncio.run(measure())
    *said, end, _newline = rendered
    assert passage.ids == said
    assert (said.count(end), said[: passage.first].count(end)) == (2, 2)  # the tools' turn and the user's
    assert [at.token_id for at in positions] == said[passage.first :]


async def forced_positions(program: LlamaCpp, model: Path, text: str, log: Path) -> list[list[Position]]:
    async with asking(program, model, log) as ask:
        passages = await cut_text(ask, text, ctx=256, chunks=5)
        return await force(ask, passages, n_probs=750, parallel=4, progress=silent)


@pytest.mark.llama_cpp
@pytest.mark.live
def test_agreement_with_llama_perplexity(llama_cpp, ladder, tmp_path):
    """On a ladder of real quants PPL is within 1 %, mean KLD within 10 %, and the ranking the same.

    Fewer than some 600 tokens will not do: llama-perplexity itself moves PPL by .4 % when only `-ub` changes.
    """
    reference, *quants = [ladder / f"{name}.gguf" for name in ("F16", "Q8_0", "Q4_0", "MXFP4")]
    text = HARBOUR.read_text(encoding="utf-8")
    base, log = tmp_path / "base", tmp_path / "log"
    tool = Tool(llama_cpp.tools["perplexity"], threads=1, log=log)
    llama_perplexity.run_base(tool, reference, HARBOUR, base, ctx=256, chunks=5, n_vocab=49152, progress=silent)
    ours = asyncio.run(forced_positions(llama_cpp, reference, text, log))
    found, wanted = [], []
    for quant in quants:
        printout = llama_perplexity.run_kld(tool, quant, base, progress=silent)
        wanted.append(llama_perplexity.proxy_row(printout, ctx=256, **CORPUS))
        theirs = asyncio.run(forced_positions(llama_cpp, quant, text, log))
        found.append(summarise(ours, theirs, ctx=256, **CORPUS))
    assert [row.ppl for row in found] == pytest.approx([row.ppl for row in wanted], rel=0.01)
    assert [row.kld_mean for row in found] == pytest.approx([row.kld_mean for row in wanted], rel=0.1)
    assert spearmanr([row.kld_mean for row in found], [row.kld_mean for row in wanted]).statistic == 1
