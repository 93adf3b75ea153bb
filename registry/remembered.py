"""What the catalog remembers of places, and what a scan that finds them again need not read, write or forget.

What the operating system refuses today says nothing against what was read yesterday: a place stays what it was, with a
problem, and so does everything below a folder that may not be listed.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from registry.catalog import Catalog
from registry.database import Reader
from registry.entry import Entry
from registry.names import CACHE, Address, is_there
from registry.sources import Found

_REFUSED = ("Unreadable", "OSError", "PermissionError", "FileNotFoundError")
"""Errors of the operating system: they say nothing against what is known of a place."""

_PASSING = (*_REFUSED, "FileChanged")
"""Errors that may pass without any file changing: such places are tried again."""

_UNREAD = ("header", "sampled")
"""Statuses of models that were not read whole."""


@dataclass(frozen=True)
class Known:
    """What the catalog remembers of a place.

    Attributes:
        files: path → size, time and inode.
        status: of the model found there; None where none could be read.
        problems: file, error and detail of each.
    """

    files: Mapping[str, tuple[int, int, int]]
    status: str | None
    problems: frozenset[tuple[str, str, str]]

    def holds(self, found: Found) -> bool:
        """Whether the files are those that were there."""
        return self.files == {f.path: (f.size_bytes, f.mtime_ns, f.inode) for f in found.files}


def remembered(
    catalog: Catalog, found: Mapping[str, Found], addresses: Sequence[Address]
) -> tuple[dict[str, Known], list[str]]:
    """What the catalog knows of the places that were found, and those that are gone."""
    if not catalog.is_made:
        return {}, []
    files: dict[str, dict[str, tuple[int, int, int]]] = defaultdict(dict)
    problems: dict[str, set[tuple[str, str, str]]] = defaultdict(set)
    with catalog.read() as reader:
        uris = [list(found)]
        for r in reader.rows(
            "select uri, path, size_bytes, mtime_ns, inode from store.file "
            "where uri in (select store.each(?))",
            uris,
        ):
            files[r["uri"]][r["path"]] = (r["size_bytes"], r["mtime_ns"], r["inode"])
        for r in reader.rows(
            "select uri, file, error, detail from store.problem "
            "where uri in (select store.each(?))",
            uris,
        ):
            problems[r["uri"]].add((r["file"], r["error"], r["detail"]))
        models = reader.rows(
            "select uri, status from store.address a join store.model m on m.id = a.model_id "
            "where uri in (select store.each(?))",
            uris,
        )
        gone = [uri for address in addresses for uri in _gone(reader, found, address)]
    status = dict.fromkeys(problems) | {r["uri"]: r["status"] for r in models}
    known = {
        uri: Known(files.get(uri, {}), status[uri], frozenset(problems.get(uri, ())))
        for uri in status
    }
    return known, list(dict.fromkeys(gone))


def _gone(reader: Reader, found: Mapping[str, Found], address: Address) -> Iterator[str]:
    """The known places at an address that were not found again."""
    places = "(select uri, root from store.address union all select uri, null from store.problem)"
    if address.kind == "path":
        root = str(address.path.resolve())
        rows = reader.rows(
            f"select distinct uri from {places} where uri = ? or starts_with(uri, ?) order by uri",
            [root, root.rstrip("/") + "/"],
        )
        yield from (row["uri"] for row in rows if row["uri"] not in found)
    elif address.revision is None:
        rows = reader.rows(
            f"select uri, max(root) as root from {places} where starts_with(uri, ?) group by uri "
            "order by uri",
            [CACHE + (f"{address.name}@" if address.name else "")],
        )
        for row in rows:  # another cache may hold what this one lacks
            if row["uri"] not in found and not is_there(row["root"] or ""):
                yield row["uri"]


def is_unchanged(found: Found, known: Known | None, headers_only: bool) -> bool:  # noqa: FBT001
    """Tell whether the catalog already holds what a scan of ``found`` would write."""
    if known is None or (known.status in _UNREAD and not headers_only):
        return False
    nowhere = {ref.path for ref in found.files if ref.dangling}
    if any(error in _PASSING and file not in nowhere for file, error, _ in known.problems):
        return False
    return known.holds(found)


def digests_of(catalog: Catalog, found: Found, known: Known | None) -> dict[str, str] | None:
    """The digests of the tensors of a place that is read again although its files are as they were; None for any other."""
    if known is None or known.status != "full" or not known.holds(found):
        return None
    rows = catalog.rows(
        "select t.name, t.digest from store.address a join store.tensor t using (model_id) where a.uri = ?",
        [found.uri],
    )
    return {row["name"]: row["digest"] for row in rows}


def is_refused(entry: Entry) -> bool:
    """Tell whether it was the operating system that did not let a place be read."""
    return entry.reading is None and all(p.error in _REFUSED for p in entry.problems)


def is_kept(entry: Entry, known: Known | None) -> bool:
    """Tell whether a place stays what it was, since it cannot be read and nothing says that it changed."""
    if known is None or known.status is None or not is_refused(entry):
        return False
    return not entry.found.files or known.holds(entry.found)


def says_nothing_new(entry: Entry, known: Known | None) -> bool:
    """Tell whether all is as it was: the files, and what is wrong with them."""
    if known is None:
        return False
    problems = {(p.file, p.error, p.detail) for p in entry.problems}
    was = None if entry.reading is None else "full"
    is_same = known.status == was and known.holds(entry.found)
    return (is_same or is_kept(entry, known)) and problems == known.problems
