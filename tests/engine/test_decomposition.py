"""Matrices taken apart and put together again, with one thread as with two."""

import pytest
import torch

from engine.decomposition import above_rounding, is_map, one_thread, polar, solve_right, svd


def matrix(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (1, 6), (6, 1)])
def test_the_parts_make_the_matrix(shape):
    m = matrix(shape)
    u, s, vh = svd(m)
    torch.testing.assert_close(u @ torch.diag(s) @ vh, m.double())
    torch.testing.assert_close(u.T @ u, torch.eye(len(s), dtype=torch.float64))
    assert bool((s[:-1] >= s[1:]).all())
    assert bool((u.gather(0, u.abs().argmax(0)[None]) > 0).all())


def test_null_directions_are_left_out():
    outer = torch.outer(torch.arange(1.0, 5), torch.arange(1.0, 4))
    u, s, vh = svd(outer)
    assert (u.shape, s.shape, vh.shape) == ((4, 1), (1,), (1, 3))
    assert len(svd(torch.zeros(3, 2))[1]) == 0
    assert not polar(torch.zeros(3, 2)).any()


def test_a_polar_factor_is_orthogonal_and_nearest():
    m = matrix((6, 4))
    near = polar(m)
    torch.testing.assert_close(near.T @ near, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(polar(near), near)


def test_a_singular_square_has_a_pseudo_inverse():
    half = matrix((2, 5)).double()
    square = half.T @ half
    torch.testing.assert_close(solve_right(square, square) @ square, square)
    assert not solve_right(square, torch.zeros(5, 5, dtype=torch.float64)).any()


def test_threads_change_nothing():
    m, before = matrix((257, 130)), torch.get_num_threads()
    try:
        results = []
        for n in (1, 2):
            torch.set_num_threads(n)
            results.append([*svd(m), polar(m)])
            with one_thread():
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_maps_are_matrices_and_tables_of_tokens_only_where_asked():
    assert is_map(matrix((2, 2)), "model.layers.0.mlp.up_proj.weight", vocabulary=False)
    assert not is_map(matrix((2, 2)), "model.embed_tokens.weight", vocabulary=False)
    assert is_map(matrix((2, 2)), "lm_head.weight", vocabulary=True)
    assert not is_map(matrix((3,)), "norm", vocabulary=True)
    assert not is_map(torch.zeros(0, 3), "w", vocabulary=True)


def test_directions_that_only_rounding_made_are_left_out():
    generator = torch.Generator().manual_seed(0)
    base = 0.02 * torch.randn(96, 64, generator=generator)
    b, a = (torch.randn(n, 4, generator=generator) for n in (96, 64))
    delta = (base + 1e-3 * (b @ a.T)) - base  # as a model that wears an adapter has it
    assert len(svd(delta)[1]) == 64
    assert len(above_rounding(svd(delta))[1]) == 4
    exact = torch.diag(torch.tensor([1.0, 1e-4, 0.0]))
    assert above_rounding(svd(exact))[1].tolist() == pytest.approx([1.0, 1e-4])
    assert len(above_rounding(svd(exact), 1e4)[1]) == 1
