"""Generations: up or down the edges of the catalog from some models.

Edges hold small numbers of their ends (`registry.numbering`). All of them are read at once, as two arrays, and one step up
or down is a look at those: a few milliseconds where there are a million, however many of them are on the way.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal

from registry.column import Array
from registry.database import Reader

Direction = Literal["ancestors", "descendants"]

_ENDS = {"ancestors": ("child", "parent"), "descendants": ("parent", "child")}
"""Which end of an edge is at hand, and which is looked for."""

# One column at a time: DuckDB takes longer for two at once. Nobody has the number 0, so nobody is found there.
_END = "select coalesce({end}_number, 0) as numbers from store.edge"
_NOBODY = 0

# Ids are read of the rows that are found, and not on the way there.
_OF_NUMBERS = """
select number, id from store.model where rowid in (select rowid from store.model where number in (from asked))"""


def generations(reader: Reader, models: Sequence[str], direction: Direction) -> list[Array]:
    """The generations around models.

    Args:
        reader: of the catalog.
        models: ids; they are in no generation, even where claims form a cycle.
        direction: up or down.

    Returns:
        Nearest first, of each the numbers of its models, int64, ascending; in each those that no nearer one has.
    """
    first = numbers(reader, models)
    return list(_walk(reader, first, direction)) if first else []


def _walk(reader: Reader, first: Sequence[int], direction: Direction) -> Iterator[Array]:
    """As `generations`, from numbers."""
    import numpy as np  # noqa: PLC0415 - slow to load, and not every reader walks

    here, there = (reader.arrays(_END.format(end=end))["numbers"] for end in _ENDS[direction])
    here = here.astype(np.intp)  # as `take` would, every time
    at_hand = np.zeros(1 + max(here.max(initial=0), there.max(initial=0), *first), dtype=bool)
    at_hand[list(first)] = True
    seen = at_hand.copy()
    seen[_NOBODY] = True
    while True:
        # half the time of indices in brackets
        found = there.compress(at_hand.take(here, mode="clip"))
        found = found[~seen[found]]
        if not len(found):
            return
        at_hand[:] = False
        at_hand[found] = seen[found] = True
        yield np.flatnonzero(at_hand)


def numbers(reader: Reader, models: Sequence[str]) -> list[int]:
    """The numbers of models that the catalog has, by which edges are found fast: in `Reader.rows_for`, not in a query of ids."""
    return [row["number"] for row in reader.rows("from store.numbers(?)", [list(models)])]


def ids(reader: Reader, numbers: "Sequence[int] | Array") -> dict[int, str]:
    """The ids of models by their numbers."""
    if not len(numbers):
        return {}
    return {row["number"]: row["id"] for row in reader.rows_for(numbers, _OF_NUMBERS)}


def with_all(reader: Reader, models: Sequence[str], direction: Direction) -> list[str]:
    """Models and all that lie in one direction of them, each once: generation by generation, nearest first, each by id."""
    levels = generations(reader, models, direction)
    names = ids(reader, list(chain.from_iterable(level.tolist() for level in levels)))
    found = [sorted(names[n] for n in level.tolist() if n in names) for level in levels]
    return [*dict.fromkeys(models), *chain.from_iterable(found)]
