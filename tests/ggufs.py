"""GGUF files for the tests, written by the format's own library."""

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

SHAPES = {
    "token_embd.weight": (8, 256),
    "blk.0.attn_q.weight": (4, 512),
    "blk.0.attn_norm.weight": (256,),
}

QUANTISED = (Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0)
"""What the library can make of numbers."""


def save_gguf(path, dtype=Type.Q4_0, *, seed=0, keys=None, n_tokens=0, big_endian=False):
    """Write a file of three tensors, vectors in F32 and matrices in ``dtype``; ``keys`` come beside the usual ones.

    What the library cannot quantise is written as that many random bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    endian = gguf.GGUFEndian.BIG if big_endian else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, "llama", endianess=endian)
    writer.add_context_length(4096)
    writer.add_rope_freq_base(10000.0)
    writer.add_bool("general.flag", val=True)
    writer.add_tokenizer_model("gpt2")
    if n_tokens:
        writer.add_token_list([f"token {i}" for i in range(n_tokens)])
        writer.add_token_types([1] * n_tokens)
    for key, value in (keys or {}).items():
        if key == "general.alignment":
            writer.add_custom_alignment(value)
            continue
        kind = (
            gguf.GGUFValueType.UINT32 if type(value) is int else gguf.GGUFValueType.get_type(value)
        )
        writer.add_key_value(key, value, kind)
    rng = np.random.default_rng(seed)
    for name, shape in SHAPES.items():
        values = rng.standard_normal(shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, _stored(values, dtype, rng), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def save_split(folder, stem="model", n=3):
    """Write a model in ``n`` parts, the first of which holds keys alone."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{stem}-{i:05}-of-{n:05}.gguf" for i in range(1, n + 1)]
    tensors = list(SHAPES.items())
    for i, name in enumerate(names):
        writer = gguf.GGUFWriter(folder / name, "llama")
        writer.add_uint16("split.no", i)
        writer.add_uint16("split.count", n)
        writer.add_int32("split.tensors.count", len(tensors))
        for tensor, shape in tensors[i - 1 :: n - 1] if i else []:
            writer.add_tensor(tensor, np.full(shape, i, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return [folder / name for name in names]


def _stored(values, dtype, rng):
    """The rows of a matrix as they are stored."""
    if dtype in QUANTISED:
        return gguf.quantize(values, dtype)
    block, block_bytes = gguf.GGML_QUANT_SIZES[dtype]
    row = values.shape[1] // block * block_bytes
    return rng.integers(0, 256, (len(values), row), dtype=np.uint8)
