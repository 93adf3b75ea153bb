"""Levels: a tensor's entries in order of magnitude, cut into blocks of equal count, and the mean of each block.

Found slice by slice: the bits of magnitudes are counted, which gives the magnitude that each block begins with, and
then the magnitudes within the blocks are summed.
"""

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from engine.count_kernels import Counts
from engine.kernels import Floats
from engine.magnitude import block_sums
from engine.method import Look, Seen
from engine.ops import blocks
from engine.selected import half_counts
from engine.selection import found_at, summed
from engine.slices import shape_of

_TABLES = 16  # counts of lower halves that are held at once, 512 KiB each

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Levels:
    """M blocks of equal count: the j-th ends at rank (j+1) d // M; of equal entries the first comes first.

    Attributes:
        means: mean magnitude of each block, (M,) float64; 0 of a block without entries.
        begins: magnitude that each block but the first begins with, (M - 1,) float32, ascending.
        left: how many entries of that magnitude belong to earlier blocks, (M - 1,).
        starts: first element of each slice, (slices,).
        ties: how many entries each slice has of each of those magnitudes, of equal ones at the first, (slices, M - 1).
    """

    means: Floats
    begins: NDArray[np.float32]
    left: Places
    starts: Places
    ties: Places

    def of(self, values: torch.Tensor, start: int) -> torch.Tensor:
        """The mean magnitude of the block that each entry belongs to: (d,) float32.

        Args:
            values: (d,) float32, a slice that was looked at, or the whole tensor.
            start: flat index of the first.
        """
        means = torch.from_numpy(self.means).float()
        if len(means) == 1:
            return means.expand(len(values)).clone()
        seen = self.ties[self.starts < start].sum(0)  # of equal entries, before those at hand
        found = torch.empty_like(values)
        for block in blocks(values):
            place, tied = _placed(values[block], self.begins)
            equal, begun = np.flatnonzero(tied), place[tied]
            for j in np.unique(begun):
                entries = equal[begun == j]
                last = int(np.searchsorted(self.begins, self.begins[j], side="right"))
                order = seen[j] + np.arange(len(entries))
                place[entries] = j + np.searchsorted(self.left[j:last], order, side="right")
                seen[j] += len(entries)
            found[block] = means[torch.from_numpy(place)]
        return found


def levels(look: Look, n_blocks: int) -> Levels:
    """Cut the entries of one model's tensor into blocks and average them.

    Args:
        look: at all slices of a tensor.
        n_blocks: how many, M.
    """
    if n_blocks == 1:
        found = [made for _, made in look(_sums)]
        total = math.fsum(part for _, sums in found for part in sums)
        return _without_ties(np.array([total / max(1, sum(size for size, _ in found))]))
    begins, left, counts, size = _begun(look, n_blocks)
    if not size:
        return _without_ties(np.zeros(n_blocks))
    starts, ties, sums = array("q"), array("q"), np.zeros(n_blocks)
    for _, (start, tied, parts) in look(lambda seen: _within(seen, begins)):
        starts.append(start)
        ties.frombytes(tied.tobytes())
        for part in parts:
            sums += part
    _add_ties(sums, begins, left, counts)
    sizes = np.diff([j * size // n_blocks for j in range(n_blocks + 1)])
    by_slice = np.array(ties, np.int64).reshape(len(starts), n_blocks - 1)
    return Levels(sums / np.maximum(1, sizes), begins, left, np.array(starts, np.int64), by_slice)


def _without_ties(means: Floats) -> Levels:
    """Levels of one block, or of a tensor without entries."""
    begins, none = np.zeros(len(means) - 1, np.float32), np.zeros(0, np.int64)
    return Levels(means, begins, begins.astype(np.int64), none, none.reshape(0, len(begins)))


def _sums(seen: Seen) -> tuple[int, list[float]]:
    """Entries of a slice, and Σ |x| of its blocks."""
    return shape_of(seen.models).numel(), block_sums(seen.models[0])


def _begun(look: Look, n_blocks: int) -> tuple[NDArray[np.float32], Places, Places, int]:
    """What the blocks begin with: `Levels.begins`, `Levels.left`, how many entries are equal to each; and all entries."""
    upper = summed(look, lambda seen: [half_counts(seen, 0, None)])
    total = upper[0] if upper else np.zeros(1, np.int64)
    size = int(total.sum())
    begins, left, counts = (np.zeros(n_blocks - 1, np.int64) for _ in range(3))
    if not size:
        return begins.astype(np.float32), left, counts, 0
    places = np.arange(1, n_blocks, dtype=np.int64) * size // n_blocks
    halves, rests = found_at(total, places)
    wanted = np.unique(halves).tolist()
    for first in range(0, len(wanted), _TABLES):
        some = wanted[first : first + _TABLES]
        for half, table in zip(some, _lower(look, some), strict=True):
            here = halves == half
            lower, left[here] = found_at(table, rests[here])
            begins[here], counts[here] = (half << 16) | lower, table[lower]
    return begins.astype(np.uint32).view(np.float32), left, counts, size


def _lower(look: Look, halves: list[int]) -> list[Counts]:
    """How often each lower half occurs with each of some upper ones."""
    return summed(look, lambda seen: [half_counts(seen, 0, half) for half in halves])


def _within(seen: Seen, begins: NDArray[np.float32]) -> tuple[int, Places, list[Floats]]:
    """First element of a slice, entries that equal what a block begins with, and Σ |x| of the others by block."""
    n = len(begins) + 1
    ties, parts = np.zeros(n - 1, np.int64), []
    for values, (place, tied) in _all_placed(seen, begins):
        ties += np.bincount(place[tied], minlength=n - 1)
        sizes = np.where(tied, 0.0, values.abs().double().numpy())
        parts.append(np.bincount(place, weights=sizes, minlength=n).astype(np.float64))
    return seen.start, ties, parts


def _all_placed(
    seen: Seen, begins: NDArray[np.float32]
) -> Iterator[tuple[torch.Tensor, tuple[Places, NDArray[np.bool_]]]]:
    """The blocks of a slice, and where their entries belong."""
    flat = seen.models[0].reshape(-1)
    for block in blocks(flat):
        yield flat[block], _placed(flat[block], begins)


def _placed(values: torch.Tensor, begins: NDArray[np.float32]) -> tuple[Places, NDArray[np.bool_]]:
    """How many blocks begin below each entry, and whether one, the next, begins with it."""
    sizes = values.abs().numpy()
    place = np.searchsorted(begins, sizes, side="left").astype(np.int64)
    return place, np.append(begins, np.float32(np.nan))[place] == sizes


def _add_ties(sums: Floats, begins: NDArray[np.float32], left: Places, counts: Places) -> None:
    """Add to each block's sum the entries that equal what a block begins with, as many as belong to it."""
    for j in range(len(begins)):
        if j and begins[j] == begins[j - 1]:
            continue
        last = int(np.searchsorted(begins, begins[j], side="right"))
        ends = [0, *left[j:last].tolist(), int(counts[j])]
        for block, (a, b) in enumerate(pairwise(ends), j):
            sums[block] += (b - a) * float(begins[j])
