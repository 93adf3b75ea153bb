"""Generations: up or down the edges of the catalog from some models, one step at a time.

A recursive query reads every edge for every generation; what is asked here reads only the edges of the models at hand,
by the indexes of both ends.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from registry.database import Reader

Direction = Literal["ancestors", "descendants"]

ENDS = {"ancestors": ("child", "parent"), "descendants": ("parent", "child")}
"""Which end of an edge is at hand, and which is looked for."""

_NEXT = """
select distinct {there} as id from store.edge where {here} in (select store.each(?)) order by id"""


def generations(
    reader: Reader, models: Sequence[str], direction: Direction
) -> Iterator[list[str]]:  # fmt: skip
    """The generations around models, nearest first: of each, ids that no nearer one has, in order.

    Args:
        reader: of the catalog.
        models: ids; they are in no generation, even where claims form a cycle.
        direction: up or down.
    """
    here, there = ENDS[direction]
    sql = _NEXT.format(here=here, there=there)
    seen = set(models)
    level = list(models)
    while level:
        level = [row["id"] for row in reader.rows(sql, [level]) if row["id"] not in seen]
        seen.update(level)
        if level:
            yield level


def with_all(reader: Reader, models: Sequence[str], direction: Direction) -> list[str]:
    """Models and all that lie in one direction of them, each once, nearest first."""
    found = list(dict.fromkeys(models))
    for level in generations(reader, found, direction):
        found += level
    return found
