"""Writing past the page cache: threads of its own bring large pieces to the disk while the cores go on merging.

What is written through the page cache is copied into it, takes a fresh page for every 4 KiB and must be flushed in the
end; and it drives the parents out, which the next merge reads again. Here the disk takes the bytes from a few buffers
that are used over and over. Edges that fill no block, and small pieces, do go through the page cache: many at a time
and while nothing else is under way, for a file system lets either kind wait for the other.
"""

import errno
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import LifoQueue
from threading import Lock

import numpy as np
import numpy.typing as npt

BLOCK = max(4096, mmap.PAGESIZE)
"""Offsets and lengths of what goes past the page cache are multiples of it, bytes; no page is written both ways."""

BUFFER_BYTES = 4 << 20
"""Size of one buffer."""

LEAST_BYTES = 256 << 10
"""Pieces of whole blocks that are shorter go through the page cache."""

LEAST_FILE_BYTES = 32 << 20
"""Shorter files go through the page cache as a whole."""

LATER_BYTES = 4 << 20
"""Edges and small pieces that may wait, bytes."""

EVERY_BYTES = 256 << 20
"""Taken since edges and small pieces were written before they are again: only tensors of these are torn by a kill."""

_THREADS = 2
_MOST_BUFFERS = 4
_SHARE = 16

Buffer = npt.NDArray[np.uint8]
_Late = tuple[int, int, bytes, Path]


def buffer_bytes(memory_bytes: int) -> int:
    """Memory that buffers may take of a run's, bytes: a sixteenth, at most 16 MiB; 0 where that is not enough."""
    n = min(_MOST_BUFFERS, memory_bytes // _SHARE // BUFFER_BYTES)
    return n * BUFFER_BYTES if n > 1 else 0


class Direct:
    """Writes to files past the page cache, in the background.

    Law: after `finish` a file holds what it would hold had every piece been written at once.

    Attributes:
        failed: the first write that failed, with its file; None: none has.
    """

    def __init__(self, memory_bytes: int) -> None:
        """Prepare to write, with buffers of ``memory_bytes`` in all; with fewer than one buffer no file is taken."""
        self.failed: tuple[Path, BaseException] | None = None
        self._n_buffers = memory_bytes // BUFFER_BYTES
        self._free: LifoQueue[Buffer] = LifoQueue()  # the last one is still in the cache
        self._files: dict[Path, int] = {}
        self._pool = ThreadPoolExecutor(_THREADS)
        self._lander = ThreadPoolExecutor(1)
        self._later: list[_Late] = []
        self._n_later = self._n_since = 0
        self._lock = Lock()

    def open(self, path: Path, n_bytes: int) -> None:
        """Take a file that is there and will have so many bytes, if that pays and the system lets it be written so."""
        flag = getattr(os, "O_DIRECT", 0)  # macOS has none
        if flag and self._n_buffers and n_bytes >= LEAST_FILE_BYTES:
            with suppress(OSError):
                flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flag
                self._take(path, os.open(path, flags))

    def write(self, path: Path, handle: int, data: memoryview, offset: int) -> bool:
        """Copy some bytes, which are written some time before `finish` returns; safe from any thread.

        Args:
            path: of the file.
            handle: another descriptor of it, which writes through the page cache.
            data: bytes.
            offset: of the first one in the file.

        Returns:
            Whether the file was taken; else nothing is done.
        """
        if path not in self._files:
            return False
        first = -offset % BLOCK
        last = first + (len(data) - first) // BLOCK * BLOCK
        if last - first < LEAST_BYTES:
            first = last = len(data)
        source = np.frombuffer(data, np.uint8)
        for start in range(first, last, BUFFER_BYTES):
            piece = source[start : min(start + BUFFER_BYTES, last)]
            buffer = self._free.get()
            buffer[: len(piece)] = piece
            whole = buffer[: len(piece)].data
            self._pool.submit(self._put, path, handle, whole, offset + start, buffer)
        ends = [(0, first), (last, len(data))]
        self._keep(
            [(handle, offset + a, bytes(data[a:b]), path) for a, b in ends if a < b], len(data)
        )
        return True

    def finish(self) -> None:
        """Write all that was taken so far; what others bring meanwhile waits."""
        if self._files:
            self._lander.submit(self._land, self._late()).result()

    def close(self) -> None:
        """The same, and close the files; nothing is written where a write has failed."""
        if not self.failed:
            self.finish()
        self._lander.shutdown()
        self._pool.shutdown()
        for handle in self._files.values():
            os.close(handle)
        self._files.clear()

    def _take(self, path: Path, handle: int) -> None:
        """Take a file by its descriptor; there are buffers as soon as there is one."""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        n = 0 if self._files else self._n_buffers
        for own in [mmap.mmap(-1, BUFFER_BYTES, flags=flags) for _ in range(n)]:  # all or none
            self._free.put(np.frombuffer(own, np.uint8))
        self._files[path] = handle

    def _keep(self, edges: list[_Late], n_bytes: int) -> None:
        """Let edges and small pieces wait for others; when they are many, or wait long, they are written."""
        with self._lock:
            self._later += edges
            self._n_later += sum(len(data) for _, _, data, _ in edges)
            self._n_since += n_bytes
            if self._n_later < LATER_BYTES and self._n_since < EVERY_BYTES:
                return
        if late := self._late():
            self._lander.submit(self._land, late)

    def _late(self) -> list[_Late]:
        """Take over what waits, in the order of the files."""
        with self._lock:
            late, self._later = self._later, []
            self._n_later = self._n_since = 0
        return sorted(late)

    def _land(self, late: list[_Late]) -> None:
        """Write edges and small pieces when nothing else is under way: when all buffers are free.

        In a thread of its own, which nobody interrupts: a buffer that was lost would be waited for for ever.
        """
        buffers = [self._free.get() for _ in range(self._n_buffers)]
        for handle, offset, data, path in late:
            try:
                write_all(handle, memoryview(data), offset)
            except BaseException as error:  # noqa: BLE001 - nobody else hears of it
                self.failed = self.failed or (path, error)
        for buffer in buffers:
            self._free.put(buffer)

    def _put(self, path: Path, handle: int, data: memoryview, offset: int, buffer: Buffer) -> None:
        """Write what is in a buffer and give it back; what the disk refuses goes through the page cache."""
        try:
            try:
                write_all(self._files[path], data, offset)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                write_all(handle, data, offset)
        except BaseException as error:  # noqa: BLE001 - nobody else hears of it
            self.failed = self.failed or (path, error)
        finally:
            self._free.put(buffer)


def write_all(handle: int, data: memoryview, offset: int) -> None:
    """Write all of ``data`` at an offset of an open file.

    Raises:
        OSError: the operating system refuses.
    """
    done = 0
    while done < len(data):
        done += os.pwrite(handle, data[done:], offset + done)
