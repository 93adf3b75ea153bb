"""A command without its start-up: in a process that has run it before, in turns with the plain read and write.

    python tests/bench/inside.py < question.json

The question: ``rounds``, ``inputs`` and ``n_bytes`` of the plain copy, its ``copy``, ``words`` of the command, and
what to ``remove`` before any run; a file to be copied before any run, from ``known`` to its place. The answer: one
JSON line a round, seconds of the plain copy and of the command. Right before either, as many bytes as it writes are
written and removed, so that neither is the first to touch its memory.
"""

import contextlib
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from plain import CHUNK, plain

from cli.main import run


def touch(file: Path, n_bytes: int) -> None:
    """Write bytes that never reach the disk: their memory is free again, and at hand."""
    zeros = bytes(CHUNK)
    with file.open("wb", buffering=0) as out:
        for start in range(0, n_bytes, CHUNK):
            out.write(zeros[: n_bytes - start])
    file.unlink()


def clear(paths: Sequence[Path]) -> None:
    """Remove what runs leave, and wait for the disk."""
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    os.sync()


def timed(words: Sequence[str]) -> float:
    """Seconds of a command, which must succeed."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        code = run(words)
    if code:
        sys.exit(f"exit code {code}: reg {' '.join(words)}")
    return time.perf_counter() - started


def turns() -> None:
    """Answer the question; the first round is not counted."""
    asked = json.load(sys.stdin)
    inputs, copy = [Path(file) for file in asked["inputs"]], Path(asked["copy"])
    left = [copy, *map(Path, asked["remove"])]
    known, catalog = asked["known"]
    for turn in range(-1, asked["rounds"]):
        clear(left)
        touch(copy, asked["n_bytes"])
        floor = plain(inputs, copy, asked["n_bytes"]).seconds
        clear(left)
        touch(copy, asked["n_bytes"])
        if known:
            shutil.copyfile(known, catalog)
        seconds = timed(asked["words"])
        if turn >= 0:
            print(json.dumps([floor, seconds]), flush=True)
    clear(left)


if __name__ == "__main__":
    turns()
