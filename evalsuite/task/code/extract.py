"""The program in an answer."""

import re

_BLOCK = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n`]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)
_PYTHON = {"", "py", "python", "python3"}


def official_program(text: str) -> str:
    """Return what LiveCodeBench's own grader takes: the lines between the last two that hold a fence; "" below two."""
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line]
    return "\n".join(lines[fences[-2] + 1 : fences[-1]]) if len(fences) > 1 else ""


def program(text: str) -> tuple[str | None, str]:
    """Return the program of an answer and the rule that found it.

    `fenced`: the last closed block that is Python or names no language. `unclosed`: a block that the end of the answer
    cuts off. `bare`: an answer without a fence that is Python from its first line on. `none` where there is none.
    """
    blocks = [found[2] for found in _BLOCK.finditer(text) if found[1].lower() in _PYTHON and found[2].strip()]
    if blocks:
        return blocks[-1], "fenced"
    if opened := re.search(r"^[ \t]*```[ \t]*(?:python3?|py)?[ \t]*\n(.*)\Z", text, re.DOTALL | re.MULTILINE):
        return opened[1], "unclosed"
    if re.match(r"\s*(?:from\s+\S+\s+import|import\s|def\s|class\s|@\w|#)", text) and "```" not in text:
        return text, "bare"
    return None, "none"
