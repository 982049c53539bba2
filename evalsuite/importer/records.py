"""What is read before it becomes tables: who a row speaks of, one number of it, and what was noticed on the way."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from evalsuite.importer.headers import Part, Source


class Label(NamedTuple):
    """How a file tells its quants apart. None: the file does not say; "": it says that there is none."""

    quant: str
    provider: str | None = None
    model: str | None = None
    variant: str | None = None


class Fact(NamedTuple):
    """One number of a table, in the units of `evalsuite.tables`.

    `measure` is a proxy, `score`, `size_bytes` or `bpw`; `about` the text or the task, "" where there is none. `column`,
    `place` and `text` are for messages: the header, where the cell stands, and what is printed there.
    """

    label: Label
    measure: str
    about: str
    tool: str
    part: Part
    value: float
    source: Source
    file: str
    column: str
    place: str
    text: str


class Finding(NamedTuple):
    """Something a reader should know of a table that is used all the same."""

    rule: str
    file: str
    quant: str
    column: str
    detail: str


class Manifest(NamedTuple):
    """What an export says beside its tables: its header, and facts of quants and of tasks by name."""

    header: Mapping[str, Any]
    quants: Mapping[str, Mapping[str, Any]]
    tasks: Mapping[str, Mapping[str, Any]]


@dataclass
class Gathered:
    """Everything that the files say, before it is put together.

    `items` and `chunks` are tables with a `label` where `evalsuite.tables` has a quant; `hashes` are
    the SHA-256 that tables give of the quants' files, `files` those of the tables themselves.
    """

    facts: list[Fact] = field(default_factory=list)
    items: list[pd.DataFrame] = field(default_factory=list)
    chunks: list[pd.DataFrame] = field(default_factory=list)
    hashes: dict[Label, set[str]] = field(default_factory=lambda: defaultdict(set))
    findings: list[Finding] = field(default_factory=list)
    manifests: list[Manifest] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
