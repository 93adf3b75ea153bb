"""Buckets: the scalars all have, and lengths that are those of whole matrices."""

import numpy as np
import pytest
from descent_patches import cut, drawn, network, rounded, shapes, sketch_of, sketch_on, tuned
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.descent.bucket import Bucket, Span, gather, nats, once, rounding_energy
from engine.descent.patch import Layout, Patch, layout_of

FEW = settings(max_examples=40, deadline=None)
SIDE = st.integers(1, 6)


def of(*models, **options):
    """A bucket of models given as tensors."""
    return gather([sketch_of(t, f"m{i}", **options) for i, t in enumerate(models)])


def matrix(values):
    """A model of one matrix."""
    return {"w": np.array(values, np.float32)}


def test_models_of_one_layout_are_put_side_by_side():
    a, b = network(1), network(2)
    made = of(a, b)
    assert (made.models, made.dtypes, len(made)) == (("m0", "m1"), ("F32", "F32"), 2)
    np.testing.assert_array_equal(made.values, [sketch_of(a).values, sketch_of(b).values])
    assert [span.patch.tensor for span in made.spans] == sorted(a)
    for span in made.spans:
        np.testing.assert_array_equal(made.values[1, span.slice], b[span.patch.tensor].reshape(-1))


def test_a_bucket_keeps_the_order_of_its_sketches():
    sketches = [sketch_of(network(i), str(i), dtype=d) for i, d in enumerate(("BF16", "F16"))]
    made = gather(sketches[::-1])
    assert (made.models, made.dtypes) == (("1", "0"), ("F16", "BF16"))
    np.testing.assert_array_equal(made.values[0], sketches[1].values)


def test_one_model_is_a_bucket():
    made = of(network(1))
    for found in (made.gram, made.distances, made.costs):
        assert found.tolist() == [[0.0]]


def test_a_vocabulary_that_grew_keeps_the_rows_all_have():
    short, long = network(1, tokens=24), network(1, tokens=30)
    for name in ("embed_tokens.weight", "lm_head.weight"):
        long[name][:24] = short[name]
    made = of(short, long)
    np.testing.assert_array_equal(made.values[0], made.values[1])
    assert made.values.shape[1] == sketch_of(short).layout.size
    assert made.rows[1] - made.rows[0] == 2 * 6
    assert made.distances[0, 1] == 0


def test_tensors_that_one_model_lacks_or_has_in_another_shape_are_left_out():
    a = {"w": drawn(1, 4, 4), "x": drawn(2, 4, 4), "y": drawn(3, 4, 4)}
    b = {"w": drawn(4, 4, 4), "x": drawn(5, 4, 5), "z": drawn(6, 4, 4)}
    made = of(a, b)
    assert [span.patch.tensor for span in made.spans] == ["w"]
    np.testing.assert_array_equal(made.values, [a["w"].reshape(-1), b["w"].reshape(-1)])


@given(st.lists(st.tuples(SIDE, SIDE, SIDE, SIDE), min_size=1, max_size=4))
@FEW
def test_of_rectangles_in_other_places_the_shared_one_is_kept(corners):
    tensors = [matrix(drawn(i, 12, 12)) for i in range(len(corners))]
    covers, sketches = np.zeros((12, 12)), []
    for i, (row, n_rows, column, n_columns) in enumerate(corners):
        patch = Patch("w", (12, 12), row, n_rows, column, n_columns, is_vector=False)
        covers[row : row + n_rows, column : column + n_columns] += 1
        sketches.append(sketch_on(tensors[i], Layout((patch,)), str(i)))
    shared = (covers == len(corners)).reshape(-1)
    made = gather(sketches)
    for row, own in zip(made.values, tensors, strict=True):
        np.testing.assert_array_equal(row, own["w"].reshape(-1)[shared])
    assert bool(made.spans) == shared.any()


def test_sketches_of_other_sizes_share_coordinates():
    tensors = {f"layers.{i}.w": drawn(i, 200, 100) for i in range(4)}
    made = gather([sketch_of(tensors, str(n), n_scalars=n) for n in (300, 3000)])
    assert len(made.spans) == 4
    for span in made.spans:
        for row in made.values:
            np.testing.assert_array_equal(
                row[span.slice], cut(tensors[span.patch.tensor], span.patch)
            )


