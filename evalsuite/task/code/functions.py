"""HumanEval and MBPP, plain and with EvalPlus' tests: a function to write, and a checker that calls it."""

import ast
import builtins
import re
from collections.abc import Mapping
from typing import Any

from evalsuite.records import Sample
from evalsuite.task.code.records import Exam
from evalsuite.task.datasets import Dataset
from evalsuite.task.sandbox.pool import CheckJob
from evalsuite.task.sandbox.records import Checked, Execution, Limits, Program, Verdict

LIMITS = Limits(wall_s=30.0)
"""The slowest right solution takes 17 s of CPU (MBPP+ 599)."""

_ASK = "Complete the function. Answer with the whole function in one Python code block.\n\n```python\n{}```"


def humaneval(dataset: Dataset, options: Mapping[str, Any]) -> list[Sample]:
    """Turn HumanEval's rows (task_id, prompt, entry_point, test) into messages that ask for the whole function.

    `leave_out` names samples whose tests no program can pass.
    """
    return [
        Sample(
            row["task_id"],
            ({"role": "user", "content": _ASK.format(row["prompt"])},),
            {
                "function": row["entry_point"], "stub": row["prompt"],
                "checker": f"{row['test']}\n\ncheck({row['entry_point']})\n",
            },
        )
        for row in dataset.splits["test"] if row["task_id"] not in options.get("leave_out", ())
    ]  # fmt: skip


def mbpp(dataset: Dataset, options: Mapping[str, Any]) -> list[Sample]:
    """Turn MBPP's rows (task_id, prompt, test_list, test_imports, test) into messages that show the first assertion.

    Without it few prompts name the function. Where EvalPlus' `test` is missing, the assertions are the checker. `leave_out`
    names samples that cannot be judged here.
    """
    samples = []
    for row in dataset.splits["test"]:
        if row["task_id"] in options.get("leave_out", ()):
            continue
        text, imports = row.get("prompt") or row["text"], "\n".join(row.get("test_imports") or ())
        shown = f"```python\n{row['test_list'][0]}\n```"
        asked = f"{text}\nYour code should pass this test:\n\n{shown}\n\nAnswer with one code block."
        checker = row.get("test") or "\n".join(row["test_list"])
        function = _called(row["test_list"][0], row.get("code", ""))
        target = {"function": function, "stub": "", "checker": f"{imports}\n{checker}"}
        samples.append(Sample(str(row["task_id"]), ({"role": "user", "content": asked},), target))
    return samples


def _called(assertion: str, code: str) -> str:
    """Return the function that an assertion is about: the first it calls that the known solution defines, or no built-in."""
    called = [
        node.func.id
        for node in ast.walk(ast.parse(assertion.strip()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    defined = set(re.findall(r"^def\s+(\w+)", code, re.MULTILINE))
    own = [name for name in called if name in defined] or [name for name in called if not hasattr(builtins, name)]
    if not own:
        raise ValueError(f"no function is called in {assertion!r}")
    return own[0]


def _job(sample: Sample, source: str) -> CheckJob:
    target = sample.target
    solution = Program(_whole(source, target["stub"], target["function"]), packages=("numpy",))
    checker = Program(target["checker"], prelude=target["stub"], packages=("numpy",))  # some call the stub's helpers
    return CheckJob(solution, target["function"], checker, LIMITS)


def _whole(source: str, stub: str, function: str) -> str:
    """Return a program that defines the function: imports and helpers of the stub before it, or the stub to go on from."""
    if re.search(rf"^(?:async\s+)?def\s+{re.escape(function)}\b", source, re.MULTILINE):
        return f"{stub.partition(f'def {function}')[0]}\n{source}"
    return stub + source


def _judge(_: Sample, outcome: Execution | Checked) -> tuple[Verdict, str, int, int | None]:
    if not isinstance(outcome, Checked):
        raise TypeError("a checker was expected")
    return outcome.verdict, outcome.detail, int(outcome.verdict is Verdict.PASSED), None


FUNCTIONS = Exam("functions", 1, _job, _judge)
