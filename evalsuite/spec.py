"""sweep.yaml, read once into frozen models that refuse what they do not know and say what was probably meant."""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from evalsuite.errors import SpecError, did_you_mean

_STRICT = ConfigDict(frozen=True, extra="forbid")


class QuantEntry(BaseModel):
    """One or more quants: a file or glob (`path`), a server that runs already (`url`), or files of a hub (`hf`)."""

    model_config = _STRICT
    name: str | None = None
    provider: str | None = None
    path: str | None = None
    url: str | None = None
    size_gb: Annotated[float, Field(gt=0)] | None = None
    hf: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "QuantEntry":
        if [self.path, self.url, self.hf].count(None) != 2:
            raise ValueError("give exactly one of `path`, `url` and `hf`")
        if (self.hf is None) != (self.file is None):
            raise ValueError("`hf` and `file` belong together: the repository, and the file or pattern in it")
        if self.url is not None and self.name is None:
            raise ValueError("a quant behind a `url` needs a `name`")
        if self.url is not None and not re.match(r"https?://", self.url):
            raise ValueError(f"`url: {self.url}` must start with http:// or https://")
        return self


class TaskEntry(BaseModel):
    """A task or suite by name, with the number of samples and repeats that are asked.

    `options` stand above those of the task's generator or builder: the dates of LiveCodeBench, how hard a long context is.
    """

    model_config = _STRICT
    task: str
    limit: Annotated[int, Field(gt=0)] | None = None
    repeats: Annotated[int, Field(gt=0)] = 1
    data: str | None = None
    options: Mapping[str, Any] = Field(default_factory=dict)


class ServerEntry(BaseModel):
    """A profile by name or path; what is given here replaces the profile's values, 0 included."""

    model_config = _STRICT
    profile: str = "cpu"
    ctx: Annotated[int, Field(gt=0)] | None = None
    parallel: Annotated[int, Field(gt=0)] | None = None
    threads: Annotated[int, Field(gt=0)] | None = None
    flags: Mapping[str, bool | int | float | str] = Field(default_factory=dict)


class SamplingEntry(BaseModel):
    """How answers are drawn; the seed of a sample is derived from `seed`, its id and the repeat."""

    model_config = _STRICT
    temperature: Annotated[float, Field(ge=0)] = 0.0
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0
    typical_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    repeat_penalty: Annotated[float, Field(gt=0)] = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: Annotated[int, Field(ge=0)] = 1
    max_tokens: Annotated[int, Field(gt=0)] = 2048


PROXY_KEYS: Mapping[str, frozenset[str]] = {
    "llama-perplexity": frozenset({"text", "ctx", "chunks", "groups"}),
    "forced": frozenset({"text", "ctx", "chunks", "n_probs"}),
    "llama-bench": frozenset({"pp", "tg"}),
    "table": frozenset({"table"}),
}
"""What each tool can be told."""


class ProxyEntry(BaseModel):
    """A proxy to measure on every quant, by a tool of `PROXY_KEYS`, or a `table` of what others measured.

    `text` is a file, the name of a text that ships with evalsuite, or `task:NAME` (forced only): conversations of a task of
    the sweep, of which `chunks` are taken, with at most `ctx` tokens of each answer. `groups` of chunks are measured once
    more each, for the standard errors of quantiles; 1 is none. `pp` and `tg` are the tokens that llama-bench reads and writes.
    """

    model_config = _STRICT
    tool: Literal["llama-perplexity", "forced", "llama-bench", "table"]
    text: str | None = None
    ctx: Annotated[int, Field(ge=16)] = 512
    chunks: Annotated[int, Field(gt=0)] = 16
    n_probs: Annotated[int, Field(gt=0)] = 1000
    groups: Annotated[int, Field(gt=0)] = 1
    pp: Annotated[int, Field(gt=0)] = 512
    tg: Annotated[int, Field(gt=0)] = 128
    table: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _table_is_a_tool(cls, given: Any) -> Any:
        return {"tool": "table", **given} if isinstance(given, dict) and "table" in given else given

    @model_validator(mode="after")
    def _keys_of_its_tool(self) -> "ProxyEntry":
        known = PROXY_KEYS[self.tool]
        if foreign := sorted(self.model_fields_set - known - {"tool"}):
            raise ValueError(f"`{foreign[0]}` means nothing to {self.tool}, which knows {', '.join(sorted(known))}")
        if needed := sorted(key for key in known & {"text", "table"} if getattr(self, key) is None):
            raise ValueError(f"{self.tool} needs a `{needed[0]}`")
        return self

    @property
    def task(self) -> str | None:
        """The name of the task whose conversations are the text."""
        return self.text.removeprefix("task:") if self.text and self.text.startswith("task:") else None


