"""A process that renders chat templates as transformers' `apply_chat_template` does (5.17), within limits.

It reads one JSON request a line, `{"source", "messages", "tools", "add_generation_prompt", "kwargs", "now"}`, and answers
one JSON line, the fields of `Rendering`. Templates are hostile: the environment is Jinja's immutable sandbox, memory is
limited for the process, and time for each rendering; what ignores the clock is ended by the parent.
"""

import json
import resource
import signal
import sys
import traceback
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls  # noqa: N812 - Jinja's name for its class
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

RENDER_S = 2.0
"""Seconds for one rendering; real templates take milliseconds."""
MEMORY_BYTES = 1024**3
LONGEST = 4_000_000
"""Characters of a rendering; the shapes here give at most some ten thousand."""


class DeclinedError(TemplateError):
    """The template called `raise_exception`."""


class TimeIsUpError(BaseException):
    """Raised by the clock; no template can catch it."""


class Generation(Extension):
    """`{% generation %}` marks the assistant's text for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's interface

    def parse(self, parser: Parser) -> nodes.CallBlock:
        """Read the block, and emit its body as it is."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        block = nodes.CallBlock(self.call_method("_as_it_is"), [], [], body)
        block.set_lineno(line)
        return block

    @staticmethod
    def _as_it_is(caller: Macro) -> str:
        return str(caller())


def render(request: Mapping[str, Any]) -> dict[str, Any]:
    """Render one request; never raises for what a template does, except by memory or time that cannot be had back."""
    now = datetime.fromisoformat(request["now"])
    signal.setitimer(signal.ITIMER_REAL, RENDER_S)
    try:
        template = _compiled(request["source"])
        text = template.render(
            messages=request["messages"], tools=request["tools"] or None, documents=None,
            add_generation_prompt=request["add_generation_prompt"], strftime_now=now.strftime, **request["kwargs"],
        )  # fmt: skip
    except TimeIsUpError:
        return {"failure": "limit", "message": f"did not end within {RENDER_S:.0f} s"}
    except MemoryError:
        return {"failure": "limit", "message": f"needs more than {MEMORY_BYTES >> 20} MiB"}
    except DeclinedError as error:
        return {"failure": "declined", "message": str(error), "line": _line(error)}
    except Exception as error:  # noqa: BLE001 - whatever a template breaks is a finding about it
        return {"failure": "error", "message": f"{type(error).__name__}: {error}"[:500], "line": _line(error)}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if len(text) > LONGEST:
        return {"failure": "limit", "message": f"wrote {len(text):,} characters"}
    return {"text": text}


@lru_cache(maxsize=4)
def _compiled(source: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, LoopControls]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    return environment.from_string(source)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise DeclinedError(message)


def _line(error: Exception) -> int | None:
    if isinstance(error, TemplateSyntaxError):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"]
    return lines[-1] if lines else None


def _time_is_up(*_: object) -> NoReturn:
    raise TimeIsUpError


def main() -> None:
    """Answer requests until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _time_is_up)
    for line in sys.stdin:
        answer = render(json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
