"""Exports: a whole catalog as a folder of Parquet files, one of each table, and back.

`manifest.json` says which version of the schema the tables are of, and of each file its rows and its SHA-256. Rows keep the
order in which they are stored. The record of a file's own migrations and of its views stays where it is. Everything
read back is taken to be hostile: nothing is written to a catalog before the whole folder was found right.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.catalog import Catalog, now
from registry.catalog_file import opened
from registry.database import Reader, Transaction
from registry.documents import open_file, read_json
from registry.errors import (
    BadDocument,
    BadExport,
    CatalogTooNew,
    NotEnoughDisk,
    OutputExists,
    RunFailed,
    Unreadable,
)
from registry.migration import migrate
from registry.parquet import columns_of, copy_out, read_into
from registry.resources import migrations
from registry.scratch import scratch
from registry.sources import UNFINISHED
from registry.version import VERSION
from registry.whole_file import put_in_place, sync

FORMAT = "homolog-export-1"
"""What a manifest says that it is."""

MANIFEST = "manifest.json"

_OF_THE_FILE = ("migration",)
"""Tables that say something of the catalog's file and not of models."""

_LASTING = {"setting": "where key <> 'views'"}
"""What of a table's rows is of models."""

_BLOCK_BYTES = 1 << 20
_DIGITS = 64


@dataclass(frozen=True)
class Export:
    """What was written or read.

    Attributes:
        folder: where.
        version: of the schema.
        rows: table → number of rows, by name.
        n_bytes: of the Parquet files.
    """

    folder: Path
    version: int
    rows: dict[str, int]
    n_bytes: int

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        tables = [{"table": name, "rows": n} for name, n in self.rows.items()]
        return {"folder": str(self.folder), "version": self.version, "bytes": self.n_bytes, "tables": tables}  # fmt: skip


def is_export(folder: Path) -> bool:
    """Tell whether a folder says that it holds an export."""
    return (folder / MANIFEST).is_file()


def export(catalog: Catalog, output: Path) -> Export:
    """Write a catalog as it is at one moment; the folder is there when it is whole.

    Raises:
        OutputExists: the folder is there and not empty.
        NotEnoughDisk, RunFailed: the system refuses; nothing is left.
        CatalogMissing, CatalogLocked: as `registry.database.Database.read`.
    """
    target = output.expanduser().absolute()
    with _unfinished(target) as folder, catalog.read() as reader:
        version = migrations()[-1][0]
        tables = {name: _written(reader, name, folder) for name in _tables(reader)}
        manifest = {
            "format": FORMAT, "version": version, "made_by": f"homolog {VERSION}", "made_at": now().isoformat(), "tables": tables,
        }  # fmt: skip
        text = json.dumps(manifest, indent=1) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8")
    rows = {name: told["rows"] for name, told in tables.items()}
    return Export(target, version, rows, sum(told["bytes"] for told in tables.values()))


def take_in(catalog: Catalog, folder: Path) -> Export:
    """Read an export into a catalog that knows nothing yet: all of it, or nothing.

    Raises:
        BadExport: a file that is missing, too much, or not what the manifest says; tables of other columns; rows whose key
            another has, or that lack a value.
        CatalogTooNew: it was written by a newer Homolog.
        OutputExists: the catalog has rows.
        CatalogLocked, CatalogDamaged, NotEnoughDisk: as `registry.database.Database.write`.
    """
    _refuse_full(catalog)
    manifest = _manifest(folder)
    with scratch(catalog.path) as stage:
        staged = stage / "rows.duckdb"
        with opened(staged, catalog.path) as connection:
            migrate(connection, staged, manifest.version)
            _check_tables(connection, folder, manifest)
            for name in manifest.tables:
                _read(connection, folder, name, manifest)
            migrate(connection, staged)
        with catalog.write() as transaction:
            _refuse_rows(catalog, transaction)
            rows = _moved(transaction, staged)
    n_bytes = sum(told["bytes"] for told in manifest.tables.values())
    return Export(folder, manifest.version, rows, n_bytes)


@dataclass(frozen=True)
class _Manifest:
    """What a manifest says.

    Attributes:
        version: of the schema; one that we know.
        tables: name → rows, bytes and sha256 of its file.
    """

    version: int
    tables: dict[str, dict[str, Any]]


def _tables(reader: Reader) -> list[str]:
    """The tables that are exported."""
    rows = reader.rows(
        "select table_name as name from duckdb_tables() where schema_name = 'store' "
        "and database_name = current_database() order by 1"
    )
    return [row["name"] for row in rows if row["name"] not in _OF_THE_FILE]


