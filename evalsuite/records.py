"""The frozen nouns that every part passes on: samples, requests, outputs and scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Message = Mapping[str, Any]
"""One message of a conversation in OpenAI's form: `{"role": …, "content": …}`."""

Prompt = str | tuple[Message, ...]
"""Raw text, or a conversation that the server's chat template renders."""


class Outcome(StrEnum):
    """What became of one request. The first group is a result of the model, the second a failure of ours.

    A result of the model stays in the denominator and is never asked again; a failure of ours leaves it.
    """

    OK = "ok"
    TRUNCATED = "truncated"  # stopped by the token limit or by the end of the context
    EMPTY = "empty"  # nothing left once the reasoning is removed
    UNPARSED = "unparsed"  # an answer, but nothing the scorer could read
    OVERFLOW = "overflow"  # the prompt does not fit the context
    TOOL_PARSE_ERROR = "tool_parse_error"
    REFUSED = "refused"

    SERVER_DIED = "server_died"
    TIMEOUT = "timeout"
    TRANSPORT_ERROR = "transport_error"  # garbage instead of a reply, also after retries
    NOT_RUN = "not_run"


@dataclass(frozen=True)
class Sample:
    """One item of a task: what is asked and what would be right.

    `target` is the index of the right choice for `choose` and `loglikelihood`, and whatever the task's scorer compares with
    for `generate`. `cluster` names samples that are not independent of each other (one document, one conversation).
    `stratum` names a fixed part of the task (one paradigm, one length) that every subset holds in proportion.
    """

    sample_id: str
    prompt: Prompt
    target: Any
    choices: tuple[str, ...] = ()
    cluster: str | None = None
    stratum: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sampling:
    """Every sampler of llama-server, so that nothing is left to a server's or a model file's default."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 1
    max_tokens: int = 2048


@dataclass(frozen=True)
class Generate:
    """Write an answer. A conversation goes to `/v1/chat/completions`, raw text to `/completion`.

    `stop` cuts raw text on the server and conversations afterwards, since a stop string may fire inside the reasoning.
    `stream` has the answer to a conversation sent in pieces.
    """

    prompt: Prompt
    sampling: Sampling
    stop: tuple[str, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str | None = None
    stream: bool = False


@dataclass(frozen=True)
class Choose:
    """Give the exact probability of each option, each of which must be one token after the prompt."""

    prompt: Prompt
    options: tuple[str, ...]


@dataclass(frozen=True)
class Loglikelihood:
    """Give the natural-log probability of `continuation` after the prompt, summed over its tokens."""

    prompt: Prompt
    continuation: str


Request = Generate | Choose | Loglikelihood


@dataclass(frozen=True)
class Output:
    """What the server returned for one request, reasoning kept apart from the answer.

    `logprob` (nats) and `is_greedy` belong to `Loglikelihood`, `option_probs` (sum 1) to `Choose`. `detail` says why when
    the outcome is not `ok`.
    """

    outcome: Outcome
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    logprob: float | None = None
    is_greedy: bool | None = None
    option_probs: tuple[float, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class Scored:
    """What one answer earned, in [0, 1]; `answer` is what was extracted, apart from what it earned.

    `margin` is a continuous companion of the value where the solver gives one: the log-odds of the right choice in nats.
    `metrics` holds further metrics of the same answer, by name.
    """

    value: float
    outcome: Outcome = Outcome.OK
    answer: str | None = None
    margin: float | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unscored:
    """A sample that leaves the denominator, because the machine failed."""

    outcome: Outcome
    reason: str


Score = Scored | Unscored
