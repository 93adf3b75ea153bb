"""Ranges of bytes of files, joined so that few requests fetch them: reading on over a gap is cheaper than asking again."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

NEAR_BYTES = 64 << 10
"""A gap that takes less time to read than a request takes."""


@dataclass(frozen=True, order=True)
class Range:
    """The bytes [start, stop) of a file; at least one."""

    file: Path
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stop - self.start


def joined(ranges: Iterable[Range], *, most_bytes: int, few: int) -> list[Range]:
    """The fewest sensible ranges that cover some.

    Those that touch or nearly do are joined; then, while there are more than ``few``, those of the smallest gaps, as long
    as no more than ``most_bytes`` are read in all. What was asked for is always covered, however much it is.

    Args:
        ranges: of any files, in any order; they may overlap.
        most_bytes: of all ranges together, that gaps may fill up.
        few: ranges that are few enough.

    Returns:
        By file and place, none touching another.
    """
    apart = _apart(ranges)
    gaps = sorted(
        (after.start - before.stop, at)
        for at, (before, after) in enumerate(pairwise(apart))
        if before.file == after.file
    )
    n, total = len(apart), sum(each.size for each in apart)
    closed = set()
    for gap, at in gaps:
        if total + gap > most_bytes or (gap > NEAR_BYTES and n <= few):
            break
        closed.add(at)
        n, total = n - 1, total + gap
    found: list[Range] = []
    for at, each in enumerate(apart):
        if at - 1 in closed:
            found[-1] = Range(each.file, found[-1].start, each.stop)
        else:
            found.append(each)
    return found


def _apart(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes in ranges that do not touch, by file and place."""
    found: list[Range] = []
    for each in sorted(ranges):
        if found and found[-1].file == each.file and each.start <= found[-1].stop:
            found[-1] = Range(each.file, found[-1].start, max(found[-1].stop, each.stop))
        else:
            found.append(each)
    return found
