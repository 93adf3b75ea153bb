"""Relatives: what a model descends from and what descends from it, all of them counted, the nearest named.

A base model may have hundreds of thousands of descendants. How many there are is told of all; of more than somebody
wants to see the nearest are given, and of the generation that is then cut the most downloaded.
"""

from dataclasses import dataclass
from itertools import islice

from registry.catalog import Catalog
from registry.database import Reader
from registry.generations import ENDS, Direction, generations

LIMIT = 1_000
"""Relatives that are given in one direction, unless said otherwise."""

_MANY = 5_000
"""So many are counted generation by generation; where there are more, all edges are read once instead."""

# Numbers of 64 bits stand for ids, which are eight times as long; that two of a million meet is as likely as 1 in 10⁷.
_LINKS = (
    "link as materialized (select hash({here}) as here, hash({there}) as there from store.edge)"
)

_ALL = f"""
with recursive {_LINKS}, near(id) as (
    select hash(cast(? as varchar)) union select l.there from link l join near n on l.here = n.id
) select count(*) - 1 as n from near"""

_WITHIN = f"""
with recursive {_LINKS}, near(id, level) as (
    select hash(cast(? as varchar)), 0
    union select l.there, n.level + 1 from link l join near n on l.here = n.id where n.level < ?
) select count(distinct id) - 1 as n from near"""

_MOST_DOWNLOADED = """
with given as materialized (select store.each(?) as id)
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
    nearest: list[str] = []
    n_found = 0
    with catalog.read() as reader:
        for level in islice(generations(reader, [model], direction), depth):
            n_found += len(level)
            left = limit - len(nearest)
            if len(level) > left > 0:
                rows = reader.rows(_MOST_DOWNLOADED, [level, left])
                nearest += [row["id"] for row in rows]
            elif left:
                nearest += level
            if n_found > max(limit, _MANY):
                n_found = _count(reader, model, direction, depth)
                break
    return Relatives(n_found, tuple(nearest))


def _count(reader: Reader, model: str, direction: Direction, depth: int | None) -> int:
    """How many relatives there are, by one look at all edges."""
    here, there = ENDS[direction]
    sql, values = (_ALL, [model]) if depth is None else (_WITHIN, [model, depth])
    return int(reader.rows(sql.format(here=here, there=there), values)[0]["n"])
