"""A sweep from its file to its report: spec → plan → serve → task → store → analysis → report."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalsuite.describe import describe
from evalsuite.plan import Plan, check_unchanged, make_plan
from evalsuite.proxy.measure import measure_files
from evalsuite.run import ArmResult, Progress, Silent, run
from evalsuite.score import score_plan
from evalsuite.serve.llama_cpp import LlamaCpp, build_id, find_llama_cpp
from evalsuite.serve.serving import Patience
from evalsuite.serve.tokenizer import Tokenizer
from evalsuite.spec import read_sweep
from evalsuite.store import Store
from evalsuite.task.sandbox.backends import open_sandbox
from evalsuite.task.sandbox.records import Sandbox


@dataclass(frozen=True)
class Sweep:
    """A sweep that was read and checked, its results directory held by this process."""

    plan: Plan
    store: Store
    llama_cpp: LlamaCpp
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Finished:
    """What a sweep ended with: what became of each arm, what else went wrong, the report and the numbers in it.

    `no_sandbox` says why the programs among the answers were not run.
    """

    arms: tuple[ArmResult, ...]
    problems: tuple[str, ...]
    report: Path
    analysis: Mapping[str, Any]
    no_sandbox: str | None

    @property
    def is_complete(self) -> bool:
        """True when every planned sample was answered and every proxy measured, and programs had a sandbox to run in."""
        return not self.problems and self.no_sandbox is None and all(arm.status == "ok" for arm in self.arms)

    @property
    def exit_code(self) -> int:
        """0 when complete, 3 when programs had no sandbox, else 1."""
        return 0 if self.is_complete else 1 if self.no_sandbox is None else 3


def out_folder(sweep: Path) -> Path:
    """Return the results directory that a sweep names."""
    return sweep.parent / Path(read_sweep(sweep).out).expanduser()


def open_sweep(
    path: Path, store: Store, *, llama_cpp: Path | None = None, data: Mapping[str, str] | None = None,
    accept_changes: bool = False, remember: bool = True, progress: Progress | None = None,
) -> Sweep:  # fmt: skip
    """Read a sweep and check it against everything that needs no model served.

    `llama_cpp` names the folder of a build, `data` replaces the data of tasks by name, and `accept_changes` goes on where
    the sweep was changed so that finished work no longer counts; what is only looked at is not to `remember` as the plan
    that the next one is compared with. Raises SpecError or MachineError.
    """
    said = progress or Silent()
    found = find_llama_cpp(llama_cpp)
    with Tokenizer(found, store) as tokenizer:
        plan = make_plan(
            read_sweep(path), base=path.parent.absolute(), store=store, build_id=build_id(found), data=data,
            say=lambda text: said.phase("checking", text), count=tokenizer.count,
        )  # fmt: skip
    changes = check_unchanged(plan, store, accept=accept_changes, remember=remember)
    return Sweep(plan, store, found, tuple(changes))


def run_sweep(
    sweep: Sweep, *, progress: Progress | None = None, patience: Patience | None = None,
    open_place: Callable[[], Sandbox] = open_sandbox,
) -> Finished:  # fmt: skip
    """Ask what is missing, measure what is missing, score, and write the report."""
    said = progress or Silent()
    arms = asyncio.run(run(sweep.plan, sweep.store, sweep.llama_cpp, progress=said, patience=patience))
    sweep.store.put_meta("arms", [vars(arm) for arm in arms])
    problems = measure_files(sweep.plan, sweep.llama_cpp, sweep.store, said.phase)
    return finish(sweep, arms=arms, problems=problems, progress=said, open_place=open_place)


def measure_proxies(sweep: Sweep, *, progress: Progress | None = None) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Measure the proxies of a sweep without asking its tasks; return a row a quant and corpus, and what went wrong."""
    said = progress or Silent()
    arms = asyncio.run(run(replace(sweep.plan, tasks=()), sweep.store, sweep.llama_cpp, progress=said))
    problems = [f"{arm.arm}: {arm.reason}" for arm in arms if arm.reason]
    problems += measure_files(sweep.plan, sweep.llama_cpp, sweep.store, said.phase)
    describe(sweep.plan, sweep.store, sweep.llama_cpp)
    return sweep.store.get_meta("proxies"), problems


def finish(
    sweep: Sweep, *, arms: list[ArmResult], problems: list[str], progress: Progress | None = None,
    open_place: Callable[[], Sandbox] = open_sandbox,
) -> Finished:  # fmt: skip
    """Score what the store holds and write the report; asks nothing. Programs run in what `open_place` opens."""
    said = progress or Silent()
    said.phase("scoring", "")
    no_sandbox = score_plan(sweep.plan, sweep.store, open_place, said)
    describe(sweep.plan, sweep.store, sweep.llama_cpp)
    said.phase("writing", "report")
    # The libraries behind the page take seconds to import, and a run should start at once.
    from evalsuite.export import read_tables  # noqa: PLC0415
    from evalsuite.report.write import write_report  # noqa: PLC0415

    analysis, report = write_report(read_tables(sweep.store), sweep.store.folder)
    if no_sandbox is not None:
        said.say(f"no program was run: {no_sandbox}")
    return Finished(tuple(arms), tuple(problems), report, analysis, no_sandbox)
