"""A folder beside the catalog for work on its way into it: gone when the work ends, or when the next one begins."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from registry.errors import CatalogDamaged, NotEnoughDisk
from registry.workroom import workroom

_PREFIX = ".import-"


@contextlib.contextmanager
def scratch(catalog: Path) -> Iterator[Path]:
    """A new empty folder beside a catalog, which need not be there yet.

    Raises:
        NotEnoughDisk: there is no room for it.
        CatalogDamaged: it cannot be made for another reason, so that no catalog could be made there either.
    """
    with contextlib.ExitStack() as stack:
        try:
            catalog.parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(workroom(catalog.parent, _PREFIX))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                message = (
                    f"{catalog.parent}: no room for what goes into the catalog; nothing was kept"
                )
                hint = "free some space and run the command again"
                raise NotEnoughDisk(message, hint=hint) from error
            message = f"catalog {catalog} cannot be made: {error.strerror}"
            raise CatalogDamaged(message, hint="name another place in REG_CATALOG") from error
        yield folder
