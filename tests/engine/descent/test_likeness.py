"""Likeness: siblings are alike from one of them, and not from their parent."""

import numpy as np
import pytest
from descent_patches import sketch_of

from engine.descent.bucket import gather
from engine.descent.likeness import likeness


def change(seed, size=0.1):
    """A difference in all directions: (16, 64)."""
    return size * np.random.default_rng(seed).normal(size=(16, 64))


BASE = np.random.default_rng(0).normal(size=(16, 64))


def bucket(*differences):
    """The base, and models that differ from it."""
    models = [{"w": BASE + d} for d in (np.zeros_like(BASE), *differences)]
    return gather([sketch_of(m, str(i), n_scalars=4096) for i, m in enumerate(models)])


@pytest.fixture(scope="module")
def siblings():
    return bucket(change(1), change(2), change(3))


def test_from_their_parent_two_children_have_nothing_in_common(siblings):
    assert abs(likeness(siblings, 0, 1, 2)) < 0.05


def test_from_a_sibling_two_others_have_its_change_in_common(siblings):
    assert likeness(siblings, 3, 1, 2) == pytest.approx(0.5, abs=0.1)


def test_the_order_of_the_two_does_not_matter(siblings):
    assert likeness(siblings, 3, 1, 2) == pytest.approx(likeness(siblings, 3, 2, 1))


def test_a_lesson_in_one_direction_makes_nobody_siblings():
    lesson = 0.5 * np.outer(np.ones(16), np.random.default_rng(9).normal(size=64))
    taught = bucket(change(1) + lesson, change(2) + lesson)
    straight = [(taught.values[i] - taught.values[0]).astype(float) for i in (1, 2)]
    cosine = straight[0] @ straight[1] / np.prod([np.linalg.norm(s) for s in straight])
    assert cosine > 0.9
    assert likeness(taught, 0, 1, 2) < 0.15


def test_weight_decay_makes_nobody_siblings():
    decayed = bucket(change(1) - 0.3 * BASE, change(2) - 0.3 * BASE)
    assert abs(likeness(decayed, 0, 1, 2)) < 0.05


def test_a_model_that_does_not_differ_is_like_nothing():
    assert likeness(bucket(change(1), np.zeros_like(BASE)), 0, 1, 2) == 0


def test_a_model_is_all_that_it_is_itself():
    assert likeness(bucket(change(1), change(1)), 0, 1, 2) == pytest.approx(1.0)


def test_from_zeros_two_models_have_in_common_what_they_have_in_common():
    zero = np.zeros((4, 8))
    bucket = gather([
        sketch_of({"w": w}, str(i)) for i, w in enumerate((zero, change(1)[:4, :8], change(2)[:4, :8]))
    ])  # fmt: skip
    assert abs(likeness(bucket, 0, 1, 2)) < 0.6
    assert likeness(bucket, 0, 1, 1) == pytest.approx(1)


def test_patches_of_several_shapes_count_each_by_the_entries_it_stands_for():
    rng = np.random.default_rng(7)
    shapes = {"a": (4, 8), "b": (8, 4), "c": (6, 6), "d": (4, 8)}
    drawn = [{n: rng.normal(size=shape) for n, shape in shapes.items()} for _ in range(3)]
    bucket = gather([sketch_of(m, str(i)) for i, m in enumerate(drawn)])
    alone = [gather([sketch_of({n: m[n]}, str(i)) for i, m in enumerate(drawn)]) for n in "ad"]
    both = gather([sketch_of({n: m[n] for n in "ad"}, str(i)) for i, m in enumerate(drawn)])
    low, top = sorted(likeness(one, 0, 1, 2) for one in alone)
    assert low < likeness(both, 0, 1, 2) < top
    turned = gather([
        sketch_of({n: w.T if n == "b" else w for n, w in m.items()}, str(i)) for i, m in enumerate(drawn)
    ])  # fmt: skip
    assert likeness(turned, 0, 1, 2) == pytest.approx(likeness(bucket, 0, 1, 2))
