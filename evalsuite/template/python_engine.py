"""The Python engine: templates rendered as transformers does, in a process of their own with limits."""

import json
import os
import select
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Self

from evalsuite.template.records import Conversation, Engine, Rendering, Template

PATIENCE_S = 5.0
"""Beyond the worker's own clock: what holds the interpreter longer than this is ended from outside."""
PINNED = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""What `strftime_now` reads, so that two renderings are equal whenever they are made."""


class PythonEngine:
    """Renders conversations in a worker that is started when first needed, and again when a template ended it."""

    def __init__(self) -> None:
        self.engine = Engine("transformers", f"jinja2 {version('jinja2')}")
        self._worker: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def render(self, template: Template, conversation: Conversation, *, now: datetime = PINNED) -> Rendering:
        """Render one conversation; whatever the template does, an answer comes within some seconds."""
        request = {
            "source": template.source, "messages": conversation.messages, "tools": conversation.tools,
            "add_generation_prompt": conversation.add_generation_prompt, "now": now.isoformat(),
            "kwargs": {**template.metadata.get("special_tokens", {}), **conversation.kwargs},
        }  # fmt: skip
        answer = self._ask(json.dumps(request).encode() + b"\n")
        if answer is None:
            return Rendering(failure="limit", message=f"did not end within {PATIENCE_S:.0f} s")
        if not answer:
            return Rendering(failure="limit", message="ended the process that rendered it")
        return Rendering(**json.loads(answer))

    def _ask(self, line: bytes) -> bytes | None:
        """Return one line of the worker: empty where it died, None where it took too long."""
        worker = self._worker = self._worker or _start()
        assert worker.stdin is not None and worker.stdout is not None  # noqa: S101, PT018 - for the type checker
        try:
            worker.stdin.write(line)
            worker.stdin.flush()
        except BrokenPipeError:
            self._end()
            return b""
        answer = bytearray()
        while not answer.endswith(b"\n"):
            if not select.select([worker.stdout], [], [], PATIENCE_S)[0]:
                self._end()
                return None
            part = os.read(worker.stdout.fileno(), 1 << 20)
            if not part:
                self._end()
                return b""
            answer += part
        return bytes(answer)

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.communicate()
            self._worker = None


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "evalsuite.template.python_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}, start_new_session=True,
    )  # fmt: skip