def test_models_that_share_nothing_make_a_bucket_without_scalars():
    made = of({"w": drawn(1, 3, 3)}, {"x": drawn(2, 3, 3)})
    assert made.values.shape == (2, 0)
    assert made.spans == ()
    for found in (made.gram, made.distances, made.costs):
        assert not found.any()
    assert made.floors.tolist() == [0.0, 0.0]


def test_a_vector_is_never_compared_with_a_matrix():
    a, b = {"w": drawn(1, 1, 4)}, {"w": drawn(2, 4)}
    assert of(a, b).spans == of(b, a).spans == ()


def test_a_scalar_counts_for_the_entries_it_stands_for():
    patches = Layout((
        Patch("v", (1, 4), 0, 1, 0, 2, is_vector=True),
        Patch("w", (4, 6), 1, 2, 0, 3, is_vector=False),
    ))  # fmt: skip
    made = gather([sketch_on({"v": drawn(1, 4), "w": drawn(2, 4, 6)}, patches)])
    assert made.counts.tolist() == [0.0] * 2 + [4.0] * 6


def test_distances_are_squared_lengths():
    made = of(matrix([[0, 0]]), matrix([[3, 4]]), matrix([[3, 0]]))
    np.testing.assert_allclose(made.distances, [[0, 25, 9], [25, 0, 16], [9, 16, 0]], atol=1e-12)


def test_distances_of_a_part_estimate_those_of_the_whole():
    a = {f"layers.{i}.w": drawn(i, 300, 200) for i in range(4)}
    b = tuned(a, 1)
    whole = sum(float(np.square(b[n].astype(float) - a[n]).sum()) for n in a)
    assert of(a, b, n_scalars=8192).distances[0, 1] == pytest.approx(whole, rel=0.05)


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 9))
@FEW
def test_gram_and_distances_are_those_of_plain_numpy(n, columns, seed):
    models = [{"w": drawn([seed, i], 3, columns), "v": drawn([seed, i], 7)} for i in range(n)]
    plain = np.array([m["w"].astype(float).reshape(-1) for m in models])
    centred = plain - plain.mean(0)
    made = of(*models)
    np.testing.assert_allclose(made.gram, centred @ centred.T, atol=1e-9)
    apart = np.square(plain[:, None] - plain[None]).sum(2)
    np.testing.assert_allclose(made.distances, apart, atol=1e-9)
    assert made.energy(made.values[0] - made.values[-1]) == pytest.approx(apart[0, -1])


def test_gram_is_added_up_over_blocks():
    a, b = matrix(drawn(1, 200, 200)), matrix(drawn(2, 200, 200))
    apart = float(np.square(a["w"].astype(float) - b["w"]).sum())
    assert of(a, b).distances[0, 1] == pytest.approx(apart, rel=1e-9)


def test_vectors_have_no_length():
    a, b = {"v": drawn(1, 9)}, {"v": drawn(2, 9)}
    made = of(a, b)
    assert made.values.shape == (2, 9)
    assert list(made.matrices()) == []
    for found in (made.gram, made.distances, made.costs):
        assert not found.any()


def test_the_cost_of_one_matrix_is_the_logarithm_of_its_change_in_roundings():
    made = of(matrix([[1.0, 1.0]]), matrix([[1.0, 1.5]]), dtype="BF16")
    ulp = 2.0**-7
    expected = 0.5 * np.log1p(0.25 / (2 * ulp**2 / 6))
    np.testing.assert_allclose(made.costs, [[0, expected], [expected, 0]], rtol=1e-12)


def test_a_change_costs_the_same_whatever_dtype_one_of_the_models_is_stored_in():
    stored = ((1.0, "F32"), (1.0, "BF16"), (1.5, "BF16"))
    made = gather([sketch_of(matrix([[1.0, v]]), f"{v}{d}", dtype=d) for v, d in stored])
    assert made.costs[0, 2] == made.costs[1, 2] > 0
    assert made.costs[0, 1] == 0


