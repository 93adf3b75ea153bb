"""The use case `verify`: do bytes, sidecar, metadata and catalog agree?

Every tensor is digested again. A difference names the tensor, the file and the two values.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors

from engine import provenance
from registry.catalog import ID_DIGITS, Catalog
from registry.claims import METADATA_KEY
from registry.checkpoint import Checkpoint, read_checkpoint
from registry.database import Row
from registry.errors import BadDocument, CorruptCheckpoint, UnknownModel
from registry.fingerprint import digest_model, digest_tensors
from registry.progress import SILENT, Progress


@dataclass(frozen=True)
class Difference:
    """One thing that does not agree.

    Attributes:
        what: tensor, model, file, sidecar, metadata or catalog.
        where: name of the tensor or file.
        detail: both values, in words.
    """

    what: str
    where: str
    detail: str


@dataclass(frozen=True)
class Verification:
    """What was compared and what differs.

    Attributes:
        ok: nothing differs.
        folder: that was verified.
        model: digest of the bytes as they are; empty when they cannot be read.
        n_tensors: digested.
        checked: what the bytes were compared with, in words.
        differences: in the order found.
    """

    ok: bool
    folder: Path
    model: str
    n_tensors: int
    checked: tuple[str, ...]
    differences: tuple[Difference, ...]


def verify(
    catalog: Catalog, target: str, *, jobs: int | None = None, progress: Progress = SILENT
) -> Verification:
    """Compare the bytes at a folder or of a model with everything that is written about them.

    Args:
        catalog: compared with, if it knows the model.
        target: a folder, a file, a name or an id.
        jobs: threads that read.
        progress: told of every byte.

    Raises:
        UnknownModel: ``target`` is neither on disk nor in the catalog.
    """
    root, expected = _place(catalog, target)
    try:
        checkpoint = read_checkpoint(root)
    except CorruptCheckpoint as error:
        return Verification(
            False, root, "", 0, ("file format",), (Difference("file", str(root), error.message),)
        )
    progress.start("verify", checkpoint.n_bytes)
    digests = digest_tensors(checkpoint.tensors, jobs=jobs, progress=progress.advance)
    model = digest_model(digests, tied=checkpoint.tied)
    checked, differences = ["file format"], _judged_by_reference(checkpoint)
    try:
        sidecar = provenance.read_sidecar(root)
    except BadDocument as error:
        sidecar = None
        differences.append(Difference("sidecar", provenance.SIDECAR, error.message))
    if sidecar is not None:
        checked += ["sidecar", "metadata"]
        differences += _with_digests(sidecar.get("tensors", {}), digests, checkpoint, "the sidecar")
        differences += _with_sidecar(sidecar, model, checkpoint)
    if expected:
        checked.append("catalog")
        known = catalog.rows("select name, digest from store.tensor where model_id = ?", [expected])
        recorded = {row["name"]: row["digest"] for row in known if row["digest"]}
        differences += _with_digests(recorded, digests, checkpoint, "the catalog")
        if sidecar is not None:
            differences += _with_edges(catalog, expected, sidecar)
    unique = tuple(dict.fromkeys(differences))
    return Verification(not unique, root, model, len(digests), tuple(checked), unique)


def _place(catalog: Catalog, target: str) -> tuple[Path, str | None]:
    """The folder to verify, and the id the catalog has for it."""
    path = Path(target).expanduser().absolute()
    known: list[Row] = []
    if catalog.path.exists():
        known = catalog.rows("select root, model_id from store.address where root = ?", [str(path)])
        if not known and not path.exists():
            model = catalog.find(target)
            known = catalog.rows(
                "select root, model_id from store.address where model_id = ? order by uri", [model]
            )
            known = [row for row in known if Path(row["root"]).exists()] or known
    if known:
        return Path(known[0]["root"]), str(known[0]["model_id"])
    if path.exists():
        return path, None
    raise UnknownModel(
        f"{target!r} is neither on disk nor in a catalog", hint="reg ls lists the models"
    )


def _judged_by_reference(checkpoint: Checkpoint) -> list[Difference]:
    """Let the reference implementation of the format open every shard."""
    found = []
    for file in sorted({tensor.file for tensor in checkpoint.tensors}):
        try:
            with safetensors.safe_open(file, framework="np"):  # type: ignore[attr-defined]
                pass
        except safetensors.SafetensorError as error:  # type: ignore[attr-defined]
            found.append(Difference("file", file.name, f"the reference reader refuses it: {error}"))
    return found


def _with_digests(
    recorded: Mapping[str, str], digests: Mapping[str, str], checkpoint: Checkpoint, source: str
) -> list[Difference]:
    """Compare tensor by tensor."""
    found = []
    for name in sorted(recorded.keys() | digests.keys()):
        was, now = recorded.get(name), digests.get(name)
        if was == now:
            continue
        if now is None:
            found.append(Difference("tensor", name, f"{source} has it, the files do not"))
        elif was is None:
            file = checkpoint.tensor(name).file.name
            found.append(Difference("tensor", name, f"{file} has it, {source} does not"))
        else:
            file = checkpoint.tensor(name).file.name
            detail = f"{file} holds {now[:ID_DIGITS]}, {source} says {was[:ID_DIGITS]}"
            found.append(Difference("tensor", name, detail))
    return found


def _with_sidecar(sidecar: Row, model: str, checkpoint: Checkpoint) -> list[Difference]:
    """Compare the model's digest and each shard's metadata with the sidecar."""
    found = []
    if sidecar.get("model") != model:
        detail = f"the bytes are {model[:ID_DIGITS]}, the sidecar says {str(sidecar.get('model'))[:ID_DIGITS]}"
        found.append(Difference("model", provenance.SIDECAR, detail))
    try:
        inside = json.loads(checkpoint.metadata.get(METADATA_KEY, "null"))
    except json.JSONDecodeError:
        inside = None
    for key in ("recipe", "recipe_digest", "parents"):
        mine = inside.get(key) if isinstance(inside, dict) else None
        if mine != sidecar.get(key):
            found.append(Difference("metadata", key, "the shards' metadata and the sidecar differ"))
    return found


def _with_edges(catalog: Catalog, model: str, sidecar: Row) -> list[Difference]:
    """Compare the recorded edges with the sidecar's parents."""
    rows = catalog.rows(
        "select parent from store.edge where child = ? and status = 'recorded'", [model]
    )
    recorded = {row["parent"] for row in rows}
    written = {p["digest"] for p in sidecar.get("parents", []) if p["digest"] != model}
    if recorded and recorded != written:
        return [Difference("catalog", "edges", "the recorded parents are not those of the sidecar")]
    return []
