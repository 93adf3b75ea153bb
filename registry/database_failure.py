"""What the operating system and DuckDB refuse of a catalog's file, under our own names; and room on its disk, proved before it is used."""

import errno
import os
import re
import tempfile
from pathlib import Path

from registry.errors import CatalogDamaged, CatalogLocked, NotEnoughDisk, RegError

HELD = ("Could not set lock", "different configuration", "already attached")
"""What DuckDB says of a file that somebody else has open."""

DISK = ("No space left", "Could not write", "quota")
"""What is said of a full disk."""

_FORBIDDEN = ("Permission denied", "Read-only file system", "Operation not permitted")
_ELSEWHERE = "change its permissions and those of its folder, or name another file in REG_CATALOG"
_ROOM_BYTES, _MOST_ROOM_BYTES = 1 << 20, 64 << 20


def prove_room(path: Path, n_bytes: int) -> None:
    """Refuse to commit what may not fit: a commit that fails in its middle ends the whole process.

    DuckDB aborts when it takes such a commit back and a row was deleted and inserted again under one key.

    Raises:
        NotEnoughDisk: the disk or the quota is used up.
    """
    needed = min(_MOST_ROOM_BYTES, _ROOM_BYTES + 2 * n_bytes)
    try:
        with tempfile.TemporaryFile(dir=path.parent) as ballast:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(ballast.fileno(), 0, needed)
                ballast.truncate(0)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"catalog {path} cannot be written: less than {needed:,} bytes are free; the transaction was not kept"
            raise NotEnoughDisk(
                message, hint="free some space and run the command again"
            ) from error


def failure_of(error: Exception, path: Path) -> RegError:
    """The error of ours that says what DuckDB said."""
    text = str(error)
    holder = re.search(r"held in (.+?) \(PID (\d+)\)", text)
    if holder:
        message = f"catalog {path} is held by process {holder[2]} ({holder[1]})"
        return CatalogLocked(message, hint=f"wait for process {holder[2]} to end, or stop it")
    if any(words in text for words in HELD):
        return held_here(path)
    if any(words in text for words in _FORBIDDEN):
        message = f"catalog {path} may not be read or written: {first_line(error)}"
        return CatalogDamaged(message, hint=_ELSEWHERE)
    if any(words in text for words in DISK):
        message = (
            f"catalog {path} cannot be written ({first_line(error)}); the transaction was not kept"
        )
        return NotEnoughDisk(message, hint="free some space and run the command again")
    if isinstance(error, OSError):
        message = f"catalog {path} cannot be made: {error.strerror}"
        return CatalogDamaged(message, hint="name another place in REG_CATALOG")
    message = f"catalog {path} cannot be opened: {first_line(error)}"
    return CatalogDamaged(message, hint="restore a copy, or move the file away and scan again")


def held_here(path: Path) -> CatalogLocked:
    """The error for a catalog that another thread of ours holds."""
    message = f"catalog {path} is held by process {os.getpid()}, which is this one"
    return CatalogLocked(message, hint="end the open transaction first")


def first_line(error: Exception) -> str:
    """The first line of what DuckDB said."""
    return str(error).strip().splitlines()[0]
