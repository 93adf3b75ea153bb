"""The folder a merge makes: written beside its final name, which it takes in one step when it is whole.

What is unfinished is hidden, ends in `registry.sources.UNFINISHED` and is never scanned. A run that is killed leaves
such a folder behind; it stands in the way of nobody and may be removed.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.errors import NotEnoughDisk, OutputExists, RunFailed
from registry.sources import UNFINISHED

_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_RUN_DIGITS = 8


def place(output: Path) -> Path:
    """The absolute path of an output, a link at its end followed.

    Raises:
        OutputExists: something is there; nothing is ever overwritten.
        RunFailed: the operating system does not let us look.
    """
    path = output.expanduser().absolute()
    try:
        if path.is_symlink():
            path = path.resolve()
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise _exists(path)
    except OSError as error:
        message = f"cannot look at {path}: {error.strerror}"
        raise RunFailed(message) from error
    return path


def refuse_full_disk(output: Path, n_bytes: int) -> None:
    """Say so before the first byte when a result cannot fit; makes the folder above ``output``.

    Raises:
        NotEnoughDisk: less than ``n_bytes`` are free.
        RunFailed: the folder above cannot be made.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(output.parent).free
    except OSError as error:
        message = f"cannot make {output.parent}: {error.strerror}"
        raise RunFailed(message) from error
    if n_bytes > free:
        message = f"the result has {n_bytes:,} bytes; {output.parent} has {free:,} free"
        raise NotEnoughDisk(message, hint="free some space, or choose another -o")


@contextmanager
def unfinished(output: Path, run: str) -> Iterator[Path]:
    """A folder beside ``output`` that takes its name when the block ends well, and goes when it does not.

    Args:
        output: as `place` gives it; must not exist, or be an empty folder.
        run: id of the run, so that two runs never share a folder.

    Raises:
        OutputExists: another run was faster.
        NotEnoughDisk, RunFailed: the operating system refuses.
    """
    folder = output.with_name(f".{output.name}.{run[:_RUN_DIGITS]}{UNFINISHED}")
    try:
        folder.mkdir()
        yield folder
        _sync(folder)
        folder.rename(output)  # onto an empty folder too, and never onto another
        _sync_one(output.parent)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if error.errno in _TAKEN and output.exists():
            raise _exists(output) from error
        kind = NotEnoughDisk if error.errno in (errno.ENOSPC, errno.EDQUOT) else RunFailed
        message = f"cannot write {output}: {error.strerror}"
        raise kind(message) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _exists(path: Path) -> OutputExists:
    """The error for an output that is there already."""
    message = f"{path} exists and is not empty"
    return OutputExists(message, hint="choose another -o, or remove it first")


def _sync(folder: Path) -> None:
    """Put a folder and all in it on the disk."""
    for path in sorted(folder.rglob("*")):
        _sync_one(path)
    _sync_one(folder)


def _sync_one(path: Path) -> None:
    """Put one file or folder on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
