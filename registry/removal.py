"""Removal: models that a catalog need not know any more, and what nothing refers to.

What recorded merges were made of stays known: of such a model only the places are forgotten. Files are touched only where
that is asked for by name, and then only those that are as they were when they were scanned.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from registry.alias import held_by
from registry.catalog import Catalog
from registry.database import Reader, Transaction
from registry.entry import drop_models, forget
from registry.errors import StillNeeded
from registry.finding import examples
from registry.names import ALIAS
from registry.resolve import mark_unresolved, resolve_claims

_GARBAGE = """
select m.id from store.model m
where m.status <> 'listed' and m.id not in (select model_id from store.address)
  and not exists (select 1 from store.edge e where e.child = m.id or e.parent = m.id)
  and not exists (select 1 from store.claim c where c.resolved_id = m.id)
  and not exists (select 1 from store.alias a where a.model_id = m.id)
  and not exists (select 1 from store.run r where r.model_id = m.id)
  and not exists (select 1 from store.score s where s.model_id = m.id and s.origin = 'measured')
order by m.id"""

_IDLE = "select digest from store.recipe where digest not in (select recipe from store.run) order by digest"


@dataclass(frozen=True)
class Removed:
    """What was removed, or would be.

    Attributes:
        models: ids of those that are not known any more.
        unplaced: ids of those that stay known, without a place, for something was made of them; aliases may go on naming these.
        places: addresses that were forgotten.
        files: paths that were deleted.
        kept_files: paths that were to be deleted and are not what was scanned.
        refused_files: paths that the system did not let us delete.
        recipes: digests of recipes that nobody ran.
        aliases: that named one of the models; their history stays.
    """

    models: tuple[str, ...] = ()
    unplaced: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    kept_files: tuple[str, ...] = ()
    refused_files: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


def remove(
    catalog: Catalog, models: Sequence[str], *, force: bool = False, files: bool = False, dry_run: bool = False
) -> Removed:  # fmt: skip
    """Forget models, and with ``files`` delete their weights on this machine.

    Args:
        catalog: knows them.
        models: ids.
        force: also those that recorded merges were made of; they stay known, without a place. And those that aliases name.
        files: delete the files of their places that are neither the cache's nor the Hub's.
        dry_run: only say what would be done.

    Raises:
        StillNeeded: a recorded merge was made of one of them, or an alias names one, and ``force`` is not set.
    """
    ids = list(dict.fromkeys(models))
    with catalog.read() as reader:
        needed = _children(reader, ids)
        if needed and not force:
            raise _still_needed(catalog, needed)
        going = [i for i in ids if i not in needed]
        named = _named(reader, going, force=force)
        places = reader.rows(
            "select uri, a.source from store.address a join store.model m on m.id = a.model_id "
            "where m.id in (select store.each(?)) and (a.source <> 'listing' or m.status = 'listed') order by uri",
            [ids],
        )  # a listing stands for itself again
        whole, changed = (
            _files(reader, [r["uri"] for r in places if r["source"] == "local"])
            if files
            else ([], [])
        )
    removed = Removed(
        models=tuple(going), unplaced=tuple(needed), places=tuple(row["uri"] for row in places),
        files=tuple(whole), kept_files=tuple(changed), aliases=tuple(named),
    )  # fmt: skip
    if not dry_run:
        with catalog.write() as transaction:
            _named(transaction, going, force=force)  # one may have come meanwhile
            forget(transaction, removed.places)
            drop_models(transaction, removed.models)
            _settle(transaction)
        # last: a catalog that knows of files that are gone is worse than the other way round
        gone, refused = _delete(whole)
        removed = replace(removed, files=tuple(gone), refused_files=tuple(refused))
    return removed


def collect_garbage(catalog: Catalog, *, dry_run: bool = False) -> Removed:
    """Remove models that are nowhere and that nothing was made of, and recipes that nobody ran.

    Args:
        catalog: to tidy.
        dry_run: only say what would be removed.
    """
    with catalog.read() as reader:
        removed = _garbage(reader)
    if dry_run or not (removed.models or removed.recipes):
        return removed
    with catalog.write() as transaction:
        removed = _garbage(transaction)
        drop_models(transaction, removed.models)
        transaction.execute(
            "delete from store.recipe where digest in (select store.each(?))",
            [list(removed.recipes)],
        )
        _settle(transaction)
    return removed


def _garbage(reader: Reader) -> Removed:
    """What nothing refers to."""
    return Removed(
        models=tuple(row["id"] for row in reader.rows(_GARBAGE)),
        recipes=tuple(row["digest"] for row in reader.rows(_IDLE)),
    )


def _settle(transaction: Transaction) -> None:
    """Drop kept results of inference, which may speak of what is gone, and find out anew whom claims mean."""
    transaction.execute("delete from store.component")
    transaction.execute("delete from store.clans")
    mark_unresolved(transaction)
    resolve_claims(transaction)


def _children(reader: Reader, ids: Sequence[str]) -> dict[str, list[str]]:
    """Of each model that recorded merges were made of, these; merges that go too do not count."""
    rows = reader.rows(
        "select distinct parent, child from store.edge where status = 'recorded' and parent in (select store.each(?)) "
        "and child not in (select store.each(?)) order by all",
        [list(ids), list(ids)],
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["parent"], []).append(row["child"])
    return found


def _named(reader: Reader, models: Sequence[str], *, force: bool) -> list[str]:
    """The aliases that go with models.

    Raises:
        StillNeeded: there are some, and ``force`` is not set.
    """
    held = held_by(reader, models)
    if held and not force:
        first, model = next(iter(held.items()))
        (row,) = reader.rows("select name from store.nodes(?)", [[model]])
        names = [ALIAS + name for name in held if held[name] == model]
        message = f"{row['name']} has an alias: {examples(names, len(names))}"
        hint = f"reg alias rm {first}, or --force takes aliases along; their history stays"
        raise StillNeeded(message, hint=hint)
    return [ALIAS + name for name in held]


def _still_needed(catalog: Catalog, needed: dict[str, list[str]]) -> StillNeeded:
    """The error for models that others were made of."""
    model, children = next(iter(needed.items()))
    made = examples([catalog.name(child) for child in children], len(children))
    message = f"{catalog.name(model)} is a parent of {made}, as recorded; without its files they cannot be made again"
    return StillNeeded(message, hint="--force forgets where it is, and keeps what is known of it")


def _files(reader: Reader, uris: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files of places, those that are as they were scanned and those that are not; what is gone is left out."""
    rows = reader.rows(
        "select a.root, a.layout, f.path, f.size_bytes, f.mtime_ns from store.file f join store.address a using (uri) "
        "where uri in (select store.each(?)) order by uri, path",
        [list(uris)],
    )
    whole: list[str] = []
    changed: list[str] = []
    for row in rows:
        folder = Path(row["root"]) if row["layout"] == "folder" else Path(row["root"]).parent
        path = folder / row["path"]
        with suppress(OSError):
            status = path.stat()
            same = (status.st_size, status.st_mtime_ns) == (row["size_bytes"], row["mtime_ns"])
            (whole if same and path.is_file() else changed).append(str(path))
    return whole, changed


def _delete(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Delete files, of links the link and never what it points to, and folders that are empty then.

    Returns:
        Those that are gone, and those that the system does not let us delete.
    """
    gone, refused = list[str](), list[str]()
    for file in files:
        try:
            Path(file).unlink(missing_ok=True)
        except OSError:
            refused.append(file)
        else:
            gone.append(file)
    for folder in sorted({str(Path(file).parent) for file in files}, reverse=True):
        with suppress(OSError):  # something else is in it
            Path(folder).rmdir()
    return gone, refused
