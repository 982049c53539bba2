"""How a sample becomes outputs: a dialogue yields requests, receives their outputs, and returns the outputs to be scored.

A dialogue touches nothing but what it is sent, so the answers of an earlier run replay it without a server, and what it
yields that has no answer yet is what remains to be asked.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace

from evalsuite.records import Choose, Generate, Loglikelihood, Output, Request, Sample, Sampling

Dialogue = Generator[tuple[Request, ...], tuple[Output, ...], tuple[Output, ...]]
Solver = Callable[[Sample, Sampling], Dialogue]


def generate(*, max_tokens: int | None, stop: tuple[str, ...]) -> Solver:
    """Let the model write; `max_tokens` of the task, where it has one, bounds that of the sweep."""

    def solve(sample: Sample, sampling: Sampling) -> Dialogue:
        tokens = sampling.max_tokens if max_tokens is None else min(max_tokens, sampling.max_tokens)
        return (yield (Generate(sample.prompt, replace(sampling, max_tokens=tokens), stop),))

    return solve


def tool_calls(*, max_tokens: int | None = None, tool_choice: str = "auto", stream: bool = False) -> Solver:
    """Let the model write with the tools of `sample.metadata["tools"]` at hand; a sample without tools is asked without.

    `tool_choice` is `auto`, or `required`, with which the server forces a call by a grammar and so hides damage to the
    form. `stream` has the answer sent in pieces.
    """

    def solve(sample: Sample, sampling: Sampling) -> Dialogue:
        tokens = sampling.max_tokens if max_tokens is None else min(max_tokens, sampling.max_tokens)
        tools = tuple(sample.metadata.get("tools", ()))
        choice = tool_choice if tools else None
        bounded = replace(sampling, max_tokens=tokens)
        return (yield (Generate(sample.prompt, bounded, tools=tools, tool_choice=choice, stream=stream),))

    return solve


def choose(sample: Sample, _sampling: Sampling) -> Dialogue:
    """Ask for the exact probability of each choice, each of which is one token."""
    return (yield (Choose(sample.prompt, sample.choices),))


def loglikelihood(sample: Sample, _sampling: Sampling) -> Dialogue:
    """Ask for the log-probability of each choice as a continuation of the prompt."""
    return (yield tuple(Loglikelihood(sample.prompt, choice) for choice in sample.choices))


def replay(dialogue: Dialogue, answers: Callable[[int, Request], Output | None]) -> tuple[Output, ...] | None:
    """Drive a dialogue with stored answers alone; None as soon as one is missing.

    `answers` is given the position of a request within its dialogue, counted from 0.
    """
    step = 0
    try:
        requests = next(dialogue)
        while True:
            outputs: list[Output] = []
            for offset, request in enumerate(requests):
                output = answers(step + offset, request)
                if output is None:
                    return None
                outputs.append(output)
            step += len(requests)
            requests = dialogue.send(tuple(outputs))
    except StopIteration as done:
        return tuple(done.value)


SOLVERS: Mapping[str, Solver] = {"choose": choose, "loglikelihood": loglikelihood}
"""Solvers without options of their own; `generate` takes the task's limits."""
