"""Room on a disk, proved before it is used: DuckDB must not find in the middle of a commit that there is none."""

import errno
import os
import tempfile
from pathlib import Path

from registry.errors import NotEnoughDisk

_LEAST_BYTES, _MOST_BYTES = 1 << 20, 64 << 20


def prove_room(path: Path, n_bytes: int) -> None:
    """Refuse to commit what may not fit.

    When a commit fails in its middle, and in it a row was deleted and inserted again under one key, DuckDB cannot take
    it back and ends the process. No row is lost by that, but nobody is told anything.

    Args:
        path: of the catalog.
        n_bytes: that the commit may write, roughly.

    Raises:
        NotEnoughDisk: the disk or the quota is used up.
    """
    needed = min(_MOST_BYTES, _LEAST_BYTES + 2 * n_bytes)
    try:
        with tempfile.TemporaryFile(dir=path.parent) as ballast:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(ballast.fileno(), 0, needed)
                ballast.truncate(0)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"catalog {path} cannot be written: less than {needed:,} bytes are free; the transaction was not kept"
            raise NotEnoughDisk(
                message, hint="free some space and run the command again"
            ) from error
