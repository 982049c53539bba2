"""Exact log-likelihoods and option probabilities over `/completion`, with token ids only.

Three ways to the same number, the natural-log probability of a given token under the full softmax:
* a token-id grammar forces the whole continuation in one request;
* one request a token, the token forced by a logit bias, for what a grammar cannot express (end tokens, and tokens that
  end inside a UTF-8 character);
* the whole softmax in one reply, for a token whose text is incomplete: the server leaves it out of the other replies.
llama-server reports log-probabilities before bias, grammar and temperature.
"""

import math
from collections.abc import Mapping, Sequence
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
    logprobs = [entry["logprob"] for entry in entries]
    if not all(isinstance(value, float | int) and math.isfinite(value) and value <= 0 for value in logprobs):
        return None
    greedy = all(entry["top_logprobs"][0]["id"] == token for entry, token in zip(entries, ids, strict=True))
    return Forced(math.fsum(logprobs), greedy)


def bias_body(prompt: Sequence[int], token: int) -> dict[str, Any]:
    """Return the request that forces one token by bias."""
    return {"prompt": list(prompt), "n_predict": 1, "n_probs": 1, "temperature": 0, "logit_bias": [[token, 1000.0]]}


def read_bias_reply(body: Mapping[str, Any], token: int) -> Forced | None:
    """Read the reply to `bias_body`; None when the token is not in it."""
    entries = body.get("completion_probabilities") or []
    if len(entries) != 1 or entries[0].get("id") != token:
        return None
    top = entries[0].get("top_logprobs") or [{}]
    return Forced(float(entries[0]["logprob"]), top[0].get("id") == token)


def softmax_body(prompt: Sequence[int], printable: int, n_vocab: int) -> dict[str, Any]:
    """Return the request for the whole softmax; `printable` is any token with complete text, which makes the reply appear."""
    return {**bias_body(prompt, printable), "n_probs": n_vocab}


def read_softmax(body: Mapping[str, Any]) -> dict[int, float] | None:
    """Return the log-probability of every token id, likeliest first; None when the reply has no list."""
    entries = body.get("completion_probabilities") or []
    if not entries:
        return None
    return {entry["id"]: float(entry["logprob"]) for entry in entries[0]["top_logprobs"]}


def choice_body(prompt: Sequence[int], options: Sequence[int]) -> dict[str, Any]:
    """Return the request for the exact probabilities of single-token options: lifted equally, they hold all the mass."""
    return {
        "prompt": list(prompt), "n_predict": 1, "n_probs": len(options), "post_sampling_probs": True,
        "samplers": ["temperature"], "temperature": 1.0, "logit_bias": [[token, BIAS] for token in options],
    }  # fmt: skip


def read_choice(body: Mapping[str, Any], options: Sequence[int]) -> tuple[float, ...] | None:
    """Return the probability of each option (sum 1); None unless exactly the options came back."""
    entries = body.get("completion_probabilities") or []
    found = {entry["id"]: float(entry["prob"]) for entry in (entries[0].get("top_probs") or [])} if entries else {}
    if set(found) != set(options) or abs(math.fsum(found.values()) - 1) > 1e-3:
        return None
    return tuple(found[token] for token in options)
