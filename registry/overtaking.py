"""What others did while a scan looked: whoever read a place later knows better, whoever writes last is not right for that.

Both questions are asked inside of the transaction that writes: what another process registered before it is seen, and
the files are there.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from registry.database import Reader
from registry.entry import Entry
from registry.errors import RegError
from registry.file_ref import list_files
from registry.names import CACHE, HUB
from registry.sources import is_checkpoint

Stamps = Mapping[str, tuple[int, int, int]]
"""Path of a file → its size, time and inode."""


def is_back(uri: str) -> bool:
    """Whether a place on this machine that a walk missed is there: who made it meanwhile may have registered it."""
    return not uri.startswith((CACHE, HUB)) and is_checkpoint(Path(uri))


def newest(reader: Reader, entries: Sequence[Entry], known: Callable[[str], Stamps]) -> list[Entry]:
    """The entries that may be written: all but those of places that another process read since, after they changed.

    Args:
        reader: of the transaction that is to write them.
        entries: as they were read.
        known: uri → the files that the catalog had of it when the scan began.
    """
    rows = reader.rows(
        "select uri, path, size_bytes, mtime_ns, inode from store.file where uri in (select store.each(?))",
        [[entry.found.uri for entry in entries]],
    )
    now: dict[str, dict[str, tuple[int, int, int]]] = defaultdict(dict)
    for row in rows:
        now[row["uri"]][row["path"]] = (row["size_bytes"], row["mtime_ns"], row["inode"])
    return [
        entry
        for entry in entries
        if now.get(entry.found.uri, {}) == known(entry.found.uri) or _is_current(entry)
    ]


def _is_current(entry: Entry) -> bool:
    """Whether the files of a place are still those that were read."""
    found = entry.found
    try:
        there = list_files(found.root)
    except (RegError, OSError):
        return False
    mine = {ref.path: (ref.size_bytes, ref.mtime_ns) for ref in found.files}
    stamps = {ref.path: (ref.size_bytes, ref.mtime_ns) for ref in there}
    return stamps == mine if found.root.is_dir() else mine.items() <= stamps.items()
