"""One whole process, measured from outside: seconds, peak anonymous memory, bytes read and written."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 0.01
"""Seconds between two looks at the memory."""


@dataclass(frozen=True)
class Run:
    """What one run came to.

    Attributes:
        seconds: from its start to its end, by the clock on the wall.
        cpu_seconds: of all its threads, in the program and in the kernel.
        anonymous: most bytes of memory that were its own, children included; pages of files do not count.
        read: bytes it asked to read, from the page cache or the disk.
        written: bytes it wrote.
    """

    seconds: float
    cpu_seconds: float
    anonymous: int
    read: int
    written: int


class Failed(Exception):  # noqa: N818 - it says what happened
    """The process ended with an exit code other than 0."""

    def __init__(self, command: Sequence[str], code: int, said: str) -> None:
        super().__init__(f"{' '.join(command)}: exit code {code}\n{said}")


def measure(command: Sequence[str], folder: Path, log: Path, settings: Mapping[str, str]) -> Run:
    """Run ``command`` in ``folder`` to its end; what it says goes to ``log``.

    The process is looked at once more between its end and its burial, so that the counted bytes are all there.

    Raises:
        Failed: with the end of what it said.
    """
    with log.open("wb") as said:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            env={**os.environ, **settings},
        )  # fmt: skip
        watch = _Watch(process.pid)
        watch.start()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        seconds = time.perf_counter() - started
    watch.over.set()
    watch.join()
    read, written = _bytes(process.pid)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        text = log.read_text(encoding="utf-8", errors="replace")
        raise Failed(command, process.returncode, text[-2000:])
    return Run(seconds, usage.ru_utime + usage.ru_stime, watch.peak, read, written)


class _Watch(threading.Thread):
    """Looks at the memory of a process and its children until it is over."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.peak = 0
        self.over = threading.Event()

    def run(self) -> None:
        """Keep the largest sum."""
        while not self.over.wait(INTERVAL):
            self.peak = max(self.peak, sum(map(_anonymous, _tree(self.pid))))


def _tree(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    try:
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in file.read_text(encoding="ascii").split():
                yield from _tree(int(child))
    except OSError:  # it ended while we looked
        return


def _anonymous(pid: int) -> int:
    """Bytes of memory that belong to no file."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _bytes(pid: int) -> tuple[int, int]:
    """Bytes read and written by a process that has ended, and by its children."""
    lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    counts = dict(line.split(": ") for line in lines)
    return int(counts["rchar"]), int(counts["wchar"])
