"""Accumulators of a delta, their laws, and what is derived from them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engine.delta import BLOCK, PERCENTS, THRESHOLDS, Accumulators, accumulate, derived
from registry.errors import ShapeMismatch, UnsupportedDtype

W0 = torch.tensor([[4.0, -4, 8, 0], [2, 6, -8, 16]])
DELTA_1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
DELTA_2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])

ROW = """n n_zero n_positive n_negative n_nonfinite
    sum sum_sq sum_cube sum_fourth sum_abs max_abs min max
    base_sum_sq base_dot base_sum_abs base_max_abs
    n_within_0002 n_within_0005 n_within_001 n_within_002 n_within_005 n_within_01 n_within_03"""
DERIVED = """relative_l2 l2 rms mean_abs max_abs min max mean
    abs_p01 abs_p10 abs_p25 abs_p50 abs_p75 abs_p90 abs_p99 dare_variance
    within_0002 within_0005 within_001 within_002 within_005 within_01 within_03 zero_share
    top1_mass_l2 top20_mass_l2 top1_mass_l1 top20_mass_l1
    sign_balance kurtosis cos_base bitdelta_error n_nonfinite"""

COUNTS = ("n", "n_zero", "n_positive", "n_negative", "n_nonfinite", "n_within")
EXTREMES = ("max_abs", "min", "max", "base_max_abs")
SUMS = ("sum", "sum_sq", "sum_cube", "sum_fourth", "sum_abs")
BASE_SUMS = ("base_sum_sq", "base_dot", "base_sum_abs")

SCALE_FREE = ("relative_l2", "kurtosis", "cos_base", "sign_balance", "bitdelta_error", "zero_share")
QUANTILES = [f"abs_p{percent:02}" for percent in PERCENTS]


def reference(base, child) -> dict[str, object]:
    """The accumulators in NumPy float64, from the definitions; all elements finite."""
    w = base.to(torch.float64).numpy().ravel()
    if torch.float64 in (base.dtype, child.dtype):
        d = child.to(torch.float64).numpy().ravel() - w
    else:
        d = (child.to(torch.float32) - base.to(torch.float32)).numpy().ravel().astype(np.float64)
    size = np.abs(d)
    return {
        "n": len(d),
        "n_zero": int((d == 0).sum()),
        "n_positive": int((d > 0).sum()),
        "n_negative": int((d < 0).sum()),
        "n_nonfinite": 0,
        "n_within": tuple(int((size <= np.float32(t)).sum()) for t in THRESHOLDS.values()),
        "max_abs": size.max(),
        "min": d.min(),
        "max": d.max(),
        "base_max_abs": np.abs(w).max(),
        "sum": math.fsum(d),
        "sum_sq": math.fsum(d**2),
        "sum_cube": math.fsum(d**3),
        "sum_fourth": math.fsum(d**4),
        "sum_abs": math.fsum(size),
        "base_sum_sq": math.fsum(w**2),
        "base_dot": math.fsum(w * d),
        "base_sum_abs": math.fsum(np.abs(w)),
    }


def scale_of(acc, name) -> float:
    """What the error of a sum is relative to: a bound on the sum of the magnitudes that were added."""
    signed = {
        "sum": acc.sum_abs,
        "sum_cube": acc.sum_sq * acc.max_abs,
        "base_dot": math.sqrt(acc.sum_sq * acc.base_sum_sq),
    }
    return signed.get(name, getattr(acc, name))


def assert_same(left, right, tolerance=1e-12):
    """Equal counts and extremes, sums within the tolerance."""
    for name in COUNTS + EXTREMES:
        assert getattr(left, name) == getattr(right, name), name
    for name in SUMS + BASE_SUMS:
        difference = abs(getattr(left, name) - getattr(right, name))
        assert difference <= tolerance * scale_of(left, name), name
    np.testing.assert_array_equal(left.histogram.counts, right.histogram.counts)
    np.testing.assert_allclose(left.histogram.sum_abs, right.histogram.sum_abs, rtol=1e-12)


def assert_identical(left, right):
    assert left.as_row() == right.as_row()
    for ours, theirs in zip(left.histogram_rows(), right.histogram_rows(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def family(n, seed=0, scale=1e-3, dtype=torch.float32):
    """A base and a child with a heavy-tailed delta, some of it exactly zero."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0, 0.02, n)
    delta = rng.standard_t(3, n) * scale * (rng.random(n) < 0.8)
    base = torch.from_numpy(base).to(dtype)
    return base, (base.to(torch.float64) + torch.from_numpy(delta)).to(dtype)


