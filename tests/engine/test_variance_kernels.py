"""The kernel of variances: entries in memory, in files and less a base, and what is not finite."""

import numpy as np
import pytest
import torch

from engine import kernels, variance_kernels
from engine.reader import Reader
from registry.header import TensorRef

LONG = 70_001


def random(seed):
    return torch.randn(LONG, generator=torch.Generator().manual_seed(seed)).bfloat16()


def varied(stored, base):
    """Variances, and who is not finite; None where there are no kernels."""
    out = torch.full((LONG,), torch.nan)
    given = stored if base is None else [*stored, base]
    return (out, variance_kernels.variance(stored, base, out)) if kernels.ready(given) else None


@pytest.mark.parametrize("base", [None, random(9), random(9).float() + 1e-3])
def test_variances_are_those_of_float64(base):
    stored = [random(0), random(1), random(2).float() * 1.1]
    found = varied(stored, base)
    if found is not None:
        less = torch.zeros(LONG) if base is None else base.float()
        expected = np.var([(s.float() - less).double().numpy() for s in stored], axis=0)
        assert found[1] == -1
        np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-7)


def test_entries_in_files_vary_as_those_in_memory(tmp_path):
    stored, base = [random(0), random(1)], random(2)
    regions = []
    with Reader() as reader:
        for i, values in enumerate([*stored, base]):
            file = tmp_path / f"{i}.bin"
            file.write_bytes(b"0123456" + values.view(torch.uint8).numpy().tobytes())
            ref = TensorRef("w", "BF16", (LONG,), file, 7, 2 * LONG)
            regions.append(reader.region(ref, 0, LONG))
        found, expected = varied([regions[0], stored[1]], regions[2]), varied(stored, base)
        if found is not None and expected is not None:
            assert torch.equal(found[0], expected[0])
        (tmp_path / "0.bin").write_bytes(b"")
        if found is not None:
            assert varied(regions[:2], base)[1] == kernels.UNREADABLE


@pytest.mark.parametrize("place", [0, 1, 2])
def test_it_is_told_who_is_not_finite(place):
    given = [random(i) for i in range(3)]
    given[place][LONG - 1] = torch.inf
    found = varied(given[:2], given[2])
    if found is not None:
        assert found[1] == place
