"""What DuckDB and the operating system refuse, as errors of ours that say who or what stands in the way."""

import os
import re
from pathlib import Path

from registry.errors import CatalogDamaged, CatalogLocked, NotEnoughDisk, RegError

_HELD = ("Could not set lock", "different configuration", "already attached")
_DISK = ("No space left", "Could not write", "quota")
_FORBIDDEN = ("Permission denied", "Read-only file system", "Operation not permitted")


def is_held(error: Exception) -> bool:
    """Tell whether somebody else has the file, and may let it go."""
    return any(words in str(error) for words in _HELD)


def is_of_the_disk(error: Exception) -> bool:
    """Tell whether there is no room to write."""
    return any(words in str(error) for words in _DISK)


def translated(error: Exception, path: Path) -> RegError:
    """The error of ours that says what DuckDB or the operating system said."""
    text = str(error)
    holder = re.search(r"held in (.+?) \(PID (\d+)\)", text)
    if holder:
        message = f"catalog {path} is held by process {holder[2]} ({holder[1]})"
        return CatalogLocked(message, hint=f"wait for process {holder[2]} to end, or stop it")
    if is_held(error):
        return held_here(path)
    if any(words in text for words in _FORBIDDEN):
        message = f"catalog {path} may not be read or written: {_said(error)}"
        hint = "change its permissions and those of its folder, or name another file in REG_CATALOG"
        return CatalogDamaged(message, hint=hint)
    if is_of_the_disk(error):
        message = f"catalog {path} cannot be written ({_said(error)}); the transaction was not kept"
        return NotEnoughDisk(message, hint="free some space and run the command again")
    if isinstance(error, OSError) and error.strerror:
        message = f"catalog {path} cannot be made: {error.strerror}"
        return CatalogDamaged(message, hint="name another place in REG_CATALOG")
    message = f"catalog {path} cannot be opened: {first_line(error)}"
    return CatalogDamaged(message, hint="restore a copy, or move the file away and scan again")


def held_here(path: Path) -> CatalogLocked:
    """The error for a catalog that another thread of ours holds."""
    message = f"catalog {path} is held by process {os.getpid()}, which is this one"
    return CatalogLocked(message, hint="end the open transaction first")


def _said(error: Exception) -> str:
    """What was said; the operating system's words without the file, which may be one that is gone by now."""
    return (isinstance(error, OSError) and error.strerror) or first_line(error)


def first_line(error: Exception) -> str:
    """The first line of what DuckDB said."""
    return str(error).strip().splitlines()[0]
