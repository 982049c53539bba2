"""What a change to a template did: for each check and engine fixed, broken, masked, or left alone."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from enum import StrEnum

from evalsuite.template.check import findings
from evalsuite.template.checks.judging import told
from evalsuite.template.conversations import SHAPES
from evalsuite.template.records import Case, Check, Engine, Evidence, Outcome


class Change(StrEnum):
    """What became of a case, a check or a whole template, the worst first."""

    REGRESSED = "REGRESSED"  # it held, and does no longer
    MASKED = "MASKED"  # the error is gone, and the content with it
    FIXED = "FIXED"
    SAME = "SAME"  # other bytes or another failure, neither better nor worse by the check
    NO_OP = "NO-OP"  # not touched
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class CaseChange:
    """One case before and after; `unmasked` where a silent loss became an error."""

    before: Case
    after: Case
    change: Change

    @property
    def unmasked(self) -> bool:
        """Tell whether a silent loss became an error."""
        return self.before.outcome is Outcome.SILENT and self.after.outcome in (Outcome.LOUD, Outcome.DECLINED)


@dataclass(frozen=True)
class CheckChange:
    """One check before and after: the worst of its cases that could be decided."""

    check: Check
    change: Change
    cases: tuple[CaseChange, ...]


@dataclass(frozen=True)
class EngineComparison:
    """All checks on one engine. `diffs` holds a unified diff of each of `n_shapes` conversations whose rendering changed.

    `change` is the worst over the checks that the change is to mend, `reason` says which they are; `beside` are the other
    checks that were broken or masked.
    """

    engine: Engine
    change: Change
    reason: str
    checks: tuple[CheckChange, ...]
    beside: tuple[CheckChange, ...]
    diffs: Mapping[str, str]
    n_shapes: int


def compare(before: Evidence, after: Evidence, *, targets: Collection[str] = ()) -> EngineComparison:
    """Compare what one engine made of two templates; `targets` are the ids of the checks to mend, default all."""
    pairs = zip(findings(before), findings(after), strict=True)
    checks = tuple(_check(old.check, old.cases, new.cases) for old, new in pairs)
    aimed = [each for each in checks if not targets or each.check.id in targets]
    change = worst([each.change for each in aimed])
    beside = tuple(each for each in checks if each not in aimed and each.change in (Change.REGRESSED, Change.MASKED))
    diffs = {shape: diff for shape in SHAPES if (diff := _diff(before, after, shape))}
    return EngineComparison(before.engine, change, _reason(change, aimed), checks, beside, diffs, len(SHAPES))


def worst(changes: Sequence[Change]) -> Change:
    """Return the worst of some changes, of those that could be decided where there are any."""
    return min(changes, key=list(Change).index, default=Change.INCONCLUSIVE)


def change_of(before: Case | None, after: Case | None) -> Change:
    """Return what became of one case; None is a case that the other template's format does not have."""
    old = Outcome.NOT_APPLICABLE if before is None else before.outcome
    new = Outcome.NOT_APPLICABLE if after is None else after.outcome
    if Outcome.INCONCLUSIVE in (old, new):
        return Change.INCONCLUSIVE
    if new is Outcome.OK and old is not Outcome.OK:
        return Change.FIXED
    if old is Outcome.OK and new is not Outcome.OK:
        return Change.REGRESSED
    if old in (Outcome.LOUD, Outcome.DECLINED) and new is Outcome.SILENT:
        return Change.MASKED
    untouched = old == new and (before is None or after is None or before.seen == after.seen)
    return Change.NO_OP if untouched else Change.SAME


def _check(check: Check, before: Sequence[Case], after: Sequence[Case]) -> CheckChange:
    old, new = ({case.name: case for case in cases} for cases in (before, after))
    if {case.outcome for case in after} == {Outcome.NOT_APPLICABLE}:  # one reason stands for every case
        new = dict.fromkeys(old, after[0])
    elif {case.outcome for case in before} == {Outcome.NOT_APPLICABLE}:
        old = dict.fromkeys(new, before[0])
    absent = Case("", Outcome.NOT_APPLICABLE, "not in this format")
    changes = tuple(
        CaseChange(old.get(name, absent), new.get(name, absent), change_of(old.get(name), new.get(name)))
        for name in dict.fromkeys([*old, *new])
    )
    return CheckChange(check, worst([each.change for each in changes]), changes)


def _reason(change: Change, checks: Sequence[CheckChange]) -> str:
    ids = ", ".join(each.check.id for each in checks if each.change is change)
    return {
        Change.REGRESSED: f"what held before does no longer: {ids}",
        Change.MASKED: f"an error is gone, and the content with it: {ids}",
        Change.FIXED: f"what failed before holds: {ids}",
        Change.SAME: f"bytes changed, no check is better or worse: {ids}",
        Change.NO_OP: "no conversation of these checks is touched",
        Change.INCONCLUSIVE: "no check could be decided",
    }[change]


def _diff(before: Evidence, after: Evidence, shape: str) -> str:
    old, new = (told(evidence.renderings[shape]).splitlines() for evidence in (before, after))
    return "\n".join(unified_diff(old, new, before.template.name, after.template.name, lineterm=""))
