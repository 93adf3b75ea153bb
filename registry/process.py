"""Processes of this machine: whether one that the catalog names is still the one that was meant."""

import os
import time
from datetime import datetime
from pathlib import Path


def is_alive(process: int, since: datetime | None = None) -> bool:
    """Tell whether a process of this machine has this number now.

    Args:
        process: its number.
        since: when it is known to have run; one that began later has only its number. None: any will do. Where the system does
            not say when a process began, any will do too.
    """
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    if process <= 0:
        return False
    began = _began(process) if since else None
    return began is None or since is None or began <= since.timestamp() + _CLOCK_SECONDS


_CLOCK_SECONDS = 2.0
"""How far two clocks of one machine may seem to differ."""

_START_FIELD = 19
"""Of those of /proc/PID/stat that follow the name: ticks since the system began."""


def _began(process: int) -> float | None:
    """When a process began, seconds since 1970; None where nobody says."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        ticks = int(text.rpartition(")")[2].split()[_START_FIELD])
        up = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
        return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
