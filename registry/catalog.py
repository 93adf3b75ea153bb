"""The catalog: what is known of models, as nouns in and rows out.

Who writes: `scan`, `resolve`, `stats`, `merge`, `score`, each in short transactions. Who reads: everybody.
Ids are hex digests; wherever a model is asked for, an id, the beginning of one, a name, a path or an @alias will do.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from registry.checkpoint import Checkpoint, read_checkpoint
from registry.column import Column
from registry.database import WAIT_SECONDS, Database, Reader, Row, Transaction
from registry.errors import (
    AmbiguousModel,
    BadAddress,
    CatalogChanged,
    CatalogMissing,
    FileChanged,
    UnknownAlias,
    UnknownModel,
)
from registry.file_ref import list_files
from registry.names import ALIAS, CACHE, HUB, is_alias, is_there, typed_path

ID_DIGITS = 12
"""How many digits of an id people are shown."""

DECISIVE = frozenset(("safetensors", "index", "config", "adapter_config"))
"""Formats of the files that decide what a model computes; others, like its card, may change under it."""

_SHORTEST_PREFIX = 4
_KEYS = {"address": "model_id", "model": "id", "claim": "resolved_id"}


class Record(Protocol):
    """A typed row: an instance of a class of `registry.records`."""

    __tablename__: ClassVar[str]

    def model_dump(self) -> Row:
        """Its columns and their values."""
        ...


def default_path() -> Path:
    """Where the catalog is: $REG_CATALOG, else `.reg/` of the nearest parent folder that has one, else the user's.

    Raises:
        CatalogMissing: nobody knows the user's home.
    """
    named = os.environ.get("REG_CATALOG")
    if named:
        return typed_path(named)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if os.path.isdir(folder / ".reg"):  # noqa: PTH112 - unlike Path.is_dir, never raises
            return folder / ".reg" / "catalog.duckdb"
    try:
        return _users_own() / "homolog" / "catalog.duckdb"
    except RuntimeError as error:
        message = "there is no place for the catalog: this user has no home folder"
        raise CatalogMissing(message, hint="name a file in REG_CATALOG") from error


def _users_own() -> Path:
    """Where a user's programs keep their data.

    Raises:
        RuntimeError: nobody knows the user's home.
    """
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


def _real(text: str) -> str:
    """What a user typed as an absolute path without links, as addresses are stored; of no path, anything."""
    path = os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111 - as `names.parse`
    return os.path.realpath(path) if is_there(path) else path


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def still_models(reader: Reader, ids: Iterable[str]) -> set[str]:
    """Those of some ids that are models: what was known by its headers only may have been read whole meanwhile.

    Who works for long writes nothing about the others, which have other ids now.
    """
    rows = reader.rows(
        "select id from store.model where id in (select store.each(?))", [sorted(set(ids))]
    )
    return {row["id"] for row in rows}


class Catalog:
    """One catalog file.

    Attributes:
        path: of the file; it is made by the first write.
        staged: id → checkpoint of models that are read from elsewhere, as long as whoever put it there lets it be.
    """

    def __init__(self, path: Path | None = None, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self.database = Database(path or default_path(), wait_seconds=wait_seconds)
        self.path = self.database.path
        self.staged: dict[str, Checkpoint] = {}

    @property
    def is_made(self) -> bool:
        """Whether there is a catalog; an empty file is none."""
        return self.database.is_made

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """The rows of one of our own read-only queries."""
        return self.database.rows(sql, parameters)

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """One short connection for several queries, all of which see the same moment."""
        with self.database.read() as reader:
            yield reader

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """One short write transaction."""
        with self.database.write() as transaction:
            yield transaction

    def find(self, text: str) -> str:
        """The id of the model that ``text`` names: an address, a name, an id or the beginning of one, or an @alias.

        Raises:
            UnknownModel: with the nearest names; of an alias, `UnknownAlias`.
            AmbiguousModel: with every model it could be.
        """
        if is_alias(text):
            return self._aliased(text)
        path = _real(text)
        name = text.removeprefix(HUB).removeprefix(CACHE)
        ways: tuple[tuple[str, str, list[object]], ...] = (
            ("address", "uri in (?, ?)", [text, path]),
            ("address", "root = ? and source <> 'listing'", [path]),
            ("model", "id = ?", [text]),
            ("address", "lower(name) = lower(?)", [name]),
            (
                "model",
                "starts_with(id, ?) and length(?) >= ?",
                [text.lower(), text, _SHORTEST_PREFIX],
            ),
            ("address", "ends_with(root, '/' || ?)", [text]),
            ("claim", "lower(object) = lower(?) and resolved_id is not null", [name]),
            ("model", "lower(called) = lower(?)", [name]),
        )
        with self.read() as reader:
            found = (
                reader.rows(f"select {_KEYS[table]} as id from store.{table} where {where}", values)
                for table, where, values in ways
            )
            ids = sorted({row["id"] for row in next((rows for rows in found if rows), [])})
        if not ids:
            self._unknown(text)
        if len(ids) > 1:
            places = self.rows(
                "select model_id, min(uri) as uri from store.address "
                "where model_id in (select store.each(?)) group by 1 order by 2 limit 8",
                [ids],
            )
            listed = "; ".join(f"{p['model_id'][:ID_DIGITS]} at {p['uri']}" for p in places)
            message = f"{text!r} names {len(ids)} models: {listed}"
            raise AmbiguousModel(message, hint="give the path or the beginning of the id")
        return str(ids[0])

    def _aliased(self, text: str) -> str:
        """The id of the model that an alias names; errors as `find`."""
        with self.read() as reader:
            rows = reader.rows(
                "select model_id from store.alias where name = ?", [text.removeprefix(ALIAS)]
            )
            if not rows:
                raise unknown_alias(reader, self.path, text)
        return str(rows[0]["model_id"])

    def _unknown(self, text: str) -> None:
        """Say that ``text`` names nothing, with the nearest name."""
        rows = self.rows(
            "select distinct name from store.address "
            "order by jaro_winkler_similarity(lower(name), lower(?)) desc, name limit 50",
            [text],
        )
        near = get_close_matches(text, [str(row["name"]) for row in rows], n=1)
        if self.rows("select 1 from store.alias where name = ?", [text]):
            near = [ALIAS + text]
        message = f"no model in catalog {self.path} is called {text!r}"
        if near:
            raise UnknownModel(message, hint=f"did you mean {near[0]}?")
        exists = is_there(_real(text)) or text.startswith(HUB)
        hint = f"reg scan {text}" if exists else "reg ls lists the models"
        raise UnknownModel(message, hint=hint)

    def name(self, model_id: str) -> str:
        """The name people know a model by; the beginning of its id where it has none."""
        rows = self.rows("select name from store.nodes(?)", [[model_id]])
        return str(rows[0]["name"]) if rows else model_id[:ID_DIGITS]

    def checkpoint(self, model_id: str) -> Checkpoint:
        """The files of a model, from the first of its addresses whose weights are as they were when scanned.

        Raises:
            BadAddress: none of its addresses exists.
            FileChanged: the files are not those that were scanned.
        """
        rows = self.rows(
            "select a.root, f.path, f.size_bytes, f.mtime_ns from store.address a "
            "join store.file f using (uri) where a.model_id = ? and ((a.layout = 'file' "
            "and f.format <> 'card') or f.format in (select store.each(?))) order by a.uri, f.path",
            [model_id, sorted(DECISIVE)],
        )
        recorded: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
        for row in rows:
            recorded[row["root"]][row["path"]] = (row["size_bytes"], row["mtime_ns"])
        changed = ""
        for root, expected in recorded.items():
            folder = Path(root)
            if not is_there(folder):
                continue
            files = list_files(folder)
            decisive = (f for f in files if f.format in DECISIVE or f.path in expected)
            if {f.path: (f.size_bytes, f.mtime_ns) for f in decisive} == expected:
                return read_checkpoint(folder, files)
            changed = root
        if model_id in self.staged:
            return self.staged[model_id]
        name = self.name(model_id)
        if changed:
            message = f"the files of {name} at {changed} changed since they were scanned"
            raise FileChanged(message, hint=f"reg scan {changed}")
        afar = [root for root in recorded if root.startswith(HUB)]
        if afar:
            message = f"the files of {name} are on the Hub ({afar[0]}) and not here"
            raise BadAddress(
                message, hint=f"give {afar[0]} in the place of its name to download it"
            )
        places = ", ".join(recorded) or "no place at all"
        message = f"the files of {name} are gone; the catalog knows of {places}"
        raise BadAddress(message, hint="reg scan the folder where they are now")


def unknown_alias(reader: Reader, catalog: Path, text: str) -> UnknownAlias:
    """The error for an alias that is not there, with the nearest one; ``text`` may begin with its @."""
    name = text.removeprefix(ALIAS)
    rows = reader.rows(
        "select name from store.alias order by jaro_winkler_similarity(name, lower(?)) desc, name limit 50",
        [name[:80]],
    )
    near = get_close_matches(name[:80].lower(), [str(row["name"]) for row in rows], n=1)
    message = f"no alias in catalog {catalog} is called {name[:80]!r}"
    if near:
        return UnknownAlias(message, hint=f"did you mean {ALIAS}{near[0]}?")
    if is_alias(text) and is_there(text):
        return UnknownAlias(message, hint=f"./{text} is the file or folder of that name")
    hint = "reg alias ls lists them" if rows else "reg alias set NAME MODEL makes one"
    return UnknownAlias(message, hint=hint)


def refuse_lost(transaction: Transaction, models: Iterable[str]) -> None:
    """Refuse to write about models that the catalog no longer has under these ids.

    Raises:
        CatalogChanged: naming one of them.
    """
    wanted = set(models)
    lost = sorted(wanted - still_models(transaction, wanted))
    if lost:
        message = (
            f"model {lost[0][:ID_DIGITS]} was scanned whole meanwhile and has another id now, or the catalog "
            "was replaced"
        )
        raise CatalogChanged(message, hint="run the same command again")


class Columns:
    """Collects typed rows of many tables and inserts each table's rows in one go."""

    def __init__(self) -> None:
        self._columns: dict[str, dict[str, list[object]]] = {}

    def add(self, records: Iterable[Record]) -> None:
        """Collect rows; their class says which table they belong to."""
        rows: dict[str, list[Row]] = defaultdict(list)
        for record in records:
            rows[record.__tablename__].append(record.model_dump())
        for table, of_table in rows.items():
            self.add_rows(table, of_table)

    def add_rows(self, table: str, rows: Iterable[Row]) -> None:
        """Collect many rows of one table as dicts of its columns; where there are many, objects cost too much."""
        rows = rows if isinstance(rows, list) else list(rows)
        self.add_columns(
            table, {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
        )

    def add_columns(self, table: str, columns: Mapping[str, Column]) -> None:
        """Collect rows of one table as columns of equal length; where there are very many, dicts cost too much.

        All rows of a table have the same columns.
        """
        held = self._columns.setdefault(table, {})
        for name, values in columns.items():
            held.setdefault(name, []).extend(values)

    def insert(
        self, transaction: Transaction, conflict: Literal["nothing", "replace", "error"]
    ) -> None:
        """Insert all that was collected, tables in the order in which they were first met."""
        for table, columns in self._columns.items():
            transaction.insert(table, columns, conflict)
        self._columns.clear()
