"""Spectra of deltas and intruder dimensions."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import spectral
from engine.delta import accumulate
from engine.spectral import Spectrum, intruder_similarity, spectrum
from registry.errors import ShapeMismatch

W0 = torch.tensor([[4.0, -4, 8, 0], [2, 6, -8, 16]])
DELTA_1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
DELTA_2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])


@pytest.fixture(autouse=True)
def one_thread():
    """Small matrices are solved faster by one thread than by threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def low_rank(rows, columns, singular_values, seed=0):
    """A matrix with exactly these singular values."""
    rank = len(singular_values)
    left = torch.linalg.qr(noise(rows, rank, seed=seed)).Q
    right = torch.linalg.qr(noise(columns, rank, seed=seed + 1)).Q
    return left * torch.tensor(singular_values, dtype=torch.float64) @ right.T


def of(delta, **options) -> Spectrum:
    found = spectrum(torch.zeros_like(delta), delta, **options)
    assert found is not None
    return found


def too_small(matrix) -> int:
    """Working memory that does not allow the full spectrum."""
    return 24 * min(matrix.shape) ** 2 - 1


def reference(delta) -> dict[str, float]:
    """From the definitions and NumPy's singular values."""
    s = np.linalg.svd(delta.numpy().reshape(delta.shape[0], -1), compute_uv=False)
    energy, share = s**2, s[s > 0] / s.sum()
    left = 1 - np.cumsum(energy) / energy.sum()
    return {
        "sigma_max": s[0],
        "frobenius": math.sqrt(energy.sum()),
        "stable_rank": energy.sum() / energy[0],
        "effective_rank": math.exp(-(share * np.log(share)).sum()),
        "participation_ratio": energy.sum() ** 2 / (energy**2).sum(),
        "energy_rank": int(np.argmax(left <= 0.0025)) + 1,
        "numerical_rank": int((s > 1e-5 * s[0]).sum()),
        "top4_energy": energy[:4].sum() / energy.sum(),
    }


def assert_agrees(found, expected, tolerance=1e-9):
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, rel=tolerance), name


@pytest.mark.parametrize(
    ("delta", "sigma", "stable", "effective", "participation"),
    [
        (DELTA_1, 13.990104, 1.042289, 1.578990, 1.084428),
        (DELTA_2, 11.277657, 1.108617, 1.750657, 1.214700),
    ],
)
def test_deltas_of_the_fixture_have_the_published_spectra(
    delta, sigma, stable, effective, participation
):
    for base, child in ((W0, W0 + delta), (W0.T, (W0 + delta).T)):
        found = spectrum(base, child)
        assert found is not None
        assert found.sigma_max == pytest.approx(sigma, abs=1e-6)
        assert found.stable_rank == pytest.approx(stable, abs=1e-6)
        assert found.effective_rank == pytest.approx(effective, abs=1e-6)
        assert found.participation_ratio == pytest.approx(participation, abs=1e-6)
        assert (found.energy_rank, found.numerical_rank, found.top4_energy) == (2, 2, 1)
        assert (found.method, found.n_components) == ("full", 2)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.floats(0, 3))
@settings(max_examples=60, deadline=None)
def test_the_full_spectrum_agrees_with_a_decomposition(seed, rows, columns, decay):
    delta = noise(rows, columns, seed=seed) * torch.exp(-decay * torch.arange(columns))
    expected = reference(delta)
    assert_agrees(of(delta), {k: v for k, v in expected.items() if k != "effective_rank"}, 1e-7)
    assert of(delta).effective_rank == pytest.approx(expected["effective_rank"], rel=1e-5)


@pytest.mark.parametrize("shape", [(40, 300), (300, 40), (64, 64)])
def test_a_low_rank_delta_shows_its_rank(shape):
    values = [5.0, 3.0, 1.0, 0.5, 0.01]
    found = of(low_rank(*shape, values))
    assert found.numerical_rank == 5
    assert found.sigma_max == pytest.approx(5)
    assert_agrees(found, reference(low_rank(*shape, values)), 1e-5)


