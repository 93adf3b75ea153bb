"""Numbers of models, of the ends of edges and of addresses: what walks the graph of a million models reads no ids.

They follow from the ids: before a transaction is committed, models without a number get one, and edges and addresses those
of their models. Nobody else has to think of them; who inserts millions may give them, which is faster.
"""

from typing import Any, Protocol

NEXT_NUMBER = "(select coalesce(max(number), 0) from store.model)"
"""The largest number of a model, in SQL: those that come are given those after it."""

_WITHOUT = "select 1 from store.model where number is null limit 1"
_LOOSE = "child_number is null or parent_number is null"

_FRESH = f"""
create or replace temp table fresh as
select id, cast({NEXT_NUMBER} + row_number() over (order by id) as integer) as number
from store.model where number is null"""

_NUMBERED = "update store.model set number = fresh.number from fresh where model.id = fresh.id"

_TIED = (  # the rows of these models may have been made anew, under edges and addresses that stayed
    "update store.address set model_number = fresh.number from fresh where address.model_id = fresh.id",
    "update store.edge set child_number = fresh.number from fresh where edge.child = fresh.id",
    "update store.edge set parent_number = fresh.number from fresh where edge.parent = fresh.id",
)

_NEW_EDGES = (
    "update store.edge set child_number = m.number from store.model m where child_number is null and child = m.id",
    "update store.edge set parent_number = m.number from store.model m where parent_number is null and parent = m.id",
)


_NEW_ADDRESSES = "update store.address set model_number = m.number from store.model m where model_number is null and model_id = m.id"


class Connection(Protocol):
    """An open connection, as far as it is needed here."""

    def execute(self, query: str, /) -> Any:
        """Run a statement."""


def settle(connection: Connection) -> None:
    """Give numbers to models, edges and addresses that have none; where all have them, three looks at what tells so.

    Law: afterwards the numbers of models differ, and those of every edge and address are those of its models.
    """
    if connection.execute(_WITHOUT).fetchone():
        connection.execute(_FRESH)
        connection.execute(_NUMBERED)
        for sql in _TIED:
            connection.execute(sql)
        connection.execute("drop table fresh")
    if connection.execute(f"select 1 from store.edge where {_LOOSE} limit 1").fetchone():
        for sql in _NEW_EDGES:
            connection.execute(sql)
    if connection.execute(
        "select 1 from store.address where model_number is null limit 1"
    ).fetchone():
        connection.execute(_NEW_ADDRESSES)
