"""What numbers of published tables cannot be (refused), and what they should not be (a finding)."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import exp, inf, log
from statistics import median

from evalsuite.errors import SpecError
from evalsuite.importer.cells import rounding, significant_digits
from evalsuite.importer.files import shown
from evalsuite.importer.headers import is_full_precision
from evalsuite.importer.records import Fact, Finding

Point = dict[str, Fact]
"""The values of one quant on one text by one tool, by measure."""

Numbers = dict[tuple[str, str, str], Fact]
"""The values of one quant by measure, text or task, and tool."""

_KLD = (-1e-3, inf, "a KL divergence is never negative, and rounding does not explain this much")
_ERROR = (0, inf, "an error is never negative")

LIMITS: Mapping[str, tuple[float, float, str]] = {
    "ppl": (1, inf, "a perplexity is never below 1"),
    "ppl_ratio": (1e-12, inf, "a ratio of perplexities is above 0"),
    "kld_mean": _KLD, "kld_median": _KLD, "kld_p99": _KLD, "kld_p999": _KLD, "kld_max": _KLD,
    "rms_dp": (0, 1, "the root mean square of a difference of probabilities lies between 0 and 100 %"),
    "same_top_p": (0, 1, "a share lies between 0 and 100 %"),
    "score": (0, 1, "a score lies between 0 and 1, or between 0 and 100 %"),
    "size_bytes": (1, inf, "a file has a size"),
    "bpw": (0.1, 64, "a weight has between 0 and 64 bits"),
    "pp_tps": (1e-12, inf, "a speed is above 0"), "tg_tps": (1e-12, inf, "a speed is above 0"),
    "n_tokens": (1, inf, "a count is at least 1"), "ctx": (1, inf, "a count is at least 1"),
    "chunks": (1, inf, "a count is at least 1"),
}  # fmt: skip

_SIZE, _BPW = ("size_bytes", "", ""), ("bpw", "", "")

_ASCENDING = (("kld_median", "kld_p99"), ("kld_p99", "kld_p999"), ("kld_p999", "kld_max"), ("kld_mean", "kld_max"))

_GIB = 2**30 / 1e9
_AGREE = 0.005
_NEAR = 1.5
"""A cell is in the wrong unit when the other one puts it within this factor of the column's range."""

_EVIDENCE_DIGITS = 8
"""Two rows that agree in fewer digits may do so by chance."""


def check_possible(fact: Fact) -> None:
    """Raise SpecError for a number that cannot be."""
    low, high, why = LIMITS.get(fact.measure, (-inf, inf, "")) if fact.part in {"value", "low", "high"} else _ERROR
    if fact.part == "n":
        low, high, why = (1, inf, "a count is at least 1")
    if not low <= fact.value <= high:
        raise SpecError(f"{fact.place}: {fact.text} is impossible: {why}. Correct the cell, or leave it empty.")


def check_swapped(points: Iterable[Point]) -> None:
    """Raise SpecError where PPL stands under KLD and KLD under PPL."""
    both = [point for point in points if "ppl" in point and "kld_mean" in point]
    swapped = [point for point in both if _is_swapped(point)]
    if not swapped:
        return
    first = swapped[0]
    ppl, kld = first["ppl"].column, first["kld_mean"].column
    todo = (
        f"Rename the columns: {shown(ppl)} holds the KLD and {shown(kld)} the PPL"
        if len(swapped) == len(both) and ppl != kld
        else f"Exchange the cells {shown(ppl)} and {shown(kld)} in {len(swapped)} of {len(both)} rows"
    )
    raise SpecError(f"{first['ppl'].place}: {_swap(first)} {todo}, and read the table again.")


def check_ascending(point: Point) -> None:
    """Raise SpecError where a percentile of the KLD is above a higher one, or the mean above the maximum."""
    for small, large in _ASCENDING:
        if small in point and large in point:
            low, high = point[small], point[large]
            if low.value > high.value + rounding(low.value) + rounding(high.value):
                raise SpecError(
                    f"{low.place}: {low.text} is impossible beside {shown(high.column)}, which is {high.text}:"
                    f" {small} is never above {large}. Correct one of the two cells, or leave it empty."
                )


def _is_swapped(point: Point) -> bool:
    return point["ppl"].value < 1 < point["kld_mean"].value


def _swap(point: Point) -> str:
    ppl, kld = point["ppl"], point["kld_mean"]
    return (
        f"PPL {ppl.text} and KLD {kld.text} are swapped: a perplexity is never below 1, and {kld.text} nats would be noise."
        f" The other way round, the reference's PPL comes to {kld.value * exp(-ppl.value):.2f}."
    )


def swapped_as_printed(quant: str, point: Point) -> Iterator[Finding]:
    """Name a swapped pair that the table itself puts right in other columns."""
    if "ppl" in point and "kld_mean" in point and _is_swapped(point):
        yield _finding("swapped_ppl_kld", quant, point["ppl"], _swap(point))