def _entry(key: str) -> BeforeValidator:
    """Accept a bare string where a mapping is expected, as the value of `key`."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class Sweep(BaseModel):
    """What was asked: every quant of one model through the same tasks."""

    model_config = _STRICT
    model: str
    reference: Annotated[QuantEntry, _entry("path")]
    quants: Annotated[tuple[Annotated[QuantEntry, _entry("path")], ...], Field(min_length=1)]
    server: Annotated[ServerEntry, _entry("profile")] = ServerEntry()
    tasks: Annotated[tuple[Annotated[TaskEntry, _entry("task")], ...], Field(min_length=1)]
    tasks_from: tuple[str, ...] = ()
    sampling: SamplingEntry = SamplingEntry()
    replicate_reference: bool = True
    templates: Annotated[tuple[str, ...], Field(min_length=1)] = ("own",)
    kv_cache: Annotated[tuple[str, ...], Field(min_length=1)] = ("f16",)
    proxies: tuple[ProxyEntry, ...] = ()
    notes: tuple[str, ...] = ()
    out: str = "results"


def read_sweep(path: Path) -> Sweep:
    """Read a sweep; raises SpecError with file and line."""
    return read_yaml(path, Sweep)


Model = TypeVar("Model", bound=BaseModel)


def read_text(file: Traversable) -> str:
    """Read a file of the user's, every line end as a line feed; SpecError when it cannot be read or is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(f"{file}: cannot be read: {reason}. Check the path.") from error


def read_yaml(path: Traversable, model: type[Model], *, text: str | None = None) -> Model:
    """Read a YAML file into a model; unknown keys, wrong types and broken YAML are SpecErrors with file and line."""
    if text is None:
        text = read_text(path)
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(raw, dict):
        raise SpecError(f"{path}: a mapping of keys was expected, e.g. `{next(iter(model.model_fields))}: …`.")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(f"{path}:{_line(tree, first['loc'])}: {_explain(first, model)}") from error


def _explain(error: Mapping[str, Any], model: type[BaseModel]) -> str:
    loc = [str(part) for part in error["loc"]]
    where = ".".join(loc)
    if error["type"] == "extra_forbidden":
        return f"unknown key {loc[-1]!r}.{did_you_mean(loc[-1], _fields_at(model, error['loc'][:-1]))}"
    if error["type"] == "missing":
        return f"the key {where!r} is missing."
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message} (got {error['input']!r})." if where else f"{message}."


def _fields_at(model: type[BaseModel], loc: Sequence[str | int]) -> Iterable[str]:
    """Return the keys known at a place; the nested models are found by name in the annotation of their field."""
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            nested = re.findall(r"\b(\w+Entry)\b", str(model.model_fields[part]))
            model = globals().get(nested[0], model) if nested else model
    return model.model_fields


def _line(node: yaml.Node | None, loc: Iterable[str | int]) -> int:
    """Return the 1-based line of a place in a YAML document, or of the last part of it that exists."""
    line = 1 if node is None else node.start_mark.line + 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
