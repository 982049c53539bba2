"""A carrier: a tiny GGUF with a tokenizer and no weights to speak of, so that a server of it starts at once."""

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import platformdirs
from gguf import GGUFReader, GGUFWriter, TokenType

_WIDTH = 32


def carrier(model: Path, vocabulary_sha256: str) -> Path:
    """Return the carrier for a model's tokenizer, from the user's cache, where it is made once for each vocabulary.

    It has one layer of zeros and every `tokenizer.*` field of the model but the chat template. `model` is the first file
    of the quant, known to be a GGUF.
    """
    reader = GGUFReader(model)
    fields = [
        field for field in reader.fields.values()
        if field.name.startswith("tokenizer.") and not field.name.startswith("tokenizer.chat_template")
    ]  # fmt: skip
    vocabulary = reader.fields.get("tokenizer.ggml.tokens")

    def tokenizer(writer: GGUFWriter) -> int:
        for field in fields:
            writer.add_key_value(field.name, field.contents(), *field.types[:2])
        return len(vocabulary.data) if vocabulary else 1

    return _kept(vocabulary_sha256, tokenizer)


def byte_carrier() -> Path:
    """Return a carrier that needs no model: a token for each byte, `<s>` and `</s>` (the end of a turn), none added.

    It renders and parses every template; how a model's own tokenizer splits a text it cannot tell.
    """
    return _kept("bytes", _byte_tokenizer)


def _kept(name: str, tokenizer: Callable[[GGUFWriter], int]) -> Path:
    """Return the cached carrier, written first where there is none; `tokenizer` adds its fields and returns its size."""
    path = platformdirs.user_cache_path("evalsuite") / "carriers" / f"{name}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        _write(tokenizer, partial)
        partial.replace(path)
    return path


def _byte_tokenizer(writer: GGUFWriter) -> int:
    """Add GPT-2's alphabet of bytes: printable ones stand for themselves, the others for characters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = count(0x100)
    tokens = [chr(byte if byte in printable else next(others)) for byte in range(0x100)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*tokens, "<s>", "</s>"])
    writer.add_token_types([TokenType.NORMAL] * 0x100 + [TokenType.CONTROL] * 2)
    writer.add_token_merges(["a b"])  # llama.cpp wants the field; the two never make a token that exists
    writer.add_bos_token_id(0x100)
    writer.add_eos_token_id(0x101)
    writer.add_add_bos_token(False)
    return 0x102


def _write(tokenizer: Callable[[GGUFWriter], int], out: Path) -> None:
    writer = GGUFWriter(out, "llama")
    writer.add_name("carrier")
    writer.add_context_length(2**20)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_WIDTH)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tensor("token_embd.weight", np.zeros((tokenizer(writer), _WIDTH), np.float16))
    writer.add_tensor("output_norm.weight", np.ones(_WIDTH, np.float32))
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(_WIDTH, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((_WIDTH, _WIDTH), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
