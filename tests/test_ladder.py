"""The demo's quant ladder, made of a small llama with invented weights."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFWriter, quants

from evalsuite.errors import SpecError
from evalsuite.ladder import LADDER, Recipe, make_ladder, make_quant, make_reference, open_gguf
from evalsuite.serve.llama_cpp import LlamaCpp

EMBED, FEED_FORWARD, HEADS, KV_HEADS, VOCABULARY, BLOCKS = 96, 256, 3, 1, 64, 16
SHAPES = {
    "attn_q": (EMBED, EMBED),
    "attn_k": (EMBED // HEADS, EMBED),
    "attn_v": (EMBED // HEADS, EMBED),
    "attn_output": (EMBED, EMBED),
    "ffn_gate": (FEED_FORWARD, EMBED),
    "ffn_up": (FEED_FORWARD, EMBED),
    "ffn_down": (EMBED, FEED_FORWARD),
}
CHAT_TEMPLATE = "{% for message in messages %}«{{ message.content }}»\n{% endfor %}"


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small llama, its matrices in Q4_1 and its embedding in Q8_0, as in the demo's wheel."""
    rng = np.random.default_rng(7)
    path = tmp_path_factory.mktemp("source") / "toy.Q4_1.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_name("Toy")
    writer.add_block_count(BLOCKS)
    writer.add_context_length(128)
    writer.add_embedding_length(EMBED)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(EMBED // HEADS)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"«{index}»" for index in range(VOCABULARY)])
    writer.add_token_types([1] * VOCABULARY)
    writer.add_chat_template(CHAT_TEMPLATE)
    writer.add_file_type(3)
    writer.add_quantization_version(2)
    weights = {"token_embd.weight": ((VOCABULARY, EMBED), Type.Q8_0), "output_norm.weight": ((EMBED,), Type.F32)}
    for block in range(BLOCKS):
        weights |= {f"blk.{block}.{layer}.weight": (shape, Type.Q4_1) for layer, shape in SHAPES.items()}
        weights |= {f"blk.{block}.{norm}.weight": ((EMBED,), Type.F32) for norm in ("attn_norm", "ffn_norm")}
    for name, (shape, kind) in weights.items():
        data = rng.normal(1 if len(shape) == 1 else 0, 0.1, shape).astype(np.float32)
        writer.add_tensor(name, quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Make the whole ladder of the toy."""
    return make_ladder(source, tmp_path_factory.mktemp("ladder"), progress=print)


def weights(path: Path) -> dict[str, np.ndarray]:
    tensors = GGUFReader(path).tensors
    return {it.name: quants.dequantize(it.data, it.tensor_type).reshape(it.shape[::-1]) for it in tensors}


def test_ladder_is_the_reference_and_every_recipe(made: list[Path]):
    """The reference comes first, then every quant under its recipe's name, and nothing half-written is left."""
    assert [path.stem for path in made] == ["F16", *(recipe.name for recipe in LADDER)]
    assert sorted(made[0].parent.iterdir()) == sorted(made)


def test_ladder_goes_on_where_it_stopped(source: Path, made: list[Path], tmp_path: Path):
    """Files that are there are kept, the missing ones are made, and both times the bytes are the same."""
    for path in made[:3]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / f"{made[3].name}.partial").write_bytes(b"broken off")
    said: list[str] = []
    again = make_ladder(source, tmp_path, progress=said.append)
    assert len(said) == len(made) - 3
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in made]
    assert sorted(tmp_path.iterdir()) == sorted(again)


def test_metadata_is_carried_over(source: Path, made: list[Path]):
    """Every field, tokens and chat template among them, is in every quant as it was, and the recipe with it."""
    wanted = {
        name: (field.contents(), field.types)
        for name, field in GGUFReader(source).fields.items()
        if not name.startswith("GGUF.") and name != "general.file_type"
    }
    for path in made:
        fields = GGUFReader(path).fields
        assert wanted.items() <= {name: (field.contents(), field.types) for name, field in fields.items()}.items()
        assert "dequantised from toy.Q4_1.gguf (Q4_1, Q8_0)" in fields["evalsuite.ladder.source"].contents()
    recipes = [GGUFReader(path).fields["evalsuite.ladder.recipe"].contents() for path in made[1:]]
    assert recipes[0] == "Q8_0"
    assert recipes[-1].startswith("Q4_0 ^blk")


@pytest.mark.parametrize("recipe", LADDER, ids=lambda recipe: recipe.name)
def test_tensors_have_the_recipes_type(made: list[Path], recipe: Recipe):
    """Each matrix has the type that its recipe gives it, norms stay F32, and the embedding stays at 8 bits."""
    (path,) = [path for path in made if path.stem == recipe.name]
    for tensor in GGUFReader(path).tensors:
        norm = tensor.name.endswith("norm.weight")
        assert tensor.tensor_type == (Type.F32 if norm else recipe.type_of(tensor.name)), tensor.name
        assert norm or tensor.name != "token_embd.weight" or tensor.tensor_type == Type.Q8_0


def test_first_expression_decides():
    """Overrides are tried in order; a name that none is found in gets the default."""
    recipe = Recipe("mix", Type.Q4_0, (("blk.1.ffn", Type.Q8_0), ("ffn", Type.Q5_0)))
    names = ("blk.1.ffn_down.weight", "blk.2.ffn_down.weight", "blk.1.attn_q.weight")
    assert [recipe.type_of(name) for name in names] == [Type.Q8_0, Type.Q5_0, Type.Q4_0]


def test_reference_is_the_source_dequantised(source: Path, made: list[Path]):
    """Each weight of the reference is that of the source, to half precision; norms are equal."""
    before, after = weights(source), weights(made[0])
    assert before.keys() == after.keys()
    for name, weight in before.items():
        np.testing.assert_array_equal(
            after[name], weight if weight.ndim == 1 else weight.astype(np.float16), err_msg=name
        )


@pytest.mark.parametrize("content", [b"", b"GGUF", b"a text, no GGUF at all"])
def test_no_gguf_is_the_users_fault(tmp_path: Path, content: bytes):
    """A source that is no GGUF is refused by name, and nothing is written."""
    (tmp_path / "no.gguf").write_bytes(content)
    with pytest.raises(SpecError, match=r"no\.gguf: cannot be read as a GGUF"):
        make_reference(tmp_path / "no.gguf", tmp_path / "F16.gguf")
    assert not (tmp_path / "F16.gguf").exists()


@pytest.mark.llama_cpp
@pytest.mark.parametrize("kind", [Type.Q8_0, Type.Q5_0, Type.Q4_0])
def test_tensors_agree_with_llama_quantize(llama_cpp: LlamaCpp, made: list[Path], tmp_path: Path, kind: Type):
    """`llama-quantize --pure` makes the same bytes of every matrix out of the same reference."""
    theirs = tmp_path / "theirs.gguf"
    argv = [llama_cpp.tools["quantize"], "--pure", made[0], theirs, kind.name]
    subprocess.run(argv, check=True, capture_output=True)
    make_quant(open_gguf(made[0]), Recipe("pure", kind), tmp_path / "ours.gguf")
    ours = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "ours.gguf").tensors}
    for tensor in GGUFReader(theirs).tensors:
        assert tensor.tensor_type == ours[tensor.name].tensor_type
        np.testing.assert_array_equal(tensor.data, ours[tensor.name].data, err_msg=tensor.name)
