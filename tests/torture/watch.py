"""What happens in a folder, as it happens: the moments at which a process is killed. On Linux, by inotify."""

import ctypes
import os
import select
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CREATED, _IS_FOLDER = 0x100, 0x40000000
_WHAT = 0x2 | 0x8 | 0x40 | 0x80 | _CREATED | 0x200 | 0x4
"""Written, closed, moved from and to, created, removed, and given other attributes (a length too)."""

_EVENT = struct.Struct("iIII")
_NONBLOCK = 0x800


class Watch:
    """Counts what happens in a folder and all folders in it, those that are made meanwhile too.

    Attributes:
        n_events: so far. The system tells of events in a row as one.
    """

    def __init__(self, folder: Path) -> None:
        self.n_events = 0
        self._system = ctypes.CDLL(None, use_errno=True)
        self._handle = self._system.inotify_init1(_NONBLOCK)
        self._places: dict[int, bytes] = {}
        self._add(os.fsencode(folder))

    def _add(self, folder: bytes) -> None:
        place = self._system.inotify_add_watch(self._handle, folder, _WHAT)
        if place < 0:
            return  # gone already
        self._places[place] = folder
        for inner in os.scandir(folder):
            if inner.is_dir(follow_symlinks=False):
                self._add(inner.path)

    def look(self, seconds: float) -> int:
        """Wait so long for the next events, and say how many there were so far."""
        if select.select([self._handle], [], [], seconds)[0]:
            self._take(os.read(self._handle, 1 << 16))
        return self.n_events

    def _take(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            place, what, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            self.n_events += 1
            if what & _CREATED and what & _IS_FOLDER and place in self._places:
                name = data[at - length : at].rstrip(b"\0")
                self._add(os.path.join(self._places[place], name))

    def close(self) -> None:
        """Look no more."""
        os.close(self._handle)


@contextmanager
def watch(folder: Path) -> Iterator[Watch | None]:
    """Watch a folder; None where the system cannot."""
    if not hasattr(ctypes.CDLL(None), "inotify_init1"):
        yield None
        return
    watching = Watch(folder)
    try:
        yield watching
    finally:
        watching.close()
