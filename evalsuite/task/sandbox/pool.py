"""Many programs side by side, as many at a time as the machine can hold."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

from evalsuite.task.sandbox.check import checked
from evalsuite.task.sandbox.execute import execute, unfinished
from evalsuite.task.sandbox.records import Checked, Execution, Limits, Program, Sandbox, Test, TestResult

MEMORY_SHARE = 0.6
"""How much of the free memory the address spaces of all sandboxes may add up to."""


@dataclass(frozen=True)
class ExecuteJob:
    """What `execute` is given."""

    program: Program
    tests: tuple[Test, ...]
    limits: Limits
    stop: Callable[[int, TestResult], bool] = unfinished

    @property
    def memory_bytes(self) -> int:
        """The most memory it can take."""
        return self.limits.memory_bytes

    def run(self, sandbox: Sandbox) -> Execution:
        """Run it in this thread."""
        return execute(sandbox, self.program, self.tests, self.limits, stop=self.stop)


@dataclass(frozen=True)
class CheckJob:
    """What `checked` is given."""

    solution: Program
    entry_point: str
    checker: Program
    limits: Limits

    @property
    def memory_bytes(self) -> int:
        """The most memory it can take, in two sandboxes."""
        return 2 * self.limits.memory_bytes

    def run(self, sandbox: Sandbox) -> Checked:
        """Run it in this thread."""
        return checked(sandbox, self.solution, self.entry_point, self.checker, self.limits)


def execute_all(
    sandbox: Sandbox, jobs: Sequence[ExecuteJob | CheckJob], *, workers: int | None = None
) -> Iterator[tuple[int, Execution | Checked]]:
    """Yield the index and the outcome of every job as they come.

    A job that ran out of time without the processor for half of it waits until nothing else runs, and is run once more
    alone: that counts, and `rerun` says so. Raises what `execute` and `checked` raise.
    """
    tired = []
    with ThreadPoolExecutor(workers or room_for(jobs)) as threads:
        futures: dict[Future[Execution | Checked], int] = {
            threads.submit(job.run, sandbox): index for index, job in enumerate(jobs)
        }
        try:
            for future in as_completed(futures):
                outcome = future.result()
                if outcome.starved:
                    tired.append(futures[future])
                else:
                    yield futures[future], outcome
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
    for index in tired:
        yield index, replace(jobs[index].run(sandbox), rerun=True)


def room_for(jobs: Sequence[ExecuteJob | CheckJob]) -> int:
    """Return how many of these may run at a time: one a core, and no more than the free memory holds."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    largest = max((job.memory_bytes for job in jobs), default=1)
    return max(1, min(len(os.sched_getaffinity(0)), int(MEMORY_SHARE * free / largest)))
