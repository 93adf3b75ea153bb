"""The use case `import`: listings → listed models, claims and what hubs count, in the catalog.

Reading and checking happen outside of the catalog, into a database of its own beside it that is gone afterwards;
then all goes in at once, in one transaction: what is interrupted or unreadable leaves nothing behind. Rows that say
what is known already are not written.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from registry.catalog import Catalog, now
from registry.column import unicode
from registry.database import Database, Row, Transaction
from registry.errors import BadListing, NotEnoughDisk
from registry.fingerprint import digest_text
from registry.listed import SOURCE, declare
from registry.listing import Listing, Parent, read_listing
from registry.listing_file import FileRow, Format, read_rows
from registry.named import NAME_DIGEST, node
from registry.names import HUB
from registry.numbering import NEXT_NUMBER
from registry.progress import SILENT, Progress
from registry.resolve import resolve_claims
from registry.scratch import scratch

_BATCH = 122_880  # rows that a database keeps together: a whole group is written once
_ROOM_MB = 2_000
_ROOM_BYTES = 1_600  # of indexes and tables, for each row
_SHOWN = 5
_LEFT_OUT, _PARTLY = "rows left out", "rows read in part"

_STAGED = """
create table store.row (
    n bigint, uri varchar, node varchar, name varchar, kind varchar, license varchar, revision varchar, task varchar,
    library varchar, downloads bigint, likes bigint, published_at varchar, modified_at varchar, says varchar,
    listing varchar, listed varchar
)"""

_ROW = (
    "n", "uri", "node", "name", "kind", "license", "revision", "task", "library", "downloads", "likes",
    "published_at", "modified_at", "says", "listing", "listed",
)  # fmt: skip


_DUE = """
create or replace temp table due as
select r.*, a.uri is null as is_new, a.known_since from incoming.store.row r
join (select max(n) as n from incoming.store.row group by node) using (n)
left join store.address a on a.uri = r.uri
where a.listed is distinct from r.listed"""

_MODELS = f"""
insert or ignore into store.model by name
select node as id, kind, 'listed' as status, name as called, ? as digest_name, cast(? as timestamptz) as created_at,
       {NEXT_NUMBER} + row_number() over (order by downloads desc nulls last, node) as number
from due order by downloads desc nulls last, node"""

_KNOWN = """
update store.model set status = 'listed', kind = due.kind, called = due.name from due
where model.id = due.node and (model.status = 'latent' or (model.status = 'listed' and (model.kind, model.called) <> (due.kind, due.name)))"""

_ADDRESSES = """
insert into store.address by name
select uri, uri as root, node as model_id, ? as source, 'folder' as layout, name, license, '{}' as config,
       coalesce(known_since, cast(? as timestamptz)) as known_since, cast(? as timestamptz) as seen_at,
       due.kind as listed_kind, revision, task, library, downloads, likes,
       cast(published_at as timestamptz) as published_at, cast(modified_at as timestamptz) as modified_at,
       says, listing, listed, m.number as model_number
from due join store.model m on m.id = node order by uri"""


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        n_rows: rows of the files, good or bad.
        n_new: models that no listing had named before.
        n_changed: models of which the files say something new.
        n_unchanged: models of which they say what is known already.
        n_repeated: rows about a model that a later row is about too; the last one counts.
        n_bad: rows that were left out.
        n_partly: rows of which something was left out.
        problems: file, kind, how many rows, and what is wrong with the first ones, in words.
    """

    n_rows: int
    n_new: int
    n_changed: int
    n_unchanged: int
    n_repeated: int
    n_bad: int
    n_partly: int
    problems: tuple[Row, ...]


