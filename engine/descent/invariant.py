"""Invariants: what stays when a network's units change places, signs or basis, and nothing else does.

The matrices at the edges of a network have an axis that belongs to the data: tokens, pixels, classes. Inner products of
their slices along it sum over the hidden axis, so that permuting, flipping or rotating that leaves them as they are.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from engine.reader import Reader
from registry.header import TensorRef
from registry.tensor_name import has_vocabulary, layer_of

Values = NDArray[np.float32]

_SLICES = 32  # rows, or columns, whose inner products are taken
_MOST_BYTES = 2 << 20  # read of one tensor
_MOST_IN_ALL = 4 << 20  # read of all of them
_FEW = 2  # tensors outside of layers that are enough


def invariants(reader: Reader, tensors: Sequence[TensorRef]) -> tuple[dict[str, Values], int]:
    """Inner products of rows, and of columns, of the matrices at a network's edges, and the bytes read for them.

    Args:
        reader: of files.
        tensors: whose values are weights.

    Returns:
        By tensor and axis, the upper triangle: (k (k + 1) / 2,) float32.
    """
    found: dict[str, Values] = {}
    n_bytes = 0
    sized = [(ref, ref.shape[0], ref.n_params // ref.shape[0]) for ref in edges(tensors)]
    for ref, rows, columns in sized:
        top = min(rows, _SLICES)
        size = top * columns * (ref.n_bytes // ref.n_params)
        if rows > 1 and size <= min(_MOST_BYTES, _MOST_IN_ALL - n_bytes):
            part = reader.flat(ref, 0, top * columns).float().reshape(top, columns)
            found[f"{ref.name} rows"] = _products(part.numpy())
            n_bytes += size
    for ref, rows, columns in sized:  # dearer: of each row a few entries, and so all of the matrix
        is_small = ref.n_bytes <= min(_MOST_BYTES, _MOST_IN_ALL - n_bytes)
        if columns > 1 and is_small and not has_vocabulary(ref.name):
            whole = reader.flat(ref, 0, ref.n_params).float().reshape(rows, columns)
            found[f"{ref.name} columns"] = _products(whole[:, :_SLICES].T.contiguous().numpy())
            n_bytes += ref.n_bytes
    return found, n_bytes


def edges(tensors: Sequence[TensorRef]) -> list[TensorRef]:
    """Matrices outside of layers; where there are too few, those of the first and the last layer."""
    matrices = [ref for ref in tensors if len(ref.shape) > 1 and ref.n_params]
    outside = [ref for ref in matrices if layer_of(ref.name) is None]
    if len(outside) >= _FEW or not matrices:
        return outside
    layers = sorted({n for ref in matrices if (n := layer_of(ref.name)) is not None})
    return outside + [ref for ref in matrices if layer_of(ref.name) in (*layers[:1], *layers[-1:])]


def _products(slices: Values) -> Values:
    """Inner products of slices, (k, d) → the upper triangle; infinite or NaN where the weights are, or are too large."""
    exact = slices.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        gram = exact @ exact.T
        return gram[np.triu_indices(len(gram))].astype(np.float32)


def distance(a: dict[str, Values], b: dict[str, Values]) -> float:
    """How far two models' invariants are apart, the nearest of those they share: 0 for one network; about 1 for two."""
    found = [1.0]
    for name in sorted(set(a) & set(b)):
        if len(a[name]) != len(b[name]) or not (tells(a[name]) and tells(b[name])):
            continue
        one, other = off_diagonal(a[name]), off_diagonal(b[name])
        size = float(np.linalg.norm(one) * np.linalg.norm(other))
        if size > 0:
            found.append(float(np.linalg.norm(one - other) / np.sqrt(size)))
    return min(found)


LEAST = 36
"""Products, of 8 slices, that tell anything."""


def tells(products: Values) -> bool:
    """Whether products tell anything: there are enough of them, and all are numbers."""
    return len(products) >= LEAST and bool(np.isfinite(products).all())


def off_diagonal(products: Values) -> NDArray[np.float64]:
    """Inner products of different slices; those of one with itself are alike in all models of a recipe."""
    return products[_is_off(len(products))].astype(np.float64)


@cache
def _is_off(n: int) -> NDArray[np.bool_]:
    """Of an upper triangle of n products, which are of different slices."""
    rows, columns = np.triu_indices(int((np.sqrt(8 * n + 1) - 1) / 2))
    return np.asarray(rows != columns)
