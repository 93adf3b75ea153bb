"""How fast the disk takes bytes: through the page cache, as plain copies write, and past it, as merges do."""

import mmap
import os
import time
from pathlib import Path

N_BYTES = 1 << 28
_PIECE = 8 << 20


def speeds(folder: Path, n_bytes: int = N_BYTES) -> str:
    """Both in words, from writing so many bytes each way, with fsync; one of them where the system has no other."""
    ways = {"through the page cache": 0, "past it": getattr(os, "O_DIRECT", 0)}
    found = []
    for way, flag in ways.items():
        if flag or not found:
            try:
                found.append(f"{_written(folder / 'disk.part', flag, n_bytes):.1f} GB/s {way}")
            except OSError:  # a file system that has no such way
                continue
    return ", ".join(found)


def _written(file: Path, flag: int, n_bytes: int) -> float:
    """GB/s of one way."""
    piece = mmap.mmap(-1, _PIECE)
    piece.write(os.urandom(_PIECE))
    os.sync()
    started = time.perf_counter()
    file.touch()  # where the flag is refused, some systems leave a file, others none
    try:
        handle = os.open(file, os.O_WRONLY | flag)
    except OSError:
        file.unlink()
        raise
    try:
        for offset in range(0, n_bytes, _PIECE):
            os.pwrite(handle, memoryview(piece)[: n_bytes - offset], offset)
        os.fsync(handle)
        return n_bytes / 1e9 / (time.perf_counter() - started)
    finally:
        os.close(handle)
        file.unlink()
