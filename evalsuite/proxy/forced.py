"""Perplexity and a lower bound of the KL divergence over a server's API, by forcing a given text upon the model.

A grammar of token ids makes the server "generate" the second half of a chunk after its first half as the prompt, and
`n_probs` makes it list the likeliest tokens at every position. These are the tokens and contexts of llama-perplexity,
but on any text, rendered conversations included, and on servers that one cannot log in to.
"""

import asyncio
import zipfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evalsuite.errors import MachineError, ServerError, SpecError
from evalsuite.proxy.records import TAIL, ChunkMeans, ProxyRow, chunk_se, finite, maximum_se, mean_se, quantile_se
from evalsuite.records import Message, Prompt

Ask = Callable[[str, dict[str, Any]], Awaitable[Mapping[str, Any]]]
"""Posts JSON to a path of the server and returns the parsed reply; ServerError of kind `refused` for any but 200."""

Progress = Callable[[int, int], None]
"""Called with the positions done and the positions in all."""

Array = npt.NDArray[np.float64]

_REPLY_ENTRIES = 64_000  # list entries in one reply: some 5 MB of JSON, and ten times that once parsed
_WHOLE_VOCABULARY = 10_000_000
_LEAST_LOGPROB = -104.0  # the server's float32 probabilities end at exp(-103.97); below, it says -3.4e38
_FEWEST_BEYOND = 4  # tokens beyond a quantile that has a standard error
_ROUNDING = 1e-6  # of a sum of probabilities in single precision: a tail is not known any better
_MARK = "\ue000"  # for private use: no template has it, so it shows where a text goes


@dataclass(frozen=True, eq=False)
class Position:
    """The token that the text has here, its log-probability in nats, and the likeliest tokens, best first."""

    token_id: int
    logprob: float
    top_ids: npt.NDArray[np.int32]
    top_logprobs: npt.NDArray[np.float32]


Chunk = Sequence[Position]


@dataclass(frozen=True)
class Passage:
    """The tokens of a chunk, scored from `first` on; `whole` tells those that end no character half-way."""

    ids: list[int]
    whole: list[bool]
    first: int

    def stretches(self, longest: int) -> Iterator[tuple[int, int]]:
        """Yield what one request can force: runs of whole tokens, and every fragment of a character by itself."""
        start = self.first
        for at in range(self.first + 1, len(self.ids) + 1):
            if at == len(self.ids) or at - start == longest or not (self.whole[at - 1] and self.whole[at]):
                yield start, at
                start = at


@dataclass(frozen=True)
class Conversation:
    """A prompt and the answer that is forced after it; `tools` are what the template of a conversation is told of.

    `calls` are the tool calls that end the answer, in OpenAI's form: the template renders them.
    """

    prompt: Prompt
    answer: str
    tools: tuple[Mapping[str, Any], ...] = ()
    calls: tuple[Mapping[str, Any], ...] = ()


