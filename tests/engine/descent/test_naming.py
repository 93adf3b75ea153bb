"""Naming: tensors under other names are found by their values, and models of others are not."""

import numpy as np
import pytest
from descent_patches import drawn, network, rounded, sketch_of, tuned
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.descent.bucket import gather
from engine.descent.naming import called_as


def renamed(tensors, seed=0):
    """The same tensors under names whose order says nothing, none of them known."""
    order = np.random.default_rng(seed).permutation(len(tensors))
    return {f"t{n}": tensors[name] for n, name in zip(order, tensors, strict=True)}


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_renamed_copy_gets_its_names_back(seed):
    base = network(1, layers=3)
    other = sketch_of(base, "other")
    found = called_as(sketch_of(renamed(base, seed), "mine"), other)
    assert found is not None
    assert (found.model, found.layout) == ("mine", other.layout)
    np.testing.assert_array_equal(found.values, other.values)


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_renamed_fine_tunes_are_matched_by_value(dtype):
    base = network(1, layers=3)
    moved = rounded(tuned(base, 1), dtype)
    found = called_as(sketch_of(renamed(moved), dtype=dtype), sketch_of(base))
    assert found is not None
    assert (found.dtype, found.layout) == (dtype, sketch_of(base).layout)
    made = gather([found, sketch_of(moved)])
    for span in made.matrices():  # gains are too much alike to be told apart
        np.testing.assert_array_equal(*made.values[:, span.slice])


def test_layers_that_changed_places_are_matched():
    base = {f"layers.{i}.w": drawn(i, 6, 6) for i in range(4)}
    swapped = {f"layers.{3 - i}.w": base[f"layers.{i}.w"] for i in range(4)}
    found = called_as(sketch_of(swapped), sketch_of(base))
    assert found is not None
    np.testing.assert_array_equal(found.values, sketch_of(base).values)


def test_vectors_are_matched_too():
    base = {"w": drawn(1, 6, 6), "one": drawn(2, 6), "two": drawn(3, 6)}
    found = called_as(
        sketch_of({"w": base["w"], "a": base["two"], "b": base["one"]}), sketch_of(base)
    )
    assert found is not None
    np.testing.assert_array_equal(found.values, sketch_of(base).values)


def test_a_sample_of_a_renamed_model_can_be_compared():
    base = {f"layers.{i}.w{j}": drawn([i, j], 200, 120) for i in range(5) for j in range(3)}
    other = sketch_of(base, "other", n_scalars=2048)
    found = called_as(sketch_of(renamed(tuned(base, 1)), "mine", n_scalars=2048), other)
    assert found is not None
    made = gather([other, found])
    assert len(made.spans) == 15
    assert made.distances[0, 1] == pytest.approx(15 * 200 * 120 * 0.05**2, rel=0.15)


def test_a_vocabulary_under_an_unknown_name_does_not_hide_the_rest():
    base = {f"layers.{i}.w": drawn(i, 64, 64) for i in range(4)}
    for columns in range(32, 64):
        known = base | {"embed_tokens.weight": drawn(9, 4000, columns)}
        unknown = base | {"tokens": known["embed_tokens.weight"]}
        other = sketch_of(known, "other", n_scalars=1024)
        found = called_as(sketch_of(unknown, n_scalars=1024), other)
        assert found is not None
        made = gather([other, found])
        assert {s.patch.tensor for s in made.spans} >= set(base)
        np.testing.assert_array_equal(made.values[0], made.values[1])


def test_independent_models_are_not_each_other():
    assert called_as(sketch_of(renamed(network(2))), sketch_of(network(1))) is None


def test_models_of_other_shapes_are_not_each_other():
    base = network(1)
    assert called_as(sketch_of(network(1, layers=3)), sketch_of(base)) is None
    assert called_as(sketch_of(base | {"x": drawn(1, 2, 3)}), sketch_of(base)) is None
    less = {name: value for name, value in base.items() if name != "lm_head.weight"}
    assert called_as(sketch_of(less), sketch_of(base)) is None


def test_a_matrix_is_not_a_vector_of_its_entries():
    assert called_as(sketch_of({"w": drawn(1, 1, 8)}), sketch_of({"w": drawn(1, 8)})) is None


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"w": np.zeros((0, 3), np.float32)},
        {"v": np.ones(4, np.float32)},
        {"w": np.zeros((3, 3), np.float32)},
    ],
    ids=["nothing", "empty", "vectors", "zeros"],
)
def test_models_that_say_nothing_are_not_each_other(tensors):
    assert called_as(sketch_of(renamed(tensors)), sketch_of(tensors)) is None


def test_matrices_of_zeros_do_not_hide_the_rest():
    base = network(1) | {"zero": np.zeros((3, 3), np.float32)}
    found = called_as(sketch_of(renamed(base)), sketch_of(base))
    assert found is not None
    np.testing.assert_array_equal(found.values, sketch_of(base).values)
