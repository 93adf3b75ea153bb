"""From files to tensors: positioned reads of slices, any thread, no mapping.

A mapping of a file that is cut short kills the process; a positioned read says so. Handles are opened on first
use and closed together.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

import torch

from registry.errors import FileChanged, RunFailed, UnsupportedDtype
from registry.header import TensorRef

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
    "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
"""safetensors dtype → torch dtype, for those the engine can hold."""

FLOATS = ("F64", "F32", "F16", "BF16")
"""Dtypes whose values are the weights themselves, finest first; 8-bit floats are codes that need scales."""


Filler = Callable[[memoryview, Path, int], None]
"""Fills memory with bytes of a file, from an offset on."""

_elsewhere: dict[Path, Filler] = {}


@contextmanager
def elsewhere(files: Iterable[Path], fill: Filler) -> Iterator[None]:
    """Let every reader take the bytes of some files from elsewhere, until the block ends; on disk are only their headers."""
    mine = dict.fromkeys(files, fill)
    _elsewhere.update(mine)
    try:
        yield
    finally:
        for file in mine:
            _elsewhere.pop(file, None)


class Reader:
    """Reads slices of tensors; a context manager that closes every file it opened.

    Attributes:
        pinned: regions are read into memory that stays in its place, so that an accelerator copies it by itself.
    """

    def __init__(self, *, pinned: bool = False) -> None:
        self.pinned = pinned
        self._handles: dict[Path, int] = {}
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()

    def bytes(self, ref: TensorRef, start: int, stop: int, *, pinned: bool = False) -> torch.Tensor:
        """The bytes [start, stop) of a tensor: (stop - start,) uint8.

        Raises:
            FileChanged: the file ends before the tensor does.
            RunFailed: the operating system refuses.
        """
        buffer = torch.empty(stop - start, dtype=torch.uint8, pin_memory=pinned)
        self.fill(buffer, ref, start)
        return buffer

    def fill(self, buffer: torch.Tensor, ref: TensorRef, start: int) -> None:
        """Read bytes of a tensor from ``start`` on, as many as ``buffer`` has: (n,) uint8; errors as `bytes`."""
        view = buffer.numpy().data
        if ref.file in _elsewhere:
            _elsewhere[ref.file](view, ref.file, ref.start + start)
            return
        done = 0
        try:
            handle = self._handle(ref.file)
            while done < len(view):
                n = os.preadv(handle, [view[done:]], ref.start + start + done)
                if not n:
                    message = (
                        f"{ref.file} ends inside tensor {ref.name}: it changed since it was scanned"
                    )
                    raise FileChanged(message, hint=f"reg scan {ref.file.parent}")
                done += n
        except OSError as error:
            message = f"cannot read tensor {ref.name} of {ref.file}: {error.strerror}"
            raise RunFailed(message) from error

    def flat(self, ref: TensorRef, start: int, stop: int, *, pinned: bool = False) -> torch.Tensor:
        """Elements [start, stop) of the flat tensor in its stored dtype: (stop - start,).

        Raises:
            UnsupportedDtype: the engine has no such dtype.
            FileChanged, RunFailed: as `bytes`.
        """
        dtype = _dtype(ref)
        ends = start * dtype.itemsize, stop * dtype.itemsize
        return self.bytes(ref, *ends, pinned=pinned).view(dtype)

    def region(self, ref: TensorRef, start: int, stop: int) -> "Region | torch.Tensor":
        """Elements [start, stop) of the flat tensor, not read yet unless its file is elsewhere; errors as `flat`."""
        if ref.file in _elsewhere:
            return self.flat(ref, start, stop, pinned=self.pinned)
        dtype = _dtype(ref)
        handle = self._handle(ref.file)
        return Region(self, ref, start, stop, dtype, handle, ref.start + start * dtype.itemsize)

    def whole(self, ref: TensorRef) -> torch.Tensor:
        """The tensor in its stored dtype and shape; errors as `flat`."""
        return self.flat(ref, 0, ref.n_params).reshape(ref.shape)

    def _handle(self, file: Path) -> int:
        """An open descriptor of ``file``."""
        with self._lock:
            if file not in self._handles:
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # never waits for a pipe
                self._handles[file] = os.open(file, flags)
            return self._handles[file]


@dataclass(frozen=True, slots=True)
class Region:
    """Elements [start, stop) of a flat tensor that nobody has read yet.

    Attributes:
        reader: reads them.
        ref: the tensor.
        start: first element.
        stop: the one behind the last.
        dtype: as stored.
        handle: descriptor of the file, open as long as the reader is.
        offset: of the first element in the file, bytes.
    """

    reader: Reader
    ref: TensorRef
    start: int
    stop: int
    dtype: torch.dtype
    handle: int
    offset: int

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self) -> torch.Tensor:
        """The elements: (stop - start,); errors as `Reader.flat`."""
        return self.part(0, len(self))

    def part(self, start: int, stop: int) -> torch.Tensor:
        """Those from the ``start``-th to before the ``stop``-th: (stop - start,); errors as `Reader.flat`."""
        return self.reader.flat(
            self.ref, self.start + start, self.start + stop, pinned=self.reader.pinned
        )


def _dtype(ref: TensorRef) -> torch.dtype:
    """The dtype of a stored tensor.

    Raises:
        UnsupportedDtype: the engine has no such dtype.
    """
    dtype = DTYPES.get(ref.dtype)
    if dtype is None:
        message = (
            f"tensor {ref.name} of {ref.file} has dtype {ref.dtype}; the engine reads "
            + ", ".join(DTYPES)
        )
        raise UnsupportedDtype(message)
    return dtype
