"""llama-server as a template engine: `/apply-template` renders, and a prefilled answer is parsed as a model's would be.

The server runs a carrier, so nothing is generated but the end of the turn. It may crash, hang or flood on a template: it
is started again, and each failure is told.
"""

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx

from evalsuite.errors import ServerError
from evalsuite.serve.launch import Profile, arguments
from evalsuite.serve.llama_cpp import LlamaCpp, build_id
from evalsuite.serve.process import ServerProcess, tail
from evalsuite.template.records import Conversation, Engine, Rendering, Template

READY_S = 8.0
"""Seconds until a carrier is served; it takes less than one."""
REQUEST_S = 5.0
"""Seconds for one request; real templates take milliseconds."""
MEMORY_BYTES = 4 * 1024**3
PINS = {"date_string": "01 Jan 2026", "datetime": "Jan 01 2026"}
"""Template variables that would read the clock; `strftime_now` cannot be pinned over HTTP."""

_PROFILE = Profile(name="template", ctx=16384, parallel=1, threads=1, flags={"n-gpu-layers": 0})
_LINE = re.compile(r"at line (\d+), column \d+ in source")
_TELLING = re.compile(r"template|jinja|pars|lexer|expected|alloc", re.IGNORECASE)
_IDLE = re.compile(r"for example|please consider|failed to initialize chat template")


class ServerEngine:
    """One template on one llama.cpp, served by a carrier; started when first asked, and again after a crash."""

    def __init__(self, llama_cpp: LlamaCpp, template: Template, carrier: Path) -> None:
        self.engine = Engine("llama-server", f"{llama_cpp.version}, {build_id(llama_cpp)}")
        self._refused: Rendering | None = None
        self._llama_cpp, self._carrier, self._source = llama_cpp, carrier, template.source
        self._folder = tempfile.TemporaryDirectory(prefix="evalsuite-template-")
        self._process: ServerProcess | None = None
        self._client: httpx.Client | None = None
        self._end: list[int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._folder.cleanup()

    def start(self) -> Rendering:
        """Start the server; a failure says why it does not take the template."""
        if self._client is not None:
            return Rendering()
        if self._refused is not None:
            return self._refused
        folder = Path(self._folder.name)
        template = folder / "template.jinja"
        template.write_text(self._source, encoding="utf-8")
        self._process = ServerProcess(self._llama_cpp.server, folder / "server.log", memory_bytes=MEMORY_BYTES)
        self._process.spawn(
            arguments(
                _PROFILE, model=self._carrier, host=self._process.host, port=0, alias=self._process.alias,
                kv_cache="f16", template=template, seed=1,
            ),
            {**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
        try:
            address = asyncio.run(asyncio.wait_for(self._process.ready(self._carrier.stat().st_size), READY_S))
        except TimeoutError:
            self._stop(at_once=True)
            self._refused = Rendering(failure="limit", message=f"the server was not ready within {READY_S:.0f} s")
            return self._refused
        except ServerError as error:
            self._refused = _refusal(tail(self._process.log), error)
            self._stop()
            return self._refused
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(
                uds=None if address.socket is None else str(address.socket),
                limits=httpx.Limits(max_keepalive_connections=0),  # the server drops one that it has streamed over
            ),
            base_url=address.url, headers={"Authorization": f"Bearer {address.key}"}, timeout=REQUEST_S,
        )  # fmt: skip
        return Rendering()

    def props(self) -> Mapping[str, Any]:
        """Return the server's `/props`."""
        reply = self._send("GET", "/props", None)
        return {} if isinstance(reply, Rendering) else reply

    def render(self, conversation: Conversation) -> Rendering:
        """Render through `/apply-template`, which builds the parser and the grammar of the tools as well."""
        reply = self._send("POST", "/apply-template", _body(conversation))
        return reply if isinstance(reply, Rendering) else Rendering(text=str(reply["prompt"]))

    def complete(self, conversation: Conversation, **more: Any) -> Mapping[str, Any] | Rendering:
        """Ask for a chat completion that ends at once, and return the whole reply, or how it failed."""
        body = self._ending(conversation, more)
        reply: Mapping[str, Any] | Rendering = (
            body if isinstance(body, Rendering) else self._send("POST", "/v1/chat/completions", body)
        )
        return reply

    def stream(self, conversation: Conversation, **more: Any) -> list[Mapping[str, Any]] | Rendering:
        """Ask as `complete` does, streamed, and return the deltas in their order."""
        body = self._ending(conversation, {**more, "stream": True})
        if isinstance(body, Rendering):
            return body
        reply = self._send("POST", "/v1/chat/completions", body)
        return (
            reply
            if isinstance(reply, Rendering)
            else [event["choices"][0]["delta"] for event in reply if event["choices"]]
        )

    def _ending(self, conversation: Conversation, more: Mapping[str, Any]) -> dict[str, Any] | Rendering:
        """Return the body of a request whose one token is made to end the turn."""
        if self._end is None:
            end = self._send("POST", "/tokenize", {"content": self.props().get("eos_token", ""), "parse_special": True})
            if isinstance(end, Rendering):
                return end
            self._end = end["tokens"][:1]
        return {
            **_body(conversation), "max_tokens": 1, "temperature": 0, "reasoning_format": "auto", "verbose": True,
            "logit_bias": [[token, 1000.0] for token in self._end], **more,
        }  # fmt: skip

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        started = self.start()
        if self._client is None:
            return started
        try:
            reply = self._client.request(method, path, json=body)
            if reply.is_success:
                return _events(reply.text) if body and body.get("stream") else reply.json()
            message = str(reply.json().get("error", {}).get("message", reply.text))
        except httpx.TimeoutException:
            self._stop(at_once=True)
            return Rendering(failure="limit", message=f"the server did not answer within {REQUEST_S:.0f} s")
        except (httpx.TransportError, ValueError) as error:
            self._stop(at_once=True)
            return Rendering(failure="crash", message=f"the server ended or answered no JSON: {error}")
        declined = "Jinja Exception:" in message
        return Rendering(failure="declined" if declined else "error", message=message[:800], line=_line(message))

    def _stop(self, *, at_once: bool = False) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._process is not None:
            if at_once:
                self._process.kill()
            with suppress(ProcessLookupError):
                asyncio.run(self._process.stop())
            self._process = None


def _events(text: str) -> list[Mapping[str, Any]]:
    """Return the JSON of the server-sent events in a reply; one that tells of an error is raised as ValueError."""
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    for event in events:
        if "error" in event:
            raise ValueError(str(event["error"]))
    return events


def _body(conversation: Conversation) -> dict[str, Any]:
    body = {
        "messages": conversation.messages, "add_generation_prompt": conversation.add_generation_prompt,
        "chat_template_kwargs": {**PINS, **conversation.kwargs},
    }  # fmt: skip
    return {**body, "tools": conversation.tools} if conversation.tools else body


def _line(message: str) -> int | None:
    found = _LINE.search(message)
    return int(found[1]) if found else None


def _refusal(log: str, error: ServerError) -> Rendering:
    """Say why a server did not start with a template, by the lines of its log that tell of it."""
    lines = [line.split(" E ")[-1].strip() for line in log.splitlines() if " E " in line or line.startswith("error")]
    telling = [line for line in lines if _TELLING.search(line) and not _IDLE.search(line)]
    if not telling:
        return Rendering(failure="crash", message=f"the server does not start with it: {str(error).splitlines()[0]}")
    message = "the server does not start with it: " + " | ".join(telling)[:600]
    return Rendering(failure="error", message=message, line=_line(log))