def _written(reader: Reader, name: str, folder: Path) -> dict[str, Any]:
    """Write one table; return what the manifest says of it."""
    file = folder / f"{name}.parquet"
    what = f"select * from store.{name} {_LASTING.get(name, '')}"
    copy_out(reader.connection, what, file)
    (counted,) = reader.rows(f"select count(*) as n from ({what})")
    return {"rows": counted["n"], "bytes": file.stat().st_size, "sha256": _sha256(file)}


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A folder beside a target that takes its name when the block ends well, and goes when it does not."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        message = f"{target} exists and is not empty"
        raise OutputExists(message, hint="choose another folder, or remove it first")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(
            tempfile.mkdtemp(prefix=f".{target.name}.", suffix=UNFINISHED, dir=target.parent)
        )
    except OSError as error:
        raise _refused(target, error) from error
    try:
        yield folder
        for path in (*sorted(folder.iterdir()), folder):
            sync(path)
        folder.chmod(0o755)
        put_in_place(folder, target)
    except OSError as error:
        raise _refused(target, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refused(target: Path, error: OSError) -> NotEnoughDisk | RunFailed:
    """The error for what the system refuses."""
    message = f"cannot write {target}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NotEnoughDisk(message, hint="free some space, or choose another folder")
    return RunFailed(message)


def _sha256(file: Path) -> str:
    """SHA-256 of a file, hex."""
    hasher = hashlib.sha256()
    with open_file(file) as (descriptor, _):
        while block := os.read(descriptor, _BLOCK_BYTES):
            hasher.update(block)
    return hasher.hexdigest()


def _manifest(folder: Path) -> _Manifest:
    """The manifest of a folder, whose files are those that it names."""
    where = folder / MANIFEST
    try:
        document = read_json(where)
    except (BadDocument, Unreadable) as error:
        raise BadExport(error.message, hint="reg export DIR makes a folder with one") from error
    said = document if isinstance(document, dict) else {}
    version, tables = said.get("version"), said.get("tables")
    if said.get("format") != FORMAT or type(version) is not int or not isinstance(tables, dict):
        message = f"{where}: has the format {str(said.get('format'))[:80]!r}; it must be {FORMAT} with a version and tables"
        raise BadExport(message)
    newest = migrations()[-1][0]
    if version > newest:
        message = f"{where}: has schema version {version}; this Homolog knows up to {newest}"
        raise CatalogTooNew(message, hint="pip install --upgrade homolog")
    if version < 1:
        message = f"{where}: has schema version {version}; the first is 1"
        raise BadExport(message)
    for name, told in tables.items():
        _check_entry(where, name, told)
    _check_files(folder, sorted(tables))
    return _Manifest(version, {name: tables[name] for name in sorted(tables)})


def _check_entry(where: Path, name: str, told: Any) -> None:
    """Refuse an entry of a manifest that makes no sense."""
    counts = [told.get("rows"), told.get("bytes")] if isinstance(told, dict) else []
    digest = told.get("sha256") if isinstance(told, dict) else None
    sound = len(counts) > 1 and all(type(n) is int and n >= 0 for n in counts)
    if not sound or not isinstance(digest, str) or len(digest) != _DIGITS:
        message = f"{where}: table {name[:80]!r} must have rows, bytes and a sha256"
        raise BadExport(message)


def _check_files(folder: Path, tables: Sequence[str]) -> None:
    """Refuse a folder with other Parquet files than its manifest names."""
    there = {path.stem for path in folder.glob("*.parquet")}
    lacking, strange = sorted(set(tables) - there), sorted(there - set(tables))
    if lacking or strange:
        what = f"lacks {lacking[0]}.parquet" if lacking else f"holds {strange[0]}.parquet, which the manifest does not name"  # fmt: skip
        message = f"{folder}: {what}"
        raise BadExport(message, hint="make the export again, or take it from where it is whole")


def _check_tables(connection: Any, folder: Path, manifest: _Manifest) -> None:
    """Refuse tables that a schema of this version does not have, or the lack of one that it has."""
    rows = connection.execute("select table_name from duckdb_tables() where schema_name = 'store'")
    expected = {name for (name,) in rows.fetchall()} - set(_OF_THE_FILE)
    for name in sorted(expected ^ manifest.tables.keys()):
        does = "lacks" if name in expected else "has"
        message = f"{folder}: {does} table {name[:80]!r}; schema version {manifest.version} exports {', '.join(sorted(expected))}"
        raise BadExport(message)


def _read(connection: Any, folder: Path, name: str, manifest: _Manifest) -> None:
    """Read one table into the staged catalog, once it is known to be what the manifest says."""
    file, told = folder / f"{name}.parquet", manifest.tables[name]
    columns = connection.execute(
        "select column_name, data_type from duckdb_columns() where schema_name = 'store' and table_name = ? "
        "order by column_index",
        [name],
    ).fetchall()
    if file.stat().st_size != told["bytes"] or _sha256(file) != told["sha256"]:
        message = f"{file}: its bytes are not those that the manifest tells by SHA-256"
        raise BadExport(message, hint="make the export again, or take it from where it is whole")
    found = columns_of(file)
    if sorted(found) != sorted(columns):
        wrong = min(set(found) ^ set(columns), default=("a column", "twice"))
        message = f"{file}: has other columns than table {name} of schema version {manifest.version}: {' '.join(wrong)[:200]}"
        raise BadExport(message)
    n_rows = read_into(connection, f"store.{name}", file)
    if n_rows != told["rows"]:
        message = f"{file}: has {n_rows} rows; the manifest says {told['rows']}"
        raise BadExport(message)


def _refuse_full(catalog: Catalog) -> None:
    """Refuse a catalog that has rows, before anything is read."""
    if catalog.path.exists() and catalog.path.stat().st_size:
        with catalog.read() as reader:
            _refuse_rows(catalog, reader)


def _refuse_rows(catalog: Catalog, reader: Reader) -> None:
    """Refuse a catalog that has rows."""
    for name in _tables(reader):
        (row,) = reader.rows(f"select count(*) as n from store.{name} {_LASTING.get(name, '')}")
        if row["n"]:
            message = f"catalog {catalog.path} knows something already: {row['n']} rows of {name}"
            raise OutputExists(message, hint="name a new one: reg --catalog NEW import DIR")


def _moved(transaction: Transaction, staged: Path) -> dict[str, int]:
    """Copy all rows of the staged catalog; table → how many."""
    quoted = str(staged).replace("'", "''")
    transaction.execute(f"attach '{quoted}' as incoming (read_only)")
    moved = {}
    for name in _tables(transaction):
        sql = f"insert into store.{name} by name select * from incoming.store.{name} {_LASTING.get(name, '')}"
        moved[name] = transaction.execute(sql)
    return moved
