"""Relatives: what a model descends from and what descends from it, counted in SQL, the nearest of them named.

A base model may have hundreds of thousands of descendants. How many there are is told of all; of more than somebody
wants to see the nearest are given, and of those equally near the most downloaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from registry.catalog import Catalog
from registry.database import Reader

Direction = Literal["ancestors", "descendants"]

LIMIT = 1_000
"""Relatives that are given in one direction, unless said otherwise."""

_ENDS = {"ancestors": ("child", "parent"), "descendants": ("parent", "child")}

_ALL = """
with recursive near(id) as (
    select ? union select e.{there} from store.edge e join near n on e.{here} = n.id
) select count(*) - 1 as n from near"""

_WITHIN = """
with recursive near(id, level) as (
    select ?, 0 union select e.{there}, n.level + 1 from store.edge e join near n on e.{here} = n.id where n.level < ?
) select count(distinct id) - 1 as n from near"""

_NEXT = """
select distinct {there} as id from store.edge
where {here} in (select store.each(?)) and {there} not in (select store.each(?))"""

_FIRST = """
select n.id from ({next}) n left join store.address a on a.model_id = n.id
group by n.id order by max(a.downloads) desc nulls last, n.id limit ?"""


@dataclass(frozen=True)
class Relatives:
    """The relatives of a model in one direction.

    Attributes:
        total: how many there are.
        nearest: ids of the nearest, in order of their distance.
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
    here, there = _ENDS[direction]
    with catalog.read() as reader:
        sql, values = (_ALL, [model]) if depth is None else (_WITHIN, [model, depth])
        total = int(reader.rows(sql.format(here=here, there=there), values)[0]["n"])
        return Relatives(
            total, tuple(_nearest(reader, model, (here, there), depth, min(limit, total)))
        )


def _nearest(
    reader: Reader, model: str, ends: tuple[str, str], depth: int | None, wanted: int
) -> list[str]:
    """Generation by generation, until there are enough."""
    following = _NEXT.format(here=ends[0], there=ends[1])
    first = _FIRST.format(next=following)
    found: list[str] = []
    level: Sequence[str] = [model]
    while len(found) < wanted and level and depth != 0:
        left = wanted - len(found)
        level = [row["id"] for row in reader.rows(first, [level, [model, *found], left])]
        found += level
        depth = None if depth is None else depth - 1
    return found