@pytest.mark.parametrize("shape", [(60, 300), (300, 60)])
def test_the_sketch_of_a_low_rank_delta_knows_everything(shape):
    delta = low_rank(*shape, [5.0, 3.0, 1.0, 0.5, 0.01])
    found, full = of(delta, max_bytes=too_small(delta)), of(delta)
    assert (found.method, full.method) == ("randomised", "full")
    assert found.intruder_count is None
    names = [f.name for f in dataclasses.fields(Spectrum)][:8]
    assert_agrees(found, {name: getattr(full, name) for name in names}, 1e-6)


def test_the_sketch_of_a_wide_spectrum_admits_what_it_missed():
    delta = noise(100, 130)
    found, full = of(delta, max_bytes=too_small(delta), top_k=8), of(delta)
    assert found.n_components == 40
    assert (found.effective_rank, found.energy_rank, found.numerical_rank) == (None, None, None)
    assert found.frobenius == pytest.approx(full.frobenius, rel=1e-12)
    assert found.participation_ratio == pytest.approx(full.participation_ratio, rel=1e-5)
    assert full.sigma_max * 0.98 <= found.sigma_max <= full.sigma_max * (1 + 1e-12)


def test_the_sketch_of_a_falling_spectrum_proves_its_energy_rank():
    delta = low_rank(100, 130, [2.0**-j for j in range(60)])
    found = of(delta, max_bytes=too_small(delta), top_k=8)
    assert found.energy_rank == reference(delta)["energy_rank"] == 5


def test_the_sketch_admits_even_a_faint_rest_that_it_missed():
    delta = low_rank(100, 130, [1.0, 0.9, 0.8] + [1e-4] * 60)
    found = of(delta, max_bytes=too_small(delta), top_k=2)
    assert (found.effective_rank, found.numerical_rank) == (None, None)
    assert found.energy_rank == reference(delta)["energy_rank"] == 3


def test_an_energy_rank_that_the_unknown_rest_could_lower_is_not_claimed():
    proven, open_ = ([0.99, 0.008], [0.996, 0.002])  # of 1; the rest of 0.002 is not known
    assert spectral._energy_rank(torch.tensor(proven), 1.0) == 2
    assert spectral._energy_rank(torch.tensor(open_), 1.0) is None


def test_a_matrix_above_the_limit_is_sketched():
    delta = low_rank(2049, 2050, [3.0, 2.0, 1.0]).to(torch.float32)
    found = of(delta, top_k=2)
    assert (found.method, found.n_components) == ("randomised", 10)
    assert found.participation_ratio == pytest.approx(14**2 / (81 + 16 + 1), rel=1e-5)
    assert (found.sigma_max, found.energy_rank) == (pytest.approx(3, rel=1e-5), 3)


def test_memory_bounds_change_slabs_and_not_results():
    delta = noise(30, 500)
    small, large = of(delta, max_bytes=24 * 30 * 30), of(delta)
    assert small.method == large.method == "full"
    names = ("sigma_max", "frobenius", "effective_rank", "participation_ratio")
    assert_agrees(small, {name: getattr(large, name) for name in names}, 1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(-60, 60))
@settings(max_examples=20, deadline=None)
def test_scaling_a_delta_changes_only_its_size(seed, power):
    delta = noise(7, 9, seed=seed)
    found, scaled = of(delta), of(delta * 2.0**power)
    assert scaled.sigma_max == pytest.approx(found.sigma_max * 2.0**power, rel=1e-12)
    for name in ("stable_rank", "effective_rank", "participation_ratio", "top4_energy"):
        assert getattr(scaled, name) == pytest.approx(getattr(found, name), rel=1e-9), name
    assert (scaled.energy_rank, scaled.numerical_rank) == (found.energy_rank, found.numerical_rank)


def test_ranks_are_ordered():
    found = of(noise(50, 80))
    assert 1 <= found.stable_rank <= found.participation_ratio <= found.effective_rank
    assert found.effective_rank <= found.numerical_rank == 50


