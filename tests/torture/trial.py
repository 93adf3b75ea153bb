"""What a part of the torture found: one line of its table."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(slots=True)
class Trial:
    """One kind of damage, tried many times.

    Attributes:
        part: Which part tried it: kills, crowd, disk, fuzz.
        what: What was tried, in a few words.
        tries: How often.
        faults: How many of the tries really did damage: processes killed, writes refused, inputs that were bad.
        lost_rows: Rows that were committed and are gone. Must be 0.
        unnamed_errors: Ends that are not an error with a name: tracebacks, hangs, memory. Must be 0.
        half_models: Folders that look like a model and are none, or rows of such. Must be 0.
        details: What happened in each try that counts against the project, so that it can be tried again.
    """

    part: str
    what: str
    tries: int = 0
    faults: int = 0
    lost_rows: int = 0
    unnamed_errors: int = 0
    half_models: int = 0
    details: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost_rows or self.unnamed_errors or self.half_models or self.details)


class Part(Protocol):
    """A module of this folder: the same seed tries the same things in the same order."""

    def trials(self, seed: int, seconds: float, folder: Path) -> Iterator[Trial]:
        """Try for about so many seconds, within an empty folder; a line for each thing that was tried."""
        ...
