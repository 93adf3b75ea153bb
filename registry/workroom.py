"""Folders for unfinished work: each is locked while somebody works in it, so that what the killed left can be told and removed.

Locks are the system's own: they go with the process that holds them, however it ends.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def workroom(parent: Path, prefix: str, suffix: str = "", *, keep: str = "") -> Iterator[Path]:
    """A new folder that is gone after the block; those of its kind that nobody works in any more go before it.

    Args:
        parent: folder in which it is made; exists.
        prefix: how its name begins; other folders must not have names of this kind.
        suffix: how its name ends.
        keep: name of a file; folders that hold one stay.

    Raises:
        OSError: the operating system refuses.
    """
    sweep(parent, prefix, suffix, keep=keep)
    handle = None
    while handle is None:  # who sweeps just now holds a new one for a moment
        folder = parent / f"{prefix}{uuid4().hex}{suffix}"
        handle = locked(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def locked(folder: Path) -> int | None:
    """Make a folder if need be and lock it, for as long as the descriptor that is returned is open.

    Where the file system has no locks, the descriptor holds none.

    Returns:
        The descriptor; None when somebody else holds the lock.

    Raises:
        OSError: the operating system refuses to make or open it.
    """
    while True:
        with suppress(FileExistsError):
            folder.mkdir()
        try:
            handle = _opened(folder)
        except FileNotFoundError:
            continue  # another process has just given it another name, or taken it away
        if not _is_ours(handle):
            os.close(handle)
            return None
        if _is_at(folder, handle):
            return handle
        os.close(handle)


def is_in_use(folder: Path) -> bool:
    """Tell whether a living process holds the lock of a folder; it may have another name since."""
    try:
        handle = _opened(folder)
    except OSError:
        return False
    try:
        return not _is_ours(handle)
    finally:
        os.close(handle)


def sweep(parent: Path, prefix: str, suffix: str = "", *, keep: str = "") -> None:
    """Remove the folders of a kind that nobody works in any more.

    Args:
        parent: where they lie.
        prefix: how their names begin.
        suffix: how their names end.
        keep: name of a file; folders that hold one stay.
    """
    try:
        found = sorted(parent.iterdir())
    except OSError:
        return
    for folder in found:
        if not (folder.name.startswith(prefix) and folder.name.endswith(suffix)):
            continue
        if keep and (folder / keep).exists():
            continue
        with suppress(OSError):
            handle = _opened(folder)
            try:
                if _is_ours(handle, or_none=False):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


def _opened(folder: Path) -> int:
    """Open a folder itself, no link to one."""
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _is_at(folder: Path, handle: int) -> bool:
    """Tell whether an open folder still has its name."""
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False


def _is_ours(handle: int, *, or_none: bool = True) -> bool:
    """Try to lock an open folder; ``or_none``: what to say where there are no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return or_none
    return True
