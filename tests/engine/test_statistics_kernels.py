"""The compiled statistics: the same bits as torch and numpy, whatever the tensors hold."""

import dataclasses
import math
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine import kernels
from engine.delta import Accumulation, accumulate
from engine.moments import BLOCK, THRESHOLDS, TorchMoments, moments_for
from engine.reader import Reader
from engine.statistics_kernels import N_THRESHOLDS, CompiledMoments
from registry.errors import FileChanged
from registry.header import read_header

BOTH = [torch.bfloat16, torch.float32]
SIZES = [0, 1, 15, 16, 17, 1023, 1024, 1025, 5000, BLOCK + 3001]


def pair(n, *, base=torch.bfloat16, child=torch.bfloat16, scale=1e-3, seed=0):
    """A base and a child, a third of it unchanged, some of it from or to zero of either sign."""
    generator = torch.Generator().manual_seed(seed)
    old = (torch.randn(n, generator=generator) * 0.02).to(base)
    delta = torch.randn(n, generator=generator) ** 3 * scale
    new = torch.where(torch.arange(n) % 3 == 0, old.float(), old.float() + delta).to(child)
    old[5::101], new[5::101] = 0.0, -0.0
    new[7::103] = 0
    old[8::107] = -0.0
    return old, new


def same(x, y) -> bool:
    """Equal numbers, to the last bit and the sign of zero."""
    x, y = (np.atleast_1d(np.asarray(value)) for value in (x, y))
    return x.dtype == y.dtype and x.tobytes() == y.tobytes()


def assert_alike(old, new, pieces=(slice(None),)):
    """What is found by kernels, where there are some, is what is found without."""
    one, other = moments_for(old, new), TorchMoments(wide=False)
    assert isinstance(one, CompiledMoments) == kernels.ready([old, new])
    for moments in (one, other):
        for piece in pieces:
            moments.add(old[piece], new[piece])
    ours, theirs = one.found(), other.found()
    for field in dataclasses.fields(ours):
        assert same(getattr(ours, field.name), getattr(theirs, field.name)), field.name


@pytest.mark.parametrize("child", [torch.bfloat16, torch.float32, torch.float16])
def test_tensors_in_files_are_as_those_in_memory(child, tmp_path):
    n = BLOCK + 50_001
    old, new = pair(n, child=child)
    file = tmp_path / "model.safetensors"
    save_file({"new": new, "old": old}, file)
    refs = {ref.name: ref for ref in read_header(file).tensors}
    with Reader() as reader:
        for start, stop in ((0, n), (BLOCK, n), (7, 7), (5, 3005)):
            there, here = Accumulation(), Accumulation()
            there.add(*(reader.region(refs[name], start, stop) for name in ("old", "new")))
            here.add(old[start:stop], new[start:stop])
            one, other = there.total(), here.total()
            assert one.as_row() == other.as_row()
            assert all(map(same, one.histogram_rows(), other.histogram_rows()))
    os.truncate(file, file.stat().st_size - 1)
    with Reader() as reader, pytest.raises(FileChanged, match="ends inside tensor"):
        Accumulation().add(*(reader.region(refs[name], 0, n) for name in ("old", "new")))


def test_counters_that_are_used_again_begin_with_zeros():
    kinds = (pair(BLOCK + 9, scale=1e-3), pair(5000, child=torch.float32, scale=1e30), pair(99))
    first = [accumulate(*kind) for kind in kinds]
    again = [accumulate(*kind) for kind in kinds[::-1]][::-1]
    for one, other in zip(first, again, strict=True):
        assert one.as_row() == other.as_row()
        assert all(map(same, one.histogram_rows(), other.histogram_rows()))


def test_the_kernel_counts_by_as_many_thresholds_as_there_are():
    assert len(THRESHOLDS) == N_THRESHOLDS


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("base", BOTH)
@pytest.mark.parametrize("child", BOTH)
def test_all_lengths_and_dtypes_are_alike(n, base, child):
    assert_alike(*pair(n, base=base, child=child))


@pytest.mark.parametrize("scale", [1e-40, 1e-9, 1e-5, 3e-2, 1e3, 1e30])
def test_all_magnitudes_are_alike(scale):
    assert_alike(*pair(9000, child=torch.float32, scale=scale))


def test_pieces_of_whole_blocks_are_alike():
    old, new = pair(2 * BLOCK + 77)
    cuts = (slice(0, BLOCK), slice(BLOCK, 2 * BLOCK), slice(2 * BLOCK, None))
    assert_alike(old, new, cuts)
    assert_alike(old, new)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("step", [0.1, 0.25, 2.0**-130])
@pytest.mark.parametrize("n_zero", [0, 1, 2000])
def test_deltas_of_one_sign_are_alike(sign, step, n_zero):
    old = torch.zeros(5000)
    new = torch.full((5000,), sign * step)
    new[1000:] *= torch.linspace(1, 3, 4000)
    new[:n_zero] = 0
    assert_alike(old, new)
    found = accumulate(old, new)
    assert (found.min, found.max) == (float(new.min()), float(new.max()))


@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("bad", [math.nan, -math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_left_out_alike(bad, dtype):
    old, new = pair(5000, base=dtype, child=dtype)
    new[[3, 1500, 4999]] = bad
    old[[4, 1500, 2500]] = bad
    assert_alike(old, new)
    assert_alike(torch.full_like(old, bad), new)
    old[:] = 1
    new[::2], new[1::2] = 2, bad
    assert_alike(old, new)


def test_a_delta_that_overflows_is_left_out_alike():
    largest = torch.finfo(torch.float32).max
    assert_alike(torch.tensor([-largest, 1.0, largest]), torch.tensor([largest, 3.0, 0.0]))


def test_thresholds_are_compared_to_the_last_bit_alike():
    at = np.array(list(THRESHOLDS.values()), np.float32)
    below, above = np.nextafter(at, np.float32(0)), np.nextafter(at, np.float32(1))
    cell = (at.view(np.uint32) & ~np.uint32(0xFFF)).view(np.float32)
    values = torch.from_numpy(np.concatenate([at, below, above, cell, -at, -above]))
    assert_alike(torch.zeros_like(values), values)


def test_units_add_up_alike_whatever_the_kernels(monkeypatch):
    old, new = pair(BLOCK + 5000)
    first = accumulate(old, new)
    monkeypatch.setattr(kernels, "library", lambda: None)
    second = accumulate(old, new)
    assert first.as_row() == second.as_row()
    for one, other in zip(first.histogram_rows(), second.histogram_rows(), strict=True):
        assert same(one, other)
