"""How a program is examined: the nouns that a task, the sandbox and the store share."""

from collections.abc import Callable
from dataclasses import dataclass

from evalsuite.records import Sample
from evalsuite.task.code.extract import program
from evalsuite.task.sandbox.pool import CheckJob, ExecuteJob
from evalsuite.task.sandbox.records import Checked, Execution, Verdict


@dataclass(frozen=True)
class Judged:
    """What became of one program: the verdict, why, and how many of its tests it passed before the first that it failed.

    `tests` is None where a checker runs as a whole; `rerun` says that the program ran once more, alone, since the first
    run starved.
    """

    verdict: Verdict
    detail: str
    passed: int
    tests: int | None
    rerun: bool


@dataclass(frozen=True)
class Exam:
    """What judges the programs of a task.

    `job` makes of a sample and a program what the sandbox runs, which holds no expected output; `judge` compares outside,
    and returns the verdict, why, and the numbers of tests passed and given. `version` changes when verdicts may. `extract`
    takes the program out of an answer. `official` is an exam with upstream's own verdict, which stands beside this one's.
    """

    name: str
    version: int
    job: Callable[[Sample, str], ExecuteJob | CheckJob]
    judge: Callable[[Sample, Execution | Checked], tuple[Verdict, str, int, int | None]]
    extract: Callable[[str], str | None] = lambda text: program(text)[0]
    official: "Exam | None" = None
