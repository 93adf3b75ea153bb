"""Blanks: searches that found nothing, and find nothing as long as what they look at stays the same.

Most models are no merges, and that takes most of the time to see. A search looks at one model and its nearest, so that a
model that comes later leaves most searches as they were. Where it is among the nearest, the search is made again, but for
those of its parts that look at others.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from registry.fingerprint import digest_text

T = TypeVar("T")

_DIGITS = 20


@dataclass(frozen=True)
class Blanks:
    """The searches of a component that found nothing.

    Attributes:
        rules: digest of all that searches follow from, but for what they look at.
        known: of each search that found nothing before its key, and those of its parts that found nothing, in a line.
        met: the same of those that found nothing, or were not made because they are known.
        parts: keys of parts of the search that is being made.
    """

    rules: str = ""
    known: frozenset[str] = frozenset()
    met: set[str] = field(default_factory=set)
    parts: list[str] = field(default_factory=list)

    @cached_property
    def lines(self) -> dict[str, str]:
        """Lines that are known, by the key of the search."""
        return {line.split(" ", 1)[0]: line for line in self.known}

    @cached_property
    def known_parts(self) -> frozenset[str]:
        """Keys of all parts that are known."""
        return frozenset(key for line in self.known for key in line.split(" ")[1:])

    def search(self, key: str, work: Callable[[], T | None]) -> T | None:
        """What a search finds, which is not made where it is known."""
        line, found = self.lines.get(key), None
        if line is None:
            self.parts.clear()
            found = work()
            line = " ".join([key, *self.parts])
        if found is None:
            self.met.add(line)
        return found

    def part(self, key: str, work: Callable[[], T | None]) -> T | None:
        """What a part of a search finds, which is not made where it is known."""
        found = None if key in self.known_parts else work()
        if found is None:
            self.parts.append(key)
        return found

    def key(self, search: str, looked_at: Iterable[str]) -> str:
        """What a search is known by.

        Args:
            search: its name.
            looked_at: all it follows from, in the order it looks at it.
        """
        return digest_text("\n".join((self.rules, search, *looked_at)))[:_DIGITS]
