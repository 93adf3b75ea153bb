"""Files of the Hub that are known already: a model that was never fetched is recognised by what the Hub calls its weights.

The Hub lists the SHA-256 of every large file. Where the weights of a place in the catalog have the same, the model there is
this one, tensor by tensor, and its digests are its own. Places of the Hub and of its cache have those names for free; a file
that lies elsewhere is hashed once, when one on the Hub is as long.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from registry.catalog import Catalog
from registry.database import Row
from registry.documents import open_file
from registry.entry import Entry, identified
from registry.errors import Unreadable

_BLOCK_BYTES = 1 << 20
_MOST_HASHED = 2  # local places that are hashed for one of the Hub


def recognised(catalog: Catalog, entries: Sequence[Entry]) -> list[Entry]:
    """Give the entries of the Hub whose weights are known elsewhere the identity they have there; others stay as they are."""
    if not catalog.path.exists():
        return list(entries)
    found = []
    for entry in entries:
        weights = _weights(entry)
        model = _same(catalog, weights) or _same_here(catalog, entry, weights) if weights else None
        found.append(identified(entry, _digests(catalog, model, entry)) if model else entry)
    return found


def _weights(entry: Entry) -> list[tuple[str, int]]:
    """What the Hub calls the shards of a checkpoint, and their lengths, sorted; nothing if it does not name them all."""
    if entry.reading is None or entry.reading.digests:
        return []
    shards = {tensor.file.name for tensor in entry.reading.checkpoint.tensors}
    refs = [ref for ref in entry.found.files if ref.path in shards]
    named = [(ref.etag, ref.size_bytes) for ref in refs if ref.etag]
    return sorted(named) if len(named) == len(shards) else []


def _same(catalog: Catalog, weights: Sequence[tuple[str, int]]) -> str | None:
    """The model of which all tensors are digested and the shards are these."""
    etags = [etag for etag, _ in weights]
    rows = catalog.rows(
        "select a.model_id from store.file f join store.address a using (uri) "
        "join store.model m on m.id = a.model_id where m.status = 'full' and f.format = 'safetensors' "
        "and uri in (select uri from store.file where etag = ?) group by a.model_id, uri "
        "having list(f.etag order by f.etag) = ? order by a.model_id limit 1",
        [etags[0], etags],
    )
    return rows[0]["model_id"] if rows else None


def _same_here(catalog: Catalog, entry: Entry, weights: Sequence[tuple[str, int]]) -> str | None:
    """The same, among files on this machine that have the right lengths and were not hashed before."""
    sizes = sorted(size for _, size in weights)
    places = catalog.rows(
        "select uri, any_value(a.root) as root, any_value(a.layout) as layout, any_value(a.name) as name "
        "from store.file f join store.address a using (uri) join store.model m on m.id = a.model_id "
        "where m.status = 'full' and a.source = 'local' and f.format = 'safetensors' "
        "and uri in (select uri from store.file where size_bytes = ? and etag is null) group by uri "
        "having list(f.size_bytes order by f.size_bytes) = ? order by uri",
        [sizes[0], sizes],
    )
    last = entry.found.name.rpartition("/")[2].lower()
    places.sort(key=lambda row: str(row["name"]).lower() != last)
    for place in places[:_MOST_HASHED]:
        _hash(catalog, place)
    return _same(catalog, weights) if places else None


def _hash(catalog: Catalog, place: Row) -> None:
    """Note the SHA-256 of the weights of a place, of files that are as they were when they were scanned."""
    rows = catalog.rows(
        "select path, size_bytes, mtime_ns from store.file where uri = ? and format = 'safetensors'",
        [place["uri"]],
    )
    root = Path(place["root"])
    folder = root.parent if place["layout"] == "file" else root
    found = {}
    for row in rows:
        etag = _sha256(folder / row["path"], row["size_bytes"], row["mtime_ns"])
        if etag:
            found[row["path"]] = etag
    with catalog.write() as transaction:
        for path, etag in found.items():
            transaction.execute(
                "update store.file set etag = ? where uri = ? and path = ?",
                [etag, place["uri"], path],
            )


def _sha256(path: Path, size_bytes: int, mtime_ns: int) -> str | None:
    """The SHA-256 of a file, hex; None if it is not the one that was scanned."""
    hasher = hashlib.sha256()
    try:
        with open_file(path) as (descriptor, status):
            if (status.st_size, status.st_mtime_ns) != (size_bytes, mtime_ns):
                return None
            while block := os.read(descriptor, _BLOCK_BYTES):
                hasher.update(block)
    except Unreadable:
        return None
    return hasher.hexdigest()


def _digests(catalog: Catalog, model: str, entry: Entry) -> Mapping[str, str]:
    """The digests of a model's tensors by name; none if they are not those of the entry."""
    rows: Iterable[Row] = catalog.rows(
        "select name, digest from store.tensor where model_id = ?", [model]
    )
    found = {row["name"]: row["digest"] for row in rows if row["digest"]}
    reading = entry.reading
    own = {tensor.name for tensor in reading.checkpoint.tensors} if reading else set()
    return found if found.keys() == own else {}