def test_a_change_in_one_direction_costs_less_than_one_of_its_length_in_all():
    rng = np.random.default_rng(3)
    base, spread = rng.normal(size=(8, 32)), rng.normal(size=(8, 32))
    single = np.outer(rng.normal(size=8), rng.normal(size=32))
    single *= np.linalg.norm(spread) / np.linalg.norm(single)
    costs = of(matrix(base), matrix(base + 0.1 * spread), matrix(base + 0.1 * single)).costs
    assert costs[0, 2] < costs[0, 1] / 2


def test_of_models_that_are_far_the_cost_is_a_bound():
    rng = np.random.default_rng(4)
    far = [matrix(rng.normal(size=(4, 8)) + 9 * (i > 0)) for i in range(36)]
    costs, parts = of(*far).costs, of(far[0], far[1])
    assert np.isfinite(costs).all()
    assert (costs[0, 1:] > 0).all()
    assert costs[0, 1:].max() >= parts.costs[0, 1]


def test_nats_are_those_of_the_shorter_side_each_matrix_by_its_weight():
    parts = np.random.default_rng(5).normal(size=(3, 2, 4, 9))
    pairs, floors, weights = np.ones((3, 3), bool), np.array([0.5, 2.0]), np.array([1.0, 3.0])
    found = nats(parts, floors, pairs, weights)
    np.testing.assert_allclose(found, nats(parts.swapaxes(2, 3), floors, pairs, weights))
    expected = 0.0
    for apart, floor, weight in zip(parts[2] - parts[0], floors, weights, strict=True):
        inner = np.eye(4) + apart @ apart.T / (9 * floor)
        expected += weight * 4.5 * np.linalg.slogdet(inner)[1]
    assert found[0, 2] == pytest.approx(expected)


def test_the_nearest_are_told_in_order_and_of_equally_near_ones_the_first():
    bucket = of(*(matrix([[x]]) for x in (0.0, 3.0, -1.0, 1.0, 2.0)))
    assert bucket.nearest(0, range(5), 3) == [2, 3, 4]
    assert bucket.nearest(0, [4, 0, 1], 5) == [4, 1]
    assert bucket.nearest(0, [0], 5) == []


def test_piles_have_every_entry_of_every_matrix_once():
    bucket = of(network(1), network(2))
    piles = bucket.piles
    assert sorted(place for pile in piles for place in pile.places) == list(
        range(len(bucket.matrices()))
    )
    for pile in piles:
        for place, part, share in zip(
            pile.places, pile.of(bucket.values[1]), pile.shares, strict=True
        ):
            span = bucket.matrices()[place]
            np.testing.assert_array_equal(part.reshape(-1), bucket.values[1, span.slice])
            assert (part.shape, share) == (
                (span.patch.n_rows, span.patch.n_columns),
                span.patch.share,
            )
        few = list(pile.split(pile.n_rows * pile.n_columns))
        assert [part.places.tolist() for part in few] == [[place] for place in pile.places]
        assert pile.wide(bucket.values).shape[-2:] == (
            pile.least, max(pile.n_rows, pile.n_columns),
        )  # fmt: skip


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_costs_are_symmetric_and_0_for_equal_models_only(dtype):
    base = network(1)
    models = [base, tuned(base, 1), network(2), base, tuned(base, 2), tuned(base, 1)]
    costs = of(*(rounded(m, dtype) for m in models), dtype=dtype).costs
    np.testing.assert_array_equal(costs, costs.T)
    equal = {(0, 3), (1, 5)}
    for i in range(6):
        for j in range(i, 6):
            assert (costs[i, j] == 0) == (i == j or (i, j) in equal)


def test_relatives_cost_less_than_strangers():
    base = network(1)
    costs = of(base, tuned(base, 1), network(2)).costs
    assert 0 < costs[0, 1] < costs[0, 2]


def test_another_vocabulary_costs_a_little():
    a = {"embed_tokens.weight": drawn(1, 8, 4)}
    b = {"embed_tokens.weight": np.concatenate([a["embed_tokens.weight"], drawn(2, 1, 4)])}
    costs = of(a, b, a).costs
    assert costs[0, 2] == 0
    assert 0 < costs[0, 1] == costs[1, 2] < 0.1


