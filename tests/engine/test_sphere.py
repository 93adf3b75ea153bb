"""Laws of points on a sphere."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import ops, sphere

few = settings(deadline=None, max_examples=30)
angles = st.floats(0.01, math.pi - 0.01)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_gram_holds_the_dot_products_of_each_two():
    products = sphere.gram([torch.tensor([3.0, 4]), torch.tensor([[1.0], [2]])])
    assert products.tolist() == [[25, 11], [11, 5]]


def test_gram_with_a_base_is_that_of_the_differences():
    points, base = [random(40, seed=s) for s in range(3)], random(40, seed=9)
    expected = sphere.gram([point - base for point in points])
    assert np.array_equal(sphere.gram(points, base), expected)


def test_gram_of_many_blocks_is_near_the_plain_sum():
    x, y = random(9 * ops.BLOCK, seed=1), random(9 * ops.BLOCK, seed=2)
    expected = float(x.double() @ y.double())
    assert sphere.gram([x, y])[0, 1] == pytest.approx(expected, rel=1e-12)


def test_gram_of_nothing_is_zero():
    assert sphere.gram([torch.zeros(0), torch.zeros(0)]).tolist() == [[0, 0], [0, 0]]


def test_point_of_length_zero_has_no_direction():
    lengths, cosines = sphere.cosines(sphere.gram([torch.zeros(2), torch.tensor([0.0, 3])]))
    assert lengths.tolist() == [0, 3]
    assert cosines.tolist() == [[0, 0], [0, 1]]


def test_cosines_of_lengths_that_float32_cannot_square():
    for size in (1e-30, 1e30):
        points = [size * torch.tensor([1.0, 0]), size * torch.tensor([1.0, 1])]
        assert sphere.cosines(sphere.gram(points))[1][0, 1] == pytest.approx(math.sqrt(0.5))


@few
@given(angle=angles, t=st.floats(0, 1))
def test_arc_between_unit_vectors_stays_on_the_circle(angle, t):
    first, second = sphere.arc(np.array([math.cos(angle)]), t, zero=np.array([False]))
    x, y = first + second * math.cos(angle), second * math.sin(angle)
    assert (float(x[0]), float(y[0])) == pytest.approx(
        (math.cos(t * angle), math.sin(t * angle)), abs=1e-9
    )


@pytest.mark.parametrize(("cosine", "zero"), [(1, False), (-1, False), (0, True)])
def test_arc_is_straight_where_there_is_no_plane_to_turn_in(cosine, zero):
    first, second = sphere.arc(np.array([float(cosine)]), 0.25, zero=np.array([zero]))
    assert (first.tolist(), second.tolist()) == ([0.75], [0.25])


def test_blend_adds_in_float64_and_rounds_once():
    x, y, base = (random(ops.BLOCK + 77, seed=s) for s in range(3))
    expected = x.double() * 1e30 + y.double() * -1e-30
    assert torch.equal(sphere.blend([x, y], [1e30, -1e-30]), expected.float())
    shifted = (x.double() - base) * 0.3 + (y.double() - base) * 0.1 + base
    assert torch.equal(sphere.blend([x, y], [0.3, 0.1], base), shifted.float())


def test_blend_with_one_coefficient_gives_that_point():
    x, y, base = (random(3, 5, seed=s) for s in range(3))
    assert torch.equal(sphere.blend([x, y], [0.0, 1.0]), y)
    assert torch.equal(sphere.blend([x, y], [0.0, 1.0], base), y)
    assert torch.equal(sphere.blend([x, y], [0.0, 0.0], base), base)
