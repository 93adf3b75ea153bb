"""Migrations of the catalog: the version its file has, and the steps to today's."""

from pathlib import Path
from typing import Any, Protocol

from registry.errors import CatalogDamaged, CatalogTooNew
from registry.fingerprint import digest_text
from registry.resources import migrations, schema_folder

_OF_OTHERS = (
    "select 1 from duckdb_tables() union all select 1 from duckdb_views() where not internal"
)
"""Tables, or views as DuckDB makes them, in memory, of a file of JSON, CSV or Parquet that it is asked to open."""


class Connection(Protocol):
    """An open connection, as far as it is needed here."""

    def execute(self, query: str, parameters: Any = ..., /) -> Any:
        """Run a statement."""

    def begin(self) -> Any:
        """Begin a transaction."""

    def commit(self) -> Any:
        """End it."""


def is_current(connection: Connection) -> bool:
    """Tell whether the file has today's tables and views."""
    found, steps = _versions(connection), {version for version, _ in migrations()}
    has_all = found >= steps and max(found) == max(steps)
    return has_all and _views_digest(connection) == digest_text(_views())


def migrate(connection: Connection, path: Path, version: int | None = None) -> None:
    """Bring the file to today's schema: each migration that it lacks in one transaction with its own record.

    Args:
        connection: to the file.
        path: of the file.
        version: of the schema to stop at, without views; None: today's.

    Raises:
        CatalogTooNew: it was written by a newer Homolog.
        CatalogDamaged: it is the database of something else.
    """
    version_of(connection, path)
    found = _versions(connection)
    for number, file in migrations():
        if number not in found and number <= (version or number):
            connection.begin()
            connection.execute(file.read_text(encoding="utf-8"))
            connection.execute(
                "insert into store.migration values (?, ?, now())", [number, file.stem]
            )
            connection.commit()
    views = _views()
    if version is None and _views_digest(connection) != digest_text(views):
        connection.begin()
        connection.execute(views)
        connection.execute(
            "insert or replace into store.setting values ('views', ?)", [digest_text(views)]
        )
        connection.commit()


def version_of(connection: Connection, path: Path) -> int:
    """The version of the schema in a file; 0 for an empty one.

    Raises:
        CatalogTooNew: it was written by a newer Homolog.
        CatalogDamaged: it is the database of something else.
    """
    found, newest = max(_versions(connection), default=0), migrations()[-1][0]
    if found > newest:
        message = f"catalog {path} has schema version {found}; this Homolog knows up to {newest}"
        raise CatalogTooNew(message, hint="pip install --upgrade homolog")
    if not found and connection.execute(_OF_OTHERS).fetchone():
        message = (
            f"{path} is no catalog, but something else that DuckDB opens; nothing is written to it"
        )
        raise CatalogDamaged(message, hint="name another file in REG_CATALOG")
    return found


def _versions(connection: Connection) -> set[int]:
    """The migrations that were applied to the file; none for an empty file."""
    tables = connection.execute(
        "select 1 from duckdb_tables() where schema_name = 'store' and table_name = 'migration' "
        "and database_name = current_database()"
    ).fetchone()
    if not tables:
        return set()
    return {
        int(row[0]) for row in connection.execute("select version from store.migration").fetchall()
    }


def _views() -> str:
    """The text of today's views."""
    files = sorted((schema_folder() / "views").glob("*.sql"))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def _views_digest(connection: Connection) -> str:
    """The digest of the text of the views in the file; empty for a file without any."""
    found = connection.execute("select value from store.setting where key = 'views'").fetchone()
    return str(found[0]) if found else ""
