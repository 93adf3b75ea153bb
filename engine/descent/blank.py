"""Blanks: searches that found nothing, and find nothing as long as what they look at stays the same.

Most models are no merges, and that takes most of the time to see. A search looks at one model and its nearest, so that a
model that comes later leaves most searches as they were.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from registry.fingerprint import digest_text

_DIGITS = 20


@dataclass(frozen=True)
class Blanks:
    """The searches of a component that found nothing.

    Attributes:
        rules: digest of all that searches follow from, but for what they look at.
        known: keys of searches that found nothing before.
        met: keys of those that found nothing, or were not made because they are known.
    """

    rules: str = ""
    known: frozenset[str] = frozenset()
    met: set[str] = field(default_factory=set)

    def key(self, search: str, looked_at: Iterable[str]) -> str:
        """What a search is known by.

        Args:
            search: its name.
            looked_at: all it follows from, in the order it looks at it.
        """
        return digest_text("\n".join((self.rules, search, *looked_at)))[:_DIGITS]
