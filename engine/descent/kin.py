"""Kin: which models of a bucket share a past, judged against what chance gives.

Independent models agree in nothing: the cosine of their weights is that of shuffled coordinates. Its spread follows
from the weights themselves, patch by patch, so that no constant stands for it: under shuffling within patches the
inner product has mean 0 and variance Σ_t |a_t|² |b_t|² / s_t.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.descent.bucket import Bucket
from engine.descent.pile import Floats, Singles

Z = 7.0
"""How many standard deviations of chance a cosine must have; 1,000 models make 500,000 pairs."""

LEAST = 0.05
"""A cosine below this is no kinship however certain it is: models of one recipe share that much."""

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Likeness:
    """What tells how alike n models are, in m matrices.

    Attributes:
        units: each model's entries of whole matrices, each patch less its mean, of length 1 altogether: (n, s).
        lengths: of each of its patches among these: (n, m).
        starts: of each patch among the s: (m,).
        counts: its scalars: (m,).
        weights: entries of whole matrices that it stands for: (m,).
    """

    units: Singles
    lengths: Floats
    starts: Places
    counts: Places
    weights: Floats

    def cosines(self, some: Places) -> Floats:
        """Of some models with all: (k, n); 0 for those that say nothing."""
        # of units half the digits are enough, and half the time
        return (self.units[some] @ self.units.T).astype(np.float64)

    def spread(self, some: Places) -> Floats:
        """The standard deviation of these cosines under chance; 1 for those that say nothing: (k, n)."""
        sizes = np.square(self.lengths) / np.sqrt(self.counts)
        found: Floats = np.sqrt(sizes[some] @ sizes.T)
        silent = np.flatnonzero(~self.lengths.any(1))
        found[:, silent] = 1.0
        found[np.isin(some, silent)] = 1.0
        return found

    def aligned(self, one: int, others: Places) -> Floats:
        """Share of the entries that are in matrices which agree more than chance: (l,).

        A network some of whose units changed places agrees with itself in some matrices and not at all in others.
        """
        found = np.zeros(len(others))
        least = LEAST + _LIKELY / np.sqrt(self.counts)
        for at in range(0, len(others) if len(self.starts) else 0, _BLOCK):
            few = others[at : at + _BLOCK]
            dots = np.add.reduceat(self.units[few] * self.units[one], self.starts, axis=1)
            agree = dots > least * self.lengths[few] * self.lengths[one]
            found[at : at + _BLOCK] = agree @ self.weights
        return found / max(1.0, float(self.weights.sum()))

    def kin(self, some: Places, left: NDArray[np.bool_]) -> Places:
        """Which of those that are left, (n,), are kin of any of some models."""
        found = np.zeros_like(left)
        near = self.cosines(some) > np.maximum(LEAST, Z * self.spread(some))
        for one, row in zip(some.tolist(), near & left, strict=True):
            others = np.flatnonzero(row & ~found)
            found[others] = self.aligned(one, others) > _MOSTLY
        return np.flatnonzero(found)


_LIKELY = 3.0
_MOSTLY = 0.7
_BLOCK = 64
_TINY = 1e-150  # below any length of float32 numbers; its square is not 0


def likeness(bucket: Bucket) -> Likeness:
    """What tells how alike the models of a bucket are."""
    spans = [span for span in bucket.matrices() if span.stop > span.start]
    counts = np.array([span.stop - span.start for span in spans], dtype=np.int64)
    starts = np.cumsum(counts) - counts
    shares = np.array([span.patch.share for span in spans])
    units = np.empty((len(bucket), int(counts.sum())), np.float32)
    lengths = np.zeros((len(bucket), len(spans)))
    for i, (span, at, count) in enumerate(zip(spans, starts, counts, strict=True)):
        part = bucket.values[:, span.slice].astype(np.float64)
        part -= part.mean(1, keepdims=True)
        norms = np.sqrt(np.square(part).sum(1))
        units[:, at : at + count] = part / np.maximum(norms, _TINY)[:, None]
        lengths[:, i] = norms * np.sqrt(shares[i])
    lengths /= np.maximum(np.sqrt(np.square(lengths).sum(1, keepdims=True)), _TINY)
    units *= np.repeat(lengths, counts, axis=1).astype(np.float32)
    return Likeness(units, lengths, starts, counts, shares * counts)


def may_be_kin(bucket: Bucket, some: Places) -> NDArray[np.bool_]:
    """Which models may be kin of any of some, by few of their matrices: (n,); all that are kin are among them.

    The matrices in which kin agree make more than `_MOSTLY` of all entries. So of some matrices that make the share w
    of all entries, those in which they agree make more than w - (1 - `_MOSTLY`).
    """
    spans = [span for span in bucket.matrices() if span.stop > span.start]
    weights = np.array([span.patch.share * (span.stop - span.start) for span in spans])
    found, total = np.zeros(len(bucket), bool), float(weights.sum())
    order = sorted(range(len(spans)), key=lambda i: -spans[i].patch.share)
    agreed, seen = np.zeros((len(some), len(bucket))), 0.0
    for i in order:
        part = bucket.values[:, spans[i].slice].astype(np.float64)
        part -= part.mean(1, keepdims=True)
        part /= np.maximum(np.sqrt(np.square(part).sum(1, keepdims=True)), _TINY)
        least = LEAST + _LIKELY / np.sqrt(part.shape[1]) - _SINGLE_ERROR
        agreed += weights[i] * (part[some] @ part.T > least)
        seen += weights[i]
        if seen > _ENOUGH * total:
            break
    found[:] = (agreed > (seen - (1 - _MOSTLY + _ROUNDING) * total)).any(0)
    return found


_ENOUGH = 0.6  # of all entries, that strangers are told by
_SINGLE_ERROR = 1e-3  # of a cosine that is summed in float32, at most
_ROUNDING = 1e-9


def components(bucket: Bucket, seeds: Iterable[int] | None = None) -> list[list[int]]:
    """Groups of models that hang together by kinship in one basis, each in order, the group of the first model first.

    Args:
        bucket: all models.
        seeds: those whose groups are asked for, in order; None: all.
    """
    found = likeness(bucket)
    left, groups = np.ones(len(bucket), bool), []
    for seed in range(len(bucket)) if seeds is None else seeds:
        if not left[seed]:
            continue
        group, edge = list[int](), np.array([seed])
        while len(edge):
            left[edge] = False
            group += edge.tolist()
            edge = found.kin(edge, left)
        groups.append(sorted(group))
    return groups
