"""Relatives: what a model descends from and what descends from it, all of them counted, the nearest named.

A base model may have hundreds of thousands of descendants. How many there are is told of all; of more than somebody
wants to see the nearest are given, and of the generation that is then cut the most downloaded.
"""

from dataclasses import dataclass
from itertools import accumulate, chain

from registry.catalog import Catalog
from registry.generations import Direction, generations, ids

LIMIT = 1_000
"""Relatives that are given in one direction, unless said otherwise."""

_MOST_DOWNLOADED = """
select a.number from asked a left join store.address b on b.model_number = a.number
group by 1 order by max(b.downloads) desc nulls last, 1 limit ?"""


@dataclass(frozen=True)
class Relatives:
    """The relatives of a model in one direction.

    Attributes:
        total: how many there are.
        nearest: ids of the nearest, in order of their distance; of one distance by id, or where some are left out, by
            downloads, and of equal ones as they came into the catalog.
    """

    total: int
    nearest: tuple[str, ...]


def relatives(
    catalog: Catalog, model: str, direction: Direction, *, depth: int | None = None, limit: int = LIMIT
) -> Relatives:  # fmt: skip
    """Find the relatives of a model.

    Args:
        catalog: what is known.
        model: id.
        direction: up or down.
        depth: generations that count; None: all.
        limit: how many are given at most.
    """
    with catalog.read() as reader:
        levels = generations(reader, [model], direction)[:depth]
        n_whole = sum(n <= limit for n in accumulate(map(len, levels)))
        names = ids(reader, list(chain.from_iterable(level.tolist() for level in levels[:n_whole])))
        nearest = [
            name
            for level in levels[:n_whole]
            for name in sorted(names[number] for number in level.tolist() if number in names)
        ]
        left = limit - len(nearest)
        if left and n_whole < len(levels):
            rows = reader.rows_for(levels[n_whole], _MOST_DOWNLOADED, [left])
            names = ids(reader, [row["number"] for row in rows])
            nearest += [names[row["number"]] for row in rows if row["number"] in names]
    return Relatives(sum(map(len, levels)), tuple(nearest))