def share_scale(cells: Sequence[tuple[float, str, str]], *, may_be_small: bool) -> float:
    """Return what turns a column into shares: 0.01 where it holds percents, else 1.

    A cell is (value, text, place). Raises SpecError for a value that is neither, and for a share among percents or a
    percent among shares, unless percents below 1 are nothing special (`may_be_small`).
    """
    for value, text, place in cells:
        if not 0 <= value <= 100:
            raise SpecError(
                f"{place}: {text} is neither a share nor a percentage. Correct the cell, or leave it empty."
            )
    shares, percents = ([cell for cell in cells if cell[0] > 0 and (cell[0] > 1) == over] for over in (False, True))
    if not percents:
        return 1.0
    odd, usual, factor = (shares, percents, 100) if len(shares) <= len(percents) else (percents, shares, 0.01)
    low, high = min(value for value, _, _ in usual) / _NEAR, max(value for value, _, _ in usual) * _NEAR
    for value, text, place in odd:
        if low <= factor * value <= high and not may_be_small:
            raise SpecError(
                f"{place}: {text} stands among {'percentages' if factor > 1 else 'shares'} like {usual[0][1]}."
                f" Write {factor * value:g}, or {value:g} % if that is meant."
            )
    return 0.01


def inconsistent_ppl(rows: Mapping[str, Point]) -> Iterator[Finding]:
    """Compare what PPL, PPL ratio and PPL difference say of the reference's PPL, in rows of one model and text."""
    bases: dict[str, tuple[float, float]] = {}
    for quant, point in rows.items():
        found = _bases(point)
        if len(found) == 2 and abs(found[0][0] - found[1][0]) > sum(tolerance for _, tolerance in found):
            yield _finding("ppl_inconsistent", quant, point["ppl"], _contradiction(point, found))
        elif found:
            bases[quant] = min(found, key=lambda base: base[1])
    yield from _lone_bases(rows, bases)


def _bases(point: Point) -> list[tuple[float, float]]:
    """Return the reference's PPL by the ratio and by the difference, each with the error of rounding."""
    if "ppl" not in point:
        return []
    ppl, found = point["ppl"].value, []
    if "ppl_ratio" in point:
        ratio = point["ppl_ratio"].value
        found.append((ppl / ratio, ppl / ratio * (_AGREE + rounding(ratio) / ratio)))
    if "ppl_diff" in point:
        difference = point["ppl_diff"].value
        found.append((ppl - difference, _AGREE * ppl / 2 + rounding(difference)))
    return found


def _contradiction(point: Point, found: Sequence[tuple[float, float]]) -> str:
    ratio, difference = point["ppl_ratio"], point["ppl_diff"]
    detail = (
        f"PPL {point['ppl'].text}, ratio {ratio.text} and difference {difference.text} do not agree: the reference's PPL"
        f" would be {found[0][0]:.4f} by the ratio and {found[1][0]:.4f} by the difference"
    )
    if abs(ratio.value - 1) < 0.01:
        return f"{detail}. Correct one of the three."
    return f"{detail}. A PPL of {ratio.value * difference.value / (ratio.value - 1):.4f} would fit both."


def _lone_bases(rows: Mapping[str, Point], bases: Mapping[str, tuple[float, float]]) -> Iterator[Finding]:
    groups: list[list[str]] = []
    for quant in sorted(bases, key=lambda quant: (bases[quant][0], quant)):
        if groups and bases[quant][0] - bases[groups[-1][-1]][0] <= bases[quant][1]:
            groups[-1].append(quant)
        else:
            groups.append([quant])
    shared = [group for group in groups if len(group) > 1]
    if not shared:
        return
    usual = median(bases[quant][0] for quant in max(shared, key=len))
    for quant, *others in groups:
        if not others:
            detail = f"implies a reference PPL of {bases[quant][0]:.4f}, other rows one of {usual:.4f}."
            yield _finding("ppl_inconsistent", quant, rows[quant]["ppl"], f"PPL {rows[quant]['ppl'].text} {detail}")
    if len(shared) > 1:
        values = ", ".join(f"{median(bases[quant][0] for quant in group):.4f}" for group in shared[:5])
        yield _finding(
            "several_references", shared[0][0], rows[shared[0][0]]["ppl"],
            f"the rows were measured against {len(shared)} references, with PPLs of {values}: two models or texts in one"
            " table are not comparable.",
        )  # fmt: skip


def ratio_above_kld(quant: str, point: Point) -> Iterator[Finding]:
    """Name a row whose PPL moved more than its KLD explains."""
    if "kld_mean" in point and "ppl_ratio" in point and point["kld_mean"].value > 0.01:
        ratio, kld = log(point["ppl_ratio"].value), point["kld_mean"].value
        if abs(ratio) > 2 * kld:
            detail = f"ln(PPL ratio) is {ratio:.3f}, more than twice the mean KLD of {kld:g}."
            yield _finding("ln_ratio_above_kld", quant, point["ppl_ratio"], detail)


