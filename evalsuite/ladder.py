"""The demo's quant ladder: a reference and its quants, made with the `gguf` package alone.

The only weights on hand are 4-bit ones (Q4_1, with a Q8_0 embedding), so the reference is those weights dequantised, and
the ladder shows what a format does to *these* weights, not to those of the model's makers; the files say so. Q4_1 is no
rung: it would give back the very weights it was given.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFWriter, LlamaFileType, quants

from evalsuite.errors import SpecError

Tensor = tuple[str, Type, npt.NDArray[np.generic]]
"""Name, type and data, a quantised row as bytes."""


@dataclass(frozen=True)
class Recipe:
    """A quant as data: the type of most tensors, and exceptions by regular expression, as in `--tensor-type`.

    The first expression found in a tensor's name decides. One-dimensional tensors (norms) stay F32.
    """

    name: str
    default: Type
    overrides: tuple[tuple[str, Type], ...] = ()

    def type_of(self, tensor: str) -> Type:
        """Return the type for a tensor's name."""
        return next((kind for pattern, kind in self.overrides if re.search(pattern, tensor)), self.default)


# The embedding is the output layer as well, and llama-quantize too leaves it at Q8_0 where rows are no multiple of 256.
EMBEDDING = ("^token_embd", Type.Q8_0)

LADDER: tuple[Recipe, ...] = (
    Recipe("Q8_0", Type.Q8_0),
    Recipe("Q5_0", Type.Q5_0, (EMBEDDING,)),
    Recipe("Q4_0_M", Type.Q4_0, (("ffn_down|attn_v", Type.Q5_0), EMBEDDING)),
    Recipe("Q4_0", Type.Q4_0, (EMBEDDING,)),
    Recipe("MXFP4", Type.MXFP4, (EMBEDDING,)),
    # Ternary blocks need rows of a multiple of 256, and only ffn_down has them.
    Recipe("Q4_0_XS", Type.Q4_0, ((r"^blk\.(10|12|14|16|18|20)\.ffn_down", Type.TQ2_0), EMBEDDING)),
)

FILE_TYPES = {
    Type.F16: LlamaFileType.MOSTLY_F16,
    Type.Q8_0: LlamaFileType.MOSTLY_Q8_0,
    Type.Q5_0: LlamaFileType.MOSTLY_Q5_0,
    Type.Q4_0: LlamaFileType.MOSTLY_Q4_0,
    Type.MXFP4: LlamaFileType.MOSTLY_MXFP4_MOE,
}


def make_ladder(source: Path, folder: Path, *, progress: Callable[[str], None]) -> list[Path]:
    """Write `F16.gguf` and every quant of `LADDER` into a folder and return their paths, the reference first.

    Files that are already there are kept, so a broken-off call goes on where it stopped. Same source, same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reference = folder / "F16.gguf"
    if not reference.exists():
        progress("F16: dequantising the shipped weights")
        make_reference(source, reference)
    paths = {recipe: folder / f"{recipe.name}.gguf" for recipe in LADDER}
    missing = [recipe for recipe, path in paths.items() if not path.exists()]
    if not missing:
        return [reference, *paths.values()]
    opened = open_gguf(reference)  # once for all: taking a vocabulary apart takes seconds
    for recipe in missing:
        progress(f"{recipe.name}: quantising")
        make_quant(opened, recipe, paths[recipe])
    return [reference, *paths.values()]


def make_reference(source: Path, out: Path) -> str:
    """Write a llama-architecture GGUF's weights as F16; return the provenance written.

    Raises `SpecError` for a file that is no GGUF.
    """
    reader = open_gguf(source)
    kinds = sorted({tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1})
    provenance = f"dequantised from {source.name} ({', '.join(kinds)})"
    weights = {
        tensor.name: quants.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
        for tensor in reader.tensors
    }
    tensors = (
        (name, Type.F32, data) if data.ndim == 1 else (name, Type.F16, data.astype(np.float16))
        for name, data in weights.items()
    )
    _write(out, reader, LlamaFileType.MOSTLY_F16, {"evalsuite.ladder.source": provenance}, tensors)
    return provenance


def make_quant(reference: GGUFReader, recipe: Recipe, out: Path) -> None:
    """Quantise a reference by a recipe, every field of its metadata carried over."""
    tensors = (
        (tensor.name, Type.F32, tensor.data)
        if len(tensor.shape) == 1
        else (tensor.name, kind := recipe.type_of(tensor.name), quants.quantize(tensor.data.astype(np.float32), kind))
        for tensor in reference.tensors
    )
    exceptions = [f"{pattern}={kind.name}" for pattern, kind in recipe.overrides]
    facts = {"evalsuite.ladder.recipe": " ".join([recipe.default.name, *exceptions])}
    _write(out, reference, FILE_TYPES[recipe.default], facts, tensors)


def open_gguf(path: Path) -> GGUFReader:
    """Open a GGUF; raises SpecError when it is none."""
    try:
        return GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:
        raise SpecError(f"{path}: cannot be read as a GGUF ({error}).") from error


def _write(out: Path, like: GGUFReader, kind: LlamaFileType, facts: dict[str, str], tensors: Iterable[Tensor]) -> None:
    """Write a GGUF with the metadata of another and new tensors; the name appears when the file is complete."""
    partial = out.with_name(f"{out.name}.partial")
    writer = GGUFWriter(partial, like.fields["general.architecture"].contents())
    for field in like.fields.values():
        if field.name.startswith("GGUF.") or field.name in {"general.architecture", "general.file_type"}:
            continue
        writer.add_key_value(field.name, field.contents(), *field.types[:2])
    writer.add_file_type(kind)
    for key, value in facts.items():
        writer.add_string(key, value)
    for name, raw_dtype, data in tensors:
        writer.add_tensor(name, data, raw_dtype=raw_dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(out)
