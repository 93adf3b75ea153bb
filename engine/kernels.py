"""The door to the compiled kernels that merge: what they take, and what torch does in their place.

Every function gives the same bits with and without them. Tensors are flat, contiguous and in bfloat16 or float32.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from engine.compiler import library
from engine.reader import Region

CODES = {torch.float32: 0, torch.bfloat16: 1}
"""Dtypes that kernels read and write, by their numbers there."""

MOST = 60
"""Models that kernels take at once."""

LANES = 16
"""Partial sums of every sum over elements."""

Floats = NDArray[np.float64]
Key = tuple[int, int]
"""Of a stream of random words: two numbers below 2⁶⁴."""

_TYPES = {"p": ctypes.c_void_p, "i": ctypes.c_int32, "l": ctypes.c_int64, "u": ctypes.c_uint32}
_SIGNATURES = {  # result, arguments
    "combine": ("i", "pppp"), "read_floats": ("i", "pipilp"), "uniform": ("", "pllp"),
    "finish": ("i", "ppl"), "products": ("i", "pippllpip"),
    "column_products": ("i", "pipillpip"), "count_magnitudes": ("i", "pipilip"),
    "count_near": ("i", "pipl"), "variance": ("i", "piplp"),
}  # fmt: skip
UNREADABLE = -3
"""What a kernel says that could not read a file."""

_TOO_MANY = -2
_ALL, _LARGEST, _DRAWN, _MIDDLE = range(4)
SUM, AGREE, _VOTE = range(3)
"""How kernels combine."""


class Source(ctypes.Structure):
    """`source` of kernels.h."""

    _fields_ = (
        ("data", ctypes.c_void_p), ("offset", ctypes.c_int64), ("file", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
    )  # fmt: skip


class _Term(ctypes.Structure):
    """`term` of kernels.h."""

    _fields_ = (
        ("from_", Source), ("pick", ctypes.c_int32),
        ("threshold", ctypes.c_float), ("scale", ctypes.c_float), ("ties_end", ctypes.c_int64),
        ("key", ctypes.c_uint64 * 2), ("start", ctypes.c_int64), ("stays_below", ctypes.c_int32),
        ("beyond", ctypes.c_float), ("beyond_ties_end", ctypes.c_int64), ("scales", ctypes.c_void_p),
    )  # fmt: skip


class Merge(ctypes.Structure):
    """`merge` of merges.h."""

    _fields_ = (
        ("base", Source), ("has_base", ctypes.c_int32), ("how", ctypes.c_int32),
        ("by_count", ctypes.c_int32), ("normalize", ctypes.c_int32), ("by_row", ctypes.c_int32),
        ("n_terms", ctypes.c_int32), ("of_values", ctypes.c_int32), ("winner", ctypes.c_float),
        ("lambda_", ctypes.c_float), ("n", ctypes.c_int64), ("columns", ctypes.c_int64),
        ("weights", ctypes.c_void_p), ("among", ctypes.c_void_p), ("votes", ctypes.c_double),
    )  # fmt: skip


class Varied(ctypes.Structure):
    """`varied` of varied.h: entries count by their variance over the models, as `engine.pick.Largest` has it."""

    _fields_ = (("ties_end", ctypes.c_int64), ("threshold", ctypes.c_float))


class _Change(ctypes.Structure):
    """`change` of kernels.c."""

    _fields_ = (
        ("sum_sq", ctypes.c_double), ("base_sum_sq", ctypes.c_double), ("max_abs", ctypes.c_double),
        ("n_changed", ctypes.c_int64), ("n_lost", ctypes.c_int64),
    )  # fmt: skip


Stored = torch.Tensor | Region
"""Entries that are in memory, flat and contiguous, or still in a file."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one model brings to a sum.

    Attributes:
        stored: (d,) bfloat16 or float32.
        scale: factor of all entries.
        largest: keep these only: threshold, and the flat index before which entries of that magnitude stay.
        beyond: but not these of the largest.
        drawn: keep entries by chance: the stream's key, the place of the first entry, and the number of 2⁻²⁴ that draws
            must be below.
        scales: (columns) or (rows) float32: factors instead of ``scale``.
    """

    stored: Stored
    scale: float
    largest: tuple[float, int] | None = None
    drawn: tuple[Key, int, int] | None = None
    beyond: tuple[float, int] | None = None
    scales: torch.Tensor | None = None


class _Closing(ctypes.Structure):
    """`closing` of kernels.c."""

    _fields_ = (
        ("reference", Source), ("out", ctypes.c_void_p), ("stats", ctypes.c_void_p),
        ("block", ctypes.c_int64), ("out_dtype", ctypes.c_int32), ("add", ctypes.c_int32),
    )  # fmt: skip


class Closing:
    """What becomes of a result: it is added to its reference, rounded, and compared with the reference.

    Attributes:
        out: (d,) bfloat16 or float32: the rounded result.
    """

    def __init__(self, reference: Stored, out: torch.Tensor, *, add: bool, block: int) -> None:
        """Prepare to close a result.

        Args:
            reference: (d,), as stored.
            out: (d,), to be written.
            add: the result is a task vector, to which the reference is added.
            block: entries over which sums are taken, a multiple of 1,024.
        """
        self.out = out
        self._reference = reference
        self._stats = (_Change * max(1, -(-len(out) // block)))()
        to, dtype = tensor_of(out)
        stats = ctypes.addressof(self._stats)
        self.asked = _Closing(source_of(reference), to, stats, block, dtype, add)

    @property
    def found(self) -> list[tuple[float, float, float, int, int]]:
        """For every block Σ δ², Σ W0², largest |δ|, how many differ, and how many rounding took back."""
        return [(s.sum_sq, s.base_sum_sq, s.max_abs, s.n_changed, s.n_lost) for s in self._stats]


def ready(stored: Sequence[Stored]) -> bool:
    """Tell whether there are kernels, and whether they take these tensors."""
    return library() is not None and 0 < len(stored) <= MOST and all(map(_is_taken, stored))


def _is_taken(stored: Stored) -> bool:
    """Tell whether kernels take a tensor."""
    if isinstance(stored, Region):
        return stored.dtype in CODES
    return stored.dtype in CODES and stored.is_contiguous() and stored.is_cpu


def read_floats(stored: torch.Tensor, base: torch.Tensor | None, out: torch.Tensor) -> bool | None:
    """Write a model, or what it has more than a base, to ``out`` in float32.

    Returns:
        None; or where something is not finite, whether that is the base.
    """
    flat = out.view(-1)
    if ready([stored] if base is None else [stored, base]):
        found = call(
            "read_floats", *tensor_of(stored), *tensor_of(base), len(stored), _address(flat)
        )
        return None if found < 0 else bool(found)
    if base is not None and not is_finite(base):
        return True
    if not is_finite(stored):
        return False
    flat.copy_(stored)
    if base is not None:
        flat.sub_(base.float())
    return None


def is_finite(values: torch.Tensor) -> bool:
    """Tell whether all values are finite; their sum says so in one pass, unless it overflows."""
    total = float(values.sum(dtype=torch.float32))
    return total - total == 0 or bool(torch.isfinite(values).all())


def uniform(key: Key, start: int, out: torch.Tensor) -> bool:
    """Fill ``out`` with draws from a place of a stream on; False where there are no kernels."""
    if library() is None:
        return False
    call("uniform", (ctypes.c_uint64 * 2)(*key), start, len(out), _address(out))
    return True


def weighted_sum(
    parts: Sequence[Part], base: Stored | None, out: torch.Tensor,
    *, columns: int = 1, by_row: bool = False, closing: Closing | None = None,
) -> int:  # fmt: skip
    """Σ of the parts in order, to ``out`` (float32, contiguous; only closed, and not written, on the meta device).

    Returns:
        Which part is not finite (the base comes last), else -1; -3 if one cannot be read.
    """
    asked = merge_of(parts, base, out.numel(), SUM, columns=columns, by_row=by_row)
    return _combine(asked, parts, out, closing)


def agreement(
    parts: Sequence[Part], base: Stored | None, out: torch.Tensor,
    *, weights: Sequence[float], by_count: bool, of_values: bool, winner: int, normalize: bool,
    lambda_: float, among: Varied | None = None, closing: Closing | None = None,
) -> int:  # fmt: skip
    """What the parts agree on, to ``out``; see `engine.ops.agreement`. Returns as `weighted_sum`.

    Only with ``of_values`` and without picks, ``among`` says which entries count.
    """
    own = np.array(weights, dtype=np.float32)
    asked = merge_of(parts, base, out.numel(), AGREE)
    asked.weights, asked.by_count, asked.normalize = own.ctypes.data, by_count, normalize
    asked.of_values = of_values
    asked.winner, asked.lambda_ = winner, lambda_
    asked.among = None if among is None else ctypes.addressof(among)
    return _combine(asked, parts, out, closing)


def votes(parts: Sequence[Part], base: Stored | None, *, by_count: bool) -> tuple[int, int]:
    """Sum of the signs the parts elect; and as `weighted_sum`."""
    asked = merge_of(parts, base, len(parts[0].stored), _VOTE)
    asked.by_count = by_count
    bad = _combine(asked, parts, None, None)
    return int(asked.votes), bad


def finish(result: torch.Tensor, closing: Closing) -> bool:
    """Close a float32 result; False where the reference cannot be read.

    Raises:
        TypeError: there is no result: something was made of one that was only to be closed.
    """
    if result.is_meta:
        message = "a method that ends in a sum must return it as it is"
        raise TypeError(message)
    flat = result.reshape(-1).contiguous()
    done = call("finish", _address(flat), ctypes.byref(closing.asked), len(flat))
    return done != UNREADABLE


def call(name: str, *arguments: object) -> int:
    """Call a kernel.

    Raises:
        ValueError: it was asked for more than it takes.
    """
    found = int(_kernels()[name](*arguments) or 0)
    if found == _TOO_MANY:
        message = f"kernel {name} takes no so many models or pairs"
        raise ValueError(message)
    return found


@cache
def _kernels() -> dict[str, Callable[..., int | None]]:
    """The compiled functions, with the types of what they take."""
    compiled = library()
    found = {}
    for name, (result, takes) in _SIGNATURES.items():
        function = getattr(compiled, name)
        function.restype = _TYPES.get(result)
        function.argtypes = [_TYPES[letter] for letter in takes]
        found[name] = function
    return found


def merge_of(
    parts: Sequence[Part], base: Stored | None, n: int, how: int,
    *, columns: int = 1, by_row: bool = False,
) -> Merge:  # fmt: skip
    """What `combine` is asked: parts less a base, n entries of each, to be combined in one of the ways above."""
    asked = Merge(
        has_base=base is not None, how=how, by_row=by_row, n_terms=len(parts), n=n,
        columns=max(1, columns), lambda_=1.0,
    )  # fmt: skip
    if base is not None:
        asked.base = source_of(base)
    return asked


def _combine(
    asked: Merge, parts: Sequence[Part], out: torch.Tensor | None, closing: Closing | None
) -> int:
    """Combine parts, and close the result where that is asked for."""
    to = None if out is None or out.is_meta else _address(out)
    end = None if closing is None else ctypes.byref(closing.asked)
    return call("combine", ctypes.byref(asked), terms_of(parts), to, end)


def terms_of(parts: Sequence[Part]) -> ctypes.Array[_Term]:
    """Parts as kernels take them; they must outlive the call."""
    terms = (_Term * len(parts))()
    for term, part in zip(terms, parts, strict=True):
        term.from_ = source_of(part.stored)
        term.scale = part.scale
        if part.scales is not None:
            term.scales = part.scales.data_ptr()
        if part.largest is not None:
            term.pick, (term.threshold, term.ties_end) = _LARGEST, part.largest
            if part.beyond is not None:
                term.pick, (term.beyond, term.beyond_ties_end) = _MIDDLE, part.beyond
        elif part.drawn is not None:
            key, term.start, term.stays_below = part.drawn
            term.pick, term.key = _DRAWN, (ctypes.c_uint64 * 2)(*key)
    return terms


def _address(tensor: torch.Tensor) -> int:
    """Where a tensor's entries are."""
    return tensor.data_ptr()


def source_of(stored: Stored) -> Source:
    """Where entries are."""
    if isinstance(stored, Region):
        return Source(None, stored.offset, stored.handle, CODES[stored.dtype])
    return Source(stored.data_ptr(), 0, -1, CODES[stored.dtype])


def tensor_of(tensor: torch.Tensor | None) -> tuple[int | None, int]:
    """Address and dtype of a tensor; nothing for none."""
    return (None, 0) if tensor is None else (tensor.data_ptr(), CODES[tensor.dtype])
