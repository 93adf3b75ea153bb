"""Readers of files of which only pieces are here: one notes which bytes are wanted, the other gives those that were fetched."""

from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import torch

from engine.reader import Reader
from registry.errors import NotFetched
from registry.header import TensorRef
from registry.ranges import Range


class Wanted(Reader):
    """Notes which bytes are asked for, and gives zeros for them: nothing that is computed from it means anything.

    Attributes:
        ranges: asked for, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ranges: list[Range] = []

    def fill(self, buffer: torch.Tensor, ref: TensorRef, start: int) -> None:
        """Note bytes of a tensor from ``start`` on, as many as ``buffer`` has: (n,) uint8."""
        buffer.zero_()
        if len(buffer):
            at = ref.start + start
            self.ranges.append(Range(ref.file, at, at + len(buffer)))

    def _handle(self, file: Path) -> NoReturn:
        """Refuse to open what is not there."""
        raise _not_fetched(file)


class Pieces(Reader):
    """Reads from pieces of files that were fetched."""

    def __init__(self, pieces: Iterable[tuple[Range, bytes]]) -> None:
        """Take pieces that do not overlap, each with its bytes."""
        super().__init__()
        self._pieces = sorted(pieces, key=lambda piece: piece[0])
        self._starts = [(str(r.file), r.start) for r, _ in self._pieces]

    def fill(self, buffer: torch.Tensor, ref: TensorRef, start: int) -> None:
        """Give bytes of a tensor from ``start`` on, as many as ``buffer`` has: (n,) uint8.

        Raises:
            NotFetched: some of them are in none of the pieces.
        """
        if not len(buffer):
            return
        at = ref.start + start
        index = bisect_right(self._starts, (str(ref.file), at)) - 1
        if index >= 0:
            found, content = self._pieces[index]
            if found.file == ref.file and at + len(buffer) <= found.stop:
                part = memoryview(content)[at - found.start : at - found.start + len(buffer)]
                buffer.numpy().data[:] = part
                return
        raise _not_fetched(ref.file, ref)

    def _handle(self, file: Path) -> NoReturn:
        """Refuse to open what is not there."""
        raise _not_fetched(file)


def _not_fetched(file: Path, ref: TensorRef | None = None) -> NotFetched:
    """The error for bytes that are not here."""
    of = f" of tensor {ref.name}" if ref else ""
    message = f"{file.name}: bytes{of} are asked for that were not fetched from the Hub"
    return NotFetched(message, hint="hf download the repository and scan hf-cache:")
