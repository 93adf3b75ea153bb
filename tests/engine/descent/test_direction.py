"""Direction: the child has more of what it learned in it than its parent."""

import numpy as np
import pytest
from descent_trees import base, bucket_of, rounded, tuned

from engine.descent.direction import direction


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("step", [0.002, 0.004, 0.02])
def test_the_parent_of_a_trained_child_is_told(seed, step):
    parent = base(seed)
    bucket = bucket_of(child=tuned(parent, 100 + seed, step), parent=parent)
    assert direction(bucket, 1, 0) > 0.25


def test_swapping_the_ends_turns_the_sign():
    parent = base(1)
    child = tuned(parent, 2)
    bucket = bucket_of(a=parent, b=child, c=tuned(child, 3), d=base(4))
    for a in range(4):
        for b in range(a):
            assert direction(bucket, a, b) == pytest.approx(-direction(bucket, b, a), rel=1e-9)


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_weight_decay_does_not_turn_it(decay):
    parent = base(5)
    child = tuned({name: rounded(decay * old) for name, old in parent.items()}, 6)
    assert direction(bucket_of(parent=parent, child=child), 0, 1) > 0


def test_equal_models_tell_nothing():
    parent = base(7)
    assert direction(bucket_of(a=parent, b=parent), 0, 1) == 0


def test_models_of_zeros_tell_nothing():
    zeros = {name: np.zeros_like(old) for name, old in base(8).items()}
    assert direction(bucket_of(a=zeros, b=zeros), 0, 1) == 0


def test_vectors_and_matrices_of_two_rows_have_no_directions():
    rng = np.random.default_rng(9)
    models = [
        {"flat.weight": rounded(rng.normal(size=(2, 64))), "norm.weight": rounded(rng.normal(size=64))}
        for _ in range(2)
    ]  # fmt: skip
    assert direction(bucket_of(a=models[0], b=models[1]), 0, 1) == 0


def test_the_other_models_of_a_bucket_change_nothing():
    parent = base(10)
    child = tuned(parent, 11)
    alone = direction(bucket_of(parent=parent, child=child), 0, 1)
    among = bucket_of(x=base(12), child=child, y=tuned(child, 13), parent=parent)
    assert direction(among, 3, 1) == alone
