"""TSV-Merge: orthogonal directions, and the cases where there are too few."""

import torch

from engine.methods.tsv_merge import tsv_merge

UP, EMBED = "model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"


def matrix(seed, shape=(6, 4)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_tasks_that_do_not_interfere_are_added():
    first, second = torch.zeros(4, 4), torch.zeros(4, 4)
    first[0, 0], first[1, 1], second[2, 2], second[3, 3] = 5, 3, 4, 2
    torch.testing.assert_close(tsv_merge([first, second], tensor=UP), first + second)


def test_tasks_that_share_a_direction_have_it_once():
    merged = tsv_merge([matrix(0), matrix(0)], tensor=UP)
    u, s, vh = torch.linalg.svd(matrix(0), full_matrices=False)
    torch.testing.assert_close(merged, u[:, :2] * s[:2] @ vh[:2], rtol=1e-4, atol=1e-5)


def test_more_tasks_than_directions_keep_one_each():
    merged = tsv_merge([matrix(i, (2, 2)) for i in range(5)], tensor=UP)
    assert merged.isfinite().all()
    assert merged.any()


def test_vectors_and_tables_are_averaged():
    assert tsv_merge([torch.ones(3), torch.zeros(3)], tensor=UP).tolist() == [0.5] * 3
    torch.testing.assert_close(
        tsv_merge([matrix(0), matrix(1)], tensor=EMBED), (matrix(0) + matrix(1)) / 2
    )
