"""Generations: up or down the edges of the catalog from some models.

Edges hold small numbers of their ends (`registry.numbering`). One step up or down is a look at those of all edges: a few
milliseconds where there are a million, which an index takes for ten models.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from registry.database import Reader

Direction = Literal["ancestors", "descendants"]

_ENDS = {"ancestors": ("child", "parent"), "descendants": ("parent", "child")}
"""Which end of an edge is at hand, and which is looked for."""

_NUMBERS = "unnest(cast(cast(? as json) as integer[]))"

_NEAR = f"""
with recursive near(number) as (
    select {_NUMBERS} union select e.{{there}}_number from near n join store.edge e on e.{{here}}_number = n.number
    where e.{{there}}_number is not null
), kept as materialized (from near)
select (select count(*) from kept) as n,
       (select list(number) from (select number from kept limit ?)) as numbers"""

_WITHIN = """
with recursive near(number, level) as (
    select number, 0 from store.model where id = ?
    union select e.{there}_number, n.level + 1 from near n join store.edge e on e.{here}_number = n.number
    where e.{there}_number is not null and n.level < ?
) select count(distinct number) - 1 as n from near"""

_EDGES = f"""
select {{here}}_number as here, {{there}}_number as there from store.edge
where {{there}}_number is not null and {{here}}_number in (select {_NUMBERS})"""

_STEP = f"""
select distinct {{there}}_number as number from store.edge
where {{there}}_number is not null and {{here}}_number in (select {_NUMBERS})"""

# Ids are read of the rows that are found, and not on the way there.
_OF_NUMBERS = f"""
select number, id from store.model
where rowid in (select rowid from store.model where number in (select {_NUMBERS}))"""
_OF_IDS = "select number, id from store.model where id in (select store.each(?))"


@dataclass(frozen=True)
class Near:
    """Models that lie in one direction of some.

    Attributes:
        total: how many there are.
        generations: nearest first: of each, ids that no nearer one has, in order; none where there are too many.
    """

    total: int
    generations: list[list[str]]


def near(
    reader: Reader, models: Sequence[str], direction: Direction, *, most: int | None = None
) -> Near:
    """The generations around models.

    Args:
        reader: of the catalog.
        models: ids; they are in no generation, even where claims form a cycle.
        direction: up or down.
        most: more models than this, those at hand counted, are only counted; None: all are read.
    """
    level = {row["number"] for row in reader.rows(_OF_IDS, [list(models)])}
    found = reader.rows(_sql(_NEAR, direction), [sorted(level), most])[0]
    total = found["n"] - len(level)
    if not total or (most is not None and found["n"] > most):
        return Near(total, [])
    edges: dict[int, list[int]] = defaultdict(list)
    for row in reader.rows(_sql(_EDGES, direction), [found["numbers"]]):
        edges[row["here"]].append(row["there"])
    names, levels = ids(reader, found["numbers"]), list[list[str]]()
    seen = set(level)
    while level := {there for here in level for there in edges.get(here, ())} - seen:
        seen |= level
        levels.append(sorted(names[number] for number in level))
    return Near(total, levels)


def steps(reader: Reader, model: str, direction: Direction) -> Iterator[list[int]]:
    """The same of one model as numbers, read one by one: for those who want only the first ones of many."""
    level = [row["number"] for row in reader.rows(_OF_IDS, [[model]])]
    seen = set(level)
    while level:
        found = reader.rows(_sql(_STEP, direction), [level])
        level = sorted({row["number"] for row in found} - seen)
        seen.update(level)
        if level:
            yield level


def count_within(reader: Reader, model: str, direction: Direction, depth: int) -> int:
    """How many models lie in one direction of one, not further than so many generations."""
    return int(reader.rows(_sql(_WITHIN, direction), [model, depth])[0]["n"])


def ids(reader: Reader, numbers: Collection[int]) -> dict[int, str]:
    """The ids of models by their numbers."""
    if not numbers:
        return {}
    return {row["number"]: row["id"] for row in reader.rows(_OF_NUMBERS, [list(numbers)])}


def with_all(reader: Reader, models: Sequence[str], direction: Direction) -> list[str]:
    """Models and all that lie in one direction of them, each once, nearest first."""
    found = list(dict.fromkeys(models))
    return [*found, *chain.from_iterable(near(reader, found, direction).generations)]


def _sql(text: str, direction: Direction) -> str:
    """A query in one direction."""
    here, there = _ENDS[direction]
    return text.format(here=here, there=there)
