"""Slabs: every entry once, in order, whatever its dtype and the tensor's shape, and never too many at a time."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine.descent.slab import N_ENTRIES, shared
from engine.reader import Reader
from registry.checkpoint import read_checkpoint


def stored(folder, **tensors):
    folder.mkdir()
    save_file(
        {name: torch.as_tensor(t) for name, t in tensors.items()}, folder / "model.safetensors"
    )
    return read_checkpoint(folder)


def numbers(*shape):
    return torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(shape)


@pytest.mark.parametrize(
    "shape",
    [
        (3, 4),
        (5,),
        (),
        (2, 3, 4),
        (3, N_ENTRIES // 2 + 1),
        (2, N_ENTRIES + 5),
        (N_ENTRIES * 2 + 1,),
    ],
)
def test_every_entry_comes_once_and_in_order(tmp_path, shape):
    values = numbers(*shape)
    child = stored(tmp_path / "c", w=values)
    (tensor,) = shared(child, [stored(tmp_path / "p", w=-values)])
    with Reader() as reader:
        parts = list(tensor.slabs(reader))
    assert all(part.shape[1] <= N_ENTRIES and part.dtype == np.float32 for part in parts)
    whole = np.concatenate(parts, axis=1)
    assert np.array_equal(
        whole, np.stack([values.reshape(-1).numpy(), -values.reshape(-1).numpy()])
    )
    assert (tensor.size, tensor.is_vector) == (values.numel(), len(shape) < 2)
    assert tensor.columns > N_ENTRIES or all(p.shape[1] % tensor.columns == 0 for p in parts)


def test_dtypes_may_differ_and_what_is_no_weight_is_left_out(tmp_path):
    child = stored(
        tmp_path / "c", w=numbers(2, 2).bfloat16(), ids=torch.arange(3), none=numbers(0, 2)
    )
    parent = stored(tmp_path / "p", w=numbers(2, 2), ids=torch.arange(4), more=numbers(3))
    found = shared(child, [parent, child])
    assert [[ref.dtype for ref in tensor.refs] for tensor in found] == [["BF16", "F32", "BF16"]]


@pytest.mark.parametrize("other", [{"v": numbers(2, 2)}, {"w": numbers(4)}, {"w": numbers(3, 2)}])
def test_another_name_or_shape_is_nothing_shared(tmp_path, other):
    child = stored(tmp_path / "c", w=numbers(2, 2))
    assert shared(child, [child, stored(tmp_path / "p", **other)]) is None


def test_nothing_is_shared_by_models_without_weights(tmp_path):
    child = stored(tmp_path / "c", ids=torch.arange(3))
    assert shared(child, [child]) is None
