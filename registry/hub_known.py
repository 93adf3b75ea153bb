"""Models of the Hub that are here already: recognised by what the Hub calls their weights, without fetching them.

The Hub lists the SHA-256 of every large file, and git's blob id of the others. Where a place whose tensors were all digested
has weights of the same names, the model on the Hub is that one. Places of the Hub's cache have those names for free; a file
that lies elsewhere is hashed once, when one on the Hub is as long and it is small or its place is called the same.
"""

import hashlib
import os
from pathlib import Path

from registry.catalog import Catalog
from registry.database import Row
from registry.documents import open_file
from registry.entry import adopt
from registry.errors import Unreadable

_BLOCK_BYTES = 1 << 20
_GIT_DIGITS = 40
_SMALL_BYTES = 4 << 30  # of the weights of a place that is hashed whatever it is called

_IS_WEIGHTS = "(f.format = 'safetensors' or (f.format = 'gguf' and a.layout = 'file'))"

_WEIGHTS = f"""
    select uri, any_value(a.model_id) as model_id, any_value(m.status) as status, any_value(a.source) as source,
        any_value(a.name) as name, any_value(a.root) as root, any_value(a.layout) as layout,
        list(f.etag order by f.etag) as etags, count(*) = count(f.etag) as named,
        list(f.size_bytes order by f.size_bytes) as sizes
    from store.file f join store.address a using (uri) join store.model m on m.id = a.model_id
    where {_IS_WEIGHTS} group by uri
"""


def recognise(catalog: Catalog) -> int:
    """Give places of the Hub of which only headers were read the models they are, where those are known; how many."""
    if not catalog.is_made:
        return 0
    _hash_alike(catalog)
    rows = catalog.rows(
        f"with weights as ({_WEIGHTS}) select h.uri, min(k.model_id) as model_id from weights h "
        "join weights k on k.etags = h.etags and k.status = 'full' and k.named "
        "where h.source = 'hub' and h.status in ('header', 'sampled') and h.named group by h.uri order by h.uri"
    )
    if rows:
        with catalog.write() as transaction:
            adopt(transaction, {row["uri"]: row["model_id"] for row in rows})
    return len(rows)


def _hash_alike(catalog: Catalog) -> None:
    """Hash weights on this machine that are as long as some on the Hub."""
    rows = catalog.rows(
        f"with weights as ({_WEIGHTS}) select k.uri, any_value(k.root) as root, any_value(k.layout) as layout, "
        "any_value(k.name) as name, any_value(list_sum(k.sizes)) as n_bytes, list(h.name order by h.uri) as names, "
        "min(length(h.etags[1])) as digits "
        "from weights h join weights k on k.sizes = h.sizes and k.source = 'local' and k.status = 'full' "
        "and not k.named where h.source = 'hub' and h.status in ('header', 'sampled') and h.named group by k.uri order by k.uri"
    )
    found: dict[tuple[str, str], str] = {}
    for row in rows:
        same_name = any(_last(name) == _last(row["name"]) for name in row["names"])
        if same_name or row["n_bytes"] <= _SMALL_BYTES:
            found |= _hashed(catalog, row)
    if found:
        with catalog.write() as transaction:
            for (uri, path), etag in found.items():
                transaction.execute(
                    "update store.file set etag = ? where uri = ? and path = ?", [etag, uri, path]
                )


def _last(name: str) -> str:
    """The last part of a name, without the ending of a file."""
    last = name.rpartition("/")[2].partition("@")[0].lower()
    return last.removesuffix(".gguf").removesuffix(".safetensors")


def _hashed(catalog: Catalog, place: Row) -> dict[tuple[str, str], str]:
    """What the Hub would call the weights of a place, by address and path; of a place that changed, nothing."""
    rows = catalog.rows(
        "select path, size_bytes, mtime_ns from store.file f join store.address a using (uri) "
        f"where uri = ? and {_IS_WEIGHTS}",
        [place["uri"]],
    )
    root = Path(place["root"])
    folder = root.parent if place["layout"] == "file" else root
    found = {}
    for row in rows:
        etag = _etag(folder / row["path"], row, git=place["digits"] == _GIT_DIGITS)
        if etag is None:
            return {}
        found[place["uri"], row["path"]] = etag
    return found


def _etag(path: Path, recorded: Row, *, git: bool) -> str | None:
    """The SHA-256 of a file, or git's blob id, hex; None if it is not the file that was scanned."""
    size = recorded["size_bytes"]
    hasher = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if git else hashlib.sha256()
    try:
        with open_file(path) as (descriptor, status):
            if (status.st_size, status.st_mtime_ns) != (size, recorded["mtime_ns"]):
                return None
            while block := os.read(descriptor, _BLOCK_BYTES):
                hasher.update(block)
    except (Unreadable, OSError):
        return None
    return hasher.hexdigest()
