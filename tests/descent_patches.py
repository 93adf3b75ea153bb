"""Small models for the tests of descent: made by hand, as arrays, as sketches and as files."""

import numpy as np
import torch
from safetensors.torch import save_file

from engine.descent.patch import Layout, layout_of, whole
from engine.descent.sketch import Sketch
from registry.header import read_header

TORCH = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
}  # fmt: skip


def drawn(seed, *shape, scale=1.0):
    """Normal numbers, float32."""
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def network(seed, *, layers=2, hidden=16, tokens=24):
    """A network with an embedding, layers of two matrices and a norm, and a head; seeds are independent."""
    made = {
        "embed_tokens.weight": drawn([seed, 0], tokens, hidden),
        "lm_head.weight": drawn([seed, 1], tokens, hidden),
    }
    for i in range(layers):
        made[f"layers.{i}.up_proj.weight"] = drawn([seed, 2, i], 2 * hidden, hidden)
        made[f"layers.{i}.down_proj.weight"] = drawn([seed, 3, i], hidden, 2 * hidden)
        made[f"layers.{i}.norm.weight"] = 1 + drawn([seed, 4, i], hidden, scale=0.01)
    return made


def tuned(tensors, seed, scale=0.05):
    """A fine-tune: every matrix moves a little."""
    return {
        name: value + drawn([seed, 99, at], *value.shape, scale=scale)
        for at, (name, value) in enumerate(sorted(tensors.items()))
    }


def rounded(tensors, dtype):
    """Tensors as a dtype holds them, float32."""
    return {
        name: torch.from_numpy(value).to(TORCH[dtype]).float().numpy().copy()
        for name, value in tensors.items()
    }


def shapes(tensors):
    """Names and shapes."""
    return [(name, value.shape) for name, value in tensors.items()]


def sketch_of(tensors, model="a", *, dtype="F32", n_scalars=None, invariants=None):
    """A sketch of arrays by plain indexing; every entry unless a number is given."""
    chosen = whole(shapes(tensors)) if n_scalars is None else layout_of(shapes(tensors), n_scalars)
    return sketch_on(tensors, chosen, model, dtype=dtype, invariants=invariants)


def sketch_on(tensors, layout: Layout, model="a", *, dtype="F32", invariants=None):
    """A sketch of arrays on a layout."""
    parts = [cut(tensors[p.tensor], p) for p in layout.patches]
    values = np.concatenate([np.zeros(0), *parts]).astype(np.float32)
    return Sketch(model, dtype, layout, values, invariants or {}, 0)


def cut(array, patch):
    """The scalars of a patch, by plain indexing."""
    rows = np.asarray(array).reshape(patch.shape)
    part = rows[patch.row : patch.row + patch.n_rows, patch.column : patch.column + patch.n_columns]
    return part.reshape(-1)


def saved(folder, tensors, dtype="F32", name="model"):
    """Tensors in a safetensors file, as its header tells them."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.safetensors"
    stored = {
        name: torch.from_numpy(np.array(value)).to(TORCH[dtype]) for name, value in tensors.items()
    }
    save_file(stored, file)
    return read_header(file).tensors
