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
from evalsuite.proxy.records import ChunkMeans, ProxyRow, chunk_se, finite

Ask = Callable[[str, dict[str, Any]], Awaitable[Mapping[str, Any]]]
"""Posts JSON to a path of the server and returns the parsed reply; ServerError of kind `refused` for any but 200."""

Progress = Callable[[int, int], None]
"""Called with the positions done and the positions in all."""

Array = npt.NDArray[np.float64]

_REPLY_ENTRIES = 64_000  # list entries in one reply: some 5 MB of JSON, and ten times that once parsed
_WHOLE_VOCABULARY = 10_000_000
_LEAST_LOGPROB = -104.0  # the server's float32 probabilities end at exp(-103.97); below, it says -3.4e38
_LEAST_TAIL = 1e-9  # what rounding leaves of a tail that is empty


@dataclass(frozen=True, eq=False)
class Position:
    """The token that the text has here, its log-probability in nats, and the likeliest tokens, best first."""

    token_id: int
    logprob: float
    top_ids: npt.NDArray[np.int32]
    top_logprobs: npt.NDArray[np.float32]


Chunk = Sequence[Position]


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
    p_tail, q_tail = (max(1 - total, _LEAST_TAIL) for total in (p.sum(), np.exp(log_q).sum()))
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
    se = chunk_se(chunk_means)
    every = np.concatenate(compared, axis=1)
    means, dp = _means(every), _dp(every)
    log_p, log_q, kld, _ = every
    median, p90, p95, p99, p999 = np.quantile(kld, [0.5, 0.9, 0.95, 0.99, 0.999]).tolist()
    ppl = float(np.exp(means.ln_ppl))
    dp_by_chunk = [_dp(columns).mean() for columns in compared]
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
        kld_min=float(kld.min()),
        rms_dp=means.rms_dp,
        rms_dp_se=finite(se.rms_dp),
        mean_dp=float(dp.mean()),
        mean_dp_se=float(np.std(dp_by_chunk, ddof=1) / np.sqrt(len(compared))) if len(compared) > 1 else None,
        same_top_p=means.same_top_p,
        same_top_p_se=finite(se.same_top_p),
        correlation=float(np.corrcoef(log_p, log_q)[0, 1]) if varies else None,
        chunk_means=chunk_means,
        notes=tuple(notes),
    )


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
    )


def _listed(chunks: Sequence[Chunk]) -> int:
    return min(len(at.top_ids) for chunk in chunks for at in chunk)


async def force(
    ask: Ask,
    text: str,
    *,
    ctx: int,
    chunks: int,
    n_probs: int,
    parallel: int,
    progress: Progress,
) -> list[list[Position]]:
    """Make the model write the text in chunks of `ctx` tokens; return what it thought at every scored position.

    A short text gives fewer chunks than asked for; less than one is a SpecError. `parallel` chunks are under way at a
    time, and every slot of the server must hold more than `ctx` tokens. The markers of a chat template are plain text,
    as they are to llama-perplexity. MachineError when a token can be forced in no way.
    """
    cut = await _cut(ask, text, ctx, chunks)
    total = sum(len(chunk.ids) - chunk.first for chunk in cut)
    turn, done = asyncio.Semaphore(parallel), 0

    async def forced(chunk: _Cut) -> list[Position]:
        nonlocal done
        positions: list[Position] = []
        async with turn:
            for start, stop in chunk.stretches(max(1, _REPLY_ENTRIES // n_probs)):
                positions += await _force_stretch(ask, chunk, start, stop, n_probs)
                done += stop - start
                progress(done, total)
        return positions

    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(forced(chunk)) for chunk in cut]
    except* MachineError as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in running]


@dataclass(frozen=True)
class _Cut:
    """The tokens of a chunk, scored from `first` on; `whole` tells those that end no character half-way.

    `printable` is any token with text of its own.
    """

    ids: list[int]
    whole: list[bool]
    first: int
    printable: int

    def stretches(self, longest: int) -> Iterator[tuple[int, int]]:
        """Yield what one request can force: runs of whole tokens, and every fragment of a character by itself."""
        start = self.first
        for at in range(self.first + 1, len(self.ids) + 1):
            if at == len(self.ids) or at - start == longest or not (self.whole[at - 1] and self.whole[at]):
                yield start, at
                start = at


