"""What a failing gate takes out: it stays in what is shown as measured, and goes from what compares quants and proxies."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from evalsuite.analysis.columns import PROXY_NAMES, ProxyColumn


@dataclass(frozen=True)
class LeftOut:
    """A task, a quant on a task, or a proxy of one tool on one text, with the reason why nothing is judged by it."""

    why: str
    task: str | None = None
    quant: str | None = None
    proxy: str | None = None
    tool: str | None = None
    corpus: str | None = None


def without(columns: Iterable[ProxyColumn], left_out: Iterable[LeftOut]) -> list[ProxyColumn]:
    """Return the columns that are not left out."""
    gone = {(each.proxy, each.tool, each.corpus) for each in left_out}
    return [column for column in columns if (column.proxy, column.tool, column.corpus) not in gone]


def names(left_out: Iterable[LeftOut]) -> str:
    """Name what is left out: `arc, piqa; Q4_0 on gsm8k; perplexity, mean KLD on wiki`."""
    groups: dict[LeftOut, list[str]] = {}
    for each in left_out:
        name = str(each.task) if each.proxy is None else PROXY_NAMES[each.proxy]
        groups.setdefault(replace(each, why="", task=None, proxy=None), []).append(name)
    return "; ".join(
        f"{f'{group.quant} on ' if group.quant else ''}{', '.join(dict.fromkeys(called))}"
        f"{f' on {group.corpus}' if group.corpus else ''}"
        for group, called in groups.items()
    )


def reasons(left_out: Iterable[LeftOut]) -> str:
    """Name what is left out, each reason in brackets after all that it is for."""
    groups: dict[str, list[LeftOut]] = {}
    for each in left_out:
        groups.setdefault(each.why, []).append(each)
    return "; ".join(f"{names(group)} ({why})" for why, group in groups.items())
