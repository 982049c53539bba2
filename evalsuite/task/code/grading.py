"""Programs judged once: those of all answers are collected, run side by side, and remembered by what they are."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice

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


def submission(exam: Exam, sample: Sample, output: Output) -> Submission | None:
    """Return the program of an answer, None where it holds none."""
    source, _ = program(output.text)
    return None if source is None else Submission(exam, sample, source)


def judge(submissions: Mapping[str, Submission], sandbox: Sandbox) -> Iterator[tuple[str, Judged]]:
    """Run programs, given by their keys, and yield the verdict of each as it comes."""
    in_order = iter(sorted(submissions.items(), key=lambda item: item[1].sample.sample_id))
    while some := list(islice(in_order, AT_ONCE)):
        jobs = [each.exam.job(each.sample, each.source) for _, each in some]
        for index, outcome in execute_all(sandbox, jobs):
            key, each = some[index]
            verdict, detail, passed, tests = each.exam.judge(each.sample, outcome)
            yield key, Judged(verdict, detail, passed, tests, outcome.rerun)


def score_program(output: Output, judged: Judged | None) -> Score:
    """Score a verdict: 1 where every test passed. Without one the program did not run, and the machine is to blame."""
    source, rule = program(output.text)
    cut = output.outcome is Outcome.TRUNCATED
    if source is None:
        return Scored(0.0, Outcome.TRUNCATED if cut else Outcome.UNPARSED, metrics={"verdict": "no_code", "rule": rule})
    if judged is None:
        return Unscored(Outcome.NOT_RUN, "its program was not run: no sandbox")
    right = float(judged.verdict is Verdict.PASSED)
    metrics = {"verdict": judged.verdict, "rule": rule, "detail": judged.detail, "rerun": judged.rerun}
    if judged.tests:
        metrics["tests_passed"] = judged.passed / judged.tests
    return Scored(right, Outcome.TRUNCATED if cut and not right else Outcome.OK, source, metrics=metrics)
