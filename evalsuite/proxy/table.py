"""Proxies that others measured: rows of a table joined to the quants of a sweep."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from evalsuite.errors import SpecError, did_you_mean
from evalsuite.importer.facts import read_facts
from evalsuite.importer.files import read_grids
from evalsuite.importer.quants import told
from evalsuite.importer.read import read_files
from evalsuite.proxy.records import ProxyRow
from evalsuite.tables import Tables


class Listed(Protocol):
    """What a row of a table is joined to. `identity` is `sha256:` and the digest, where the file is known."""

    @property
    def name(self) -> str:
        """The name in the sweep."""

    @property
    def provider(self) -> str | None:
        """Who made it."""

    @property
    def size_bytes(self) -> int:
        """All shards together; 0 where it is not known."""

    @property
    def identity(self) -> str:
        """What names the content."""


def read_rows(path: Path, quants: Sequence[Listed]) -> dict[str, list[ProxyRow]]:
    """Return what a table of proxies, or one of our exports, says of the quants, by their names in the sweep.

    A row is joined by the SHA-256 of the file where the table has one, else by its name, with or without the provider, else
    by the exact number of bytes. SpecError for a quant that is not in the sweep, for two rows of one quant and text, and
    for what the importer refuses.
    """
    tables = _tables(path)
    listed = {row["quant"]: row for row in tables.quants.to_dict("records")}
    rows: dict[str, list[ProxyRow]] = {}
    for found in tables.proxies.to_dict("records"):
        quant = _quant(path, listed[found["quant"]], quants)
        row = _row(path, found, listed[found["quant"]], quant)
        if any(other.corpus == row.corpus for other in rows.get(quant.name, ())):
            on = f" on {row.corpus!r}" if row.corpus else ""
            raise SpecError(f"{path}: two rows speak of {quant.name}{on}. Keep those of one tool and one file.")
        rows.setdefault(quant.name, []).append(row)
    if not rows:
        raise SpecError(f"{path}: holds no proxies. Give a table with a column such as `kld_mean` or `ppl`.")
    return rows


def _tables(path: Path) -> Tables:
    """Read a table; which of its quants the importer takes for its reference does not matter here."""
    if path.is_dir():
        return read_files([path])
    labels = [fact.label for grid in read_grids(path, path.name) for fact in read_facts(grid)[0]]
    if len(models := sorted({label.model for label in labels if label.model})) > 1:
        raise SpecError(f"{path}: holds several models ({', '.join(models)}). Keep the rows of the one in the sweep.")
    return read_files([path], reference=told(labels[0]) if labels else None)


def _quant(path: Path, row: Mapping[Hashable, Any], quants: Sequence[Listed]) -> Listed:
    named = [quant for quant in quants if row["quant"] in {quant.name, f"{quant.provider} {quant.name}"}]
    of_content = [quant for quant in quants if quant.identity == f"sha256:{row['sha256']}"]
    of_size = [quant for quant in quants if quant.size_bytes == row["size_bytes"]]
    for found in (of_content, named, of_size):
        best = [quant for quant in found if quant in named] or found  # one file may have several names
        if len(best) == 1:
            return best[0]
    raise SpecError(
        f"{path}: no quant of the sweep is named {row['quant']!r}.{did_you_mean(row['quant'], {q.name for q in quants})} "
        "Write the name that it has in the sweep, or take the row out."
    )


def _row(path: Path, found: Mapping[Hashable, Any], listed: Mapping[Hashable, Any], quant: Listed) -> ProxyRow:
    known = {field.name for field in fields(ProxyRow)} - {"tool", "notes"}
    # NaN, which is not equal to itself, is a cell without a number.
    values = {str(name): value for name, value in found.items() if name in known and value == value}  # noqa: PLR0124
    values |= {name: int(values[name]) for name in ("ctx", "chunks", "n_tokens") if name in values}
    notes = [f"from {path.name}"]
    size = listed["size_bytes"]
    if quant.size_bytes and abs(size / quant.size_bytes - 1) > 0.02:
        notes.append(f"the table says {size / 1e9:.3f} GB, the file has {quant.size_bytes / 1e9:.3f}: another file?")
    return ProxyRow(tool="table", notes=tuple(notes), **values)
