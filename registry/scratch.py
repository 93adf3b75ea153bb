"""A folder beside the catalog for work on its way into it: gone when the work ends, or when the next one begins."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from registry.refusal import translated
from registry.workroom import workroom

PREFIX = ".import-"
"""How the names of such folders begin."""


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
            folder = stack.enter_context(workroom(catalog.parent, PREFIX))
        except OSError as error:
            raise translated(error, catalog) from error
        yield folder
