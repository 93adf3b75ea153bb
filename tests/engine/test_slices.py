"""Slices: float32 for who asks, and no number that is none."""

import pytest
import torch

from engine.slices import Slices
from registry.errors import NonFinite
from registry.header import TensorRef


def ref(name):
    return TensorRef("w", "BF16", (4,), f"{name}/model.safetensors", 0, 8)


def slices(*values, base=None, deltas=True):
    stored = [torch.tensor(v).bfloat16() for v in values]
    origin = None if base is None else (ref("base"), torch.tensor(base).bfloat16())
    refs = [ref(str(i)) for i in range(len(values))]
    return Slices(refs, stored, torch.Size((2, 2)), origin, deltas=deltas)


def test_task_vectors_have_the_base_taken_off():
    models = slices([1.0, 2, 3, 4], [5.0, 6, 7, 8], base=[1.0, 1, 1, 1])
    assert models[0].tolist() == [[0, 1], [2, 3]]
    assert [m.tolist() for m in models] == [models[0].tolist(), [[4, 5], [6, 7]]]
    assert len(models[-2:]) == len(models) == 2
    assert models.origin.tolist() == [1, 1, 1, 1]


def test_weights_stay_as_they_are():
    models = slices([1.0, 2, 3, 4], base=[9.0, 9, 9, 9], deltas=False)
    assert models[0].tolist() == [[1, 2], [3, 4]]
    assert models.origin.tolist() == [9, 9, 9, 9]
    assert slices([1.0, 2, 3, 4]).origin.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused_with_its_file(bad):
    with pytest.raises(NonFinite, match=r"tensor w of 1/model.safetensors holds NaN or infinity"):
        slices([1.0, 2, 3, 4], [1.0, bad, 3, 4], base=[1.0, 1, 1, 1])[1]
    with pytest.raises(NonFinite, match=r"tensor w of base/model.safetensors"):
        slices([1.0, 2, 3, 4], base=[1.0, 1, bad, 1])[0]


def test_a_number_beyond_float32_is_called_that():
    models = Slices([ref("0")], [torch.tensor([1e300] * 4, dtype=torch.float64)], torch.Size((4,)))
    with pytest.raises(NonFinite, match="numbers beyond float32"):
        _ = models[0]
