"""A carrier: a tiny GGUF with the tokenizer of a model and no weights to speak of, so that a server of it starts at once."""

import os
from pathlib import Path

import numpy as np
import platformdirs
from gguf import GGUFReader, GGUFWriter

_WIDTH = 32


def carrier(model: Path, vocabulary_sha256: str) -> Path:
    """Return the carrier for a model's tokenizer, from the user's cache, where it is made once for each vocabulary.

    It has one layer of zeros and every `tokenizer.*` field of the model but the chat template. `model` is the first file
    of the quant, known to be a GGUF.
    """
    path = platformdirs.user_cache_path("evalsuite") / "carriers" / f"{vocabulary_sha256}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        _write(GGUFReader(model), partial)
        partial.replace(path)
    return path


def _write(like: GGUFReader, out: Path) -> None:
    writer = GGUFWriter(out, "llama")
    writer.add_name("carrier")
    writer.add_context_length(2**20)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_WIDTH)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    for field in like.fields.values():
        if field.name.startswith("tokenizer.") and not field.name.startswith("tokenizer.chat_template"):
            writer.add_key_value(field.name, field.contents(), *field.types[:2])
    vocabulary = like.fields.get("tokenizer.ggml.tokens")
    writer.add_tensor("token_embd.weight", np.zeros((len(vocabulary.data) if vocabulary else 1, _WIDTH), np.float16))
    writer.add_tensor("output_norm.weight", np.ones(_WIDTH, np.float32))
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(_WIDTH, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((_WIDTH, _WIDTH), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
