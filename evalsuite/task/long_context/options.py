"""What the long-context task is asked to make."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evalsuite.errors import SpecError, did_you_mean

Family = Literal["keys", "values", "queries", "tracking", "tool_call", "json_lookup", "common_words", "frequent_words"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Whole = Annotated[int, Field(ge=0)]


class LongContextOptions(BaseModel):
    """What is asked, how long it is, and how hard.

    `lengths` are shares of the room for a prompt: the context without `answer_tokens`, without `template_tokens` (what the
    chat template adds to one message) and, where tools are asked, without their definitions and `tool_template_tokens`
    (what the template says about tools besides). `depths` are shares of the filler before a note. There are `haystacks`
    of each kind and length. `distractors` are look-alikes beside each asked key. Note families: `keys` (one key of many),
    `queries` (so many keys at once), `values` (so many values of one key), `tracking` (`chains` of variables over `hops`),
    `tool_call` (a key's value as an argument). `common_words`: `words` words stand `word_times` times each among words that
    stand `rare_times`. `frequent_words`: the `top` of words whose number falls with rank^-`zipf`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    seed: int = 1
    families: Annotated[tuple[Family, ...], Field(min_length=1)] = (
        "keys", "values", "queries", "tracking", "tool_call", "json_lookup", "common_words", "frequent_words"
    )  # fmt: skip
    lengths: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.25, 0.5, 0.75, 0.95)
    depths: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.0, 0.25, 0.5, 0.75, 1.0)
    haystacks: Positive = 10
    value: Literal["uuid", "number"] = "uuid"
    distractors: Whole = 2
    queries: Positive = 4
    values: Positive = 4
    chains: Positive = 2
    hops: Whole = 4
    words: Positive = 10
    word_times: Positive = 12
    rare_times: Positive = 2
    top: Positive = 3
    zipf: Annotated[float, Field(gt=0)] = 2.0
    answer_tokens: Positive = 256
    template_tokens: Whole = 128
    tool_template_tokens: Whole = 256


def read_options(options: Mapping[str, Any]) -> LongContextOptions:
    """Check options as a task file gives them; raises SpecError that names the key."""
    try:
        read = LongContextOptions.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise SpecError(
                f"long context: unknown key {key!r}.{did_you_mean(key, LongContextOptions.model_fields)}"
            ) from error
        raise SpecError(f"long context: {key}: {first['msg']} (got {first['input']!r}).") from error
    if "queries" in read.families and read.queries > len(read.depths):
        raise SpecError(
            f"long context: queries: {read.queries} keys at once, but only one stands at each of {len(read.depths)} depths. "
            "Add depths or ask for fewer."
        )
    if read.word_times <= read.rare_times:
        raise SpecError("long context: word_times must be more than rare_times, or no word is common.")
    for name in ("families", "lengths", "depths"):
        if len(set(getattr(read, name))) < len(getattr(read, name)):
            raise SpecError(f"long context: {name}: one stands there twice. Name each once.")
    return read
