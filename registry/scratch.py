"""A folder beside the catalog for work on its way into it: gone when the work ends.

What a killed process left is removed by the next one: whoever works in such a folder holds a lock on it, which ends with
the process.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from registry.errors import CatalogDamaged, NotEnoughDisk

_PREFIX = ".import-"


@contextlib.contextmanager
def scratch(catalog: Path) -> Iterator[Path]:
    """A new empty folder beside a catalog, which need not be there yet.

    Raises:
        NotEnoughDisk: there is no room for it.
        CatalogDamaged: it cannot be made for another reason, so that no catalog could be made there either.
    """
    try:
        catalog.parent.mkdir(parents=True, exist_ok=True)
        for old in sorted(catalog.parent.glob(f"{_PREFIX}*")):
            _sweep(old)
        folder, lock = _made(catalog.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"{catalog.parent}: no room for what goes into the catalog; nothing was kept"
            raise NotEnoughDisk(
                message, hint="free some space and run the command again"
            ) from error
        message = f"catalog {catalog} cannot be made: {error.strerror}"
        raise CatalogDamaged(message, hint="name another place in REG_CATALOG") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _made(place: Path) -> tuple[Path, int]:
    """A new folder that is locked, and the descriptor that holds the lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        lock = _locked(folder)
        if lock is not None and folder.exists():
            return folder, lock
        if lock is not None:  # swept before it was locked
            os.close(lock)


def _sweep(folder: Path) -> None:
    """Remove a folder in which nobody works any more."""
    lock = _locked(folder)
    if lock is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked(folder: Path) -> int | None:
    """The descriptor that holds the lock of a folder; None where another process has it, or there is no such folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
