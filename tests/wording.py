"""The rules of wording for sentences that state a finding, as something a test can run over them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

NEVER = {
    r"outperform": "says `outperforms`",
    r"\b(KLD|perplexity|PPL|prox(y|ies))\b[^.;:]*\b(fail(s|ed)?|is useless|is broken)\b": "says that a proxy fails",
    r"\bstatistically (identical|equal|the same)\b": "takes undecided for equal",
    r"\bno difference\b(?! at all could be found)": "takes undecided for equal",
    r"\bmax(imum)? KLD\b[^.;]*\b(ranks|orders|picks|prefers)\b": "ranks by the maximum KLD",
}
"""What no sentence says, and what is wrong with it."""

POWER = r"smallest difference found with \d+ % power is [\d.–]+ points|\bMDE [\d.]+|no difference at all could be found"
MARGIN = r"(within|margin( of)?) ±?[\d.]+ points?"
QUESTION = r"(other|these) (quants|samples|items|questions)"
SUBSET = (
    r"over all quants|near(est)? the reference|among the \d+ quants|(in|within) provider|of provider|up to|from .* up"
)
LIMITS = r"\[[−+]?[\d.]+, [−+]?[\d.]+\]"


def broken_rules(texts: Iterable[str]) -> list[str]:
    """Return a line for each rule that a text breaks: the rule, then the text."""
    return [f"{rule}: {text}" for text in texts for rule in _broken(text)]


def unsupported(claims: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the claims that call a quant worse or better without being supported."""
    return [
        claim["text"]
        for claim in claims
        if re.search(r"\b(is|are) (worse|better) than\b", claim["text"]) and claim["status"] != "supported"
    ]


def _broken(text: str) -> Iterator[str]:
    yield from (rule for pattern, rule in NEVER.items() if re.search(pattern, text, re.IGNORECASE))
    if re.search(r"no significant difference", text) and not re.search(POWER, text.split("no significant", 1)[1]):
        yield "no significant difference without the smallest difference that would have been found"
    # Where there are too few quants for an interval there is no question for it to be about.
    if re.search(r"ρ [−+]?[\d.]", text):
        yield from _broken_rho(text)
    if re.search(r"\bequivalent\b", text) and not re.search(MARGIN, text):
        yield "equivalent without its margin"
    if re.search(r"\bblind\b", text) and not (re.search(r"ceiling", text) and re.search(r"ρ [−+]?[\d.]", text)):
        yield "blind without ρ and the ceiling"
    if re.search(r"\b\d+ [^.]*\b(misleading|consistent|decided|separated|against it)\b", text) and "pairs" in text:
        for sentence in re.split(r"(?<=[a-z)])\. ", text):
            if "pairs" in sentence and "undecided" not in sentence:
                yield "decided pairs without the undecided ones"
    if re.search(r"\b(flips?|changed answers?)\b", text) and re.search(r"\b(worse|better|accura)", text):
        yield "takes changed answers for a score"


def _broken_rho(text: str) -> Iterator[str]:
    if not re.search(r"n = \d", text):
        yield "ρ without n"
    if not re.search(LIMITS, text) and "no interval" not in text:
        yield "ρ without an interval"
    if "no interval" not in text and not re.search(QUESTION, text):
        yield "ρ without the question that its interval answers"
    if not re.search(SUBSET, text, re.IGNORECASE):
        yield "ρ without the quants that it is over"
