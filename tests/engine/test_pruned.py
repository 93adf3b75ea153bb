"""Sums of pruned task vectors: what is combined row by row is what would be pruned and combined one after the other."""

import pytest
import torch

from engine import ops, pruned
from engine.change import closed, ending
from engine.draws import Draws
from engine.kernels import finish
from engine.pruned import Pruning
from engine.slices import Slices
from registry.errors import NonFinite
from registry.header import TensorRef

DRAWS = Draws(3, "w", ("a", "b", "c"), 70_001)
WEIGHTS = [0.3, -1.7, 0.9]
SHAPES = [
    (7, 2048),
    (9, 1000),
    (3, 4999),
    (2, 70_001),
    (500, 23),
    (3000, 1),
    (9, 5, 33),
    (4000,),
    (1,),
]
PRUNINGS = {
    "by chance": Pruning(0.7, 0.07),
    "as they are": Pruning([0.3, 1.0, 0.8], [0.3, 0.2, 0.1], None),
    "by norm": Pruning(0.7, 0.07, "l1"),
}


def random(seed, shape, scale, dtype=torch.bfloat16):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
    return values.to(dtype).reshape(-1)


def models(shape, *, dtypes=(torch.bfloat16, torch.float32, torch.bfloat16), based=True):
    """Children of one base, most of whose entries hardly differ from its."""
    base = random(0, shape, 0.02)
    stored = [
        (base.float() + random(i, shape, 1e-3, torch.float32)).to(dtype)
        for i, dtype in enumerate(dtypes, 1)
    ]
    ref = TensorRef("w", "F32", shape, "model.safetensors", 0, 0)
    return Slices([ref] * len(stored), stored, torch.Size(shape), (ref, base) if based else None)


def summed(deltas, pruning):
    return pruned.weighted_sum(deltas, DRAWS, pruning, WEIGHTS)


def agreed(deltas, pruning):
    return pruned.agreement(
        deltas, DRAWS, pruning, WEIGHTS, sign="count", winner=-1, normalize=True, lambda_=0.7
    )


def same(x, y):
    return x.shape == y.shape and torch.equal(x.view(torch.int32), y.view(torch.int32))


def one_after_the_other(deltas, pruning, made_by):
    kept = pruning.of(list(deltas), DRAWS)
    if made_by is summed:
        return ops.weighted_sum(kept, WEIGHTS)
    return ops.agreement(kept, WEIGHTS, sign="count", winner=-1, normalize=True, lambda_=0.7)


@pytest.mark.parametrize("made_by", [summed, agreed])
@pytest.mark.parametrize("pruning", PRUNINGS.values(), ids=PRUNINGS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pruned_task_vectors_are_combined_as_if_they_were_written_down(shape, pruning, made_by):
    expected = one_after_the_other(models(shape), pruning, made_by)
    assert same(made_by(models(shape), pruning), expected)
    assert same(made_by(list(models(shape)), pruning), expected)


@pytest.mark.parametrize("made_by", [summed, agreed])
@pytest.mark.parametrize("pruning", PRUNINGS.values(), ids=PRUNINGS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_closed_is_the_sum(shape, pruning, made_by):
    plain, given = made_by(models(shape), pruning), models(shape)
    given.closing, other = (ending(given.origin, torch.bfloat16, add=True) for _ in range(2))
    made = made_by(given, pruning)
    if given.closing is None:
        assert same(made, plain)
        return
    if not given.is_closed(made):
        assert pruning.rescale_by == "l1"
        finish(made, given.closing)
    finish(plain, other)
    assert torch.equal(given.closing.out.view(torch.int16), other.out.view(torch.int16))
    assert closed(given.closing)[1] == closed(other)[1]


def test_what_grows_beyond_all_numbers_is_left_to_torch():
    huge = [torch.full((2, 30), 3e38)] * 3
    pruning = Pruning(0.5, 0.5)
    assert same(agreed(huge, pruning), one_after_the_other(huge, pruning, agreed))
    assert not bool(agreed(huge, pruning).isfinite().all())


@pytest.mark.parametrize("place", [0, 1, 3])
def test_what_is_not_finite_is_refused(place):
    given = models((3, 900))
    stored = given.part_of_base if place == 3 else given.parts[place]
    stored[1234] = torch.nan
    with pytest.raises(NonFinite, match="w of"):
        agreed(given, PRUNINGS["by chance"])


def test_nothing_is_a_sum_of_nothing():
    nothing = [torch.empty(0, 4)] * 3
    assert agreed(nothing, PRUNINGS["by chance"]).shape == (0, 4)
