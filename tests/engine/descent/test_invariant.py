"""Invariants: a network in another basis keeps them, another network has others."""

import numpy as np
import pytest
from descent_patches import drawn, saved
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.descent.invariant import distance, edges, invariants
from engine.reader import Reader
from registry.header import TensorRef

LAWS = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SEED = st.integers(0, 2**32 - 1)
HIDDEN = 24


def network(seed):
    """A network from pixels to classes: its hidden axis is the first of two matrices and the last of two."""
    return {
        "embed_tokens.weight": drawn([seed, 0], 40, HIDDEN),
        "patches.weight": drawn([seed, 1], HIDDEN, 3, 3, 2),
        "layers.0.w": drawn([seed, 2], HIDDEN, HIDDEN),
        "score.weight": drawn([seed, 3], 10, HIDDEN),
        "norm.weight": np.ones(HIDDEN, np.float32),
    }


def turned(tensors, turn):
    """The same network, its hidden axis turned by an orthogonal matrix."""
    made = dict(tensors)
    for name in ("embed_tokens.weight", "score.weight", "layers.0.w"):
        made[name] = made[name] @ turn.T
    made["layers.0.w"] = turn @ made["layers.0.w"]
    made["patches.weight"] = np.tensordot(turn, made["patches.weight"], 1)
    return {name: value.astype(np.float32) for name, value in made.items()}


def permutation(rng):
    return np.eye(HIDDEN)[rng.permutation(HIDDEN)]


def flips(rng):
    return np.diag(rng.choice([-1.0, 1.0], HIDDEN))


def rotation(rng):
    return np.linalg.qr(rng.standard_normal((HIDDEN, HIDDEN)))[0]


@pytest.fixture
def taken(tmp_path):
    """The invariants of tensors, through a file."""

    def take(tensors, dtype="F32"):
        with Reader() as reader:
            return invariants(reader, saved(tmp_path, tensors, dtype))[0]

    return take


@given(SEED, st.sampled_from([permutation, flips, rotation]))
@LAWS
def test_permuting_flipping_and_rotating_the_hidden_axis_change_nothing(taken, seed, draw):
    base = network(seed)
    one, other = taken(base), taken(turned(base, draw(np.random.default_rng(seed))))
    assert "patches.weight columns" in one
    for name in ("embed_tokens.weight rows", "patches.weight columns", "score.weight rows"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-4)
    assert distance(one, other) < 1e-4


@given(SEED)
@LAWS
def test_independent_networks_are_far_apart(taken, seed):
    assert distance(taken(network([seed, 1])), taken(network([seed, 2]))) > 0.8


def test_a_turned_fine_tune_in_bf16_is_nearer_than_any_stranger(taken):
    base = network(1)
    rng = np.random.default_rng(0)
    moved = {n: v + rng.normal(0, 0.02, v.shape) for n, v in turned(base, rotation(rng)).items()}
    assert 0 < distance(taken(base), taken(moved, "BF16")) < 0.12


def test_turning_that_is_no_isometry_changes_them(taken):
    base = network(1)
    stretched = turned(base, np.diag(np.linspace(0.2, 3, HIDDEN)))
    assert distance(taken(base), taken(stretched)) > 0.3


def test_distance_is_symmetric_and_0_for_one_network(taken):
    a, b = taken(network(1)), taken(network(2))
    assert distance(a, b) == distance(b, a)
    assert distance(a, a) == 0


def test_invariants_are_inner_products_of_slices(taken):
    tensors = {"x": drawn(1, 3, 2), "y": drawn(2, 2, 2)}
    found = taken(tensors)
    assert sorted(found) == ["x columns", "x rows", "y columns", "y rows"]
    w = tensors["x"]
    expected = [w[i] @ w[j] for i in range(3) for j in range(i, 3)]
    np.testing.assert_allclose(found["x rows"], expected, rtol=1e-6)
    expected = [w[:, i] @ w[:, j] for i in range(2) for j in range(i, 2)]
    np.testing.assert_allclose(found["x columns"], expected, rtol=1e-6)


