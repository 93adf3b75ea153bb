"""Places of models: the files that a user means by a path, a name, an id, an @alias or an address of the Hub."""

from pathlib import Path

from registry.catalog import Catalog
from registry.database import Row
from registry.errors import UnknownModel
from registry.names import HUB, is_alias, is_there, typed_path
from registry.scan import ensure


def place(catalog: Catalog, target: str) -> tuple[Path, str | None]:
    """The folder or file of a model, and the id that the catalog has for it; what is on the Hub is downloaded.

    Args:
        catalog: asked if it is there; a path need not be known to it.
        target: a folder, a file, a name, an id, an @alias or an address of the Hub.

    Raises:
        UnknownModel: it is neither on disk nor in the catalog.
    """
    if target.startswith(HUB):
        model = ensure(catalog, target)
        return catalog.checkpoint(model).root, model
    path = typed_path(target)
    on_disk = not is_alias(target) and is_there(path)
    path = path.resolve() if on_disk else path
    known: list[Row] = []
    if catalog.is_made:
        known = catalog.rows(
            "select root, model_id from store.address where root = ? order by uri", [str(path)]
        )
        if not known and not on_disk:
            model = catalog.find(target)
            known = catalog.rows(
                "select root, model_id from store.address where model_id = ? order by uri", [model]
            )
            known = [row for row in known if is_there(row["root"])] or known
    if known:
        return Path(known[0]["root"]), str(known[0]["model_id"])
    if on_disk:
        return path, None
    message = f"{target!r} is neither on disk nor in a catalog"
    raise UnknownModel(message, hint="reg ls lists the models")
