"""Flushing: what is written goes to the disk while the rest is still made, not all of it at the end."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync

EVERY_BYTES = 256 << 20
"""Written since the last flush began before another one does."""


class Flush:
    """Flushes files from a thread of its own, one flush at a time."""

    def __init__(self, every_bytes: int = EVERY_BYTES) -> None:
        self._every_bytes = every_bytes
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(1)
        self._dirty: set[int] = set()
        self._n_bytes = 0
        self._flushing: Future[None] | None = None
        self._error: BaseException | None = None

    def wrote(self, handle: int, n_bytes: int) -> None:
        """Note that so many bytes were written to an open file; safe from any thread."""
        with self._lock:
            self._dirty.add(handle)
            self._n_bytes += n_bytes
            if self._n_bytes < self._every_bytes or not self._settled():
                return
            handles, self._dirty, self._n_bytes = self._dirty, set(), 0
            self._flushing = self._pool.submit(_flush, handles)

    def close(self) -> None:
        """Wait for the flush that is under way; the files may be closed then."""
        self._pool.shutdown()
        self._settled()

    def finish(self) -> None:
        """As `close`, and say what went wrong; what was written since may not be on the disk.

        The system tells of an error once only: a later flush of the same file would find nothing wrong.

        Raises:
            OSError: of the first flush that failed.
        """
        self.close()
        if self._error is not None:
            raise self._error

    def _settled(self) -> bool:
        """Tell whether no flush is under way, and keep the error of the last one."""
        if self._flushing is None:
            return True
        if not self._flushing.done():
            return False
        self._error = self._error or self._flushing.exception()
        self._flushing = None
        return True


def _flush(handles: set[int]) -> None:
    """Put what was written to some files on the disk."""
    for handle in sorted(handles):
        _sync(handle)
