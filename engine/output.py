"""The folder a merge makes: written beside its final name, which it takes in one step when it is whole.

What is unfinished is hidden, ends in `registry.sources.UNFINISHED` and is never scanned. A run that is killed leaves
such a folder behind; it stands in the way of nobody and may be removed. A merge that is done again goes on with it
(`engine.journal`).
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from registry.errors import NotEnoughDisk, OutputExists, RunFailed
from registry.names import typed_path
from registry.sources import JOURNAL, UNFINISHED
from registry.whole_file import sync
from registry.workroom import workroom

_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_KEY_DIGITS = 8
_BLOCK_BYTES = 512  # unit of st_blocks, whatever the file system's own is


def place(output: Path) -> Path:
    """The absolute path of an output, a link at its end followed.

    Raises:
        OutputExists: something is there; nothing is ever overwritten.
        RunFailed: the operating system does not let us look.
    """
    path = located(output)
    try:
        if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            raise taken(path)
    except OSError as error:
        message = f"cannot look at {path}: {error.strerror}"
        raise RunFailed(message) from error
    return path


def located(output: Path) -> Path:
    """The absolute path of an output, a link at its end followed, whatever is there.

    Raises:
        RunFailed: the operating system does not let us look.
    """
    path = typed_path(output)
    try:
        return Path(os.path.realpath(path)) if path.is_symlink() else path
    except OSError as error:
        message = f"cannot look at {path}: {error.strerror}"
        raise RunFailed(message) from error


def hidden(output: Path, key: str) -> Path:
    """The folder in which ``output`` is made; ``key`` is a long hex number that tells it from others."""
    return output.with_name(f".{output.name}.{key[:_KEY_DIGITS]}{UNFINISHED}")


def refuse_full_disk(output: Path, n_bytes: int, *, started: Path | None = None) -> None:
    """Say so before the first byte when a result cannot fit; makes the folder above ``output``.

    Args:
        output: as `place` gives it.
        n_bytes: of the result.
        started: an unfinished folder whose room it may take.

    Raises:
        NotEnoughDisk: less than ``n_bytes`` are free.
        RunFailed: the folder above cannot be made.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(output.parent).free + (_held_bytes(started) if started else 0)
    except OSError as error:
        message = f"cannot make {output.parent}: {error.strerror}"
        raise RunFailed(message) from error
    if n_bytes > free:
        message = f"the result has {n_bytes:,} bytes; {output.parent} has {free:,} free"
        raise NotEnoughDisk(message, hint="free some space, or choose another -o")


@contextmanager
def unfinished(output: Path) -> Iterator[Path]:
    """A folder beside ``output`` that takes its name when the block ends well, and goes when it does not.

    It is locked until then. Those that were left by processes which were killed go first, but for what can be gone on with.

    Args:
        output: as `place` gives it; must not exist, or be an empty folder.

    Raises:
        OutputExists: another run was faster.
        NotEnoughDisk, RunFailed: the operating system refuses.
    """
    with (
        refusals(output),
        workroom(output.parent, f".{output.name}.", UNFINISHED, keep=JOURNAL) as folder,
    ):
        yield folder
        sync_all(folder)
        take_name(folder, output)


@contextmanager
def refusals(output: Path) -> Iterator[None]:
    """Give what the operating system refuses in the block a name.

    Raises:
        OutputExists: another run was faster.
        NotEnoughDisk, RunFailed: the operating system refuses.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _TAKEN and output.exists():
            raise taken(output) from error
        kind = NotEnoughDisk if error.errno in (errno.ENOSPC, errno.EDQUOT) else RunFailed
        message = f"cannot write {output}: {error.strerror}"
        raise kind(message) from error


def take_name(folder: Path, output: Path) -> None:
    """Give a whole folder its final name, in one step.

    Raises:
        OSError: another run was faster, or the operating system refuses; `refusals` names it.
    """
    folder.rename(output)  # onto an empty folder too, and never onto another
    sync(output.parent)


def sync_all(folder: Path) -> None:
    """Put a folder and all in it on the disk."""
    for path in sorted(folder.rglob("*")):
        sync(path)
    sync(folder)


def taken(path: Path) -> OutputExists:
    """The error for an output that is there already."""
    message = f"{path} exists and is not empty"
    return OutputExists(message, hint="choose another -o, or remove it first")


def _held_bytes(folder: Path) -> int:
    """Room on the disk that the files of a folder take; 0 where there is none, any more: another process may give it its name."""
    n_bytes = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                n_bytes += _BLOCK_BYTES * os.lstat(f"{place}/{name}").st_blocks
    return n_bytes
