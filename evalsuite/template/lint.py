"""What to write instead: where a failure has a known cause, the line of the template that holds it."""

import re
from collections.abc import Sequence

from evalsuite.template.records import Case, Check, Evidence, Outcome

_BY_TEXT = (
    "arguments may come as JSON text, which no template can decode: print text as it is (`{%- if arguments is string %}"
    "{{ arguments }}`), or refuse it with raise_exception; skipping what is no mapping loses it without a word"
)
_LITERALS = "`string` writes True and None as Python does: write strings as they are, all else by `tojson`"
_KNOWN: tuple[tuple[str, str, str], ...] = (
    ("R05", r"arguments[^|]*\|\s*items|arguments\.items\(\)|arguments is (defined|mapping)", _BY_TEXT),
    ("R06", r"arguments\s*\|\s*items", "guard with `if arguments`"),
    ("R07", r"arguments is mapping", "what is no mapping is skipped: add `{%- else %}{{- raise_exception(...) }}`"),
    (
        "R08",
        r"message\.content\s*[+~]|message\['content'\]\s*\+",
        "content may be absent or null: write `(message.content or '')`",
    ),
    ("R09", r"if (not )?message\.tool_calls", "print the content before the loop over the calls, not instead of it"),
    ("R10", r"tool_calls\[0\]|only supports single tool", "loop over `message.tool_calls`"),
    ("R13", r"message\.content|message\['content'\]", "a result may be a list of parts: join their `text`"),
    ("R14", r"message\.content|message\['content'\]", "content may be a list of parts: join their `text`"),
    ("R17", r"Unexpected message role|role(\s*|'\]\s*)== ['\"]system['\"]", "treat the role developer as system"),
    ("R20", r"No user query found", "go on without a user's turn instead of raising"),
    (
        "R28",
        r"is iterable|content\s*\|\s*tojson",
        "a string is iterable too: ask `is string` first, and print it as it is",
    ),
    ("P09", r"\|\s*string\b", _LITERALS),
    ("P10", r"\|\s*string\b", _LITERALS),
    ("G04", r"\.type\b|\['type'\]", "print what is not known by `tojson` rather than leave it out"),
    ("M02", r"\[::-1\]", "slices with a negative step do not load everywhere: use `| reverse`"),
)
"""Check id, what to look for in the source, and what to write instead."""


def advice(check: Check, evidence: Evidence, cases: Sequence[Case]) -> tuple[str, ...]:
    """Return what to mend, each with its line; empty where no cause is known."""
    cases = [case for case in cases if case.blame == "template" and case.outcome not in (Outcome.OK, *check.accepts)]
    lines = evidence.template.source.splitlines() if cases else []
    told = []
    for id_, pattern, instead in _KNOWN:
        at = next((n for n, line in enumerate(lines, 1) if re.search(pattern, line)), None) if id_ == check.id else None
        if at is not None:
            told.append(f"line {at}, `{lines[at - 1].strip()[:90]}`: {instead}")
    failing = {case.line for case in cases if case.line is not None and case.line <= len(lines)}
    told += [f"line {line}, `{lines[line - 1].strip()[:90]}`: it fails here" for line in sorted(failing) if not told]
    return tuple(told)
