"""Files that appear whole or not at all: whoever is killed, or finds the disk full, leaves what was there before."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to, which takes its place when the block ends well, and goes when it does not.

    A link is followed. What is no file, such as a pipe or a terminal, is written to as it is.

    Args:
        path: a file, or nothing.

    Raises:
        OSError: the operating system refuses.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        yield target
        return
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        yield new
        put_in_place(new, target)
    finally:
        new.unlink(missing_ok=True)


def put_in_place(new: Path, path: Path) -> None:
    """Give a file that was written another name, in the place of what had it: after a power loss it is one or the other.

    Raises:
        OSError: the operating system refuses.
    """
    sync(new)
    new.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Put one file or folder on the disk.

    Raises:
        OSError: the operating system refuses.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
