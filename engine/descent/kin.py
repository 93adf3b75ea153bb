"""Kin: which models of a bucket share a past, judged against what chance gives.

Independent models agree in nothing: the cosine of their weights is that of shuffled coordinates. Its spread follows
from the weights themselves, patch by patch, so that no constant stands for it: under shuffling within patches the
inner product has mean 0 and variance Σ_t |a_t|² |b_t|² / s_t.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.descent.bucket import Bucket, Floats

Z = 7.0
"""How many standard deviations of chance a cosine must have; 1,000 models make 500,000 pairs."""

LEAST = 0.05
"""A cosine below this is no kinship however certain it is: models of one recipe share that much."""


@dataclass(frozen=True)
class Likeness:
    """How alike models are, of each pair: (n, n).

    Attributes:
        cosines: of whole matrices, each patch less its mean.
        spread: their standard deviation under chance.
        aligned: share of the entries that are in matrices which agree more than chance. A network some of whose units
            changed places agrees with itself in some matrices and not at all in others.
    """

    cosines: Floats
    spread: Floats
    aligned: Floats


def likeness(bucket: Bucket) -> Likeness:
    """Compare every model of a bucket with every other."""
    n = len(bucket)
    dots, chance, agree, total = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n)), 0.0
    for span in bucket.matrices():
        part = bucket.values[:, span.slice].astype(np.float64)
        part -= part.mean(1, keepdims=True)
        sizes, weight, n_each = np.square(part).sum(1), span.patch.share, part.shape[1]
        norms = np.sqrt(sizes)
        units = (part / np.maximum(norms, _TINY)[:, None]).astype(np.float32)
        cosine = units @ units.T  # of units half the digits are enough, and half the time
        dots += np.outer(weight * norms, norms) * cosine
        chance += np.outer(weight**2 * sizes, sizes) / max(1, n_each)
        agree += weight * n_each * (cosine > LEAST + _LIKELY / np.sqrt(max(1, n_each)))
        total += weight * n_each
    norms = np.sqrt(np.diag(dots))
    scale = np.outer(norms, norms)
    with np.errstate(invalid="ignore", divide="ignore"):
        found, spread = dots / scale, np.sqrt(chance) / scale
    spread = np.nan_to_num(spread, nan=1.0)
    return Likeness(np.nan_to_num(found), spread, agree / max(1.0, total))


_TINY = 1e-150  # below any length of float32 numbers; its square is not 0
_LIKELY = 3.0
_MOSTLY = 0.7


def components(bucket: Bucket) -> list[list[int]]:
    """Groups of models that hang together by kinship in one basis, each in order, the group of the first model first."""
    found = likeness(bucket)
    related: NDArray[np.bool_] = found.cosines > np.maximum(LEAST, Z * found.spread)
    related &= found.aligned > _MOSTLY
    left, groups = set(range(len(bucket))), []
    while left:
        group, edge = set(), {min(left)}
        while edge:
            group |= edge
            near = np.flatnonzero(related[sorted(edge)].any(0)).tolist()
            edge = set(near) - group
        groups.append(sorted(group))
        left -= group
    return groups
