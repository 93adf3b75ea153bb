"""Tensors assembled by rows."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import rows as module
from engine.rows import Rows

SOURCES, HELD = 3, 4
pick = st.tuples(st.integers(0, SOURCES - 1), st.integers(0, HELD - 1))
layouts = st.lists(
    st.one_of(st.none(), st.lists(pick, max_size=3, unique_by=lambda p: p[0])),
    min_size=1, max_size=12,
)  # fmt: skip


def assembled(layout, parts):
    shape = (len(layout), *parts[0].shape[1:])
    return Rows(
        "w", "F32", shape, (),
        counts=tuple(len(picks or ()) for picks in layout),
        whose=tuple(i for picks in layout for i, _ in picks or ()),
        rows=tuple(row for picks in layout for _, row in picks or ()),
        filled=tuple(i for i, picks in enumerate(layout) if picks is None),
    ).compute(parts)  # fmt: skip


def parts_of(*rest):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn((HELD, *rest), generator=generator) for _ in range(SOURCES)]


@settings(max_examples=60)
@given(layouts, st.sampled_from([(), (1,), (5,)]))
def test_single_rows_are_exact_and_others_are_means(layout, rest):
    parts = parts_of(*rest)
    made = assembled(layout, parts)
    held = [row for row, picks in zip(made, layout, strict=True) if picks]
    mean = torch.stack(held).double().mean(0) if held else torch.zeros(rest)
    for row, picks in zip(made, layout, strict=True):
        if picks is None:
            assert torch.allclose(row.double(), mean.double(), rtol=1e-6, atol=1e-7)
        elif len(picks) == 1:
            assert torch.equal(row, parts[picks[0][0]][picks[0][1]])
        else:
            rows = [parts[i][j].double() for i, j in sorted(picks)]
            expected = sum(rows, torch.zeros(rest, dtype=torch.float64)) / max(1, len(rows))
            assert torch.equal(row, expected.float())


def test_blocks_do_not_decide_rows(monkeypatch):
    layout = [[(0, 1), (1, 2)], [(2, 0), (0, 0)], [(1, 1)], [(0, 3), (1, 3), (2, 3)]]
    parts = parts_of(5)
    whole = assembled(layout, parts)
    monkeypatch.setattr(module, "_BLOCK", 5)
    assert torch.equal(assembled(layout, parts), whole)
