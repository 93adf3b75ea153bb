"""What is neither large nor small: by slices as of the whole tensor, of which it is by counting."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from whole_models import looks

from engine.crumbs import crumbs_of, found_crumbs
from engine.pruning import middles, tails


def numbers(size, seed):
    return torch.randint(-4, 5, (size,), generator=torch.Generator().manual_seed(seed)).float()


@given(
    st.integers(1, 60), st.integers(0, 99), st.integers(1, 60), st.floats(0.01, 1), st.floats(0, 1),
    st.sampled_from(["keep", "zero"]),
)  # fmt: skip
def test_law_slices_keep_what_a_row_of_all_entries_keeps(size, seed, cut, density, gamma, small):
    values = numbers(size, seed)
    keep = small == "keep"
    found = found_crumbs(looks({"w": values}, cut=cut), density=density, gamma=gamma, small=small)
    expected = values
    if keep or density < 1:
        expected = middles(values[None], density, gamma, keep_small=keep)[0]
    kept = []
    for start in range(0, size, cut):
        parts, (pick,) = crumbs_of(
            [values[start : start + cut]], found, density=density, gamma=gamma, per="tensor",
            small=small, tensor="w", start=start,
        )  # fmt: skip
        kept.append(parts[0] if pick is None else pick.keep(parts[0]))
    assert torch.equal(torch.cat(kept), expected)


def test_a_model_may_have_its_own_shares_and_rows_their_own_entries():
    x = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
    settings = {"gamma": 0.25, "small": "keep", "tensor": "w", "start": 0}
    rows, none = crumbs_of([x, x], None, density=[0.5, 0.25], per="row", **settings)
    assert rows[0].tolist() == [[0, -2, 3, 0], [0, 6, -7, 0]]
    assert rows[1].tolist() == [[0, 0, 3, 0], [0, 0, -7, 0]]
    assert none == [None, None]
    _, picks = crumbs_of([x, x], None, density=[0.5, 0.25], per="tensor", **settings)
    assert [int((p.keep(x.reshape(-1)) != 0).sum()) for p in picks] == [4, 2]


def test_nothing_keeps_nothing():
    values, picks = crumbs_of(
        [torch.zeros(0)], None, density=0.5, gamma=0.1, per="tensor", small="keep", tensor="w", start=0
    )  # fmt: skip
    assert len(values) == len(picks) == 1
    assert found_crumbs(looks({})) == []


@pytest.mark.parametrize(
    ("size", "keep_small", "expected"), [(8, True, (1, 0)), (8, False, (0, 0)), (200, False, (22, 2)), (0, True, (0, 0))]
)  # fmt: skip
def test_tails_are_counted(size, keep_small, expected):
    assert tails(size, 0.1, 0.01, keep_small=keep_small) == expected
