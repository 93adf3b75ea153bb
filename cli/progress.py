"""Bars on stderr: what is being done, how much of it, how fast, how long still."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from cli.block import Unit
from registry.names import printable


class Bar:
    """One bar at a time, of the work begun last; gone when the block ends. Any thread may advance it."""

    def __init__(self, unit: Unit) -> None:
        counts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),)
        if unit == "bytes":
            counts = (DownloadColumn(binary_units=True), TransferSpeedColumn())
        self._bars = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), *counts, TimeRemainingColumn(),
            console=Console(stderr=True, markup=False, highlight=False), transient=True,
        )  # fmt: skip
        self._running = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._running:
            self._bars.stop()

    def start(self, what: str, total_bytes: int) -> None:
        """Begin a new bar; nothing is drawn for no work."""
        for task in self._bars.task_ids:
            self._bars.remove_task(task)
        if total_bytes <= 0:
            return
        self._bars.add_task(printable(what), total=total_bytes)
        if not self._running:
            self._bars.start()
            self._running = True

    def advance(self, n_bytes: int) -> None:
        """Move the bar by ``n_bytes``."""
        for task in self._bars.task_ids:
            self._bars.advance(task, n_bytes)
