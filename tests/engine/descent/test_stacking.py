"""Stacking: a model made of another's layers tells which ones."""

import numpy as np
import pytest
from descent_patches import drawn, network, rounded, sketch_of, tuned
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.descent.stacking import Stack, stacked

WIDE = 64


def restacked(tensors, layers):
    """A model of some of another's layers, in that order."""
    made = {n: v for n, v in tensors.items() if not n.startswith("layers.")}
    for i, layer in enumerate(layers):
        start = f"layers.{layer}."
        made |= {
            f"layers.{i}.{n.removeprefix(start)}": v
            for n, v in tensors.items()
            if n.startswith(start)
        }
    return made


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8).filter(lambda found: len(found) != 5))
@settings(max_examples=25, deadline=None)
def test_layers_repeated_left_out_or_reordered_give_the_map(layers):
    base = network(1, layers=5)
    found = stacked(sketch_of(restacked(base, layers)), sketch_of(base))
    assert found == Stack(tuple(layers), 0.0, 1.0)


def test_layers_beyond_the_tenth_are_in_order_of_their_numbers():
    base = network(1, layers=12)
    layers = (*range(11, -1, -1), 3)
    found = stacked(sketch_of(restacked(base, layers)), sketch_of(base))
    assert found is not None
    assert found.layers == layers


def test_a_stack_that_was_tuned_afterwards_says_how_far_it_is():
    base = network(1, layers=2)
    grown = restacked(base, (0, 1, 1))
    moved = tuned(grown, 1, scale=0.1)
    found = stacked(sketch_of(moved), sketch_of(base))
    assert found is not None
    assert (found.layers, found.exact) == ((0, 1, 1), 0)
    assert found.distance == pytest.approx(0.01, rel=0.2)


def test_the_share_of_equal_layers_is_told():
    base = network(1, layers=2)
    grown = restacked(base, (0, 1, 1))
    name = "layers.2.up_proj.weight"
    moved = grown | {name: grown[name] + 0.01}
    found = stacked(sketch_of(moved), sketch_of(base))
    assert found is not None
    assert found.layers == (0, 1, 1)
    assert found.exact == pytest.approx(2 / 3)
    assert found.distance > 0


def test_the_nearest_of_several_like_layers_is_taken():
    base = {"layers.0.w": drawn(1, 8, 8)}
    base["layers.1.w"] = base["layers.0.w"] + drawn(2, 8, 8, scale=0.05)
    child = {"layers.0.w": base["layers.1.w"]}
    assert stacked(sketch_of(child), sketch_of(base)) == Stack((1,), 0.0, 1.0)


def test_of_equal_layers_the_first_is_taken():
    base = {f"layers.{i}.w": drawn(1, 8, 8) for i in range(3)}
    child = {f"layers.{i}.w": drawn(1, 8, 8) for i in range(2)}
    assert stacked(sketch_of(child), sketch_of(base)) == Stack((0, 0), 0.0, 1.0)


def test_a_rounded_stack_is_found():
    base = network(1)
    child = rounded(restacked(base, (0, 0, 1)), "BF16")
    found = stacked(sketch_of(child, dtype="BF16"), sketch_of(base))
    assert found is not None
    assert found.layers == (0, 0, 1)
    assert found.distance < 1e-5


def test_a_sampled_stack_of_a_wide_model_is_found():
    base = network(1, layers=6, hidden=WIDE)
    child = restacked(base, (0, 1, 2, 1, 2, 3, 4, 5))
    found = stacked(sketch_of(child, n_scalars=1024), sketch_of(base, n_scalars=1024))
    assert found == Stack((0, 1, 2, 1, 2, 3, 4, 5), 0.0, 1.0)


def test_models_of_one_depth_are_no_stack():
    base = network(1)
    assert stacked(sketch_of(restacked(base, (1, 0))), sketch_of(base)) is None


def test_one_strange_layer_makes_no_stack():
    base = network(1)
    child = restacked(base, (0, 1, 1))
    child["layers.2.up_proj.weight"] = drawn(7, 32, 16)
    assert stacked(sketch_of(child), sketch_of(base)) is None


def test_independent_models_are_no_stack():
    assert stacked(sketch_of(network(1, layers=3)), sketch_of(network(2))) is None


def test_layers_of_other_tensors_are_not_compared():
    base = network(1)
    wide = network(1, layers=3, hidden=20)
    assert stacked(sketch_of(wide), sketch_of(base)) is None
    other = {n.replace("up_proj", "fc"): v for n, v in restacked(base, (0, 1, 1)).items()}
    assert stacked(sketch_of(other), sketch_of(base)) is None


def test_towers_are_layers_of_their_own_names():
    base = {f"encoder.layers.{i}.w": drawn(i, 8, 8) for i in range(2)}
    child = {f"decoder.layers.{i}.w": drawn(i, 8, 8) for i in range(1)}
    assert stacked(sketch_of(child), sketch_of(base)) is None


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"w": drawn(1, 4, 4)},
        {"layers.0.norm": np.ones(4, np.float32)},
        {"layers.0.w": np.zeros((0, 4), np.float32)},
    ],
    ids=["nothing", "outside", "vectors", "empty"],
)
def test_models_without_layers_of_matrices_are_no_stack_and_make_none(tensors):
    bare, base = sketch_of(tensors), sketch_of(network(1))
    assert stacked(bare, base) is None
    assert stacked(base, bare) is None
    assert stacked(bare, bare) is None


def test_layers_of_zeros_are_no_ones():
    base = {"layers.0.w": np.zeros((4, 4), np.float32)}
    child = base | {"layers.1.w": np.zeros((4, 4), np.float32)}
    assert stacked(sketch_of(child), sketch_of(base)) is None
