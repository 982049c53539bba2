"""Exact log-likelihoods and option probabilities over `/completion`, with token ids only.

Three ways to the same number, the natural-log probability of a given token under the full softmax:
* a token-id grammar forces the whole continuation in one request;
* one request a token, the token forced by a logit bias, for what a grammar cannot express (end tokens, and tokens that
  end inside a UTF-8 character);
* the whole softmax in one reply, for a token whose text is incomplete: the server leaves it out of the other replies.
llama-server reports log-probabilities before bias, grammar and temperature.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BIAS = 100.0
"""Enough to lift a token above the whole vocabulary, small enough to keep float32 differences among the lifted."""


@dataclass(frozen=True)
class Forced:
    """Summed log-probability (nats) of forced tokens, and whether greedy decoding would have chosen each of them."""

    logprob: float
    is_greedy: bool


def grammar_body(prompt: Sequence[int], ids: Sequence[int]) -> dict[str, Any]:
    """Return the request that forces `ids` after `prompt`; more tokens than `ids` would add an end token."""
    grammar = "root ::= " + " ".join(f"<[{token}]>" for token in ids)
    return {"prompt": list(prompt), "n_predict": len(ids), "n_probs": 1, "temperature": 0, "grammar": grammar}


def read_grammar_reply(body: Mapping[str, Any], ids: Sequence[int]) -> Forced | None:
    """Read the reply to `grammar_body`; None when the server left a token out or chose another, as it may with HTTP 200."""
    entries = body.get("completion_probabilities") or []
    if [entry.get("id") for entry in entries] != list(ids) or body.get("tokens_predicted") != len(ids):
        return None
    logprobs = [entry.get("logprob") for entry in entries]
    if not _are_numbers(logprobs) or max(logprobs) > 0:
        return None
    greedy = all(_likeliest(entry) == token for entry, token in zip(entries, ids, strict=True))
    return Forced(math.fsum(logprobs), greedy)


def bias_body(prompt: Sequence[int], token: int) -> dict[str, Any]:
    """Return the request that forces one token by bias."""
    return {"prompt": list(prompt), "n_predict": 1, "n_probs": 1, "temperature": 0, "logit_bias": [[token, 1000.0]]}


def read_bias_reply(body: Mapping[str, Any], token: int) -> Forced | None:
    """Read the reply to `bias_body`; None when the token is not in it, or has no number."""
    entries = body.get("completion_probabilities") or []
    if [entry.get("id") for entry in entries] != [token] or not _are_numbers([entries[0].get("logprob")]):
        return None
    return Forced(float(entries[0]["logprob"]), _likeliest(entries[0]) == token)


def softmax_body(prompt: Sequence[int], printable: int, n_vocab: int) -> dict[str, Any]:
    """Return the request for the whole softmax; `printable` is any token with complete text, which makes the reply appear."""
    return {**bias_body(prompt, printable), "n_probs": n_vocab}


def read_softmax(body: Mapping[str, Any]) -> dict[int, float] | None:
    """Return the log-probability of every token id, likeliest first; None when the reply has no list, or not of numbers."""
    entries = body.get("completion_probabilities") or [{}]
    found = {entry.get("id"): entry.get("logprob") for entry in entries[0].get("top_logprobs") or []}
    return found if found and _are_numbers(found.values()) else None


def choice_body(prompt: Sequence[int], options: Sequence[int]) -> dict[str, Any]:
    """Return the request for the exact probabilities of single-token options: lifted equally, they hold all the mass."""
    return {
        "prompt": list(prompt), "n_predict": 1, "n_probs": len(options), "post_sampling_probs": True,
        "samplers": ["temperature"], "temperature": 1.0, "logit_bias": [[token, BIAS] for token in options],
    }  # fmt: skip


def read_choice(body: Mapping[str, Any], options: Sequence[int]) -> tuple[float, ...] | None:
    """Return the probability of each option (sum 1); None unless exactly the options came back, with numbers."""
    entries = body.get("completion_probabilities") or [{}]
    found = {entry.get("id"): entry.get("prob") for entry in entries[0].get("top_probs") or []}
    if set(found) != set(options) or not _are_numbers(found.values()) or abs(math.fsum(found.values()) - 1) > 1e-3:
        return None
    return tuple(found[token] for token in options)


def _are_numbers(values: Iterable[Any]) -> bool:
    """Say whether all are finite: llama-server writes a NaN as null."""
    return all(isinstance(value, float | int) and math.isfinite(value) for value in values)


def _likeliest(entry: Mapping[str, Any]) -> Any:
    return (entry.get("top_logprobs") or [{}])[0].get("id")
