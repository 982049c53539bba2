"""From files, of whatever mix, to the tables of analysis."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from evalsuite.errors import SpecError
from evalsuite.importer.assemble import assemble
from evalsuite.importer.facts import read_facts
from evalsuite.importer.files import Grid, read_bytes, read_grids
from evalsuite.importer.items import is_chunks, is_items, read_chunks, read_items
from evalsuite.importer.lm_eval_logs import is_log, read_logs
from evalsuite.importer.records import Gathered, Label, Manifest
from evalsuite.tables import Tables

_TABLES = {".csv", ".tsv", ".jsonl", ".parquet"}


def read_files(paths: Sequence[Path], *, reference: str | None = None) -> Tables:
    """Return the tables that any mix of files holds; the order of their rows changes nothing.

    Files are proxies, scores and items, told apart by their columns (wide, long and turned tables; CSV, TSV, `;`, tables
    pasted from a page, JSONL, Parquet), and lm-eval's `samples_*.jsonl`. A folder is one of our exports, or stands for
    the tables and logs in it. Without `reference` an export's own is taken, else the largest quant, and
    `header["notes"]` says so. Of several models one is read: the reference's, else the one with most quants.

    `header["import"]` lists what a reader should know as {rule, file, quant, column, detail}; `header["files"]` maps
    each file to the SHA-256 of its bytes. `quants` has `same_as`: the quant that a row equals in every number, or None.
    `tasks` has `mean_of_tasks`: True for a column that averages the others. Percents come as shares, sizes in bytes.

    Raises SpecError for values that cannot be, files that contradict each other, and a reference that is not there.
    """
    read = Gathered()
    _read_all(paths, read)
    return assemble(read, reference)


def _read_all(paths: Sequence[Path], read: Gathered) -> None:
    tables: list[Path] = []
    for path in paths:
        tables += _in_folder(path, read) if path.is_dir() else [path]
    tables = list(dict.fromkeys(tables))
    if not tables:
        raise SpecError("no file to read. Give tables of proxies, scores or items, an export, or lm-eval's logs.")
    twice = {name for name, count in Counter(path.name for path in tables).items() if count > 1}
    files = {path: f"{path.resolve().parent.name}/{path.name}" if path.name in twice else path.name for path in tables}
    logs = [path for path in tables if is_log(path)]
    for path, file in files.items():
        read.files[file] = hashlib.sha256(read_bytes(path)).hexdigest()
        if path not in logs:
            for grid in read_grids(path, file):
                _read_grid(grid, read)
    if logs:
        items, findings = read_logs(logs)
        read.items.append(_under_known_names(items, {fact.label.quant for fact in read.facts}))
        read.findings += findings


def _read_grid(grid: Grid, read: Gathered) -> None:
    if is_items(grid):
        items, findings = read_items(grid)
        read.items.append(items.assign(file=grid.file))
        read.findings += findings
    elif is_chunks(grid):
        read.chunks.append(read_chunks(grid))
    else:
        facts, findings, hashes = read_facts(grid)
        read.facts += facts
        read.findings += findings
        for label, digest in hashes.items():
            read.hashes[label].add(digest)


def _in_folder(folder: Path, read: Gathered) -> list[Path]:
    """Return the files of a folder that are to be read; an export's manifest is read at once."""
    manifest = folder / "manifest.json"
    if manifest.exists():
        try:
            content = json.loads(manifest.read_bytes())
            header = content["header"] | {"reference": str(content["header"]["reference"])}
            quants = {str(row["quant"]): row for row in content["quants"]}
            tasks = {str(row["task"]): row for row in content.get("tasks", ())}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            said = "is no manifest of an export. Export again with `evalsuite export`."
            raise SpecError(f"{manifest}: {said}") from error
        read.manifests.append(Manifest(header, quants, tasks))
        # An export holds its items three times, and scores that follow from them; a table may have a header only.
        items = next((name for name in ("items.parquet", "items.jsonl") if (folder / name).exists()), "items.csv")
        return [folder / name for name in ("proxies.csv", "chunks.csv", items) if _has_rows(folder / name)]
    logs = sorted(folder.rglob("samples_*.jsonl"))
    tables = sorted(path for path in folder.iterdir() if path.suffix in _TABLES and path.is_file())
    if not logs and not tables:
        raise SpecError(f"{folder}: holds no export, no table and no log of lm-eval's. Give a file or another folder.")
    return [*tables, *(log for log in logs if log not in tables)]


def _has_rows(path: Path) -> bool:
    return path.exists() and (path.suffix != ".csv" or len(read_bytes(path).strip().splitlines()) > 1)


def _under_known_names(items: pd.DataFrame, known: set[str]) -> pd.DataFrame:
    """Give a log the name of the quant that its folder's name ends with, where exactly one table has such a quant."""

    def renamed(label: Label) -> Label:
        ending = {name for name in known if name and label.quant.endswith(tuple(f"{mark}{name}" for mark in "-_. /"))}
        longest = {name for name in ending if len(name) == max(map(len, ending))}
        return Label(longest.pop()) if label.quant not in known and longest else label

    return items.assign(label=items["label"].map(renamed).astype(object))
