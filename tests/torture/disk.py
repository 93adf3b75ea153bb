"""Disks: full, read-only, forbidden, torn away, written half; files that change while they are read; names and clocks that are odd.

Every command is a real process. Where the system lets us mount one, the small disk is a real one; else `faults.c` lets
writes fail as on one, as it does besides for reads that fail and for the moments in which files change.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path

from torture import changes, full, oddities, refusals, remote, torn
from torture.lab import Found, Server
from torture.trial import Trial

CASES = (*full.CASES, *remote.CASES, *changes.CASES, *refusals.CASES, *oddities.CASES, *torn.CASES)


def trials(seed: int, seconds: float, folder: Path) -> Iterator[Trial]:
    """A line for each kind of damage: in little time for some of them, by chance; in much, for each several tries."""
    deadline = time.monotonic() + seconds
    cases = list(CASES)
    random.Random(seed).shuffle(cases)
    with Server(folder) as server:
        for i, (what, case, words) in enumerate(cases):
            started = time.monotonic()
            if i and started > deadline:
                return
            share = (deadline - started) / (len(cases) - i)
            is_mounted = server.may_mount and case.__module__ == full.__name__
            trial = Trial("disk", what + (" (mounted)" if is_mounted else ""))
            while not trial.tries or time.monotonic() - started < share:
                _count(trial, server.run(case, words, f"{seed}:{what}:{trial.tries}"))
            yield trial


def _count(trial: Trial, found: Found) -> None:
    """Add one try to its line."""
    bad = (found.lost_rows, found.unnamed_errors, found.half_models, found.wrong)
    trial.details += [f"try {trial.tries}: {text}" for texts in bad for text in texts]
    trial.tries += 1
    trial.faults += found.faults
    trial.lost_rows += len(found.lost_rows)
    trial.unnamed_errors += len(found.unnamed_errors)
    trial.half_models += len(found.half_models)
