"""Content names itself: equal inputs give an equal id on every machine; resuming and comparing need no flags."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from evalsuite.records import Request


def canonical_json(content: Any) -> str:
    """Return sorted, compact JSON: floats by repr, no NaN, no Unicode normalisation; lone surrogates are escaped."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_id(kind: str, content: Any) -> str:
    """Name a JSON value: `kind-v1-` and 24 hexadecimal digits of the SHA-256 of its canonical form."""
    return f"{kind}-v1-{hashlib.sha256(canonical_json(content).encode()).hexdigest()[:24]}"


def text_sha256(text: str) -> str:
    """Hash a text that may hold lone surrogates."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def request_json(request: Request) -> dict[str, Any]:
    """Return a request with all its samplers as plain JSON values, its kind included; `stream` only where it is so."""
    fields = asdict(request)
    if fields.get("stream") is False:  # keys from before there was such a field stay what they are
        del fields["stream"]
    return {"kind": type(request).__name__.lower(), **fields}


def seed_of(master: int, sample_id: str, repeat: int) -> int:
    """Derive a sampling seed in [0, 2³¹) from what is asked, never from when or beside what it is asked."""
    digest = hashlib.sha256(canonical_json([master, sample_id, repeat]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def ask_key(
    *,
    artifact_id: str,
    build_id: str,
    launch: Mapping[str, Any],
    task_id: str,
    sample_id: str,
    repeat: int,
    step: int,
    replicate: int,
    request: Request,
) -> str:
    """Name one question to one server before it is asked.

    What the server adds to it (effective settings, the rendered prompt) joins the key of the answer: `answer_key`.
    """
    return content_id(
        "ask",
        {
            "artifact": artifact_id,
            "build": build_id,
            "launch": dict(launch),
            "task": task_id,
            "sample": sample_id,
            "repeat": repeat,
            "step": step,
            "replicate": replicate,
            "request": request_json(request),
        },
    )


def answer_key(ask: str, *, serve_id: str, prompt_sha256: str) -> str:
    """Name one answer: the question, the server's effective settings and the prompt as it was rendered."""
    return content_id("gen", {"ask": ask, "serve": serve_id, "prompt": prompt_sha256})
