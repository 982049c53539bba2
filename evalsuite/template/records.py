"""The nouns of the template validator: templates, conversations, what engines made of them, and verdicts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from evalsuite.records import Message


@dataclass(frozen=True)
class Template:
    """The text of a chat template. `metadata` is what lay beside it: its container, the special tokens, the other variants.

    `model` is the GGUF that carries it, where one does.
    """

    name: str
    source: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Conversation:
    """One request to a template: messages in OpenAI's form, the tools at hand, and what the caller passes on."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    add_generation_prompt: bool = True
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rendering:
    """What an engine made of a conversation: `text`, or how it failed.

    `failure` is `declined` where the template raised on purpose, `error` where it or the engine broke, `limit` where it was
    stopped for time or memory, `crash` where the engine's process ended, and `instrument` where the fault is ours. `line` is
    a line of the template, from 1, where the engine tells.
    """

    text: str | None = None
    failure: Literal["declined", "error", "limit", "crash", "instrument"] | None = None
    message: str = ""
    line: int | None = None


@dataclass(frozen=True)
class Trip:
    """A call that went through the template and back through the engine's parser.

    `written` is the text that a model would have to write for the call; `message` the parsed message. `failure` says at
    which step it ended: `render`, `extract`, `parse`.
    """

    written: str | None = None
    message: Mapping[str, Any] | None = None
    failure: Literal["render", "extract", "parse"] | None = None
    reason: str = ""


@dataclass(frozen=True)
class Engine:
    """Which program rendered: `name` is `transformers` or `llama-server`, `build` what identifies it."""

    name: str
    build: str


@dataclass(frozen=True)
class Evidence:
    """Everything an engine made of one template; checks are functions of it and start nothing.

    `props` is llama-server's answer, empty for the Python engine, and `dispatch` what its parser said of itself for a
    request with tools. `loads` is None where the template compiles, else why not.
    """

    template: Template
    engine: Engine
    renderings: Mapping[str, Rendering]
    trips: Mapping[str, Trip] = field(default_factory=dict)
    props: Mapping[str, Any] = field(default_factory=dict)
    dispatch: Mapping[str, Any] = field(default_factory=dict)
    loads: Rendering = field(default_factory=Rendering)


class Outcome(StrEnum):
    """What became of one case of a check on one engine."""

    OK = "ok"
    SILENT = "silent"  # no error, and the property does not hold: something lost, altered, doubled or merged
    LOUD = "loud"  # an error of the engine, the template or the parser
    DECLINED = "declined"  # the template raises on purpose
    NOT_APPLICABLE = "not applicable"
    INCONCLUSIVE = "inconclusive"  # the instrument could not decide


class Verdict(StrEnum):
    """What a check says of a template on an engine."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    NOT_APPLICABLE = "NOT-APPLICABLE"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class Case:
    """One shape within a check. `seen` is what it was judged by, for telling whether a change touched it.

    `shapes` names the conversations that show it; `blame` says whose doing a failure is.
    """

    name: str
    outcome: Outcome
    detail: str = ""
    shapes: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    blame: Literal["template", "engine"] = "template"
    line: int | None = None


Judge = Callable[[Evidence], Sequence[Case]]


@dataclass(frozen=True)
class Check:
    """One property that a template should have.

    `accepts` are the outcomes that pass beside OK; `needs` is what the template must do at all for the check to apply.
    `known` links to a case where the defect was met.
    """

    id: str
    title: str
    property: str
    catches: str
    known: str
    severity: Literal["error", "warning", "information"]
    judge: Judge
    core: bool = False
    needs: Literal["", "tools", "descriptions", "calls"] = ""
    accepts: frozenset[Outcome] = frozenset()


@dataclass(frozen=True)
class Finding:
    """A check's verdict on one template by one engine; `advice` names the line and what to write instead, where known."""

    check: Check
    engine: Engine
    verdict: Verdict
    cases: tuple[Case, ...]
    advice: tuple[str, ...] = ()
