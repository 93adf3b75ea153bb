"""Relatives: what a model descends from and what descends from it, all of them counted, the nearest named.

A base model may have hundreds of thousands of descendants. How many there are is told of all; of more than somebody
wants to see the nearest are given, and of the generation that is then cut the most downloaded.
"""

from dataclasses import dataclass
from itertools import chain, islice

from registry.catalog import Catalog
from registry.generations import Direction, count_within, ids, near, steps

LIMIT = 1_000
"""Relatives that are given in one direction, unless said otherwise."""

_MANY = 5_000
"""So many are read with all edges among them; of more, generations are read until there are enough."""

_MOST_DOWNLOADED = """
with given as materialized (
    select id from store.model
    where rowid in (select rowid from store.model where number in (select unnest(cast(cast(? as json) as integer[]))))
)
select g.id from given g left join (
    select model_id, max(downloads) as downloads from store.address
    where model_id in (select id from given) group by model_id
) a on a.model_id = g.id
order by a.downloads desc nulls last, g.id limit ?"""


_DEEPEST = 1 << 31
"""More generations than there can be models."""


@dataclass(frozen=True)
class Relatives:
    """The relatives of a model in one direction.

    Attributes:
        total: how many there are.
        nearest: ids of the nearest, in order of their distance; of one distance by id, or where some are left out, by
            downloads.
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
    depth = None if depth is None else min(depth, _DEEPEST)
    with catalog.read() as reader:
        found = near(reader, [model], direction, most=max(limit, _MANY))
        levels = found.generations[:depth]
        total = sum(map(len, levels)) or found.total
        if levels and total <= limit:
            return Relatives(total, tuple(chain.from_iterable(levels)))
        if not levels and total and depth is not None:
            total = count_within(reader, model, direction, depth)
        nearest: list[str] = []
        for level in islice(steps(reader, model, direction), depth) if total else ():
            left = limit - len(nearest)
            if len(level) <= left:
                nearest += sorted(ids(reader, level).values())
            else:
                rows = reader.rows(_MOST_DOWNLOADED, [level, left])
                nearest += [row["id"] for row in rows]
            if len(nearest) == limit:
                break
    return Relatives(total, tuple(nearest))