@dataclass
class _Troubles:
    """What is wrong in one file: how often, and the first ones in words."""

    count: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, line: int, detail: str) -> None:
        """Note one row."""
        self.count[kind] = self.count.get(kind, 0) + 1
        shown = self.first.setdefault(kind, [])
        if len(shown) < _SHOWN:
            shown.append(
                f"line {line} {detail}" if detail.startswith("to ") else f"line {line}: {detail}"
            )

    def rows(self, file: str) -> list[Row]:
        """A row of each kind."""
        return [
            {"file": file, "kind": kind, "n_rows": n,
             "detail": "; ".join(self.first[kind]) + (f"; and {n - _SHOWN:,} more" if n > _SHOWN else "")}
            for kind, n in self.count.items()
        ]  # fmt: skip


def import_listings(
    catalog: Catalog,
    files: Sequence[Path],
    *,
    form: Format | None = None,
    progress: Progress = SILENT,
) -> ImportReport:
    """Take in all models that listings name, or none of them; of a model that is named again the last row counts.

    Args:
        catalog: where the rows go.
        files: comma-separated values or JSON lines, also gzipped.
        form: of all files; None: told from their first bytes.
        progress: told of every byte read.

    Raises:
        Unreadable: a file is missing or may not be read.
        BadListing: a file is no listing, or not one of its rows is good.
        NotEnoughDisk: the rows do not fit on the disk of the catalog.
    """
    names = [str(file.absolute()) for file in files]
    with scratch(catalog.path) as folder:
        staging = _Staging(Database(folder / "rows" / "rows.duckdb"), form, progress)
        try:
            with staging.database.write() as transaction:
                transaction.execute(_STAGED)
            for name in names:
                staging.read(name)
        except NotEnoughDisk as error:
            message = f"{catalog.path.parent}: no room for the rows of {', '.join(names)}; nothing was imported"
            raise NotEnoughDisk(message, hint=error.hint) from error
        n_named, n_new, n_due = _take_in(catalog, staging, names)
    bad = {
        kind: sum(p["n_rows"] for p in staging.problems if p["kind"] == kind)
        for kind in (_LEFT_OUT, _PARTLY)
    }
    return ImportReport(
        n_rows=staging.n_rows, n_new=n_new, n_changed=n_due - n_new, n_unchanged=n_named - n_due,
        n_repeated=staging.n_rows - bad[_LEFT_OUT] - n_named, n_bad=bad[_LEFT_OUT], n_partly=bad[_PARTLY],
        problems=tuple(staging.problems),
    )  # fmt: skip


@dataclass
class _Staging:
    """The rows of all files on their way, in a database beside the catalog."""

    database: Database
    form: Format | None
    progress: Progress
    n_rows: int = 0
    problems: list[Row] = field(default_factory=list)

    def read(self, file: str) -> None:
        """Read one file."""
        troubles, rows = _Troubles(), list[tuple[Any, ...]]()
        first = self.n_rows
        for row in read_rows(Path(file), self.form, self.progress):
            self.n_rows += 1
            try:
                listing = read_listing(_readable(row))
            except BadListing as error:
                troubles.add(_LEFT_OUT, row.line, error.message)
                continue
            if listing.wrong:
                troubles.add(_PARTLY, row.line, f"{listing.name}: {listing.wrong[0]}")
            rows.append(_row(listing, self.n_rows, file))
            if len(rows) >= _BATCH:
                self._flush(rows)
        self._flush(rows)
        n_read = self.n_rows - first
        if n_read == troubles.count.get(_LEFT_OUT, 0):
            why = "; ".join(troubles.first.get(_LEFT_OUT, ["it is empty"]))
            message = f"{file}: not one of {n_read:,} rows names a model: {why}"
            hint = "the name (org/name) stands in a column id, modelId or model_id"
            raise BadListing(message, hint=hint)
        self.problems += troubles.rows(file)

    def _flush(self, rows: list[tuple[Any, ...]]) -> None:
        """Write what was gathered, and begin anew."""
        if rows:
            with self.database.write() as transaction:
                transaction.insert("row", dict(zip(_ROW, zip(*rows, strict=True), strict=True)))
        rows.clear()


def _readable(row: FileRow) -> dict[str, Any]:
    """The values of a row.

    Raises:
        BadListing: they could not be read.
    """
    if row.values is None:
        raise BadListing(row.wrong)
    return row.values


