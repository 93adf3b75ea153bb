"""The contents of all files, each kept once, under its sha256."""

import hashlib
import os
import shutil
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 20


@dataclass(frozen=True)
class Content:
    """Bytes that are kept.

    Attributes:
        sha256: of the bytes, 64 hexadecimal digits.
        git_oid: sha1 of the bytes as a git blob.
        size: bytes.
    """

    sha256: str
    git_oid: str
    size: int


def git_oid(data: bytes) -> str:
    """Sha1 of ``data`` as a git blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class Objects:
    """A folder of contents. Many repositories that hold the same file share one object."""

    def __init__(self, root: Path):
        self.root = root
        self._known: dict[str, Content] = {}
        self._lock = threading.Lock()
        (root / "new").mkdir(parents=True, exist_ok=True)
        self._n_new = 0

    def path(self, sha256: str) -> Path:
        """Where the content lies, or would lie."""
        return self.root / sha256[:2] / sha256

    def get(self, sha256: str) -> Content | None:
        """The content of that name, if it is kept."""
        return self._known.get(sha256)

    def keep(self, source: Path | bytes, *, link: bool = False) -> Content:
        """Keep a file or some bytes.

        Args:
            source: the file, or its bytes.
            link: a hard link instead of a copy; for files that nobody will write into.
        """
        if isinstance(source, bytes):
            content = Content(hashlib.sha256(source).hexdigest(), git_oid(source), len(source))
            if self.get(content.sha256) is None:
                new = self._new()
                new.write_bytes(source)
                self._settle(new, content)
            return content
        with source.open("rb") as file:
            content = _measured(file)
        if self.get(content.sha256) is None:
            new = self._new()
            if not (link and _linked(source.resolve(), new)):
                shutil.copyfile(source, new)
            self._settle(new, content)
        return content

    def receive(self, pieces: Iterable[bytes]) -> Content:
        """Keep what comes in ``pieces``."""
        new = self._new()
        with new.open("w+b") as file:
            file.writelines(pieces)
            file.seek(0)
            content = _measured(file)
        self._settle(new, content)
        return content

    def read(self, sha256: str, start: int = 0, size: int = -1) -> bytes:
        """``size`` bytes from ``start`` on; all by default."""
        with self.path(sha256).open("rb") as file:
            file.seek(start)
            return file.read(size)

    def _new(self) -> Path:
        with self._lock:
            self._n_new += 1
            return self.root / "new" / str(self._n_new)

    def _settle(self, new: Path, content: Content) -> None:
        path = self.path(content.sha256)
        path.parent.mkdir(exist_ok=True)
        new.replace(path)
        self._known[content.sha256] = content


def _linked(source: Path, new: Path) -> bool:
    """Make a hard link; not every pair of folders allows it."""
    try:
        os.link(source, new)
    except OSError:
        return False
    return True


def _measured(file: BinaryIO) -> Content:
    size = os.fstat(file.fileno()).st_size
    sha256 = hashlib.sha256()
    sha1 = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    while chunk := file.read(CHUNK):
        sha256.update(chunk)
        sha1.update(chunk)
    return Content(sha256.hexdigest(), sha1.hexdigest(), size)
