"""Indexes of a catalog beside its tables: DuckDB has lost rows of a killed process's log from them, but not from the tables.

Queries by a key that an index lacks find nothing then, and nobody is told. Those who open a catalog by `registry.database`
are safe from it; those who open it with DuckDB's own tools are not.
"""

from collections.abc import Iterator

from registry.database import Reader
from registry.finding import Finding, examples
from registry.structure import MADE_ANEW

_LATEST = 256  # keys that were added last, of each index

_OURS = """
select table_name, index_name, trim(expressions::varchar, '[]''"') as key from duckdb_indexes()
where schema_name = 'store' and database_name = current_database() and not is_primary and regexp_full_match(key, '[a-z_]+')
order by table_name, index_name"""


def broken_indexes(reader: Reader) -> Iterator[Finding]:
    """Indexes that do not find the rows which were added last: their keys are looked up one by one.

    Args:
        reader: of a catalog whose structure is right, and all of whose tables can be read.
    """
    for row in reader.rows(_OURS):
        table, name, key = row["table_name"], row["index_name"], row["key"]
        lost = _lost(reader, table, key)
        if lost:
            detail = f"does not find rows that are in the table: {examples(lost, len(lost))}"
            yield Finding(
                "broken_index", f"{table}.{name}", len(lost), detail, repair=MADE_ANEW,
                can_repair=True, needs_rebuild=True,
            )  # fmt: skip


def _lost(reader: Reader, table: str, key: str) -> list[str]:
    """The latest keys of which an index does not find every row; keys that are worked with are looked up in no index."""
    there = reader.rows(
        f"with latest as (select {key} as k from store.{table} where {key} is not null order by rowid desc limit {_LATEST}) "
        f"select {key} as k, count(*) as n from store.{table} where concat({key}, '') in (select concat(k, '') from latest) "
        "group by 1 order by 1"
    )
    by_index = f"select count(*) as n from store.{table} where {key} = ?"
    return [str(row["k"]) for row in there if reader.rows(by_index, [row["k"]])[0]["n"] != row["n"]]
