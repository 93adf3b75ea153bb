"""SVC: directions that several experts share are counted once."""

import torch

from engine.methods.svc import svc

UP, EMBED = "model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"


def matrix(seed, shape=(6, 4)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_direction_that_two_experts_share_is_halved():
    shared = torch.outer(matrix(0, (6,)), matrix(1, (4,)))
    torch.testing.assert_close(
        svc([2 * shared, shared, shared], tensor=UP), shared, rtol=1e-4, atol=1e-5
    )


def test_directions_of_their_own_stay_at_alpha_one():
    first, second = torch.zeros(2, 2), torch.zeros(2, 2)
    first[0, 0], second[1, 1] = 3, 2
    merged = svc([first + second, first, second], tensor=UP)
    torch.testing.assert_close(merged, first + second)
    assert float(svc([first + second, first, second], tensor=UP, alpha=0.5)[0, 0]) > 3


def test_what_is_no_matrix_stays_as_merged():
    assert svc([torch.ones(3), torch.zeros(3)], tensor=UP).tolist() == [1] * 3
    assert torch.equal(svc([matrix(0), matrix(1)], tensor=EMBED), matrix(0))
