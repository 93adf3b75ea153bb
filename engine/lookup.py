"""Models as the catalog knows them, ready to take part in a merge or a comparison."""

from engine.parent import Parent
from registry.catalog import Catalog
from registry.errors import UnsupportedDtype
from registry.names import CACHE, HUB
from registry.progress import SILENT, Progress
from registry.scan import ensure, scan


def load_parent(catalog: Catalog, model: str) -> Parent:
    """What a plan or a comparison needs of a model: name, files and digests.

    Args:
        catalog: knows the model.
        model: id.

    Raises:
        BadAddress, FileChanged: its files are not there, or not as scanned.
        UnsupportedDtype: it is GGUF.
    """
    with catalog.database.kept_open():  # opening once for all four is what takes the time
        rows = catalog.rows("select name, digest from store.tensor where model_id = ?", [model])
        name = catalog.name(model)
        places = catalog.rows(
            "select uri from store.address where model_id = ? and source in ('hub', 'hf-cache') "
            "order by source desc, uri limit 1",
            [model],
        )
        checkpoint = catalog.checkpoint(model)
    if checkpoint.format == "gguf":
        dtypes = ", ".join(sorted({tensor.dtype for tensor in checkpoint.tensors}))
        message = (
            f"{name} is GGUF ({dtypes}): a form for running models, which is not computed with"
        )
        raise UnsupportedDtype(message, hint=f"take the model it was made from: reg lineage {name}")
    digests = {row["name"]: row["digest"] for row in rows if row["digest"]}
    address = HUB + places[0]["uri"].removeprefix(HUB).removeprefix(CACHE) if places else None
    return Parent(model, name, checkpoint, digests, address=address)


def identify(catalog: Catalog, text: str, *, progress: Progress = SILENT) -> str:
    """The id of the model that ``text`` names, made from all of its bytes.

    A model of which only headers were scanned has an id that is no digest of its weights: it is scanned whole, so
    that what is recorded of a merge names what was merged.

    Raises:
        UnknownModel, AmbiguousModel, CorruptCheckpoint, BadAddress: as `registry.scan.ensure`.
    """
    model = ensure(catalog, text, progress=progress)
    headers = catalog.rows(
        "select a.uri from store.address a join store.model m on m.id = a.model_id "
        "where m.id = ? and m.status in ('header', 'sampled') and a.source in ('local', 'hf-cache') order by a.uri limit 1",
        [model],
    )
    if not headers:
        return model
    uri = str(headers[0]["uri"])
    scan(catalog, [uri], progress=progress)
    return catalog.find(uri)
