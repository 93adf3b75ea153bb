"""Findings: what is wrong with a catalog or around it, one noun for all who look."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

EXAMPLES = 5
"""How many places a finding names; it counts all."""


@dataclass(frozen=True)
class Finding:
    """One kind of damage at one place.

    Attributes:
        kind: a word for programs: orphans, digest, truncated, …
        where: table, view, file or folder.
        n: how many rows, views or files; at least 1.
        detail: what is wrong, a sentence.
        lost: what is lost by it; empty: nothing.
        repair: what a repair does, or did; of what cannot be repaired, the command that makes it anew.
        mends: statements that repair it, each with its parameters.
        forgets: places that are forgotten, as a scan forgets what is not there.
        removes: files and folders that are removed.
        can_repair: whether a repair is known; else somebody has to do as ``repair`` says.
        needs_rebuild: whether it is repaired by copying the rows into a new file.
        is_damage: whether the catalog says something that is not so; else it is worth knowing, and no more.
        is_repaired: whether it was repaired.
    """

    kind: str
    where: str
    n: int
    detail: str
    lost: str = ""
    repair: str = ""
    mends: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    forgets: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    can_repair: bool = False
    needs_rebuild: bool = False
    is_damage: bool = True
    is_repaired: bool = False

    @property
    def remains(self) -> bool:
        """Whether it is damage that is still there."""
        return self.is_damage and not self.is_repaired

    def repaired(self, repair: str = "") -> "Finding":
        """The same, after a repair that says what it did."""
        return replace(self, is_repaired=True, repair=repair or self.repair)


def examples(names: Iterable[object], n: int) -> str:
    """Some names in a sentence, and how many more there are.

    Args:
        names: the first of them, in order.
        n: how many there are.
    """
    shown = [str(name) for name in names][:EXAMPLES]
    more = n - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


def in_order(findings: Iterable[Finding]) -> Sequence[Finding]:
    """Damage before what is only worth knowing, each as it was found."""
    return sorted(findings, key=lambda finding: not finding.is_damage)
