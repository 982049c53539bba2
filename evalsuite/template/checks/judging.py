"""How a case is judged: a rendering that failed is told as it is; of one that did not, a complaint tells what is wrong."""

from collections.abc import Callable, Sequence
from typing import Any

from evalsuite.template.conversations import ARGUMENT, ARGUMENT_2, TOOL
from evalsuite.template.records import Case, Evidence, Judge, Outcome, Rendering

Complain = Callable[[str], str]
"""From a rendered text to what is wrong with it; empty where nothing is."""

_OUTCOMES = {
    "declined": Outcome.DECLINED, "error": Outcome.LOUD, "limit": Outcome.LOUD, "crash": Outcome.LOUD,
    "instrument": Outcome.INCONCLUSIVE,
}  # fmt: skip
_SERVERS_OWN = ("Failed to parse tool call arguments as JSON", "Failed to parse messages", "Missing tool call")


def judged(evidence: Evidence, shape: str, complain: Complain, **more: Any) -> Case:
    """Judge what became of one conversation."""
    rendering = evidence.renderings[shape]
    if rendering.text is None:
        return failed(rendering, shape, **more)
    complaint = complain(rendering.text)
    outcome = Outcome.SILENT if complaint else Outcome.OK
    return Case(shape, outcome, complaint, **{"shapes": (shape,), "seen": (rendering.text,), **more})


def failed(rendering: Rendering, shape: str, **more: Any) -> Case:
    """Return the case of a conversation that was not rendered."""
    assert rendering.failure is not None  # noqa: S101 - a rendering without a text has failed
    return Case(
        shape, _OUTCOMES[rendering.failure], rendering.message, line=rendering.line,
        blame="engine" if any(text in rendering.message for text in _SERVERS_OWN) else "template",
        **{"shapes": (shape,), "seen": (told(rendering),), **more},
    )  # fmt: skip


def told(rendering: Rendering) -> str:
    """Return what came of a conversation, without where in the source: a line that moved is no other error."""
    if rendering.text is not None:
        return rendering.text
    last = rendering.message.strip().splitlines()[-1:]
    return f"{rendering.failure}: {last[0] if last else ''}"


def each(*shapes: str, complain: Complain) -> Judge:
    """Return the judge of a check whose shapes are all to be without the same complaint."""
    return lambda evidence: [judged(evidence, shape, complain) for shape in shapes]


def keeps(shape: str, *words: str) -> Judge:
    """Return the judge of a check that wants these words in a rendering, in this order."""
    return each(shape, complain=lambda text: out_of_order(text, words))


def out_of_order(text: str, words: Sequence[str]) -> str:
    """Complain of words that are missing, or not in their order."""
    missing = [word for word in words if word not in text]
    if missing:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not in the prompt"
    at = 0
    for word in words:
        at = text.find(word, at)
        if at < 0:
            return f"the order is not {', '.join(words)}"
    return ""


def same_as(shape: str, *others: str) -> Judge:
    """Return the judge of a check whose other shapes are to render to the same bytes as `shape`."""

    def judge(evidence: Evidence) -> list[Case]:
        expected = evidence.renderings[shape]
        if expected.text is None:
            return [Case(other, Outcome.INCONCLUSIVE, f"“{shape}” does not render", (other,)) for other in others]
        return [judged(evidence, other, lambda text: unlike(text, expected.text or "")) for other in others]

    return judge


def unlike(text: str, expected: str) -> str:
    """Complain of a text that is not as expected, by the first place where they part."""
    if text == expected:
        return ""
    at = next(
        (i for i, (a, b) in enumerate(zip(text, expected, strict=False)) if a != b), min(len(text), len(expected))
    )
    around = slice(max(0, at - 20), at + 40)
    return f"renders {text[around]!r} where it should be {expected[around]!r}"


def describes_tools(evidence: Evidence) -> bool:
    """Tell whether a tool is in any rendering, or fails where the same without tools does not."""
    for shape, without in (("tools", "user"), ("tools and system", "system")):
        text = evidence.renderings[shape].text
        if TOOL in text if text is not None else evidence.renderings[without].text is not None:
            return True
    return False


def prints_calls(evidence: Evidence) -> bool:
    """Tell whether a call's argument is in any rendering, or all of them fail in a template that speaks of calls."""
    shapes = [evidence.renderings[name] for name in ("call", "two rounds", "text and call")]
    texts = [rendering.text for rendering in shapes if rendering.text is not None]
    return any(ARGUMENT in text or ARGUMENT_2 in text for text in texts) or (
        not texts and "tool_calls" in evidence.template.source
    )


def between(text: str, start: str, end: str) -> str:
    """Return what lies between two words; empty where they are not both there in this order."""
    return text.partition(start)[2].partition(end)[0] if end in text.partition(start)[2] else ""