async def cut_text(ask: Ask, text: str, *, ctx: int, chunks: int) -> list[Passage]:
    """Cut a text into chunks of `ctx` tokens whose second halves are scored, as llama-perplexity does.

    A short text gives fewer chunks than asked for; less than one is a SpecError. The markers of a chat template are plain
    text, as they are to llama-perplexity.
    """
    start = (await ask("/tokenize", {"content": "", "add_special": True}))["tokens"]  # BOS, if the model has it added
    ids, whole = await _tokens(ask, text, parse_special=False)
    if len(ids) < ctx:
        raise SpecError(f"The text has {len(ids)} tokens and a chunk {ctx}. Take a longer text or a smaller ctx.")
    return [
        Passage([*start, *ids[at + len(start) : at + ctx]], whole[at : at + ctx], ctx // 2 + 1)
        for at in range(0, min(chunks, len(ids) // ctx) * ctx, ctx)
    ]


async def cut_conversations(ask: Ask, conversations: Sequence[Conversation], *, longest: int) -> list[Passage]:
    """Cut each conversation, rendered by the server's template, into its prompt and at most `longest` tokens of answer.

    The markers of the template are special tokens here. What has no token to score is left out, and so are tool calls that
    the template refuses, drops, or renders otherwise than as the prompt's continuation up to the end of the turn. A thinking
    block that the prompt opens is closed before a call, empty. MachineError when nothing is left.
    """
    rendered = [await _render(ask, conversation) for conversation in conversations]
    passages = [await _cut_answer(ask, prompt, answer, longest) for prompt, answer in rendered if answer]
    if scored := [passage for passage in passages if passage.first < len(passage.ids)]:
        return scored
    raise MachineError(
        "No conversation has an answer to force: each is empty, or a tool call that the chat template does not render where "
        "the model writes it. Force another text."
    )


async def _render(ask: Ask, conversation: Conversation) -> tuple[str, str]:
    """Return prompt and answer as the server's template renders them; an empty answer where none can be forced."""
    messages, tools = conversation.prompt, {"tools": conversation.tools} if conversation.tools else {}
    if isinstance(messages, str):
        return messages, conversation.answer

    async def render(*turns: Message) -> str:
        return str((await ask("/apply-template", {"messages": [*messages, *turns], **tools}))["prompt"])

    prompt = await render()
    if not conversation.calls:
        return prompt, conversation.answer
    if messages[-1]["role"] == "assistant":  # the call would be a turn of its own
        return prompt, ""
    # The server drops the calls of a last message. Results follow calls even in templates that check who speaks after whom.
    results = [{"role": "tool", "tool_call_id": call.get("id", ""), "content": "done"} for call in conversation.calls]
    said = {"role": "assistant", "content": conversation.answer}
    try:
        called = await render({**said, "tool_calls": conversation.calls}, *results)
        marked = await render({**said, "content": conversation.answer + _MARK}, *results)
    except ServerError as error:
        if error.kind != "refused":
            raise
        return prompt, ""  # broken arguments, or a template that has no place for calls
    return prompt, answer_with_calls(prompt, called, marked)


def answer_with_calls(prompt: str, called: str, marked: str) -> str:
    """Return what a rendered answer with tool calls has between the prompt and the end of its turn.

    `called` is the rendering of the conversation with that answer and a turn after it, `marked` the same with a mark (U+E000)
    in place of the calls: what follows the mark ends the turn. Empty where `called` does not continue the prompt, does not
    end as `marked` does, or lacks the calls.
    """
    text, _, end = marked.rpartition(_MARK)
    answered = called.removesuffix(end)
    if not called.startswith(prompt) or not called.endswith(end) or answered.rstrip() == text.rstrip():
        return ""
    return answered[len(prompt) :]


async def _cut_answer(ask: Ask, prompt: str, answer: str, longest: int) -> Passage:
    # A blank before the answer belongs to the answer's first token.
    context = prompt.rstrip(" ")
    answer = prompt[len(context) :] + answer
    before, before_whole = await _tokens(ask, context)
    ids, whole = await _tokens(ask, context + answer)
    if ids[: len(before)] != before:  # the two merge at their border: each keeps its own tokens
        after, after_whole = await _tokens(ask, answer, add_special=False)
        ids, whole = before + after, before_whole + after_whole
    first = max(1, len(before))  # no server predicts the first token of all
    return Passage(ids[: first + longest], whole[: first + longest], first)


async def _tokens(
    ask: Ask, text: str, *, add_special: bool = True, parse_special: bool = True
) -> tuple[list[int], list[bool]]:
    body = {"content": text, "add_special": add_special, "parse_special": parse_special, "with_pieces": True}
    tokens = (await ask("/tokenize", body))["tokens"]
    # A piece of a character comes as a list of bytes.
    return [token["id"] for token in tokens], [isinstance(token["piece"], str) for token in tokens]


def kld_lower_bound(reference: Chunk, quant: Chunk) -> Array:
    """Return, per position, a lower bound of KL(reference ‖ quant) in nats.

    Every token that both lists hold is a cell, and all others together are one more, the tail, whose probabilities are
    what is left of 1. So a token that one list lacks is counted once, in the tail of either model, and the cells are a
    partition of the vocabulary, the same for both. A coarser partition can only lower KL (data-processing inequality);
    longer lists refine it, so the bound grows with them.
    """
    return np.array([_coarse_kld(ours, theirs) for ours, theirs in zip(reference, quant, strict=True)])


def _coarse_kld(reference: Position, quant: Position) -> float:
    _, ours, theirs = np.intersect1d(reference.top_ids, quant.top_ids, assume_unique=True, return_indices=True)
    log_p, log_q = reference.top_logprobs[ours].astype(float), quant.top_logprobs[theirs].astype(float)
    p = np.exp(log_p)
    # Tails with as much more on both sides as rounding may hide are less far apart: the bound stays one.
    p_tail, q_tail = (max(1 - total, 0) + _ROUNDING for total in (p.sum(), np.exp(log_q).sum()))
    return float((p * (log_p - log_q)).sum() + p_tail * np.log(p_tail / q_tail))


def summarise(
    reference: Sequence[Chunk], quant: Sequence[Chunk], *, ctx: int, corpus: str, corpus_sha256: str
) -> ProxyRow:
    """Compare a quant with the reference on the same positions; every `kld_*` is of the lower bound.

    SpecError when the two were not made to write the same tokens.
    """
    if [[at.token_id for at in chunk] for chunk in reference] != [[at.token_id for at in chunk] for chunk in quant]:
        raise SpecError(f"{corpus}: quant and reference cut the text into different tokens. Are they of one model?")
    compared = [_compared(ours, theirs) for ours, theirs in zip(reference, quant, strict=True)]
    chunk_means = tuple(_means(columns) for columns in compared)
    tokens = [len(chunk) for chunk in reference]
    se = chunk_se(chunk_means)
    every = np.concatenate(compared, axis=1)
    means, dp = _means(every), _dp(every)
    log_p, log_q, kld, _ = every
    median, p90, p95, p99, p999 = np.quantile(kld, [0.5, 0.9, 0.95, 0.99, 0.999]).tolist()
    ppl = float(np.exp(means.ln_ppl))
    notes = [f"KLD is a lower bound, from the {_listed(reference)} likeliest tokens ({_listed(quant)} of the quant)"]
    if len(compared) < 2:
        notes.append("one chunk: no standard errors, since tokens of one text are not independent")
    varies = log_p.std() > 0 < log_q.std()
    return ProxyRow(
        tool="forced",
        corpus=corpus,
        corpus_sha256=corpus_sha256,
        ctx=ctx,
        chunks=len(compared),
        n_tokens=len(kld),
        ppl=ppl,
        ppl_se=finite(ppl * se.ln_ppl),
        ppl_base=float(np.exp(-log_p.mean())),
        ppl_ratio=float(np.exp(means.ln_ppl_ratio)),
        ln_ppl_ratio=means.ln_ppl_ratio,
        ln_ppl_ratio_se=finite(se.ln_ppl_ratio),
        kld_mean=means.kld,
        kld_mean_se=finite(se.kld),
        kld_median=median,
        kld_p90=p90,
        kld_p95=p95,
        kld_p99=p99,
        kld_p999=p999,
        kld_max=float(kld.max()),
        kld_max_se=maximum_se([columns[2].max() for columns in compared]),
        kld_min=float(kld.min()),
        rms_dp=means.rms_dp,
        rms_dp_se=finite(se.rms_dp),
        mean_dp=float(dp.mean()),
        mean_dp_se=mean_se(np.array([_dp(columns).mean() for columns in compared]), tokens)
        if len(compared) > 1 else None,
        same_top_p=means.same_top_p,
        same_top_p_se=finite(se.same_top_p),
        correlation=float(np.corrcoef(log_p, log_q)[0, 1]) if varies else None,
        chunk_means=chunk_means,
        **_quantile_errors([columns[2] for columns in compared], notes),
        notes=tuple(notes),
    )  # fmt: skip


def _quantile_errors(kld: Sequence[Array], notes: list[str]) -> dict[str, float]:
    """Return the standard errors of those quantiles that have tokens enough beyond them, and note the others."""
    if len(kld) < 2:
        return {}
    n_tokens = sum(map(len, kld))
    told = {name: share for name, share in TAIL.items() if (1 - share) * n_tokens >= _FEWEST_BEYOND}
    notes += [
        f"{name} has no standard error: {n_tokens} tokens are too few so far out" for name in TAIL if name not in told
    ]
    errors = quantile_se(kld, list(told.values()))
    return {f"{name}_se": error for name, error in zip(told, errors, strict=True)}


def _compared(reference: Chunk, quant: Chunk) -> Array:
    """Rows: ln p of the text's tokens by reference and quant, KLD bound, 1 where both prefer the same token."""
    return np.array(
        [
            [at.logprob for at in reference],
            [at.logprob for at in quant],
            kld_lower_bound(reference, quant),
            [ours.top_ids[0] == theirs.top_ids[0] for ours, theirs in zip(reference, quant, strict=True)],
        ],
        dtype=float,
    )


def _dp(compared: Array) -> Array:
    log_p, log_q, *_ = compared
    return np.asarray(np.exp(log_q) - np.exp(log_p))


def _means(compared: Array) -> ChunkMeans:
    log_p, log_q, kld, same_top = compared
    return ChunkMeans(
        ln_ppl=float(-log_q.mean()),
        ln_ppl_ratio=float((log_p - log_q).mean()),
        kld=float(kld.mean()),
        rms_dp=float(np.sqrt((_dp(compared) ** 2).mean())),
        same_top_p=float(same_top.mean()),
        n_tokens=len(kld),
    )


def _listed(chunks: Sequence[Chunk]) -> int:
    return min(len(at.top_ids) for chunk in chunks for at in chunk)


async def force(
    ask: Ask, passages: Sequence[Passage], *, n_probs: int, parallel: int, progress: Progress
) -> list[list[Position]]:
    """Make the model write passages; return what it thought at every scored position.

    `parallel` passages are under way at a time, and every slot of the server must hold more tokens than the longest has.
    MachineError when a token can be forced in no way.
    """
    printable = (await ask("/tokenize", {"content": "a"}))["tokens"][-1]
    total = sum(len(passage.ids) - passage.first for passage in passages)
    turn, done = asyncio.Semaphore(parallel), 0

    async def forced(passage: Passage) -> list[Position]:
        nonlocal done
        positions: list[Position] = []
        async with turn:
            for start, stop in passage.stretches(max(1, _REPLY_ENTRIES // n_probs)):
                positions += await _force_stretch(_Forcing(ask, passage, n_probs, printable), start, stop)
                done += stop - start
                progress(done, total)
        return positions

    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(forced(passage)) for passage in passages]
    except* MachineError as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in running]


@dataclass(frozen=True)
class _Forcing:
    """A passage on its way: whom it is forced upon, how many tokens are listed, and any token with text of its own."""

    ask: Ask
    passage: Passage
    n_probs: int
    printable: int

    def body(self, at: int, n_probs: int) -> dict[str, Any]:
        """Return a request at a position, without what forces the token."""
        # The stretches of a passage follow each other, so that a slot still holds all but the last token of the prompt.
        prompt, is_later = self.passage.ids[:at], at > self.passage.first
        return {"prompt": prompt, "n_probs": n_probs, "temperature": 0, "cache_prompt": is_later}


async def _force_stretch(forcing: _Forcing, start: int, stop: int) -> list[Position]:
    """Force a stretch by grammar; halve it where the server cannot, down to tokens that are forced one by one.

    No grammar can express a fragment of a character (known before) or an end token (not known before): the server
    replies 500, or 200 with entries missing.
    """
    ids = forcing.passage.ids[start:stop]
    if forcing.passage.whole[start]:
        grammar = "root ::= " + " ".join(f"<[{token}]>" for token in ids)
        body = forcing.body(start, forcing.n_probs) | {"n_predict": len(ids), "grammar": grammar}
        try:
            reply = await forcing.ask("/completion", body)
        except ServerError as error:
            if error.kind != "refused":
                raise
            reply = {}
        entries = reply.get("completion_probabilities", [])
        if [entry["id"] for entry in entries] == ids:
            return [_position(entry["id"], entry["logprob"], entry["top_logprobs"]) for entry in entries]
    if len(ids) == 1:
        return [await _force_one(forcing, start)]
    middle = (start + stop) // 2
    left = await _force_stretch(forcing, start, middle)
    return left + await _force_stretch(forcing, middle, stop)


async def _force_one(forcing: _Forcing, at: int) -> Position:
    """Read a token off the list at its position, where a printable one is forced instead, so that there is a list.

    The server's log-probabilities are those before any bias, and it lists nothing for a token with incomplete text.
    """
    token = forcing.passage.ids[at]
    for longest in (forcing.n_probs, _WHOLE_VOCABULARY):
        body = forcing.body(at, longest) | {"n_predict": 1, "logit_bias": [[forcing.printable, 1000.0]]}
        for entry in (await forcing.ask("/completion", body)).get("completion_probabilities", []):
            for listed in entry["top_logprobs"]:
                if listed["id"] == token:
                    return _position(listed["id"], listed["logprob"], entry["top_logprobs"][: forcing.n_probs])
    raise MachineError(f"The server lists no log-probability for token {token}, not even in its longest list.")


def _position(token: int, logprob: float, top: Sequence[Mapping[str, Any]]) -> Position:
    logprobs = np.array([logprob, *(entry["logprob"] for entry in top)], np.float64)  # null becomes NaN
    if not np.isfinite(logprobs).all():
        raise MachineError(f"The model's probabilities for token {token} are not numbers. Is the quant broken?")
    own, *_ = logprobs = np.maximum(logprobs, _LEAST_LOGPROB)
    ids = np.array([entry["id"] for entry in top], np.int32)
    return Position(token, float(own), ids, logprobs[1:].astype(np.float32))


def save_positions(path: Path, passages: Sequence[Passage], chunks: Sequence[Chunk]) -> None:
    """Write passages and their positions as .npz, so that a resumed run need not ask the reference again.

    The file appears only whole.
    """
    positions = [at for chunk in chunks for at in chunk]
    unfinished = path.with_name(f"{path.name}.part")
    with unfinished.open("wb") as file:
        np.savez_compressed(
            file,
            passage_sizes=np.array([len(passage.ids) for passage in passages]),
            passage_ids=np.array([token for passage in passages for token in passage.ids], np.int32),
            passage_whole=np.array([is_whole for passage in passages for is_whole in passage.whole]),
            chunk_sizes=np.array([len(chunk) for chunk in chunks]),
            token_ids=np.array([at.token_id for at in positions], np.int32),
            logprobs=np.array([at.logprob for at in positions]),
            top_sizes=np.array([len(at.top_ids) for at in positions]),
            top_ids=np.concatenate([at.top_ids for at in positions]),
            top_logprobs=np.concatenate([at.top_logprobs for at in positions]),
        )
    unfinished.replace(path)


def load_positions(path: Path) -> list[list[Position]]:
    """Read the positions that `save_positions` wrote; MachineError when the file is damaged."""
    stored = _stored(path)
    ends = np.cumsum(stored["top_sizes"])[:-1]
    columns = (np.split(stored[name], ends) for name in ("top_ids", "top_logprobs"))
    positions = iter(map(Position, stored["token_ids"].tolist(), stored["logprobs"].tolist(), *columns))
    return [[next(positions) for _ in range(size)] for size in stored["chunk_sizes"].tolist()]


def load_passages(path: Path) -> list[Passage]:
    """Read the passages that `save_positions` wrote; MachineError when the file is damaged."""
    stored = _stored(path)
    ends = np.cumsum(stored["passage_sizes"])[:-1]
    ids, whole = (np.split(stored[name], ends) for name in ("passage_ids", "passage_whole"))
    return [
        Passage(tokens.tolist(), flags.tolist(), len(tokens) - scored)
        for tokens, flags, scored in zip(ids, whole, stored["chunk_sizes"].tolist(), strict=True)
    ]


def _stored(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise MachineError(f"{path}: not a file of positions ({error}). Delete it and run again.") from error