async def _cut(ask: Ask, text: str, ctx: int, chunks: int) -> list[_Cut]:
    start = (await ask("/tokenize", {"content": "", "add_special": True}))["tokens"]  # BOS, if the model has it added
    printable = (await ask("/tokenize", {"content": "a"}))["tokens"][-1]
    body = {"content": text, "add_special": True, "parse_special": False, "with_pieces": True}
    tokens = (await ask("/tokenize", body))["tokens"]
    if len(tokens) < ctx:
        raise SpecError(f"The text has {len(tokens)} tokens and a chunk {ctx}. Take a longer text or a smaller ctx.")
    ids = [token["id"] for token in tokens]
    whole = [isinstance(token["piece"], str) for token in tokens]  # a piece of a character comes as a list of bytes
    return [
        _Cut([*start, *ids[at + len(start) : at + ctx]], whole[at : at + ctx], ctx // 2 + 1, printable)
        for at in range(0, min(chunks, len(ids) // ctx) * ctx, ctx)
    ]


async def _force_stretch(ask: Ask, chunk: _Cut, start: int, stop: int, n_probs: int) -> list[Position]:
    """Force a stretch by grammar; halve it where the server cannot, down to tokens that are forced one by one.

    No grammar can express a fragment of a character (known before) or an end token (not known before): the server
    replies 500, or 200 with entries missing.
    """
    ids = chunk.ids[start:stop]
    if chunk.whole[start]:
        grammar = "root ::= " + " ".join(f"<[{token}]>" for token in ids)
        try:
            reply = await ask("/completion", _body(chunk, start, n_probs) | {"n_predict": len(ids), "grammar": grammar})
        except ServerError as error:
            if error.kind != "refused":
                raise
            reply = {}
        entries = reply.get("completion_probabilities", [])
        if [entry["id"] for entry in entries] == ids:
            return [_position(entry["id"], entry["logprob"], entry["top_logprobs"]) for entry in entries]
    if len(ids) == 1:
        return [await _force_one(ask, chunk, start, n_probs)]
    middle = (start + stop) // 2
    left = await _force_stretch(ask, chunk, start, middle, n_probs)
    return left + await _force_stretch(ask, chunk, middle, stop, n_probs)


async def _force_one(ask: Ask, chunk: _Cut, at: int, n_probs: int) -> Position:
    """Read a token off the list at its position, where a printable one is forced instead, so that there is a list.

    The server's log-probabilities are those before any bias, and it lists nothing for a token with incomplete text.
    """
    for longest in (n_probs, _WHOLE_VOCABULARY):
        body = _body(chunk, at, longest) | {"n_predict": 1, "logit_bias": [[chunk.printable, 1000.0]]}
        for entry in (await ask("/completion", body)).get("completion_probabilities", []):
            for listed in entry["top_logprobs"]:
                if listed["id"] == chunk.ids[at]:
                    return _position(listed["id"], listed["logprob"], entry["top_logprobs"][:n_probs])
    raise MachineError(f"The server lists no log-probability for token {chunk.ids[at]}, not even in its longest list.")


def _body(chunk: _Cut, at: int, n_probs: int) -> dict[str, Any]:
    # The stretches of a chunk follow each other, so that a slot still holds all but the last token of the prompt.
    return {"prompt": chunk.ids[:at], "n_probs": n_probs, "temperature": 0, "cache_prompt": at > chunk.first}


def _position(token: int, logprob: float, top: Sequence[Mapping[str, Any]]) -> Position:
    logprobs = np.array([logprob, *(entry["logprob"] for entry in top)], np.float64)  # null becomes NaN
    if not np.isfinite(logprobs).all():
        raise MachineError(f"The model's probabilities for token {token} are not numbers. Is the quant broken?")
    own, *_ = logprobs = np.maximum(logprobs, _LEAST_LOGPROB)
    ids = np.array([entry["id"] for entry in top], np.int32)
    return Position(token, float(own), ids, logprobs[1:].astype(np.float32))


def save_positions(path: Path, chunks: Sequence[Chunk]) -> None:
    """Write positions as .npz, so that a resumed run need not ask the reference again; the file appears only whole."""
    positions = [at for chunk in chunks for at in chunk]
    unfinished = path.with_name(f"{path.name}.part")
    with unfinished.open("wb") as file:
        np.savez_compressed(
            file,
            chunk_sizes=np.array([len(chunk) for chunk in chunks]),
            token_ids=np.array([at.token_id for at in positions], np.int32),
            logprobs=np.array([at.logprob for at in positions]),
            top_sizes=np.array([len(at.top_ids) for at in positions]),
            top_ids=np.concatenate([at.top_ids for at in positions]),
            top_logprobs=np.concatenate([at.top_logprobs for at in positions]),
        )
    unfinished.replace(path)


def load_positions(path: Path) -> list[list[Position]]:
    """Read what `save_positions` wrote; MachineError when the file is damaged."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            stored = dict(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise MachineError(f"{path}: not a file of positions ({error}). Delete it and run again.") from error
    ends = np.cumsum(stored["top_sizes"])[:-1]
    columns = (np.split(stored[name], ends) for name in ("top_ids", "top_logprobs"))
    positions = iter(map(Position, stored["token_ids"].tolist(), stored["logprobs"].tolist(), *columns))
    return [[next(positions) for _ in range(size)] for size in stored["chunk_sizes"].tolist()]
