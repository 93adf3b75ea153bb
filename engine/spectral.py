"""Singular values of a delta: how many directions post-training used.

Everything here goes through Gram matrices of the shorter side, accumulated in float64 over slabs of the longer
side, so that neither a float64 copy of the delta nor a singular value decomposition of it is ever in memory. A
Gram matrix in float64 resolves singular values down to about 1e-7 of the largest.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, sqrt
from typing import Literal

import torch

from engine.delta import check_pair

ENERGY_LOSS = 0.05
"""ε of `Spectrum.energy_rank`: the relative Frobenius error that may remain."""

RANK_LIMIT = 1e-5
"""Singular values below this part of the largest do not count in `Spectrum.numerical_rank`."""

INTRUDER_K = 10
INTRUDER_LIMIT = 0.5
"""An intruder is one of the child's k first left singular vectors whose similarity is below the limit
(arXiv:2410.21228)."""

LARGEST_FULL = 2048
"""Shorter side up to which all singular values are computed."""

MAX_BYTES = 512 << 20

_DEPTH = 4  # powers of the Gram matrix in the Krylov space
_TILE = 1024
_SLAB = 1 << 21  # elements of one slab
_EPS = torch.finfo(torch.float64).eps
_TINY = torch.finfo(torch.float64).tiny

Slabs = Callable[[], Iterator[torch.Tensor]]
"""One pass over a matrix: float64 slabs of (some of the longer side, shorter side)."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The spectrum of one delta, with singular values s1 >= s2 >= … of δ as an (out, in) matrix.

    All but `sigma_max` and `frobenius` are the same for δ and c·δ.

    Attributes:
        sigma_max: s1, the spectral norm.
        frobenius: ‖δ‖_F.
        stable_rank: ‖δ‖_F²/s1², at least 1.
        effective_rank: exp of the entropy of s/Σs; None where the sketch missed part of the spectrum.
        participation_ratio: (Σs²)²/Σs⁴.
        energy_rank: least k with Σ_{j>k} s² <= 0.05²·Σs²; None where the sketch cannot prove it.
        numerical_rank: how many s exceed 1e-5·s1; None where the sketch missed part of the spectrum.
        top4_energy: Σ_{j<=4} s²/Σs², in (0, 1].
        intruder_count: how many of the child's first 10 left singular vectors have similarity below 0.5 with every
            left singular vector of the base; None where that is too large to compute or the base is zero.
        method: "full", or "randomised": from the leading singular values, which are lower bounds; good to many
            digits where the spectrum falls, within about 1 % for s1 of pure noise.
        n_components: singular values that were computed.
    """

    sigma_max: float
    frobenius: float
    stable_rank: float
    effective_rank: float | None
    participation_ratio: float
    energy_rank: int | None
    numerical_rank: int | None
    top4_energy: float
    intruder_count: int | None
    method: Literal["full", "randomised"]
    n_components: int


def spectrum(
    base: torch.Tensor, child: torch.Tensor, *, max_bytes: int = MAX_BYTES, top_k: int = 32
) -> Spectrum | None:
    """Compute the spectrum of the delta of ``child`` against ``base``.

    Matrices whose shorter side is at most `LARGEST_FULL` are solved in full, others (and those that do not fit
    ``max_bytes``) by a randomised block Krylov method (Musco & Musco, arXiv:1504.05477) with a fixed start. The
    same input gives the same result; with another number of threads the last digits may differ.

    Args:
        base: W0, any real dtype; more than two dimensions are read as (shape[0], the rest).
        child: W, the same shape.
        max_bytes: bound on working memory; at least some columns of the shorter side are always taken.
        top_k: width of the random start, >= 1; 5·top_k singular values are estimated.

    Returns:
        None for tensors of less than two dimensions, without elements, with zero delta, or with any element that
        is not finite.

    Raises:
        ShapeMismatch: when the shapes differ.
        UnsupportedDtype: for complex, packed or quantised dtypes.
    """
    check_pair(base, child)
    if base.ndim < 2 or not base.numel():  # noqa: PLR2004 - a matrix has two dimensions
        return None
    old, new = (t.detach().reshape(t.shape[0], -1) for t in (base, child))
    n = min(old.shape)

    def slabs() -> Iterator[torch.Tensor]:
        return map(torch.sub, _slabs(new, max_bytes), _slabs(old, max_bytes))

    total = float(sum(slab.square().sum() for slab in slabs()))
    if not _TINY < total < inf:
        return None
    full = n <= LARGEST_FULL and _n_bytes(n, 3) <= max_bytes
    if full:
        energies = _energies(_gram(slabs, n))
        participation = 1 / float((energies / total).square().sum())
    else:
        energies = _leading(slabs, n, top_k)
        participation = _participation(slabs, n, total / old.numel(), max_bytes) * old.numel() ** 2
    with_intruders = full and _n_bytes(n, 8) <= max_bytes
    similarity = intruder_similarity(old, new, max_bytes=max_bytes) if with_intruders else None
    return _summary(energies, total, participation, similarity, "full" if full else "randomised")


def intruder_similarity(
    base: torch.Tensor, child: torch.Tensor, *, k: int = INTRUDER_K, max_bytes: int = MAX_BYTES
) -> torch.Tensor | None:
    """Similarity of the child's first left singular vectors with the base's: m_j = max_i |u_jᵀ u_i⁰|.

    Args:
        base: W0, (out, in), finite.
        child: W, (out, in), finite.
        k: how many vectors, >= 1; those of zero singular values are left out.
        max_bytes: bound on the memory of slabs; the decompositions take 64·min(out, in)² bytes.

    Returns:
        (at most k,) float64 in [0, 1], by descending singular value (arXiv:2410.21228). None if the base is zero.
    """
    n = min(base.shape)
    values0, vectors0 = torch.linalg.eigh(_gram(lambda: _slabs(base, max_bytes), n))
    values, vectors = torch.linalg.eigh(_gram(lambda: _slabs(child, max_bytes), n))
    if not values0[-1]:
        return None
    there = (values > n * _EPS * values[-1])[-k:].flip(0)
    leading = vectors[:, -k:].flip(1)[:, there]
    if base.shape[0] <= base.shape[1]:  # Gram matrices of rows: their eigenvectors are left vectors
        return torch.amax(torch.abs(leading.T @ vectors0), 1)
    known = values0 > n * _EPS * values0[-1]  # of right vectors v: u = W v / s
    norms = values[-k:].flip(0)[there, None].sqrt() * values0[known].sqrt()
    pairs = zip(_slabs(child, max_bytes), _slabs(base, max_bytes), strict=True)
    cross = torch.zeros(leading.shape[1], n, dtype=torch.float64)
    for new, old in pairs:
        cross += (new @ leading).T @ old
    return torch.amax(torch.abs(cross @ vectors0[:, known] / norms), 1)


def _summary(
    energies: torch.Tensor,
    total: float,
    participation: float,
    similarity: torch.Tensor | None,
    method: Literal["full", "randomised"],
) -> Spectrum:
    """Derive everything from s² (descending) and Σs² over all, known or not."""
    largest = float(energies[0])
    missed = total - float(energies.sum()) > RANK_LIMIT**2 * largest and method != "full"
    sigma = energies.sqrt()
    share = sigma / sigma.sum()
    return Spectrum(
        sigma_max=sqrt(largest),
        frobenius=sqrt(total),
        stable_rank=max(1.0, total / largest),
        effective_rank=None if missed else float(torch.special.entr(share).sum().exp()),
        participation_ratio=participation,
        energy_rank=_energy_rank(energies, total),
        numerical_rank=None if missed else int((sigma > RANK_LIMIT * sigma[0]).sum()),
        top4_energy=min(1.0, float(energies[:4].sum()) / total),
        intruder_count=None if similarity is None else int((similarity < INTRUDER_LIMIT).sum()),
        method=method,
        n_components=len(energies),
    )


def _energy_rank(energies: torch.Tensor, total: float) -> int | None:
    """Least k whose s² leave at most ε² of ``total``, or None if ``energies`` (lower bounds) do not prove it.

    The k largest eigenvalues of a positive matrix exceed those of its compression by at most the trace that the
    compression lacks, so no smaller k is possible if that trace does not close the gap.
    """
    kept = torch.cumsum(energies, 0)
    wanted = (1 - ENERGY_LOSS**2) * total
    rank = int((kept < wanted).sum()) + 1
    lacking = max(0.0, total - float(kept[-1]))
    if rank > len(energies) or (rank > 1 and float(kept[rank - 2]) + lacking >= wanted):
        return None
    return rank


def _slabs(matrix: torch.Tensor, max_bytes: int) -> Iterator[torch.Tensor]:
    """Cut a matrix along its longer side into float64 slabs, (width, shorter side) each."""
    rows, columns = matrix.shape
    tall = matrix if rows > columns else matrix.T
    width = max(1, min(_SLAB, max_bytes // 64) // tall.shape[1])
    for start in range(0, len(tall), width):
        yield tall[start : start + width].to(torch.float64)


def _gram(slabs: Slabs, n: int) -> torch.Tensor:
    """The (n, n) Gram matrix of the shorter side."""
    gram = torch.zeros(n, n, dtype=torch.float64)
    for slab in slabs():
        gram.addmm_(slab.T, slab)
    return gram


def _energies(gram: torch.Tensor) -> torch.Tensor:
    """Eigenvalues, descending; those within rounding of zero are zero."""
    values = torch.flip(torch.linalg.eigvalsh(gram), (0,))
    return torch.where(values > len(values) * _EPS * values[0], values, 0.0)


def _leading(slabs: Slabs, n: int, top_k: int) -> torch.Tensor:
    """Leading eigenvalues of the Gram matrix from its block Krylov space, descending: lower bounds."""
    width = max(1, min(top_k, n // (_DEPTH + 1)))
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(n, width, dtype=torch.float64, generator=generator)
    for _ in range(_DEPTH):
        last = _times_gram(slabs, basis[:, -width:])
        basis = torch.linalg.qr(torch.cat((basis, last), 1)).Q
    return _energies(basis.T @ _times_gram(slabs, basis))


def _times_gram(slabs: Slabs, vectors: torch.Tensor) -> torch.Tensor:
    """Gram matrix times ``vectors``, (n, k), without the Gram matrix."""
    product = torch.zeros_like(vectors)
    for slab in slabs():
        product.addmm_(slab.T, slab @ vectors)
    return product


def _participation(slabs: Slabs, n: int, mean_square: float, max_bytes: int) -> float:
    """1/‖G‖_F² of the Gram matrix of δ/rms(δ), tile by tile, multiplied in float32."""
    width = max(1, min(_TILE, max_bytes // (16 * n)))
    scale = 1 / sqrt(mean_square)
    norm_sq = 0.0
    for start in range(0, n, width):
        tile = torch.zeros(n - start, min(width, n - start))
        for slab in slabs():
            part = slab[:, start:].mul(scale).to(torch.float32)
            tile.addmm_(part.T, part[:, : tile.shape[1]])
        squares = tile.to(torch.float64).square_()
        square = squares[: tile.shape[1]].sum()
        norm_sq += float(2 * squares.sum() - square)  # the matrix is symmetric
    return 1 / norm_sq


def _n_bytes(n: int, copies: int) -> int:
    """Bytes of some (n, n) float64 matrices."""
    return 8 * n * n * copies