def test_first_delta_of_the_fixture_has_the_published_statistics():
    acc = accumulate(W0, W0 + DELTA_1)
    assert (acc.n, acc.n_zero, acc.n_positive, acc.n_negative) == (8, 0, 5, 3)
    assert (acc.sum, acc.sum_sq, acc.sum_abs) == (10, 204, 36)
    assert (acc.min, acc.max, acc.max_abs) == (-7, 8, 8)
    assert (acc.base_sum_sq, acc.base_dot, acc.base_sum_abs, acc.base_max_abs) == (456, 266, 48, 16)
    found = derived(acc)
    assert found["l2"] == pytest.approx(14.282857, abs=1e-6)
    assert found["relative_l2"] == pytest.approx(0.668856, abs=1e-6)
    assert found["mean_abs"] == 4.5
    assert found["bitdelta_error"] == pytest.approx(0.453743, abs=1e-6)
    assert found["cos_base"] == pytest.approx(0.872136, abs=1e-6)
    assert acc.top_mass(0.25, squared=False) == pytest.approx(0.416667, abs=2e-4)
    assert acc.top_mass(0.25, squared=True) == pytest.approx(0.553922, abs=4e-4)


def test_second_delta_of_the_fixture_has_the_published_statistics():
    found = derived(accumulate(W0, W0 + DELTA_2))
    assert found["l2"] == pytest.approx(11.874342, abs=1e-6)
    assert found["relative_l2"] == pytest.approx(0.556067, abs=1e-6)
    assert found["mean_abs"] == 3.625
    assert found["bitdelta_error"] == pytest.approx(0.504413, abs=1e-6)
    assert found["dare_variance"] == 141


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn]
)
def test_accumulators_agree_with_float64_for_every_float_dtype(dtype):
    base, child = family(30_001, dtype=dtype, scale=3e-3)
    acc = accumulate(base, child)
    assert acc.n_zero > 0
    for name, expected in reference(base, child).items():
        if name in COUNTS + EXTREMES:
            assert getattr(acc, name) == expected, name
        else:
            assert abs(getattr(acc, name) - expected) <= 1e-12 * scale_of(acc, name), name


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int64, torch.bool])
def test_integers_are_read_as_numbers(dtype):
    high = 2 if dtype is torch.bool else 100
    generator = torch.Generator().manual_seed(3)
    base, child = (torch.randint(0, high, (500,), generator=generator).to(dtype) for _ in range(2))
    acc = accumulate(base, child)
    expected = reference(base.to(torch.float32), child.to(torch.float32))
    for name in ("n_zero", "n_positive", "n_negative", "min", "max", "sum", "sum_sq", "base_dot"):
        assert getattr(acc, name) == expected[name], name


def test_tensors_cut_at_blocks_add_up_to_the_whole():
    base, child = family(2 * BLOCK + 12_345, dtype=torch.bfloat16)
    whole = accumulate(base, child)
    pieces = [slice(0, BLOCK), slice(BLOCK, 2 * BLOCK), slice(2 * BLOCK, None)]
    one, two, three = (accumulate(base[piece], child[piece]) for piece in pieces)
    assert_same(whole, one + two + three)
    assert_same(whole, one + (two + three))
    assert_same(whole, three + one + two)


@given(st.integers(0, 2**32 - 1), st.integers(0, 90), st.integers(0, 90))
@settings(max_examples=40, deadline=None)
def test_any_two_slices_add_up_to_both_together(seed, n, m):
    base, child = family(n + m, seed)
    summed = accumulate(base[:n], child[:n]) + accumulate(base[n:], child[n:])
    assert_same(accumulate(base, child), summed)


def test_the_number_of_threads_changes_no_bit():
    base, child = family(BLOCK + 77_777, dtype=torch.bfloat16)
    before = torch.get_num_threads()
    results = []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        results.append(accumulate(base, child))
    torch.set_num_threads(before)
    assert_identical(*results)


def test_shape_and_strides_change_nothing_but_the_order():
    base, child = (t.reshape(60, 50) for t in family(3000))
    assert_identical(accumulate(base, child), accumulate(base.reshape(-1), child.reshape(-1)))
    assert_same(accumulate(base, child), accumulate(base.T, child.T))


def test_inputs_are_left_as_they_were():
    base, child = family(100, dtype=torch.float64)
    copies = base.clone(), child.clone()
    accumulate(base, child)
    assert torch.equal(base, copies[0])
    assert torch.equal(child, copies[1])


def test_swapping_base_and_child_turns_the_signs():
    base, child = family(1000)
    there, back = accumulate(base, child), accumulate(child, base)
    assert (there.n_positive, there.min, there.max) == (back.n_negative, -back.max, -back.min)
    assert there.sum == -back.sum
    assert there.n_within == back.n_within
    norm_sq = there.base_sum_sq + 2 * there.base_dot + there.sum_sq  # of the child
    assert norm_sq == pytest.approx(back.base_sum_sq, rel=1e-6)  # δ is rounded to float32


