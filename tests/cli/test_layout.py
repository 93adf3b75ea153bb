"""Widths of columns."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cli.layout import GAP, fit

NATURAL = st.lists(st.integers(0, 120), min_size=1, max_size=12)


def test_what_fits_is_not_cut():
    assert fit([5, 30, 7], 200) == [5, 30, 7]


def test_the_widest_column_is_cut_first():
    assert fit([4, 60, 10], 60) == [4, 42, 10]


def test_a_narrow_terminal_loses_the_last_columns():
    assert fit([20, 20, 20, 20], 36) == [18, 16]


def test_a_single_column_is_never_left_out():
    assert fit([50, 50], 5) == [5]


@settings(max_examples=200)
@given(NATURAL, st.integers(1, 400))
def test_widths_and_gaps_add_up_to_the_terminal_at_most(natural, available):
    widths = fit(natural, available)
    assert 1 <= len(widths) <= len(natural)
    assert sum(widths) + GAP * (len(widths) - 1) <= available
    assert all(w <= max(1, n) for w, n in zip(widths, natural, strict=False))


@settings(max_examples=100)
@given(NATURAL)
def test_a_wide_terminal_cuts_nothing(natural):
    assert fit(natural, 10_000) == [max(1, natural[0])] if len(natural) == 1 else natural