@lru_cache(maxsize=1 << 15)  # few models are the parents of most
def _parent(parent: Parent) -> str:
    """What a row claims of a parent, as JSON."""
    return json.dumps(
        {"predicate": "base_model", "object": parent.object, "relation": parent.relation, "raw": parent.raw,
         "node": node(parent.name)}
    )  # fmt: skip


@lru_cache(maxsize=1 << 10)
def _license(text: str) -> str:
    """What a row claims of a licence, as JSON."""
    return json.dumps({"predicate": "license", "object": text, "raw": text})


def _row(listing: Listing, n: int, file: str) -> tuple[Any, ...]:
    """The values of `_ROW`; the last is over all but the file, so that a copy of a listing says nothing new."""
    said = [*map(_parent, listing.parents), *map(_license, listing.licenses)]
    facts = (
        listing.kind, next(iter(listing.licenses), None), listing.revision, listing.task, listing.library,
        listing.downloads, listing.likes, listing.published_at, listing.modified_at,
        f"[{', '.join(said)}]" if said else None,
    )  # fmt: skip
    digest = digest_text("\0".join(map(str, (listing.name, *facts))))
    return n, HUB + listing.name, node(listing.name), listing.name, *facts, file, digest


def _take_in(catalog: Catalog, staging: _Staging, files: Sequence[str]) -> tuple[int, int, int]:
    """Write in one transaction all that is not known yet.

    Returns:
        (models that are named, those that no listing named before, those of which something is written).
    """
    with ExitStack() as stack:
        transaction = stack.enter_context(catalog.write())
        transaction.execute(
            f"attach '{str(staging.database.path).replace(chr(39), chr(39) * 2)}' as incoming (read_only)"
        )
        room = max(_ROOM_MB, staging.n_rows * _ROOM_BYTES // 1_000_000)
        transaction.execute(f"set memory_limit = '{room}MB'")  # what is more waits on the disk
        transaction.execute(_DUE)
        counts = transaction.rows(
            "select (select count(distinct node) from incoming.store.row) as named, "
            "count(*) filter (is_new) as new, count(*) as due from due"
        )[0]
        _tell(transaction, files, staging.problems)
        if counts["due"]:
            _write(transaction)
            resolve_claims(transaction)
    return counts["named"], counts["new"], counts["due"]


def _write(transaction: Transaction) -> None:
    """Write the rows that are due, in the place of what the same addresses said before."""
    again = "select uri from due where not is_new"
    for table in ("address", "claim"):
        transaction.execute(f"delete from store.{table} where uri in ({again})")
    # of a name that is written otherwise now, one address stays
    transaction.execute(
        "delete from store.address where source = ? and model_id in (select node from due where is_new) "
        "and model_id in (select id from store.model where status = 'listed')",
        [SOURCE],
    )
    transaction.execute(_MODELS, [NAME_DIGEST, now()])
    transaction.execute(_KNOWN)
    transaction.execute(_ADDRESSES, [SOURCE, now(), now()])
    declare(transaction, "select node from due")


def _tell(transaction: Transaction, files: Sequence[str], problems: Sequence[Row]) -> None:
    """Keep what is wrong with the files among the problems; what was wrong with them before is forgotten."""
    uris = [unicode(f"{SOURCE}:{file}") for file in files]
    known = transaction.rows(
        "select uri, file, error, detail from store.problem where uri in (select store.each(?)) order by all",
        [uris],
    )
    found = sorted(
        (
            {"uri": unicode(f"{SOURCE}:{row['file']}"), "file": row["kind"], "error": BadListing.__name__,
             "detail": f"{row['n_rows']:,} {row['kind']}: {row['detail']}"}
            for row in problems
        ),
        key=lambda row: (row["uri"], row["file"]),
    )  # fmt: skip
    if known == found:
        return
    transaction.execute("delete from store.problem where uri in (select store.each(?))", [uris])
    for row in found:
        transaction.insert(
            "problem", {k: [v] for k, v in (row | {"seen_at": now()}).items()}, "replace"
        )