@given(st.integers(0, 2**32 - 1), st.integers(-8, 8))
@settings(max_examples=30, deadline=None)
def test_scaling_by_a_power_of_two_shifts_bins_and_keeps_what_has_no_unit(seed, power):
    factor = 2.0**power
    base, child = family(500, seed)
    acc, scaled = accumulate(base, child), accumulate(base * factor, child * factor)
    np.testing.assert_array_equal(acc.histogram_rows()[0] + 16 * power, scaled.histogram_rows()[0])
    before, after = derived(acc), derived(scaled)
    for name in ("l2", "rms", "mean_abs", "max_abs", "min", "max", *QUANTILES):
        assert after[name] == pytest.approx(before[name] * factor, rel=1e-12), name
    for name in SCALE_FREE:
        assert after[name] == pytest.approx(before[name], rel=1e-9), name


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["base", "child", "both"])
def test_elements_that_are_not_finite_are_counted_and_left_out(bad, side):
    base, child = family(BLOCK + 5000)
    places = torch.tensor([0, 17, BLOCK - 1, BLOCK, BLOCK + 4999])
    keep = torch.ones(len(base), dtype=torch.bool)
    keep[places] = False
    expected = accumulate(base[keep], child[keep])
    if side in ("base", "both"):
        base[places] = bad
    if side in ("child", "both"):
        child[places] = bad
    found = accumulate(base, child)
    assert found.n_nonfinite == 5
    assert found.n == BLOCK + 4995
    assert_same(found, expected + Accumulators(n_nonfinite=5))


def test_a_delta_that_overflows_float32_is_not_finite():
    largest = torch.finfo(torch.float32).max
    acc = accumulate(torch.tensor([-largest, 1.0]), torch.tensor([largest, 3.0]))
    assert (acc.n, acc.n_nonfinite, acc.sum, acc.base_max_abs) == (1, 1, 2, 1)


@pytest.mark.parametrize(("base", "child"), [(1e300, 1e300), (1e300, 1.0), (1.0, 1e39)])
def test_float64_beyond_float32_is_not_finite(base, child):
    tensors = (torch.tensor([x, 1.0], dtype=torch.float64) for x in (base, child))
    acc = accumulate(*tensors)
    assert (acc.n, acc.n_zero, acc.n_nonfinite, acc.base_max_abs) == (1, 1, 1, 1)


def test_float64_keeps_differences_that_float32_would_lose():
    base = torch.ones(4, dtype=torch.float64)
    acc = accumulate(base, base + 1e-12)
    assert acc.n_positive == 4
    assert acc.max_abs == pytest.approx(1e-12, rel=1e-3)


def test_magnitudes_below_float32_are_counted_in_the_lowest_bin():
    base = torch.zeros(3, dtype=torch.float64)
    acc = accumulate(base, torch.tensor([1e-60, 0.0, -1e-60], dtype=torch.float64))
    assert (acc.n_zero, acc.n_positive, acc.n_negative) == (1, 1, 1)
    bins, counts, sum_abs, sum_sq = acc.histogram_rows()
    assert (bins.tolist(), counts.tolist()) == ([-2017], [2])
    assert sum_abs[0] == pytest.approx(2e-60)
    assert sum_sq[0] == pytest.approx(2e-120)


def test_float32_subnormals_are_not_zero():
    smallest = torch.finfo(torch.float32).smallest_normal * 2.0**-23
    acc = accumulate(torch.zeros(2), torch.tensor([smallest, 0.0]))
    assert (acc.n_zero, acc.n_positive, acc.max_abs) == (1, 1, smallest)
    assert derived(acc)["abs_p99"] == smallest


@pytest.mark.parametrize(("index", "threshold"), list(enumerate(THRESHOLDS.values())))
def test_thresholds_count_what_equals_them_and_not_the_next_number(index, threshold):
    at = np.float32(threshold)
    values = np.array([at, -at, np.nextafter(at, np.float32(1))], np.float32)
    acc = accumulate(torch.zeros(3), torch.from_numpy(values))
    assert acc.n_within[index] == 2


def test_a_zero_delta_has_no_shape_but_a_size():
    base, _ = family(1000)
    acc = accumulate(base, base)
    found = derived(acc)
    nothing = {name for name, value in found.items() if value is None}
    assert nothing == {"sign_balance", "kurtosis", "cos_base", "bitdelta_error"} | {
        name for name in found if "mass" in name
    }
    assert all(found[name] == 0 for name in ("l2", "relative_l2", "rms", "max_abs", *QUANTILES))
    assert all(found[f"within_{name}"] == 1 for name in THRESHOLDS)
    assert found["zero_share"] == 1
    assert [len(column) for column in acc.histogram_rows()] == [0, 0, 0, 0]


