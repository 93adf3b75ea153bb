"""Matrices taken apart: singular values and vectors, polar factors, pseudo-inverses; float64, one thread.

Signs of singular vectors are fixed: the entry of largest magnitude of each left one is positive, the first of equal
ones. Directions whose singular value is not above what float64 can tell from zero are left out: any basis of them is
as good as another, and results would depend on the library.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from registry.tensor_name import has_vocabulary

_EPSILON = 2.0**-52
_ROUNDING = 2.0**-23


def is_map(tensor: torch.Tensor, name: str, *, vocabulary: bool) -> bool:
    """Tell whether a tensor is a linear map: a matrix, and unless ``vocabulary`` no table of tokens."""
    return tensor.dim() == 2 and tensor.numel() > 0 and (vocabulary or not has_vocabulary(name))  # noqa: PLR2004


def svd(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Thin singular value decomposition without null directions: U (m, k), σ (k) descending, Vᵀ (k, n), float64.

    Args:
        matrix: (m, n), finite, of at least one entry.
    """
    exact = matrix.to(torch.float64)
    with one_thread():
        u, s, vh = torch.linalg.svd(exact, full_matrices=False)
    k = int((s > float(s[0]) * max(exact.shape) * _EPSILON).sum())
    u, s, vh = u[:, :k], s[:k], vh[:k]
    places = u.abs().argmax(0)
    signs = torch.where(u[places, torch.arange(k)] < 0, -1.0, 1.0).to(torch.float64)
    return u * signs, s, vh * signs[:, None]


def above_rounding(
    parts: tuple[torch.Tensor, torch.Tensor, torch.Tensor], largest: float | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """U, σ, Vᵀ without directions as weak as rounding makes them in a float32 task vector whose largest σ this is.

    Entries that are off by ε at random make a matrix of spectral norm (√m + √n) ε. Methods that give weak directions
    strength need this: the task vector of a low-rank adapter is of full rank once it was rounded.
    """
    u, s, vh = parts
    if largest is None:
        largest = float(s[0]) if len(s) else 0.0
    noise = 2 * (len(u) ** 0.5 + vh.shape[1] ** 0.5) * _ROUNDING * largest
    k = int((s > noise).sum())
    return u[:, :k], s[:k], vh[:k]


def polar(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest matrix with orthonormal columns (rows, if it is wide), (m, n) float64: A Bᵀ of its A S Bᵀ.

    A direction that two columns share but for rounding is there once.
    """
    if not matrix.numel():
        return matrix.to(torch.float64)
    u, _, vh = above_rounding(svd(matrix))
    with one_thread():
        return u @ vh


def times(*matrices: torch.Tensor) -> torch.Tensor:
    """The product of matrices, from the left, in one thread."""
    with one_thread():
        product = matrices[0]
        for matrix in matrices[1:]:
            product = product @ matrix
        return product


def solve_right(left: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
    """The product left · square⁺ for a symmetric positive semidefinite ``square``, float64."""
    with one_thread():
        values, vectors = torch.linalg.eigh(square)
    large = values > float(values.abs().max()) * len(values) * _EPSILON
    inverse = torch.where(large, 1.0 / torch.where(large, values, 1.0), 0.0)
    return times(left, vectors * inverse, vectors.T)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread in the block, so that sums have one order."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
