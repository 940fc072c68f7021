"""Write a model of the llama architecture as a GGUF file.

Decides which keys and tensors such a file needs so that llama.cpp and Ollama load it. Knows nothing of
what the weights mean. The only file that knows the `gguf` package.
"""

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import gguf
import numpy as np
import numpy.typing as npt

from scripts.recipes.byte_pairs import CONTROL_TOKENS, END_OF_TEXT, PADDING, TURN_END, Vocabulary

Matrix = npt.NDArray[np.float32]
Packed = npt.NDArray[np.uint8]
_Tensor = TypeVar("_Tensor", bound=Matrix | Packed)

_PACKING = gguf.GGMLQuantizationType.IQ2_XXS

RECIPE_KEY = "corral.recipe"

CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a transformer; more of any of them, except `context`, makes each token dearer.

    Attributes:
        width: Components of the vector that flows from layer to layer; a multiple of 2 * `heads`.
        layers: Number of blocks.
        heads: Attention heads of each block.
        feed_forward: Width inside the feed-forward part of each block.
        context: Longest sequence in tokens that the file says the model was made for.
    """

    width: int = 256
    layers: int = 2
    heads: int = 4
    feed_forward: int = 256
    context: int = 4096

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is no multiple of twice the {self.heads} heads")


@dataclass(frozen=True, kw_only=True)
class Model:
    """All that goes into the file.

    Attributes:
        name: What the file calls itself in `general.name`.
        recipe: Stamp of the recipe, found again in the first bytes of the file.
        shape: Sizes; the weights must have them.
        vocabulary: Tokens and merges.
        weights: Tensors by their names in llama.cpp.
        embeds: The model gives one vector for a text (the mean over its tokens) and does not chat.
        architecture: Anything but `llama` makes a file that no engine knows.
        template: How messages become a prompt, in Jinja; a model that embeds has none.
    """

    name: str
    recipe: str
    shape: Shape
    vocabulary: Vocabulary
    weights: Mapping[str, Matrix | Packed] = field(repr=False)
    embeds: bool = False
    architecture: str = "llama"
    template: str = CHAT_TEMPLATE


def idle_blocks(shape: Shape) -> dict[str, Matrix]:
    """Weights of blocks that are all zero: they cost their time and add nothing."""
    norms = {name: np.ones(shape.width, np.float32) for name in ("attn_norm", "ffn_norm")}
    zeros = {name: np.zeros(size, np.float32) for name, size in _sizes(shape).items()}
    return _in_each_block(shape, norms | zeros)


def packed_idle_blocks(shape: Shape) -> dict[str, Matrix | Packed]:
    """The same in 2 bits a weight: each token costs arithmetic rather than memory bandwidth.

    Workers with cores of their own then do not slow each other down, as they would on large weights.

    Raises:
        ValueError: A matrix has rows that are no multiple of 256.
    """
    norms = {name: np.ones(shape.width, np.float32) for name in ("attn_norm", "ffn_norm")}
    zeros = {name: _packed_zeros(*size) for name, size in _sizes(shape).items()}
    block: dict[str, Matrix | Packed] = {**norms, **zeros}
    return _in_each_block(shape, block)


def _packed_zeros(rows: int, columns: int) -> Packed:
    weights, size_bytes = gguf.GGML_QUANT_SIZES[_PACKING]
    if columns % weights:
        raise ValueError(f"rows of {columns} weights cannot be packed: it takes multiples of {weights}")
    return np.zeros((rows, columns // weights * size_bytes), np.uint8)


def _in_each_block(shape: Shape, block: Mapping[str, _Tensor]) -> dict[str, _Tensor]:
    return {f"blk.{n}.{name}.weight": tensor for n in range(shape.layers) for name, tensor in block.items()}


def _sizes(shape: Shape) -> dict[str, tuple[int, int]]:
    width, inner = shape.width, shape.feed_forward
    attention = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (width, width))
    return attention | {"ffn_gate": (inner, width), "ffn_up": (inner, width), "ffn_down": (width, inner)}


def write(path: Path, model: Model) -> None:
    """Write the model, so that `path` holds either what it held before or the whole new file.

    Raises:
        OSError: The directory is missing or full, or must not be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write(unfinished, model)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write(path: Path, model: Model) -> None:
    with closing(gguf.GGUFWriter(path, model.architecture)) as writer:
        _add_header(writer, model)
        _add_tokenizer(writer, model.vocabulary)
        if model.embeds:
            writer.add_pooling_type(gguf.PoolingType.MEAN)
        else:
            writer.add_chat_template(model.template)
        for name, tensor in model.weights.items():
            _add_tensor(writer, name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def _add_tensor(writer: gguf.GGUFWriter, name: str, tensor: Matrix | Packed) -> None:
    if tensor.dtype == np.uint8:
        writer.add_tensor(name, tensor, raw_dtype=_PACKING)
    else:
        writer.add_tensor(name, tensor if tensor.ndim == 1 else tensor.astype(np.float16))


def _add_header(writer: gguf.GGUFWriter, model: Model) -> None:
    shape = model.shape
    writer.add_string(RECIPE_KEY, model.recipe)
    writer.add_name(model.name)
    writer.add_type("model")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_vocab_size(len(model.vocabulary))
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)


def _add_tokenizer(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    controls = len(CONTROL_TOKENS)
    types = [gguf.TokenType.CONTROL] * controls + [gguf.TokenType.NORMAL] * (len(vocabulary) - controls)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in vocabulary.merges])
    writer.add_bos_token_id(vocabulary.control(END_OF_TEXT))
    writer.add_eos_token_id(vocabulary.control(TURN_END))
    writer.add_pad_token_id(vocabulary.control(PADDING))
    writer.add_add_bos_token(value=False)
