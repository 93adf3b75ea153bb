"""Scores of columns, looked at whole and in slices."""

import torch

from engine.disentangling import scored
from engine.method import Seen, alone
from engine.products import SLAB


def seen(base, deltas, name="model.layers.0.mlp.up_proj.weight", start=0):
    return Seen(name, deltas, base, start=start)


def test_a_matrix_scores_columns_and_an_embedding_rows():
    base, delta = torch.rand(5, 3), torch.rand(5, 3)
    columns = scored(alone(seen(base, [delta, -delta])))
    assert (columns.by_row, tuple(columns.values.shape)) == (False, (2, 3))
    rows = scored(alone(seen(base, [delta], "model.embed_tokens.weight")))
    assert (rows.by_row, tuple(rows.values.shape)) == (True, (1, 5))
    entries = scored(alone(seen(base[0], [delta[0]])))
    assert tuple(entries.values.shape) == (1, 3)


def test_slices_of_whole_slabs_score_what_the_tensor_does():
    generator = torch.Generator().manual_seed(0)
    base, *deltas = (torch.randn(3 * SLAB + 5, 7, generator=generator) for _ in range(3))

    def look(measure, *, sample=0):
        for top in range(0, len(base), SLAB):
            part = slice(top, top + SLAB)
            yield "w", measure(seen(base[part], [d[part] for d in deltas], start=7 * top))

    assert torch.equal(scored(look).values, scored(alone(seen(base, deltas))).values)
