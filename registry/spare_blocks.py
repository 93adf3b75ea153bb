"""Spare copies of blocks that DuckDB writes over: a checkpoint that is cut short must not cost the catalog.

A checkpoint writes to where nothing is that the last one needs, so that a process may be killed in the middle of it. Blocks
of metadata are the exception: 64 parts share one, and new parts are written between the old ones. When such a write is
cut short, the block's checksum is wrong, and DuckDB refuses the whole file. So before a catalog is changed, those blocks
are copied to a file beside it, which goes when the change is done. Who opens the catalog next and finds that file puts
back what is torn.

Law: a block is put back only where its checksum is wrong, that of its copy is right, and the headers are those under
which it was copied.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from registry.fingerprint import digest_text
from registry.refusal import translated
from registry.whole_file import sync

_HEADERS_BYTES = 3 << 12  # what the file is, and the two headers of which the newer one counts
_NUMBER_BYTES = 8
_NAME_BYTES, _KEY_DIGITS = 240, 32
_MOST_BYTES = 1 << 18  # of a block
_SEED, _FACTOR = 5381, 0xBF58476D1CE4E5B9

_ROOMY = """
select block_id, (select block_size from pragma_database_size()) from pragma_metadata_info()
where free_blocks between 1 and total_blocks - 1 order by block_id"""
"""Blocks of metadata of which a part is in use and another is not."""


class Connection(Protocol):
    """An open connection, as far as it is needed here."""

    def execute(self, query: str, /) -> Any:
        """Run a statement."""


def spare_file(path: Path) -> Path:
    """Where the copies of a catalog's blocks are; of two long names that begin alike, each has its own."""
    is_long = len(os.fsencode(path.name)) > _NAME_BYTES
    name = digest_text(path.name)[:_KEY_DIGITS] if is_long else path.name
    return path.with_name(f".{name}.blocks")


class Spare:
    """Copies of the blocks of a catalog that may be written over while one connection is open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._catalog: BinaryIO | None = None

    def keep(self, connection: Connection) -> None:
        """Make the copies, for the one connection that this process has to the catalog, and that has changed nothing yet.

        Raises:
            NotEnoughDisk, CatalogDamaged: the operating system refuses.
        """
        try:
            self._catalog = self._path.open("rb")
            with spare_file(self._path).open("wb") as file:
                file.write(self._catalog.read(_HEADERS_BYTES))
                for number, n_bytes in connection.execute(_ROOMY).fetchall():
                    self._catalog.seek(_HEADERS_BYTES + number * n_bytes)
                    file.write(number.to_bytes(_NUMBER_BYTES, "little"))
                    file.write(n_bytes.to_bytes(_NUMBER_BYTES, "little"))
                    file.write(self._catalog.read(n_bytes))
            sync(spare_file(self._path))
            sync(self._path.parent)
        except OSError as error:
            raise translated(error, self._path) from error

    def close(self) -> None:
        """Remove the copies, once the connection is closed, which has a lock that closing any file of the catalog takes away."""
        if self._catalog is not None:
            self._catalog.close()
        mend(self._path)


def mend(path: Path) -> None:
    """Put back what a checkpoint that was cut short has torn, unless a process has the catalog open.

    No thread of ours may have it open. What the operating system refuses is left to who opens the catalog.
    """
    spare = spare_file(path)
    with suppress(OSError), spare.open("rb") as copies, path.open("r+b") as catalog:
        fcntl.lockf(catalog, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if copies.read(_HEADERS_BYTES) == catalog.read(_HEADERS_BYTES):
            n_bytes = os.fstat(catalog.fileno()).st_size
            for number, block in _blocks(copies):
                at = _HEADERS_BYTES + number * len(block)
                if at + len(block) > n_bytes or not _is_whole(block):
                    continue
                catalog.seek(at)
                if not _is_whole(catalog.read(len(block))):
                    catalog.seek(at)
                    catalog.write(block)
            catalog.flush()
            os.fsync(catalog.fileno())
        spare.unlink()


def _blocks(copies: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The blocks of a file of copies, with their numbers; of one that is cut off or holds something else, those before."""
    while len(head := copies.read(2 * _NUMBER_BYTES)) == 2 * _NUMBER_BYTES:
        n_bytes = int.from_bytes(head[_NUMBER_BYTES:], "little")
        if n_bytes > _MOST_BYTES:
            return
        block = copies.read(n_bytes)
        if len(block) == n_bytes:
            yield int.from_bytes(head[:_NUMBER_BYTES], "little"), block


def _is_whole(block: bytes) -> bool:
    """Tell whether a block has the checksum that stands in front of it."""
    import numpy as np  # noqa: PLC0415 - slow to load, and hardly ever needed

    if not block or len(block) % _NUMBER_BYTES:
        return False
    stored, *_ = words = np.frombuffer(block, "<u8")
    return bool(stored == _SEED ^ int(np.bitwise_xor.reduce(words[1:] * np.uint64(_FACTOR))))
