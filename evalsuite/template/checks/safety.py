"""S: what the text of others can do to the prompt, and what a template hides."""

import re

from evalsuite.template.checks.judging import judged
from evalsuite.template.records import Case, Check, Evidence, Outcome

_CLOSERS = ("</tool_response>", "<|im_end|>", "<|eot_id|>", "[/TOOL_RESULTS]")
_HIDDEN = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f]")
_INTERNAL = re.compile(r"__\w+__|\|\s*attr\b")


def _envelope(evidence: Evidence) -> list[Case]:
    usual = evidence.renderings["call"].text or ""

    def complain(text: str) -> str:
        ours = [closer for closer in _CLOSERS if closer in usual and text.count(closer) > usual.count(closer)]
        return (
            f"{' and '.join(ours)} in a result {'stands' if len(ours) == 1 else 'stand'} as the format's own"
            if ours
            else ""
        )

    return [judged(evidence, "result that closes", complain)]


def _source(evidence: Evidence) -> list[Case]:
    cases = []
    for name, pattern in (("internals", _INTERNAL), ("invisible characters", _HIDDEN)):
        found = pattern.search(evidence.template.source)
        line = evidence.template.source.count("\n", 0, found.start()) + 1 if found else None
        detail = f"line {line} has {found[0]!r}" if found else ""
        cases.append(Case(name, Outcome.SILENT if found else Outcome.OK, detail, seen=(detail,), line=line))
    return cases


_KNOWN = "https://github.com/ggml-org/llama.cpp/issues/24382"
CHECKS = (
    Check("S02", "A result that closes its envelope", "the envelope closes once", "a tool's text becomes a turn of its own",
          _KNOWN, "warning", _envelope, needs="calls"),
    Check("S03", "Nothing is hidden in the source", "no reach for Python's internals, no invisible characters", "back doors",
          _KNOWN, "warning", _source),
)  # fmt: skip