def equal_rows(
    numbers: Mapping[str, Numbers], *, is_proxy: Callable[[Fact], bool]
) -> tuple[list[Finding], dict[str, str]]:
    """Return rows that agree in every number, rows whose proxies agree and scores do not, and each copy's original.

    `numbers` holds every value of each quant. Of quants with equal numbers the first by name is the original.
    """
    findings, same_as = [], {}
    for quants in _equal_groups(numbers, lambda _: True):
        if any(fact.measure not in {"size_bytes", "bpw"} for fact in numbers[quants[0]].values()):
            for quant in quants[1:]:
                same_as[quant] = quants[0]
                detail = f"equals {quants[0]} in every number: one file under two names, or a copied row."
                findings.append(_finding("equal_rows", quant, _any(numbers[quant]), detail, column=""))
    for quants in _equal_groups(numbers, is_proxy):
        for one, other in pairwise(quant for quant in quants if quant not in same_as):
            if _scores(numbers[one]) != _scores(numbers[other]) and _scores(numbers[one]) and _scores(numbers[other]):
                detail = (
                    f"has the proxies of {one} to the last digit, and other scores: one row's proxies may be copied."
                )
                findings.append(_finding("equal_proxies", other, _any(numbers[other]), detail, column=""))
    return findings, same_as


def _equal_groups(numbers: Mapping[str, Numbers], wanted: Callable[[Fact], bool]) -> Iterator[list[str]]:
    groups: dict[frozenset[tuple[Hashable, float]], list[str]] = defaultdict(list)
    for quant in sorted(numbers):
        groups[frozenset((key, fact.value) for key, fact in numbers[quant].items() if wanted(fact))].append(quant)
    for group in groups.values():
        digits = [significant_digits(fact.text) for fact in numbers[group[0]].values() if wanted(fact)]
        if len(group) > 1 and sum(digits) >= _EVIDENCE_DIGITS:
            yield group


def _scores(numbers: Numbers) -> dict[Hashable, float]:
    return {key: fact.value for key, fact in numbers.items() if fact.measure == "score"}


def _any(numbers: Numbers) -> Fact:
    return min(numbers.values(), key=lambda fact: fact.file)


def reference_rows(numbers: Mapping[str, Numbers]) -> Iterator[Finding]:
    """Name the unquantised rows that would become points of a correlation although their damage is 0 by definition."""
    for quant, facts in numbers.items():
        klds = [fact.value for fact in facts.values() if fact.measure == "kld_mean"]
        if facts and is_full_precision(quant) and not any(klds) and any(f.measure != "score" for f in facts.values()):
            detail = "is not quantised: a reference, not a quant to correlate over."
            yield _finding("reference_row", quant, _any(facts), detail, column="")


def implied_parameters(numbers: Mapping[str, Numbers]) -> Iterator[Finding]:
    """Compare the parameters that (size, bits per weight) imply over the quants of one model."""
    sizes = {quant: (facts[_SIZE], facts[_BPW]) for quant, facts in numbers.items() if _SIZE in facts and _BPW in facts}
    implied = sorted((8 * size.value / bpw.value, quant) for quant, (size, bpw) in sizes.items())
    if len(implied) < 3:
        return
    values = [value for value, _ in implied]
    cut = max(range(1, len(values)), key=lambda at: values[at] / values[at - 1])
    low, high = implied[:cut], implied[cut:]
    tight = all(group[-1][0] / group[0][0] < 1.02 for group in (low, high))
    ratio = median(value for value, _ in high) / median(value for value, _ in low)
    if tight and abs(ratio / _GIB - 1) < 0.015:
        odd, unit = (low, "GiB") if len(low) <= len(high) else (high, "GB")
        for value, quant in odd:
            size = sizes[quant][0]
            yield _finding(
                "gb_gib", quant, size,
                f"{size.text} and {sizes[quant][1].text} bits per weight imply {value / 1e9:.2f} billion parameters, other"
                f" rows {median(values) / 1e9:.2f}: the size seems to be in {unit}.",
            )  # fmt: skip
    elif values[-1] / values[0] > 1.25:
        middle = median(values)
        value, quant = max(implied, key=lambda each: (abs(log(each[0] / middle)), each[1]))
        size = sizes[quant][0]
        yield _finding(
            "implied_parameters", quant, size,
            f"{size.text} and {sizes[quant][1].text} bits per weight imply {value / 1e9:.2f} billion parameters, the middle"
            f" row {middle / 1e9:.2f}: another model, or a wrong cell.",
        )  # fmt: skip


def sizes_differ(quant: str, first: Fact, other: Fact) -> Iterator[Finding]:
    """Compare the sizes, or the bits per weight, that two files give for one quant."""
    ratio = max(first.value, other.value) / min(first.value, other.value)
    said = f"{first.file} says {first.text}, {other.file} {other.text}"
    if first.measure == "size_bytes" and abs(ratio / _GIB - 1) < 0.015:
        yield _finding("gb_gib", quant, other, f"{said}: one is in GB and one in GiB.")
    elif ratio > 1.02:
        yield _finding("sizes_differ", quant, other, f"{said}: two uploads under one name are two files.")


def _finding(rule: str, quant: str, fact: Fact, detail: str, *, column: str | None = None) -> Finding:
    return Finding(rule, fact.file, quant, fact.column if column is None else column, detail)