def test_at_most_32_slices_are_taken_and_no_columns_of_a_vocabulary(taken):
    found = taken({"embed_tokens.weight": drawn(1, 50, 40), "head": drawn(2, 50, 40)})
    assert {name: value.shape for name, value in found.items()} == dict.fromkeys(
        ("embed_tokens.weight rows", "head rows", "head columns"), (32 * 33 // 2,)
    )


def test_a_longer_vocabulary_has_the_same_invariants(taken):
    base = network(1)
    grown = base | {
        "embed_tokens.weight": np.concatenate([base["embed_tokens.weight"], drawn(5, 9, HIDDEN)])
    }
    name = "embed_tokens.weight rows"
    np.testing.assert_array_equal(taken(base)[name], taken(grown)[name])


def test_the_bytes_read_are_those_of_the_slices(tmp_path):
    tensors = {"embed_tokens.weight": drawn(1, 50, 4), "head": drawn(2, 10, 4)}
    with Reader() as reader:
        _, n_bytes = invariants(reader, saved(tmp_path, tensors, "BF16"))
    assert n_bytes == 2 * (32 * 4 + 10 * 4 + 10 * 4)


def test_matrices_that_are_too_large_are_not_read(tmp_path):
    wide = {"a": np.zeros((2, 300_000), np.float32), "b": np.zeros((2, 300_000), np.float32)}
    with Reader() as reader:
        assert invariants(reader, saved(tmp_path, wide)) == ({}, 0)


@pytest.mark.parametrize(
    "tensors",
    [{}, {"v": np.ones(9, np.float32)}, {"w": np.zeros((0, 4), np.float32)}],
    ids=["nothing", "vectors", "empty"],
)
def test_models_without_matrices_have_none(taken, tensors):
    assert taken(tensors) == {}
    assert distance(taken(tensors), taken(tensors)) == 1


def test_models_of_zeros_are_not_taken_for_one_network(taken):
    zeros = taken({"x": np.zeros((9, 9), np.float32), "y": np.zeros((9, 9), np.float32)})
    assert distance(zeros, zeros) == 1


def test_few_slices_tell_nothing(taken):
    few = taken({"x": drawn(1, 7, 5), "y": drawn(2, 7, 5)})
    assert distance(few, few) == 1
    enough = taken({"x": drawn(1, 8, 5), "y": drawn(2, 8, 5)})
    assert distance(enough, enough) == 0


def test_networks_with_other_classes_are_compared_by_what_they_share(taken):
    base = network(1)
    other = base | {"score.weight": drawn(7, 20, HIDDEN), "patches.weight": drawn(8, HIDDEN, 4, 4)}
    assert distance(taken(base), taken(other)) == 0
    assert distance(taken(base), {}) == 1


def test_lengths_alone_are_no_likeness():
    same = {"w rows": np.eye(9)[np.triu_indices(9)].astype(np.float32)}
    assert distance(same, same) == 1


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({"a": (2, 2), "b": (2, 2), "layers.0.w": (2, 2)}, ["a", "b"]),
        (
            {"a": (2, 2), **{f"layers.{i}.w": (2, 2) for i in range(3)}},
            ["a", "layers.0.w", "layers.2.w"],
        ),
        ({"layers.5.w": (2, 2), "layers.5.norm": (2,)}, ["layers.5.w"]),
        ({"a": (2, 2), "norm": (2,), "empty": (0, 2)}, ["a"]),
        ({"norm": (2,)}, []),
        ({}, []),
    ],
)
def test_edges_are_outside_of_layers_or_else_in_the_first_and_the_last(tmp_path, shapes, expected):
    refs = [TensorRef(name, "F32", shape, tmp_path, 0, 0) for name, shape in shapes.items()]
    assert [ref.name for ref in edges(refs)] == expected
