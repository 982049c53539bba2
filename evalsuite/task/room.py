"""How much room a served context has for a prompt, counted with the served model's own tokenizer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evalsuite.records import Prompt

CountTokens = Callable[[Sequence[str]], list[int]]
"""Counts the tokens of each text as the served model's tokenizer does, without special tokens."""


@dataclass(frozen=True)
class Room:
    """The tokens of a slot, prompt and answer together, and what counts them."""

    n_ctx: int
    count_tokens: CountTokens


ROUGH = Room(8192, lambda texts: [-(-len(text.encode()) // 4) for text in texts])
"""Where nothing is served: four bytes a token."""


PER_MESSAGE = 16
"""Tokens that a chat template may put around a message."""


def prompt_text(prompt: Prompt) -> str:
    """Return what a prompt says, without what the chat template adds."""
    return prompt if isinstance(prompt, str) else "\n".join(str(message.get("content") or "") for message in prompt)


def fits(prompt: Prompt, room: Room, *, answer: int) -> bool:
    """Say whether a prompt leaves room for an answer of so many tokens."""
    free = room.n_ctx - answer - (0 if isinstance(prompt, str) else PER_MESSAGE * len(prompt))
    text = prompt_text(prompt)
    # No token is empty, so a text of few bytes need not be counted.
    return len(text.encode()) <= free or room.count_tokens([text])[0] <= free