def test_models_of_zeros_cost_nothing_and_are_nowhere_apart():
    made = of(matrix([[0, 0]]), matrix([[0, 0]]), matrix([[0, 1]]))
    assert made.costs[0, 1] == made.distances[0, 1] == 0
    assert made.costs[0, 2] > 0
    assert np.isfinite(made.costs).all()


def test_floors_are_the_energy_of_rounding():
    made = of(matrix([[1.0, 0.0, 2.0]]), dtype="BF16")
    assert made.floors.tolist() == pytest.approx([(2.0**-14 + 2.0**-12) / 12])


def test_some_models_of_a_bucket_are_a_bucket():
    models = [network(i) for i in range(4)]
    made = of(*models).of([2, 0])
    expected = gather([sketch_of(models[i], f"m{i}") for i in (2, 0)])
    assert (made.models, made.dtypes, made.rows) == (expected.models, ("F32", "F32"), expected.rows)
    assert made.spans == expected.spans
    np.testing.assert_array_equal(made.values, expected.values)


@pytest.mark.parametrize(("dtype", "bits"), [("BF16", 7), ("F16", 10), ("F32", 21), ("F64", 21)])
def test_rounding_energy_is_a_twelfth_of_the_squared_step(dtype, bits):
    values = np.array([1.0, -1.5, 2.0, 0.75, 0.0], np.float32)
    steps = np.array([1.0, 1.0, 2.0, 0.5, 0.0]) * 2.0**-bits
    np.testing.assert_array_equal(rounding_energy(values, dtype), steps**2 / 12)


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_rounding_energy_is_what_rounding_leaves(dtype):
    exact = {"w": drawn(1, 40_000)}
    left = np.square(rounded(exact, dtype)["w"].astype(float) - exact["w"]).mean()
    assert rounding_energy(exact["w"], dtype).mean() == pytest.approx(left, rel=0.05)


def test_energy_is_that_of_whole_matrices():
    patch = Patch("w", (2, 4), 0, 1, 0, 4, is_vector=False)
    made = Bucket(("a",), ("F32",), np.zeros((1, 4), np.float32), (Span(patch, 0, 4),), (2,))
    assert made.energy(np.array([1.0, 2.0, 0.0, 0.0])) == 2 * (1 + 4)


def test_the_layout_of_a_bucket_does_not_depend_on_the_order_of_its_models():
    a, b = network(1, tokens=24), network(2, tokens=400)
    made, turned = of(a, b, n_scalars=600), of(b, a, n_scalars=600)
    np.testing.assert_array_equal(made.values, turned.values[::-1])
    assert layout_of(shapes(a), 600) != layout_of(shapes(b), 600)


def test_floors_and_distances_of_a_part_are_those_of_whole_matrices():
    tall, low = ((n, 2) for n in (8, 2))
    part = Layout(tuple(
        Patch(name, shape, 0, 1, 0, 2, is_vector=False)
        for name, shape in (("low", low), ("tall", tall))
    ))  # fmt: skip
    a = {"low": np.ones(low), "tall": np.ones(tall)}
    b = a | {"tall": a["tall"] * 1.5}
    made = gather([sketch_on(t, part, n, dtype="BF16") for n, t in (("a", a), ("b", b))])
    whole = of(a, b, dtype="BF16")
    np.testing.assert_allclose(made.floors, whole.floors)
    np.testing.assert_allclose(made.distances, whole.distances)


def test_what_was_asked_once_is_not_worked_out_again():
    asked = []

    @once
    def sum_of(bucket, a, b, *, more=0):
        asked.append((a, b, more))
        return a + b + more

    one, other = of(network(1)), of(network(1))
    assert [sum_of(one, 1, 2), sum_of(one, 1, 2), sum_of(one, 2, 1), sum_of(one, 1, 2, more=1)] == [
        3,
        3,
        3,
        4,
    ]
    assert sum_of(other, 1, 2) == 3
    assert asked == [(1, 2, 0), (2, 1, 0), (1, 2, 1), (1, 2, 0)]
