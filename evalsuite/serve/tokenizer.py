"""Counting tokens as the served model does, before anything is served: through llama-server's own tokenizer."""

import asyncio
import os
from collections.abc import Sequence
from typing import Self

from evalsuite.identity import text_sha256
from evalsuite.plan import Quant
from evalsuite.serve.carrier import carrier
from evalsuite.serve.client import Endpoint
from evalsuite.serve.launch import Profile, arguments
from evalsuite.serve.llama_cpp import LlamaCpp
from evalsuite.serve.process import Address, ServerProcess
from evalsuite.store import Store

_PROFILE = Profile(name="tokenizer", ctx=256, parallel=1, threads=1, flags={"n-gpu-layers": 0})


class Tokenizer:
    """Counts the tokens of texts; a server is started for the first text that the store has no count of, and stopped at exit.

    A file is served as its carrier, so no weights are loaded; a quant at a `url` is asked there. Counts are kept in the store
    by vocabulary and text.
    """

    def __init__(self, llama_cpp: LlamaCpp, store: Store) -> None:
        self._llama_cpp, self._store = llama_cpp, store
        self._runner = asyncio.Runner()
        self._process: ServerProcess | None = None
        self._endpoint: Endpoint | None = None
        self._known: dict[str, dict[str, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what was started, and store what was counted."""
        for key, known in self._known.items():
            self._store.put_meta(key, known)
        with self._runner:
            if self._endpoint is not None:
                self._runner.run(self._endpoint.__aexit__())
            if self._process is not None:
                self._runner.run(self._process.stop())

    def count(self, quant: Quant, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, special tokens that a template would add left out; always of the same `quant`.

        Raises ServerError where no server can be had, and whatever a request to it raises.
        """
        key = f"tokens {quant.facts.vocabulary_sha256 if quant.facts else quant.url}"
        if key not in self._known:
            self._known[key] = self._store.get_meta(key) or {}
        known = self._known[key]
        names = [text_sha256(text)[:24] for text in texts]
        if missing := {name: text for name, text in zip(names, texts, strict=True) if name not in known}:
            known |= zip(missing, self._runner.run(self._count(quant, [*missing.values()])), strict=True)
        return [known[name] for name in names]

    async def _count(self, quant: Quant, texts: Sequence[str]) -> list[int]:
        if self._endpoint is None:
            self._endpoint = Endpoint(await self._address(quant), in_flight=1, cache_prompt=False, grace_s=60.0)
        return [await self._endpoint.count_tokens(text) for text in texts]

    async def _address(self, quant: Quant) -> Address:
        if quant.facts is None:
            return Address(str(quant.url).rstrip("/"), None, os.environ.get("EVALSUITE_API_KEY") or "none")
        model = carrier(quant.paths[0], quant.facts.vocabulary_sha256)
        self._process = ServerProcess(self._llama_cpp.server, self._store.folder / "logs" / "tokenizer.log")
        self._process.spawn(arguments(
            _PROFILE, model=model, host=self._process.host, port=0, alias=self._process.alias, kv_cache="f16",
            template=None, seed=1,
        ))  # fmt: skip
        return await self._process.ready(model.stat().st_size)
