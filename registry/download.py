"""Downloads: the files of a checkpoint of the Hub that anybody reads, in the library's own cache, and checked.

Weights in safetensors, configs, tokenizers, the card and what says how it was made are fetched; other formats of the same
weights are not. What the Hub lists with a SHA-256 must have it: the library itself looks at lengths only.
"""

import glob
import hashlib
import os
import shutil
from pathlib import Path

from registry import hub_cache
from registry.catalog import Catalog
from registry.documents import open_file
from registry.errors import DamagedDownload, NotEnoughDisk
from registry.hub import Hub, HubFile
from registry.names import CACHE
from registry.remote import Place, is_small, opened

_BLOCK_BYTES = 1 << 20
_SHA256_DIGITS = 64


def fetched(catalog: Catalog, hub: Hub, place: Place) -> str:
    """Have a checkpoint on this machine: the address of the snapshot, or the path of what is inside of it.

    Files that are there are not fetched again, and those that were scanned and did not change since are not checked again.

    Args:
        catalog: knows what was scanned.
        hub: to ask.
        place: where the checkpoint lies.

    Raises:
        DamagedDownload: a file is not what the Hub lists; it is removed.
        NotEnoughDisk: it does not fit.
        HubBusy: it cannot be fetched; what was fetched is kept.
        CorruptCheckpoint, HubMissing, HubRefused, RequestsSpent: as `registry.remote.opened`.
    """
    repository = place.repository
    with opened(hub, place) as remote:
        shards = {remote.staged[ref.file].path for ref in remote.checkpoint.tensors}
    files = [f for f in place.files if f.path in shards or is_small(f)]
    address = f"{CACHE}{repository.name}@{repository.commit}"
    there = next(hub_cache.snapshots(repository.name, repository.commit), None)
    _refuse_full_disk(place, [f for f in files if not (there and (there.root / f.path).exists())])
    root = Path(hub.download(repository, [glob.escape(f.path) for f in files]))
    known = catalog.rows(
        "select path, size_bytes, mtime_ns from store.file where uri = ?", [address]
    )
    scanned = {(row["path"], row["size_bytes"], row["mtime_ns"]) for row in known}
    for file in files:
        _check(place, file, root / file.path, scanned)
    return str(root / place.inside) if place.inside else address


def _refuse_full_disk(place: Place, files: list[HubFile]) -> None:
    """Refuse what does not fit, before anything is fetched."""
    folder = hub_cache.location()
    while not folder.exists():
        folder = folder.parent
    free, needed = shutil.disk_usage(folder).free, sum(f.size_bytes for f in files)
    if needed > free:
        message = f"{place.uri}: needs {needed:,} bytes in {folder}; {free:,} are free"
        raise NotEnoughDisk(message, hint="let HF_HUB_CACHE name a folder on a larger disk")


def _check(place: Place, file: HubFile, path: Path, scanned: set[tuple[str, int, int]]) -> None:
    """Refuse, and remove, a file that is not what the Hub lists."""
    if len(file.etag) != _SHA256_DIGITS:  # small, and read by those who check what they read
        return
    hasher = hashlib.sha256()
    with open_file(path) as (descriptor, status):
        if (file.path, status.st_size, status.st_mtime_ns) in scanned:
            return
        while block := os.read(descriptor, _BLOCK_BYTES):
            hasher.update(block)
    if hasher.hexdigest() != file.etag:
        blob = path.resolve()
        path.unlink()
        blob.unlink(missing_ok=True)
        message = (
            f"{place.uri}: {file.path} came with the SHA-256 {hasher.hexdigest()}; it is listed with "
            f"{file.etag}; what came is removed"
        )
        raise DamagedDownload(message, hint="run the same command again")
