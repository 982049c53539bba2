"""Where chat templates are read from: a file, a folder, a GGUF, a tokenizer's configuration, a running server."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from gguf import GGUFReader

from evalsuite.errors import ServerError, SpecError, did_you_mean
from evalsuite.template.records import Template

LARGEST = 4_000_000
"""Bytes of a template; real ones have up to some ten thousand."""
_KEY = "tokenizer.chat_template"


def read_templates(given: str) -> list[Template]:
    """Return the templates of a file, a folder, a GGUF, a `tokenizer_config.json` or a server.

    A .jinja file may be given without its ending; a folder stands for its .jinja files, a GGUF for every template in it, an
    `http` address for what the server there uses. Raises SpecError where there is none,
    ServerError where a server does not answer.
    """
    if given.startswith(("http://", "https://")):
        return _served(given)
    path = Path(given).expanduser()
    if path.is_dir():
        found = sorted(path.glob("*.jinja"))
        if not found:
            raise SpecError(f"{path}: no .jinja file in this folder.")
        return [_of_file(file) for file in found]
    if not path.is_file():
        path = _named(path)
    if path.suffix == ".gguf":
        return _in_gguf(path)
    return _in_tokenizer_config(path) if path.suffix == ".json" else [_of_file(path)]


def _named(path: Path) -> Path:
    named = path.with_name(f"{path.name}.jinja")
    if named.is_file():
        return named
    known = [file.stem for file in path.parent.glob("*.jinja")] if path.parent.is_dir() else []
    raise SpecError(f"{path}: no such file.{did_you_mean(path.name, known)}")


def _of_file(path: Path) -> Template:
    return _template(path.stem, _text(path), path)


def _text(path: Path) -> str:
    if path.stat().st_size > LARGEST:
        raise SpecError(f"{path}: {path.stat().st_size:,} bytes; no chat template has more than {LARGEST:,}.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8 at byte {error.start}. Is this a template?") from None


def _in_gguf(path: Path) -> list[Template]:
    try:
        fields = GGUFReader(path).fields
    except (ValueError, OSError, IndexError) as error:
        raise SpecError(f"{path}: not a readable GGUF: {error}") from None
    found = {
        name.removeprefix(_KEY).removeprefix("."): str(field.contents())
        for name, field in fields.items()
        if name == _KEY or (name.startswith(f"{_KEY}.") and isinstance(field.contents(), str))
    }
    if not found:
        raise SpecError(f"{path}: no chat template in this GGUF; a server would answer with its built-in ChatML.")
    return [_template(" ".join(filter(None, (path.stem, name))), source, path) for name, source in found.items()]


def _in_tokenizer_config(path: Path) -> list[Template]:
    try:
        raw = json.loads(_text(path))
    except ValueError as error:
        raise SpecError(f"{path}: not JSON: {error}") from None
    found = raw.get("chat_template") if isinstance(raw, Mapping) else None
    if isinstance(found, str):
        return [_template(path.parent.resolve().name, found, path)]
    if isinstance(found, list) and found and all(isinstance(each, Mapping) and "template" in each for each in found):
        return [_template(str(each.get("name", n)), str(each["template"]), path) for n, each in enumerate(found)]
    raise SpecError(f"{path}: no `chat_template` in it; newer models keep theirs in chat_template.jinja beside it.")


def _served(url: str) -> list[Template]:
    try:
        reply = httpx.get(f"{url.rstrip('/').removesuffix('/v1')}/props", timeout=10)
        reply.raise_for_status()
        props: Mapping[str, Any] = reply.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ServerError(f"{url}: its /props could not be read: {error}. Is it a llama-server?") from None
    found = {key: props[key] for key in ("chat_template", "chat_template_tool_use") if props.get(key)}
    if not found:
        raise SpecError(f"{url}: its /props holds no chat template.")
    return [_template(f"{url} {key}", str(source), url) for key, source in found.items()]


def _template(name: str, source: str, where: Path | str) -> Template:
    # What the carrier calls the beginning and the end: both engines are to write the same.
    return Template(name, source, {"where": str(where), "special_tokens": {"bos_token": "<s>", "eos_token": "</s>"}})