@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0)])
def test_no_elements_have_no_statistics(shape):
    acc = accumulate(torch.zeros(shape), torch.zeros(shape))
    assert_identical(acc, Accumulators())
    known = {name: value for name, value in derived(acc).items() if value is not None}
    assert known == {"l2": 0, "max_abs": 0, "dare_variance": 0, "n_nonfinite": 0}
    assert acc.as_row()["min"] is None
    assert acc.as_row()["max"] is None


def test_only_bad_elements_count_as_no_elements():
    acc = accumulate(torch.zeros(7), torch.full((7,), math.nan))
    assert_identical(acc, Accumulators(n_nonfinite=7))
    assert derived(acc)["rms"] is None


def test_a_single_number_on_a_zero_base_has_no_relative_size():
    found = derived(accumulate(torch.tensor(0.0), torch.tensor(3.0)))
    assert (found["relative_l2"], found["cos_base"]) == (None, None)
    assert (found["l2"], found["mean"], found["abs_p50"], found["bitdelta_error"]) == (3, 3, 3, 0)


def test_the_cosine_of_parallel_tensors_is_never_above_one():
    bases = (family(50, seed)[0] for seed in range(50))
    cosines = [derived(accumulate(base, 2 * base))["cos_base"] for base in bases]
    assert all(1 - 1e-12 < cosine <= 1 for cosine in cosines)


def test_there_is_no_negative_zero():
    row = accumulate(torch.zeros(2), torch.tensor([-0.0, -0.0])).as_row()
    assert [math.copysign(1, row[name]) for name in ("min", "max", "max_abs")] == [1, 1, 1]


def test_kurtosis_is_taken_about_the_mean():
    rng = np.random.default_rng(1)
    d = rng.normal(0.5, 1, 20_000)
    acc = accumulate(torch.zeros(len(d), dtype=torch.float64), torch.from_numpy(d))
    centred = d - d.mean()
    expected = (centred**4).mean() / (centred**2).mean() ** 2
    assert derived(acc)["kurtosis"] == pytest.approx(expected, rel=1e-9)


def test_a_constant_delta_has_no_kurtosis_and_no_sign_error():
    found = derived(accumulate(torch.zeros(1000), torch.full((1000,), 0.1)))
    assert found["kurtosis"] is None
    assert found["bitdelta_error"] == pytest.approx(0, abs=1e-6)
    assert found["sign_balance"] == 1
    assert found["top20_mass_l2"] == pytest.approx(0.2)


def test_columns_of_one_name_hold_one_value():
    acc = accumulate(*family(1000))
    row, found = acc.as_row(), derived(acc)
    shared = row.keys() & found.keys()
    assert shared == {"max_abs", "min", "max", "n_nonfinite"}
    assert all(row[name] == found[name] for name in shared)


def test_columns_have_their_published_names():
    acc = accumulate(W0, W0 + DELTA_1)
    assert list(acc.as_row()) == ROW.split()
    assert list(derived(acc)) == DERIVED.split()


weights = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(hnp.arrays(np.float32, st.tuples(st.just(2), st.integers(0, 40)), elements=weights))
@settings(max_examples=100, deadline=None)
def test_statistics_of_any_bits_are_finite_and_within_their_bounds(pair):
    base, child = torch.from_numpy(pair)
    acc = accumulate(base, child)
    assert acc.n + acc.n_nonfinite == len(base)
    assert acc.n_zero + acc.n_positive + acc.n_negative == acc.n
    assert list(acc.n_within) == sorted(acc.n_within)
    assert acc.histogram_rows()[1].sum() == acc.n - acc.n_zero
    found = derived(acc)
    present = {name: value for name, value in found.items() if value is not None}
    assert all(math.isfinite(value) for value in present.values())
    assert all(
        0 <= value <= 1
        for name, value in present.items()
        if name.startswith(("within", "top", "zero", "bitdelta"))
    )
    assert all(0 <= present[name] <= acc.max_abs for name in QUANTILES if name in present)
    assert -1 <= present.get("sign_balance", 0) <= 1
    assert -1 <= present.get("cos_base", 0) <= 1
    assert present.get("kurtosis", 1) >= 1
    quantiles = [present[name] for name in QUANTILES if name in present]
    assert quantiles == sorted(quantiles)


def test_two_shapes_have_no_delta():
    with pytest.raises(ShapeMismatch, match=r"the base is \(2, 4\), the child \(4, 2\)"):
        accumulate(W0, W0.T)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_numbers_are_refused(dtype):
    child = torch.empty(4, dtype=dtype)
    with pytest.raises(UnsupportedDtype, match=r"the child's dtype is torch\.complex"):
        accumulate(torch.empty(4), child)
