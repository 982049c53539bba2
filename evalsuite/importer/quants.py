"""Which rows of which files speak of one quant, what it is called, and which quant is the reference."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan

from evalsuite.errors import SpecError, did_you_mean
from evalsuite.importer.headers import is_full_precision, nominal_bits
from evalsuite.importer.records import Label

_NAMED_BY: tuple[tuple[str, ...], ...] = (
    ("quant",), ("provider", "quant"), ("quant", "variant"), ("provider", "quant", "variant"),
)  # fmt: skip


@dataclass(frozen=True)
class Quant:
    """One quant of one model, under the name it goes by in every table. NaN is unknown."""

    name: str
    label: Label
    size_bytes: float = nan
    bpw: float = nan


def joined(labels: Iterable[Label]) -> dict[Label, Label]:
    """Return for every label the fullest one that means the same quant.

    What a file does not say fits anything. Raises SpecError where a label fits several quants.
    """
    labels = set(labels)
    models = {label.model for label in labels if label.model}
    only = next(iter(models)) if len(models) == 1 else None
    by_quant: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        by_quant[label.quant].append(label)
    full: dict[Label, Label] = {}
    for alike in by_quant.values():
        for cluster in _clusters(alike):
            union = _union(cluster)
            full |= dict.fromkeys(cluster, union._replace(model=union.model or only))
    return full


def _clusters(labels: Sequence[Label]) -> list[list[Label]]:
    """Group the labels that mean the same quant."""
    if len({tuple(part is None for part in label) for label in labels}) == 1:
        return [[label] for label in labels]
    clusters: list[list[Label]] = []
    for label in sorted(labels, key=_by_fullness):
        fitting = [cluster for cluster in clusters if all(_fit(label, other) for other in cluster)]
        if len(fitting) > 1:
            names = ", ".join(sorted(told(_union(cluster)) for cluster in fitting)[:6])
            raise SpecError(
                f"{told(label)} may be any of {names}. Give both tables the columns that tell them apart, such as"
                " `provider`."
            )
        if fitting:
            fitting[0].append(label)
        else:
            clusters.append([label])
    return clusters


def _by_fullness(label: Label) -> tuple[int, list[str]]:
    return sum(part is None for part in label), [part or "" for part in label]


def _fit(one: Label, other: Label) -> bool:
    return all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))


def _union(cluster: Sequence[Label]) -> Label:
    provider, model, variant = (
        next((part for part in parts if part is not None), None) for parts in list(zip(*cluster, strict=True))[1:]
    )
    return Label(cluster[0].quant, provider, model, variant)


def told(label: Label) -> str:
    """Return everything that a label says."""
    return " ".join(part for part in (label.model, label.provider, label.quant, label.variant) if part)


def named(labels: Iterable[Label]) -> dict[Label, str]:
    """Return a name a quant, of as few of its label's parts as keep the quants of a model apart."""
    labels = sorted(set(labels), key=_by_fullness)
    for parts in _NAMED_BY:
        names = {label: " ".join(filter(None, (getattr(label, part) for part in parts))) for label in labels}
        if len({(label.model, name) for label, name in names.items()}) == len(names):
            return names
    raise SpecError("two quants have names that read the same once provider and variant are joined. Rename one.")


def chosen_model(quants: Sequence[Quant]) -> str | None:
    """Return the model with the most quants."""
    counts = Counter(quant.label.model for quant in quants)
    return min(counts, key=lambda model: (-counts[model], model or ""))


def find(quants: Sequence[Quant], name: str) -> Quant:
    """Return the quant that a user means by a name: the full one, or as much of it as fits one quant only.

    Raises SpecError for a name that fits none or several.
    """
    spellings: tuple[Callable[[Quant], str], ...] = (
        lambda quant: f"{quant.label.model or ''} {quant.name}".strip(),
        lambda quant: quant.name,
        lambda quant: quant.label.quant,
        lambda quant: told(quant.label),
    )
    for spelling in spellings:
        found = [quant for quant in quants if spelling(quant) == name]
        if len(found) == 1:
            return found[0]
        if found:
            names = sorted(told(quant.label) for quant in found)
            raise SpecError(f"reference {name!r} may be any of {', '.join(names[:6])}. Write one of these.")
    raise SpecError(f"reference {name!r} is not among the quants.{did_you_mean(name, {q.name for q in quants})}")


def largest(quants: Sequence[Quant]) -> tuple[Quant, str]:
    """Return the largest quant and by what it is the largest.

    File sizes decide where all are known; else a quant that is not quantised, then bits per weight, then what sizes
    there are, then the number in the name. Raises SpecError where none of these is known.
    """
    if not any(isnan(quant.size_bytes) for quant in quants):
        return min(quants, key=lambda quant: (-quant.size_bytes, *_bits(quant), quant.name)), "the largest file"
    best = min(quants, key=lambda quant: (*_bits(quant), quant.name))
    if is_full_precision(best.name):
        return best, "not quantised, by its name"
    if not isnan(best.bpw):
        return best, "the quant with the most bits per weight"
    if not isnan(best.size_bytes):
        return best, "the largest file whose size is known"
    if not isnan(nominal_bits(best.name)):
        return best, "the quant with the most bits by its name"
    raise SpecError("no table says which quant is the largest. Name the reference with --reference.")


def _bits(quant: Quant) -> tuple[float, ...]:
    nominal = nominal_bits(quant.name)
    measures: Mapping[str, float] = {
        "full": nominal if nominal >= 16 else nan, "bpw": quant.bpw, "size": quant.size_bytes, "nominal": nominal,
    }  # fmt: skip
    return tuple(0.0 if isnan(value) else -value for value in measures.values())
