"""What a GGUF file says of itself: identity by content, size, tensor mix, vocabulary, chat template."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import GGUFEndian, GGUFReader, GGUFValueType

from evalsuite.errors import SpecError
from evalsuite.filehash import file_sha256

_COUNT = 4
"""Where the length of an array stands among the parts of its field: after the key's length, the key and two types."""
_IMATRIX, _LONGEST_NAME = "quantize.imatrix.", 127
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True)
class GgufFacts:
    """Header facts of one quant, over all its shards.

    `artifact_id` names the bytes of all shards in order. `dimensions` holds what every quant of one model shares: layers,
    widths and heads. `vocabulary_sha256` covers the tokens, their types and the merges:
    two files with equal ones give the same token ids for the same text. `bpw` is 8 × tensor bytes / elements.
    """

    artifact_id: str
    architecture: str
    name: str
    size_bytes: int
    n_elements: int
    bpw: float
    tensor_types: Mapping[str, int]
    dimensions: Mapping[str, int]
    context_length: int | None
    n_vocab: int
    vocabulary_sha256: str
    chat_template: str | None
    notes: Mapping[str, str]

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "GgufFacts":
        """Rebuild what `as_json` gave."""
        return cls(**raw)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @property
    def imatrix(self) -> dict[str, Any] | None:
        """What the header says of the importance matrix: `file`, its `dataset`, `chunks` and `entries`; None without one.

        llama-quantize names the first data set only, and cuts both names at 127 bytes; `notes` says so where one was.
        """
        if not any(key.startswith(_IMATRIX) for key in self.notes):
            return None
        names = {key: self.notes.get(_IMATRIX + key) for key in ("file", "dataset")}
        counts = {key: self.notes.get(f"{_IMATRIX}{key}_count") for key in ("chunks", "entries")}
        cut = [
            f"{key} is cut at 127 bytes" for key, name in names.items() if len((name or "").encode()) == _LONGEST_NAME
        ]
        numbers = {
            key: int(count) if count is not None and count.isdecimal() else None for key, count in counts.items()
        }
        return {**names, **numbers, "notes": cut}


class _Header(GGUFReader):  # type: ignore[misc]  # the package has no annotations we can rely on
    """A reader that leaves an array as one run of bytes: to take a vocabulary apart takes seconds a file."""

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> tuple[int, list[Any], list[int], list[Any]]:
        if raw_type != GGUFValueType.ARRAY:
            parts: tuple[int, list[Any], list[int], list[Any]] = super()._get_field_parts(orig_offs, raw_type)
            return parts
        kind, count = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
        start = end = orig_offs + 12
        if kind[0] == GGUFValueType.STRING:
            order: Literal["little", "big"] = "little" if self.endianess == GGUFEndian.LITTLE else "big"
            content = memoryview(self.data)
            for _ in range(int(count[0])):
                end += 8 + int.from_bytes(content[end : end + 8], order)
        else:
            end += int(count[0]) * np.dtype(self.gguf_scalar_to_np[GGUFValueType(kind[0])]).itemsize
        if end > len(self.data):
            raise ValueError("an array ends beyond the file")
        return end - orig_offs, [kind, count, self._get(start, np.uint8, end - start)], [2], [GGUFValueType.ARRAY]


def shards(path: Path) -> tuple[Path, ...]:
    """Return all shards of a quant in order; a file that is not sharded is its only shard.

    Raises SpecError when the file or one of its shards is missing.
    """
    match = _SHARD.search(path.name)
    total = int(match[2]) if match else 1
    stem = path.name[: match.start()] if match else ""
    paths = (
        tuple(path.with_name(f"{stem}-{i:05d}-of-{total:05d}.gguf") for i in range(1, total + 1)) if match else (path,)
    )
    for part in paths:
        if not part.is_file():
            whole = f" (a shard of {path.name})" if match else ""
            raise SpecError(f"{part}: no such file{whole}. Check the path, or download it again.")
    return paths


def artifact_id(paths: Sequence[Path], *, progress: Callable[[int], None] | None = None) -> str:
    """Name the content of a file, or of several shards in order; `progress` is told the bytes read."""
    digests = [file_sha256(path, progress=progress) for path in paths]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return f"sha256:{whole}"


def read_gguf(paths: Sequence[Path]) -> GgufFacts:
    """Read the header of a quant.

    Raises SpecError, naming the file, when one is not a GGUF or is cut short.
    """
    readers = []
    for path in paths:
        try:
            reader = _Header(path)
            end = max((int(tensor.data_offset + tensor.n_bytes) for tensor in reader.tensors), default=0)
        except (ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
            raise SpecError(f"{path}: not a readable GGUF file, or cut short ({error}). Download it again.") from error
        if end > path.stat().st_size:
            raise SpecError(f"{path}: cut short: {path.stat().st_size} bytes of at least {end}. Download it again.")
        readers.append(reader)

    def field(key: str) -> Any:
        found = readers[0].fields.get(key)
        return None if found is None else found.contents()

    def raw(key: str) -> bytes:
        found = readers[0].fields.get(key)
        return b"" if found is None else b"".join(part.tobytes() for part in found.parts)

    tensors = [tensor for reader in readers for tensor in reader.tensors]
    n_elements = sum(int(tensor.n_elements) for tensor in tensors)
    n_bytes = sum(int(tensor.n_bytes) for tensor in tensors)
    if not n_elements:
        raise SpecError(f"{paths[0]}: holds no tensors. Is it a vocabulary-only file or a projector?")
    vocabulary = hashlib.sha256()
    for part in ("tokens", "token_type", "merges", "scores", "model", "pre"):
        vocabulary.update(raw(f"tokenizer.ggml.{part}"))
    architecture = field("general.architecture") or "unknown"
    tokens = readers[0].fields.get("tokenizer.ggml.tokens")
    return GgufFacts(
        artifact_id=artifact_id(paths),
        architecture=architecture,
        name=field("general.name") or paths[0].stem,
        size_bytes=sum(path.stat().st_size for path in paths),
        n_elements=n_elements,
        bpw=8 * n_bytes / n_elements,
        tensor_types=dict(sorted(Counter(tensor.tensor_type.name for tensor in tensors).items())),
        dimensions={
            key: int(value)
            for key in (
                "block_count",
                "embedding_length",
                "feed_forward_length",
                "attention.head_count",
                "expert_count",
            )
            if isinstance(value := field(f"{architecture}.{key}"), int)
        },
        context_length=field(f"{architecture}.context_length"),
        n_vocab=int(tokens.parts[_COUNT][0]) if tokens else 0,
        vocabulary_sha256=vocabulary.hexdigest(),
        chat_template=field("tokenizer.chat_template"),
        notes={
            key: str(field(key))
            for key in readers[0].fields
            if key.startswith((_IMATRIX, "evalsuite.")) or key == "general.size_label"
        },
    )
