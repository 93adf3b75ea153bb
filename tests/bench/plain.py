"""The floor: a chunked read of some files and a write, with fsync, of as many bytes as a merge of them writes."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from process import Run

CHUNK = 8 << 20


def plain(inputs: Iterable[Path], output: Path, n_bytes: int) -> Run:
    """Read ``inputs`` to their ends and write their first ``n_bytes`` bytes to ``output``: no arithmetic at all."""
    started, spent = time.perf_counter(), time.process_time()
    chunk = memoryview(bytearray(CHUNK))
    read = written = 0
    with open(output, "wb", buffering=0) as out:
        for file in inputs:
            with open(file, "rb", buffering=0) as source:
                while n := source.readinto(chunk):
                    read += n
                    if written < n_bytes:
                        written += out.write(chunk[: min(n, n_bytes - written)])
        if n_bytes:
            os.fsync(out.fileno())
    return Run(
        time.perf_counter() - started, time.process_time() - spent, CHUNK, read, written
    )  # fmt: skip
