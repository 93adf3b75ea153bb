"""Kin: models that share a past are told from those that do not, by what chance gives."""

import numpy as np
import pytest
from descent_patches import drawn, network, sketch_of, tuned

from engine.descent.bucket import gather
from engine.descent.kin import LEAST, Z, components, likeness


def of(*models, **options):
    """A bucket of models given as tensors."""
    return gather([sketch_of(t, f"m{i}", **options) for i, t in enumerate(models)])


def pair(bucket):
    """Cosines of all models, and their spread under chance."""
    found, every = likeness(bucket), np.arange(len(bucket))
    return found.cosines(every), found.spread(every)


def aligned(bucket):
    """Shares of the entries in matrices that agree, of all models."""
    found, every = likeness(bucket), np.arange(len(bucket))
    return np.array([found.aligned(one, every) for one in every])


def permuted(tensors, seed=0, layers=2):
    """The same network with the units between the matrices of each layer in another order."""
    made = dict(tensors)
    for i in range(layers):
        up, down = f"layers.{i}.up_proj.weight", f"layers.{i}.down_proj.weight"
        order = np.random.default_rng([seed, i]).permutation(len(made[up]))
        made[up], made[down] = made[up][order], made[down][:, order]
    return made


def test_cosines_are_those_of_vectors_less_their_means():
    a, b = np.array([[1.0, 2.0, 6.0]]), np.array([[4.0, 0.0, 2.0]])
    found, spread = pair(of({"w": a}, {"w": b}))
    one, other = a[0] - 3, b[0] - 2
    expected = one @ other / np.sqrt((one @ one) * (other @ other))
    np.testing.assert_allclose(found, [[1, expected], [expected, 1]], rtol=1e-6)
    np.testing.assert_allclose(spread, np.full((2, 2), 1 / np.sqrt(3)), rtol=1e-6)


def test_cosines_of_several_matrices_are_those_of_all_entries():
    a = {"w": drawn(1, 3, 4), "x": drawn(2, 5, 2), "v": drawn(3, 7)}
    b = {"w": drawn(4, 3, 4), "x": drawn(5, 5, 2), "v": drawn(3, 7)}
    one, other = (
        np.concatenate([(m[n] - m[n].astype(float).mean()).reshape(-1) for n in ("w", "x")])
        for m in (a, b)
    )
    expected = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
    assert pair(of(a, b))[0][0, 1] == pytest.approx(expected, rel=1e-6)


def test_a_constant_that_all_share_is_no_kinship():
    a, b = ({"w": 5 + drawn(seed, 40, 40)} for seed in (1, 2))
    found, spread = pair(of(a, b))
    assert abs(found[0, 1]) < 5 * spread[0, 1]
    assert components(of(a, b)) == [[0], [1]]


def test_cosines_of_independent_models_are_within_chance():
    found, spread = pair(of(*(network(i) for i in range(12))))
    pairs = np.triu_indices(12, 1)
    scores = found[pairs] / spread[pairs]
    assert np.abs(scores).max() < 4
    assert scores.std() == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("n_scalars", [None, 512])
def test_fine_tunes_are_found(n_scalars):
    base = network(1)
    bucket = of(base, tuned(base, 1), tuned(tuned(base, 2), 3), n_scalars=n_scalars)
    found, spread = pair(bucket)
    assert found.min() > 0.9
    assert (found > Z * spread).all()
    assert (aligned(bucket) > 0.9).all()
    assert components(bucket) == [[0, 1, 2]]


def test_families_are_told_apart_each_in_order_the_first_models_first():
    one, other = network(1), network(2)
    bucket = of(other, one, tuned(other, 1), network(3), tuned(one, 2), tuned(one, 3))
    assert components(bucket) == [[0, 2], [1, 4, 5], [3]]
    assert components(bucket, [3, 5]) == [[3], [1, 4, 5]]


def test_kinship_reaches_over_models_between():
    steps = [network(1)]
    for i in range(4):
        steps.append(tuned(steps[-1], i, scale=0.9))
    bucket = of(*steps, network(2))
    cosines, _ = pair(bucket)
    assert cosines[0, 4] < cosines[0, 1] - 0.2
    assert components(bucket) == [[0, 1, 2, 3, 4], [5]]


def test_a_copy_whose_units_changed_places_is_not_aligned():
    base = {f"layers.{i}.{part}_proj.weight": drawn([1, i, at], *shape)
            for i in range(2) for at, (part, shape) in enumerate((("up", (64, 16)), ("down", (16, 64))))}  # fmt: skip
    base["embed_tokens.weight"] = drawn(9, 64, 16)
    bucket = of(base, permuted(base), tuned(base, 1))
    found, spread = pair(bucket)
    assert found[0, 1] > Z * spread[0, 1]  # they agree in the embedding
    assert aligned(bucket)[0, 1] == pytest.approx(0.2)
    assert aligned(bucket)[0, 2] == 1
    assert components(bucket) == [[0, 2], [1]]


def test_a_faint_likeness_that_is_certain_is_no_kinship():
    shared = drawn(0, 300, 300)
    a, b = ({"w": drawn(seed, 300, 300) + 0.2 * shared} for seed in (1, 2))
    found, spread = pair(of(a, b))
    assert Z * spread[0, 1] < found[0, 1] < LEAST
    assert components(of(a, b)) == [[0], [1]]


def test_a_negated_model_is_no_kin():
    base = network(1)
    bucket = of(base, {name: -value for name, value in base.items()})
    assert pair(bucket)[0][0, 1] == pytest.approx(-1)
    assert components(bucket) == [[0], [1]]


def test_one_model_is_alone():
    bucket = of(network(1))
    assert pair(bucket)[0].tolist() == [[pytest.approx(1)]]
    assert aligned(bucket).tolist() == [[1]]
    assert components(bucket) == [[0]]


@pytest.mark.parametrize(
    "tensors",
    [
        {"w": np.zeros((4, 4), np.float32)},
        {"w": np.full((4, 4), 3, np.float32)},
        {"v": np.ones(9, np.float32)},
        {"w": np.zeros((0, 4), np.float32)},
        {},
    ],
    ids=["zeros", "constant", "vectors", "empty", "nothing"],
)
def test_models_that_say_nothing_are_no_kin(tensors):
    bucket = of(tensors, tensors)
    found, spread = pair(bucket)
    assert not found.any()
    assert (spread == 1).all()
    assert not aligned(bucket).any()
    assert components(bucket) == [[0], [1]]


def test_a_matrix_of_zeros_does_not_hide_kinship():
    base = network(1) | {"b": np.zeros((4, 4), np.float32)}
    bucket = of(base, tuned(base, 1), network(2) | {"b": np.zeros((4, 4), np.float32)})
    assert components(bucket) == [[0, 1], [2]]


def test_matrices_of_very_small_numbers_are_compared_as_others_are():
    base = network(1)
    models = [{n: v * np.float32(1e-18) for n, v in m.items()} for m in (base, tuned(base, 1))]
    assert aligned(of(*models))[0, 1] == aligned(of(base, tuned(base, 1)))[0, 1] == 1
