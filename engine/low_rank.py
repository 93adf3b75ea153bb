"""Truncated singular value decompositions: the best approximation of a matrix by one of a given rank.

Eckart & Young, 1936. Singular vectors of the shorter side come from the Gram matrix in float64, those of the longer
side by projection, so that what is kept is a projection of the matrix itself: at full rank nothing is lost. One
thread, a fixed start, fixed signs: the same matrix gives the same factors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

LARGEST_FULL = 2048
"""Shorter side up to which all singular values are computed; beyond it, if a small rank is asked for, the leading
ones only."""

_DEPTH, _SPARE, _SMALL = 4, 8, 16
_SLAB = 1 << 21  # elements in float64 at once
_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class LowRank:
    """A matrix as a product B A.

    Attributes:
        b: (out, r) float32, U √S.
        a: (r, in) float32, √S Vᵀ.
        error_sq: ‖M - B A‖²_F of the matrix M it stands for, float64.
        norm_sq: ‖M‖²_F.
    """

    b: torch.Tensor
    a: torch.Tensor
    error_sq: float
    norm_sq: float

    @property
    def rank(self) -> int:
        """Number of columns of B, at least 1."""
        return self.b.shape[1]


def truncated(matrix: torch.Tensor, *, rank: int = 0, energy: float = 0.0) -> LowRank:
    """The best approximation of a matrix by a product of rank r.

    Of each pair of singular vectors the sign is chosen that makes the left one's entry of largest magnitude
    positive. Directions beyond the rank of the matrix are zero.

    Args:
        matrix: (out, in) float32, finite, with at least one element.
        rank: r, cut to the shorter side; 0: as ``energy`` asks.
        energy: instead of or below ``rank``, the least r ≥ 1 with Σ_{j≤r} s² ≥ energy · Σ s², in (0, 1]; 0: as
            ``rank`` asks.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    short = matrix if wide else matrix.T  # (n, m) with n <= m
    n = len(short)
    most = min(rank, n) if rank else n
    with one_thread():
        total = sum(float(slab.square().sum()) for _, slab in _slabs(short))
        basis = _basis(short, most)
        projected = torch.cat([basis.T @ slab for _, slab in _slabs(short)], 1)  # (r, m)
        sigma = torch.linalg.vector_norm(projected, dim=1)
        order = torch.sort(sigma, descending=True, stable=True).indices[:most]
        sigma, basis, projected = sigma[order], basis[:, order], projected[order]
        if energy:
            kept = _least(sigma.square().cumsum(0), energy * total)
            sigma, basis, projected = sigma[:kept], basis[:, :kept], projected[:kept]
        inside = sigma > n * _EPS * sigma[:1]
        root = torch.where(inside, sigma, 0.0).sqrt()
        across = projected * torch.where(inside, sigma.rsqrt(), 0.0)[:, None]
        left, right = (basis * root, across) if wide else (across.T, (basis * root).T)
        signs = _signs(left)
        b, a = ((left * signs).float().contiguous(), (right * signs[:, None]).float().contiguous())
        return LowRank(b, a, residual_sq(matrix, b, a), total)


def residual_sq(matrix: torch.Tensor, b: torch.Tensor, a: torch.Tensor) -> float:
    """‖M - B A‖²_F in float64, of M (out, in), B (out, r) and A (r, in)."""
    right = a.double()
    total = 0.0
    rows = max(1, _SLAB // max(1, matrix.shape[1]))
    for start in range(0, len(matrix), rows):
        block = slice(start, start + rows)
        total += float((matrix[block].double() - b[block].double() @ right).square().sum())
    return total


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread in the block: with more, last digits depend on how many."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _basis(short: torch.Tensor, most: int) -> torch.Tensor:
    """Left singular vectors of an (n, m) matrix, the leading ones first: (n, at least ``most``) float64."""
    n = len(short)
    if n > LARGEST_FULL and most * _SMALL <= n:
        width = most + _SPARE
        generator = torch.Generator().manual_seed(0)
        space = torch.randn(n, width, dtype=torch.float64, generator=generator)
        for _ in range(_DEPTH):
            last = _times_gram(short, space[:, -width:])
            space = torch.linalg.qr(torch.cat((space, last), 1)).Q
        vectors = torch.linalg.eigh(space.T @ _times_gram(short, space)).eigenvectors
        leading: torch.Tensor = (space @ vectors).flip(1)[:, :width]
        return leading
    gram = torch.zeros(n, n, dtype=torch.float64)
    for _, slab in _slabs(short):
        gram.addmm_(slab, slab.T)
    all_of_them: torch.Tensor = torch.linalg.eigh(gram).eigenvectors.flip(1)[:, :most]
    return all_of_them


def _times_gram(short: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """M Mᵀ times ``vectors``, (n, k), without the Gram matrix."""
    product = torch.zeros_like(vectors)
    for _, slab in _slabs(short):
        product.addmm_(slab, slab.T @ vectors)
    return product


def _slabs(short: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Columns of an (n, m) matrix in float64, some at a time: (first column, (n, some))."""
    width = max(1, _SLAB // max(1, len(short)))
    for start in range(0, short.shape[1], width):
        yield start, short[:, start : start + width].double()


def _least(energies: torch.Tensor, wanted: float) -> int:
    """The least number of leading components whose energy, summed up in ``energies``, is as much as wanted."""
    return min(len(energies), int((energies < wanted * (1 - len(energies) * _EPS)).sum()) + 1)


def _signs(left: torch.Tensor) -> torch.Tensor:
    """Per column, the sign of the entry of largest magnitude; of a zero column, 1."""
    largest = left.gather(0, left.abs().argmax(0, keepdim=True))[0]
    return torch.where(largest < 0, -1.0, 1.0).to(left.dtype)
