"""Counts, extremes and power sums of what changed, block by block: kernels where there are some, else torch and numpy.

A δ is taken as the smallest number of its cell (`engine.histogram`) and what it has beyond that. The former are added up
from the counts of cells when all is read, the latter one by one over `engine.kernels.LANES` partial sums in each block:
for most elements of bfloat16 models there is nothing to add. The sums of the base are of the second kind.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engine import kernels
from engine.histogram import N_MOMENTS, Counter, Sums
from engine.kernels import Stored
from engine.lanes import laned
from engine.reader import Region
from engine.statistics_kernels import N_BASE, CompiledMoments, Found

THRESHOLDS = {
    "0002": 2e-4,
    "0005": 5e-4,
    "001": 1e-3,
    "002": 2e-3,
    "005": 5e-3,
    "01": 1e-2,
    "03": 3e-2,
}
"""Magnitudes whose shares are counted, by the ending of their column's name; DARE (arXiv:2311.03099) holds for
fine-tuned models within .002 to .005 and fails near .03. Each is rounded to the dtype of δ before comparing."""

BLOCK = 1 << 18
"""Elements of which sums are taken at once; they decide the order of summation."""

_BEYOND = 0xFFF  # bits of a float32 beyond its cell
_LARGEST = float(np.finfo(np.float32).max)
_TORCH = {np.float32: torch.float32, np.float64: torch.float64}

Floats = npt.NDArray[np.floating[Any]]


def moments_for(base: Stored, child: Stored) -> "CompiledMoments | TorchMoments":
    """What adds up tensors like these: `CompiledMoments` where there are kernels that take them."""
    if kernels.ready([base, child]):
        return CompiledMoments(tuple(THRESHOLDS.values()))
    return TorchMoments(wide=torch.float64 in (base.dtype, child.dtype))


class TorchMoments:
    """Adds up runs of elements, and tells with `found` what they come to."""

    def __init__(self, *, wide: bool) -> None:
        """Begin with nothing; δ is computed in float64 if ``wide``, else in float32."""
        self._dtype: type[np.float32 | np.float64] = np.float64 if wide else np.float32
        self._counter = Counter()
        self._n = self._n_nonfinite = self._n_positive = self._n_negative = 0
        self._n_within = [0] * len(THRESHOLDS)
        self._low, self._high, self._base_max = np.inf, -np.inf, 0.0
        self._base, self._beyond = [0.0] * N_BASE, [0.0] * N_MOMENTS

    def add(self, base: Stored, child: Stored) -> bool:
        """Add elements: both (n,), n a multiple of `BLOCK` but for the last.

        Returns:
            True; what cannot be read raises as `engine.reader.Reader.flat`.
        """
        with np.errstate(all="ignore"):  # NaN and infinity are expected here, and counted
            for start in range(0, len(base), BLOCK):
                stop = min(start + BLOCK, len(base))
                old, new = (
                    _piece(t, start, stop).to(_TORCH[self._dtype], copy=True).numpy()
                    for t in (base, child)
                )
                self._add(old, new - old + self._dtype(0))  # no negative zero
        return True

    def found(self) -> Found:
        """All that was added."""
        n_zero = self._n - self._n_positive - self._n_negative
        counts, moments = self._counter.pooled(n_zero + self._n_nonfinite)
        return Found(
            n=self._n, n_positive=self._n_positive, n_negative=self._n_negative,
            n_nonfinite=self._n_nonfinite, n_within=tuple(self._n_within),
            low=float(self._low), high=float(self._high), base_max_abs=self._base_max,
            base=tuple(self._base), beyond=tuple(self._beyond), counts=counts, moments=moments,
        )  # fmt: skip

    def _add(self, base: Floats, delta: Floats) -> None:
        """Add a block."""
        good = (np.abs(delta) <= _LARGEST) & (np.abs(base) <= _LARGEST)
        n_good = int(np.count_nonzero(good))
        self._n += n_good
        self._n_nonfinite += len(good) - n_good
        self._low = min(self._low, delta.min(initial=np.inf, where=good))
        self._high = max(self._high, delta.max(initial=-np.inf, where=good))
        delta[~good] = base[~good] = 0
        size = np.abs(delta)
        self._base_max = max(self._base_max, float(np.abs(base).max()))
        self._n_positive += int(np.count_nonzero(delta > 0))
        self._n_negative += int(np.count_nonzero(delta < 0))
        for i, threshold in enumerate(THRESHOLDS.values()):
            within = int(np.count_nonzero(size <= self._dtype(threshold)))
            self._n_within[i] += within - (len(good) - n_good)
        self._add_sums(base.astype(np.float64), delta)

    def _add_sums(self, base: Sums, delta: Floats) -> None:
        """Add a block of finite numbers to the sums."""
        cells = delta.astype(np.float32)
        bits = cells.view(np.uint32)
        least = (bits & ~np.uint32(_BEYOND)).view(np.float32).astype(np.float64)
        self._counter.add(cells, np.empty(len(cells), np.int32))
        wide = delta.astype(np.float64)
        self._base = _each_sum(self._base, base * base, base * wide, np.abs(base))
        if not np.array_equal(wide, least):
            own, other = _powers(wide), _powers(least)
            self._beyond = _each_sum(
                self._beyond, *(x - y for x, y in zip(own, other, strict=True))
            )


def _piece(stored: Stored, start: int, stop: int) -> torch.Tensor:
    """Entries [start, stop) in memory."""
    return stored.part(start, stop) if isinstance(stored, Region) else stored[start:stop]


def _powers(x: Sums) -> tuple[Sums, ...]:
    """x, x², x³, x⁴, |x|."""
    xx = x * x
    return x, xx, xx * x, xx * xx, np.abs(x)


def _each_sum(totals: list[float], *values: Sums) -> list[float]:
    """Totals with the sums of more values."""
    return [total + laned(some) for total, some in zip(totals, values, strict=True)]
