"""Disks: full, read-only, forbidden, torn away; files that change while they are read; names and clocks that are odd.

Every command is a real process. Where the system lets us mount one, the small disk is a real one; else `faults.c` lets
writes fail as on one, as it does besides for reads that fail and for the moments in which files change.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from torture import changes, full, oddities, refusals
from torture.lab import Server
from torture.trial import Trial

CASES = (*full.CASES, *changes.CASES, *refusals.CASES, *oddities.CASES)
"""Each is tried once at least, and again and again while it has time."""


def trials(seed: int, seconds: float, folder: Path) -> Iterator[Trial]:
    """A line for each kind of damage."""
    deadline = time.monotonic() + seconds
    with Server(folder) as server:
        left = len(CASES)
        for what, case, words in CASES:
            share, started = (deadline - time.monotonic()) / left, time.monotonic()
            left -= 1
            kind = " (mounted)" if server.may_mount and case.__module__ == full.__name__ else ""
            trial = Trial("disk", what + kind)
            while not trial.tries or time.monotonic() - started < share:
                found = server.run(case, words, f"{seed}:{what}:{trial.tries}")
                trial.tries += 1
                trial.faults += found.faults
                trial.lost_rows += len(found.lost_rows)
                trial.unnamed_errors += len(found.unnamed_errors)
                trial.half_models += len(found.half_models)
                trial.details += [
                    f"try {trial.tries - 1}: {text}"
                    for text in (
                        *found.lost_rows, *found.unnamed_errors, *found.half_models, *found.wrong
                    )
                ]  # fmt: skip
            yield trial