@pytest.mark.parametrize("method", ["full", "randomised"])
def test_the_same_input_gives_the_same_spectrum(method):
    base, delta = noise(40, 50, seed=1), noise(40, 50, seed=2)
    max_bytes = too_small(delta) if method == "randomised" else 1 << 24
    first, second = (spectrum(base, base + delta, max_bytes=max_bytes) for _ in range(2))
    assert first == second
    assert first is not None
    assert first.method == method


def test_convolutions_are_read_as_matrices():
    delta = noise(6, 4, 3, 3)
    assert of(delta) == of(delta.reshape(6, 36))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.int8])
def test_every_dtype_has_the_norm_of_its_accumulators(dtype):
    base, child = ((noise(20, 30, seed=seed) * 20).to(dtype) for seed in (1, 2))
    found = spectrum(base, child)
    assert found is not None
    norm = math.sqrt(accumulate(base, child).sum_sq)
    assert found.frobenius == pytest.approx(norm, rel=1e-6)


@pytest.mark.parametrize(
    "delta",
    [
        torch.ones(5),
        torch.tensor(3.0),
        torch.zeros(3, 4),
        torch.zeros(0, 4),
        torch.tensor([[1.0, math.nan], [0, 0]]),
        torch.tensor([[1.0, math.inf], [0, 0]]),
    ],
)
def test_what_is_no_matrix_or_has_no_finite_delta_has_no_spectrum(delta):
    assert spectrum(torch.zeros_like(delta), delta) is None


def test_two_shapes_have_no_spectrum():
    with pytest.raises(ShapeMismatch):
        spectrum(W0, W0.T)


def test_inputs_are_left_as_they_were():
    base, child = noise(5, 6), noise(5, 6, seed=1)
    copies = base.clone(), child.clone()
    spectrum(base, child)
    assert torch.equal(base, copies[0])
    assert torch.equal(child, copies[1])


def test_a_strong_rank_one_update_of_six_directions_is_one_intruder():
    base = torch.diag(torch.arange(6.0, 0, -1))
    u = torch.full((6,), 1 / math.sqrt(6))
    child = base + 50 * torch.outer(u, u)
    similarity = intruder_similarity(base, child)
    assert similarity is not None
    expected = [0.42896, 0.85809, 0.73961, 0.67608, 0.76878, 0.87678]
    assert similarity.tolist() == pytest.approx(expected, abs=1e-5)
    found = spectrum(base, child)
    assert found is not None
    assert found.intruder_count == 1


def test_a_weaker_update_of_four_directions_is_an_intruder_only_at_a_higher_limit():
    base = torch.diag(torch.arange(4.0, 0, -1))
    u = torch.full((4,), 0.5)
    similarity = intruder_similarity(base, base + 10 * torch.outer(u, u), k=4)
    assert similarity is not None
    assert int((similarity < 0.5).sum()) == 0
    assert int((similarity < 0.6).sum()) == 1


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (16, 16)])
def test_similarities_agree_with_two_decompositions(shape):
    base, child = noise(*shape), noise(*shape) + low_rank(*shape, [30.0, 20.0], seed=5)
    left0 = torch.linalg.svd(base, full_matrices=False).U
    left = torch.linalg.svd(child, full_matrices=False).U
    expected = (left[:, :10].T @ left0).abs().amax(1)
    found = intruder_similarity(base, child)
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_an_update_outside_the_span_of_the_base_is_an_intruder():
    base = torch.zeros(8, 2)
    base[0, 0], base[1, 1] = 2.0, 1.0
    child = base.clone()
    child[5] = torch.tensor([9.0, 0.0])
    found = spectrum(base, child)
    assert found is not None
    assert found.intruder_count == 1


def test_an_unchanged_direction_is_no_intruder():
    base = noise(20, 30)
    found = spectrum(base, base * 1.5)
    assert found is not None
    assert found.intruder_count == 0


def test_vectors_of_zero_singular_values_are_not_compared():
    base = noise(10, 14)
    similarity = intruder_similarity(base, low_rank(10, 14, [2.0, 1.0]))
    assert similarity is not None
    assert len(similarity) == 2


def test_a_zero_base_has_no_directions_to_compare_with():
    assert intruder_similarity(torch.zeros(3, 4), torch.ones(3, 4)) is None
    assert of(torch.ones(3, 4)).intruder_count is None
