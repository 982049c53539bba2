"""K: does each prompt of a conversation begin with the one before, so that a server's prompt cache can be used."""

from itertools import pairwise

from evalsuite.template.checks.judging import failed
from evalsuite.template.records import Case, Check, Evidence, Judge, Outcome


def _grows(*conversations: tuple[str, ...]) -> Judge:
    """Return the judge of prompts of which each is to begin with the one before."""
    return lambda evidence: [_pair(evidence, *pair) for steps in conversations for pair in pairwise(steps)]


def _pair(evidence: Evidence, earlier: str, later: str) -> Case:
    before, after = evidence.renderings[earlier], evidence.renderings[later]
    for shape, rendering in ((earlier, before), (later, after)):
        if rendering.text is None:
            return failed(rendering, shape)
    assert before.text is not None and after.text is not None  # noqa: S101, PT018 - both rendered
    name, seen = f"{earlier} → {later}", (before.text, after.text)
    if after.text.startswith(before.text):
        return Case(name, Outcome.OK, shapes=(earlier, later), seen=seen)
    old, new = before.text.encode(), after.text.encode()
    shared = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    detail = f"only {shared:,} of {len(old):,} bytes can be used again"
    return Case(name, Outcome.SILENT, detail, (earlier, later), seen)


def _day(evidence: Evidence) -> list[Case]:
    if "another day" not in evidence.renderings:
        return [Case("another day", Outcome.NOT_APPLICABLE, "the server's clock cannot be set")]
    same = evidence.renderings["another day"] == evidence.renderings["tools"]
    detail = "" if same else "the date is in the prompt: it changes at midnight, and two machines may differ"
    return [Case("another day", Outcome.OK if same else Outcome.SILENT, detail, ("tools",), (str(same),))]


_KNOWN = "https://github.com/QwenLM/Qwen3/issues/1826"
CHECKS = (
    Check("K01", "The prompt grows within a loop of calls", "each prompt begins with the one before", "the cache is lost",
          _KNOWN, "warning", _grows(("step 1", "step 2", "step 3"), ("step 1", "thinking step 2", "thinking step 3")),
          core=True, needs="calls"),
    Check("K02", "The prompt grows at a new question", "each prompt begins with the one before", "the cache is lost",
          _KNOWN, "warning", _grows(("step 2", "step 4")), core=True, needs="calls"),
    Check("K05", "The prompt of another day", "it is the same", "a clock in the prompt", _KNOWN, "information", _day),
)  # fmt: skip
