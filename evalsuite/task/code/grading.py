"""Programs judged once: those of all answers are collected, run side by side, and remembered by what they are."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from evalsuite.identity import content_id
from evalsuite.records import Outcome, Output, Sample, Score, Scored, Unscored
from evalsuite.task.code.extract import program
from evalsuite.task.code.records import Exam, Judged
from evalsuite.task.sandbox.pool import execute_all
from evalsuite.task.sandbox.records import Sandbox, Verdict

AT_ONCE = 16
"""How many programs have their tests unpacked at a time: those of one problem may take many MB."""


@dataclass(frozen=True)
class Submission:
    """A program that one sample's answer holds, and what judges it."""

    exam: Exam
    sample: Sample
    source: str

    def key(self, sandbox: Sandbox) -> str:
        """Name the verdict: equal programs on equal tests in equal surroundings have one."""
        return content_id("exec", {
            "exam": [self.exam.name, self.exam.version], "tests": self.sample.target, "source": self.source,
            "sandbox": asdict(sandbox.description),
        })  # fmt: skip


def submissions(exam: Exam, sample: Sample, output: Output) -> list[Submission]:
    """Return the program of an answer for each exam that takes one out of it."""
    exams = [exam] if exam.official is None else [exam, exam.official]
    found = [(each, each.extract(output.text)) for each in exams]
    return [Submission(each, sample, source) for each, source in found if source]


def judge(submissions: Mapping[str, Submission], sandbox: Sandbox) -> Iterator[tuple[str, Judged]]:
    """Run programs, given by their keys, and yield the verdict of each as it comes."""
    in_order = iter(sorted(submissions.items(), key=lambda item: item[1].sample.sample_id))
    while some := list(islice(in_order, AT_ONCE)):
        jobs = [each.exam.job(each.sample, each.source) for _, each in some]
        for index, outcome in execute_all(sandbox, jobs):
            key, each = some[index]
            verdict, detail, passed, tests = each.exam.judge(each.sample, outcome)
            yield key, Judged(verdict, detail, passed, tests, outcome.rerun)


def score_program(exam: Exam, output: Output, judged: Mapping[str, Judged]) -> Score:
    """Score a verdict: 1 where every test passed. Without one the program did not run, and the machine is to blame.

    `judged` holds the verdicts by the names of their exams. Upstream's own stands in the metrics as `official`, with
    `disagrees` where it is another.
    """
    source, rule = program(output.text)
    cut = output.outcome is Outcome.TRUNCATED
    verdict = judged.get(exam.name)
    if source is not None and verdict is None:
        return Unscored(Outcome.NOT_RUN, "its program was not run: no sandbox")
    right = float(verdict is not None and verdict.verdict is Verdict.PASSED)
    metrics: dict[str, Any] = {"verdict": "no_code" if verdict is None else verdict.verdict, "rule": rule}
    if verdict is not None:
        metrics |= {"detail": verdict.detail, "rerun": verdict.rerun}
        metrics |= {"tests_passed": verdict.passed / verdict.tests} if verdict.tests else {}
    if exam.official is not None:
        theirs = judged.get(exam.official.name)
        official = float(theirs is not None and theirs.verdict is Verdict.PASSED)
        metrics |= {"official": official, "disagrees": float(official != right)}
    if source is None:
        return Scored(0.0, Outcome.TRUNCATED if cut else Outcome.UNPARSED, metrics=metrics)
    return Scored(right, Outcome.TRUNCATED if cut and not right else Outcome.OK, source, metrics=metrics)
