"""Turn markers, found by how a template renders plain text: what opens a turn, what ends one, what asks for an answer."""

import re
from dataclasses import dataclass
from itertools import pairwise

from evalsuite.template.checks.judging import between, failed
from evalsuite.template.conversations import ANSWER, ARGUMENT, ASK_2, USER, USER_2
from evalsuite.template.records import Case, Evidence, Outcome
from evalsuite.template.round_trip import ENDS

_MARKER = re.compile(r"<[|｜]?[^<>\s]+[|｜]?>|\[/?[A-Z_]+\]")
_PAIR = re.compile(r"<(\w[\w.:-]*)>|\[([A-Z][A-Z_]*)\]")
_FREE = {"think"}
"""Tags that are opened by the prompt and closed by the model, so not in the same text."""
TOOL_TURNS = ("call, no prompt", "call, answer, question, no prompt")


@dataclass(frozen=True)
class Markers:
    """`end` is what follows an answer first; `opener` what is written once for each turn, None where nothing is."""

    end: str
    opener: str | None

    def left_open(self, text: str) -> int:
        """Return by how many the turns opened exceed those ended."""
        return text.count(self.opener) - self.ends(text) if self.opener else 0

    def ends(self, text: str) -> int:
        """Return how often a turn is ended in a text."""
        return sum(text.count(end) for end in {self.end, *ENDS})


def markers(evidence: Evidence) -> Markers | None:
    """Return the turn markers; None where an answer is ended by nothing that looks like one."""
    text = evidence.renderings["answered, no prompt"].text or ""
    gap = _MARKER.findall(between(text, f"{ANSWER}.", ASK_2["content"][:13]))
    if not gap:
        return None
    head, first = text.partition(USER_2)[0], between(text, USER, ANSWER)
    for end, opener in pairwise(gap):
        # The last user's turn is open at its sentinel; what opens turns is written once more than what ends them.
        if end in first and head.count(opener) == Markers(end, None).ends(head) + 1:
            return Markers(end, opener)
    return Markers(gap[0], None)


def balanced(evidence: Evidence) -> list[Case]:
    """R22: every turn that is opened is ended, a call's turn before its result; tags that open close."""
    found, base = markers(evidence), evidence.renderings["tools, no prompt"].text or ""
    cases = []
    for shape in TOOL_TURNS:
        rendering = evidence.renderings[shape]
        cases.append(
            failed(rendering, shape) if rendering.text is None
            else Case(shape, *_told(_unbalanced(rendering.text, base, found)), (shape,), (rendering.text,))
        )  # fmt: skip
    return cases


def _told(complaint: str) -> tuple[Outcome, str]:
    return (Outcome.SILENT if complaint else Outcome.OK), complaint


def goes_on(text: str, found: Markers) -> bool:
    """Tell whether a call's turn goes on behind its result, so that the answer is to be written into it."""
    return found.left_open(text) == 1 and found.opener is not None and found.opener not in text.partition(ARGUMENT)[2]


def _unbalanced(text: str, base: str, found: Markers | None) -> str:
    """Complain of turns left open, and of tags that do not close in what `text` has beyond `base`."""
    if found and found.opener and (left := found.left_open(text)) and not goes_on(text, found):
        more = (
            f"{left} more {found.opener} than ends of a turn"
            if left > 0
            else f"{-left} more ends of a turn than {found.opener}"
        )
        return f"{more} ({found.end})"
    for name in dict.fromkeys(a or b for a, b in _PAIR.findall(text)):
        for opener, closer in ((f"<{name}>", f"</{name}>"), (f"[{name}]", f"[/{name}]")):
            opened, closed = (text.count(tag) - base.count(tag) for tag in (opener, closer))
            if closer in text and name not in _FREE and opened != closed:
                return f"{opened} {opener} and {closed} {closer}"
    return ""


def answered_by(evidence: Evidence) -> list[Case]:
    """R01: the user's text is there, and the prompt opens an answer as answers in the history are opened."""
    plain, answered = evidence.renderings["user"], evidence.renderings["answered, no prompt"]
    if plain.text is None:
        return [failed(plain, "user")]
    if USER not in plain.text:
        return [Case("user", Outcome.SILENT, f"{USER} is not in the prompt", ("user",), (plain.text,))]
    tail = plain.text.partition(USER)[2].lstrip("?")
    opened = between(answered.text or "", USER, f"It is {ANSWER}").lstrip("?")
    first = re.match(r"\s*\S*[^\n]*", _asked(evidence, "user"))
    wanted = first[0].strip() if first else ""
    complaint = ""
    if opened and wanted and _role(wanted) not in opened:
        complaint = f"the prompt opens the answer with {_role(wanted)!r}, in the history it is {opened[-60:]!r}"
    elif opened and not wanted and opened.strip() != tail.strip() and not opened.strip().startswith(tail.strip()):
        complaint = f"nothing asks for an answer; in the history it follows {opened[-60:]!r}"
    elif opened and not wanted and (found := markers(evidence)) and found.opener and found.left_open(plain.text) <= 0:
        complaint = f"nothing opens the answer; in the history {opened[-60:]!r} does"
    return [Case("user", *_told(complaint), ("user",), (plain.text,))]


def _role(prompt: str) -> str:
    """Return the opener of a prompt without what a thinking mode adds to it."""
    return re.split(r"\s*(?:<\|START_THINKING|<think>|</think>|<\|channel|\[THINK\]|<seed:|\n)", prompt)[0] or prompt


def _asked(evidence: Evidence, shape: str) -> str:
    """Return what `add_generation_prompt` adds; empty where it adds nothing or the rest changes."""
    with_prompt, without = (evidence.renderings[name].text or "" for name in (shape, f"{shape}, no prompt"))
    return with_prompt.removeprefix(without) if with_prompt.startswith(without) else ""


def asked_once(evidence: Evidence) -> list[Case]:
    """R23: the prompt for an answer comes once, at the end, and only when it is asked for."""
    found = markers(evidence)
    cases = []
    for shape in ("user", "answered", "call", "call, answer, question"):
        without, rendering = evidence.renderings[f"{shape}, no prompt"], evidence.renderings[shape]
        if rendering.text is None or without.text is None:
            cases.append(failed(rendering if rendering.text is None else without, shape))
            continue
        asked, complaint = _asked(evidence, shape), ""
        half = len(asked) // 2
        if not rendering.text.startswith(without.text):
            complaint = "asking for an answer changes what stands before it"
        elif asked and asked[:half].strip() == asked[half:].strip() != "":
            complaint = f"the prompt is doubled: {asked!r}"
        elif found and found.left_open(without.text) > 0 and not goes_on(without.text, found):
            complaint = "a turn is opened at the end although no prompt was asked for"
        elif found and found.left_open(rendering.text) > 1:
            complaint = "more than one turn is opened at the end"
        cases.append(Case(shape, *_told(complaint), (shape, f"{shape}, no prompt"), (rendering.text, without.text)))
    return cases
