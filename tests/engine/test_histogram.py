"""Bins, quantiles and top masses of magnitudes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engine.delta import accumulate
from engine.histogram import EMPTY, HIGHEST, LOWEST, PER_OCTAVE, Counter, Histogram, histogram

BIN_ERROR = 0.022

magnitudes = hnp.arrays(np.float32, 30, elements=st.floats(2.0**-120, 2.0**120, width=32))


def of(magnitudes, n_zero=0) -> Histogram:
    values = np.array(magnitudes, np.float32)
    counter = Counter()
    counter.add(values, np.empty(len(values), np.int32))
    return histogram(*counter.pooled(n_zero))


def bins_of(magnitudes) -> list[int]:
    return of(magnitudes).rows()[0].tolist()


def heavy_tailed(n, seed=0):
    return np.abs(np.random.default_rng(seed).standard_t(2, n) * 1e-3).astype(np.float32)


@pytest.mark.parametrize("power", [-126, -20, -1, 0, 1, 20, 127])
def test_a_power_of_two_opens_its_octave(power):
    assert bins_of([2.0**power]) == [PER_OCTAVE * power]


@pytest.mark.parametrize("power", [-125, -1, 0, 1, 127])
def test_the_number_before_a_power_of_two_closes_the_octave_before(power):
    before = np.nextafter(np.float32(2.0**power), np.float32(0))
    assert bins_of([before]) == [PER_OCTAVE * power - 1]


def test_the_largest_float32_lies_in_the_highest_bin():
    assert bins_of([np.finfo(np.float32).max]) == [HIGHEST]


def test_all_subnormals_lie_in_the_lowest_bin():
    smallest = np.finfo(np.float32).smallest_subnormal
    largest = np.nextafter(np.finfo(np.float32).tiny, np.float32(0))
    assert bins_of([smallest, 1e-42, largest]) == [LOWEST]


def test_every_cell_lies_in_the_bin_of_its_logarithm():
    middles = np.arange(1 << 11, 255 << 11, dtype=np.int32) << 12 | 1 << 11
    values = middles.view(np.float32)
    expected = np.floor(PER_OCTAVE * np.log2(values.astype(np.float64))).astype(np.int64)
    bins, counts = np.unique(expected, return_counts=True)
    found, found_counts, _, _ = of(values).rows()
    assert found.tolist() == bins.tolist()
    assert (
        np.abs(found_counts - counts).max() <= 1
    )  # a border may be rounded past one cell's middle


@given(magnitudes)
@settings(max_examples=60, deadline=None)
def test_elements_lie_in_their_bins_or_within_a_cell_of_them(values):
    bins, counts, _, _ = of(values).rows()
    each = np.repeat(bins, counts).astype(np.float64)  # bins ascend as the sorted elements do
    assert np.all(2.0 ** (each / PER_OCTAVE) * (1 - 2**-12) <= np.sort(values))
    assert np.all(np.sort(values) < 2.0 ** ((each + 1) / PER_OCTAVE) * (1 + 2**-12))


@given(magnitudes, st.integers(-6, 6))
@settings(max_examples=40, deadline=None)
def test_scaling_by_a_power_of_two_shifts_the_bins(values, power):
    shifted = [bin_ + PER_OCTAVE * power for bin_ in bins_of(values)]
    assert bins_of(values * np.float32(2.0**power)) == shifted


def test_zeros_are_left_out():
    assert of([0.0, 0.0, 1.0], n_zero=2).rows()[1].tolist() == [1]


def test_sums_per_bin_are_those_of_the_elements():
    values = heavy_tailed(20_000)
    bins, counts, sum_abs, sum_sq = of(values).rows()
    wide = values.astype(np.float64)
    index = np.searchsorted(2.0 ** (bins / PER_OCTAVE), wide * (1 + 1e-9), side="right") - 1
    assert counts.sum() == len(values)
    np.testing.assert_allclose(counts, np.bincount(index), atol=8)
    np.testing.assert_allclose(
        sum_abs / counts, np.bincount(index, wide) / np.bincount(index), 0.02
    )
    np.testing.assert_allclose(sum_abs.sum(), wide.sum(), 2.0**-12)
    np.testing.assert_allclose(sum_sq.sum(), (wide**2).sum(), 2.0**-11)


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(1, 400))
@settings(max_examples=40, deadline=None)
def test_the_histogram_of_two_sets_is_the_sum_of_theirs(seed, n, m):
    values = heavy_tailed(n + m, seed)
    both, summed = of(values), of(values[:n]) + of(values[n:])
    np.testing.assert_array_equal(both.counts, summed.counts)
    np.testing.assert_allclose(both.sum_abs, summed.sum_abs, rtol=1e-12)
    np.testing.assert_allclose(both.sum_sq, summed.sum_sq, rtol=1e-12)


def test_the_empty_histogram_changes_nothing():
    some = of([1.0, 2.0])
    assert (some + EMPTY) is some
    assert (EMPTY + some) is some
    assert EMPTY.rows()[0].tolist() == []
    assert EMPTY.top(3) == (0.0, 0.0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3000))
@settings(max_examples=40, deadline=None)
def test_the_value_of_every_rank_is_within_the_bin_error(seed, n):
    values = heavy_tailed(n, seed)
    some = of(values)
    exact = np.sort(values)
    ranks = sorted({1, n, (n + 1) // 2, max(1, n // 100), max(1, 99 * n // 100)})
    found = [some.value(rank) for rank in ranks]
    np.testing.assert_allclose(found, [exact[rank - 1] for rank in ranks], rtol=BIN_ERROR)
    assert found == sorted(found)


def test_the_value_of_a_subnormal_is_below_the_normal_numbers():
    assert 0 < of([1e-40]).value(1) < 2.0**-126


def test_top_counts_a_fraction_of_an_element_by_its_fraction():
    found = of([1.0, 4.0])
    np.testing.assert_allclose(found.top(0.5), (2.0, 8.0), rtol=5e-4)
    np.testing.assert_allclose(found.top(1), (4.0, 16.0), rtol=5e-4)
    np.testing.assert_allclose(found.top(1.5), (4.5, 16.5), rtol=5e-4)
    np.testing.assert_allclose(found.top(7), (5.0, 17.0), rtol=5e-4)


def test_top_masses_are_those_of_the_sorted_elements():
    values = heavy_tailed(50_000)
    exact = np.sort(values.astype(np.float64))[::-1]
    for share in (0.001, 0.01, 0.2, 0.5, 1.0):
        k = int(share * len(values))
        expected = exact[:k].sum(), (exact[:k] ** 2).sum()
        np.testing.assert_allclose(of(values).top(k), expected, rtol=5e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_quantiles_are_within_the_bin_error_of_the_sorted_elements(dtype):
    child = torch.from_numpy(heavy_tailed(200_000)).to(dtype)
    base = torch.where(torch.arange(len(child)) % 7 == 0, child, 0)
    acc = accumulate(base, child)
    size = (child.float() - base.float()).abs().numpy()
    for percent in range(1, 100):
        exact = float(np.quantile(size, percent / 100, method="inverted_cdf"))
        assert acc.quantile(percent) == pytest.approx(exact, rel=BIN_ERROR), percent


def test_quantiles_count_zeros():
    child = torch.tensor([0.0] * 6 + [1.0] * 4)
    acc = accumulate(torch.zeros(10), child)
    assert acc.quantile(60) == 0
    assert acc.quantile(61) == 1  # never above the largest magnitude
    assert acc.quantile(99) == 1


def test_histogram_rows_add_up_to_the_accumulators():
    child = torch.from_numpy(heavy_tailed(50_000)).to(torch.bfloat16)
    acc = accumulate(torch.zeros_like(child), child)
    bins, counts, sum_abs, sum_sq = acc.histogram_rows()
    assert np.all(np.diff(bins) > 0)
    assert np.all(counts > 0)
    assert counts.sum() == acc.n - acc.n_zero
    assert sum_abs.sum() == pytest.approx(acc.sum_abs, rel=1e-12)
    assert sum_sq.sum() == pytest.approx(acc.sum_sq, rel=1e-12)
    mean = sum_abs / counts
    assert np.all(mean > 2.0 ** (bins / PER_OCTAVE) * 0.999)
    assert np.all(mean < 2.0 ** ((bins + 1) / PER_OCTAVE) * 1.001)
