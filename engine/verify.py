"""The use case `verify`: do bytes, sidecar, metadata and catalog agree?

Every tensor is digested again. A difference names the tensor, the file and the two values.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import safetensors

from engine import provenance
from engine.output import refusals
from registry.catalog import ID_DIGITS, Catalog
from registry.checkpoint import Checkpoint, read_checkpoint
from registry.claims import METADATA_KEY
from registry.documents import open_file
from registry.errors import BadDocument, CorruptCheckpoint, PathEscapes
from registry.fingerprint import digest_model, digest_tensors, digest_text
from registry.header import read_header
from registry.place import place
from registry.progress import SILENT, Progress
from registry.tensor_name import EMBEDDING, HEAD


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
        catalog: compared with, if it is there and knows the model.
        target: a folder, a file, a name or an id.
        jobs: threads that read.
        progress: told of every byte.

    Raises:
        UnknownModel: ``target`` is neither on disk nor in the catalog.
        Unreadable: the operating system does not let us look.
    """
    root, expected = place(catalog, target)
    try:
        checkpoint = read_checkpoint(root)
        progress.start("verify", checkpoint.n_bytes)
        digests = digest_tensors(checkpoint.tensors, jobs=jobs, progress=progress.advance)
        metadata = {file.name: read_header(file).metadata for file in _shards(checkpoint)}
    except CorruptCheckpoint as error:
        found = Difference("file", str(root), error.message)
        return Verification(False, root, "", 0, ("file format",), (found,))  # noqa: FBT003 - named there
    model = digest_model(digests, tied=checkpoint.tied)
    checked, differences = ["file format"], _judged_by_reference(checkpoint)
    sidecar, troubles = _sidecar(root, metadata)
    differences += troubles
    if sidecar is not None:
        checked += ["sidecar", "metadata"]
        differences += _with_sidecar(sidecar, model, digests, checkpoint)
        differences += _with_metadata(sidecar, metadata)
    if expected:
        checked.append("catalog")
        known = catalog.rows("select name, digest from store.tensor where model_id = ?", [expected])
        recorded = {row["name"]: row["digest"] for row in known if row["digest"]}
        if recorded:
            was, now = (_without_copies(d, tied=checkpoint.tied) for d in (recorded, digests))
            differences += _with_digests(was, now, checkpoint, "the catalog")
        differences += _with_runs(catalog, expected, sidecar)
    unique = tuple(dict.fromkeys(differences))
    return Verification(not unique, root, model, len(digests), tuple(checked), unique)


def _shards(checkpoint: Checkpoint) -> list[Path]:
    """Its safetensors files: GGUF has neither metadata of ours nor a reference reader here."""
    files = {tensor.file for tensor in checkpoint.tensors}
    return sorted(files) if checkpoint.format == "safetensors" else []


def _judged_by_reference(checkpoint: Checkpoint) -> list[Difference]:
    """Let the reference implementation of the format open every shard.

    It maps files, and a mapping of a file that is cut short meanwhile kills the process: so it is given one of our own,
    with the same header and nothing behind it.
    """
    found = []
    for file in _shards(checkpoint):
        header = read_header(file)
        with TemporaryDirectory(prefix="homolog-") as folder, refusals(Path(folder)):
            like = Path(folder) / "model.safetensors"
            with like.open("wb") as out, open_file(file) as (descriptor, _):
                out.write(os.pread(descriptor, header.data_start, 0))
                out.truncate(header.file_bytes)
            try:
                with safetensors.safe_open(like, framework="np"):
                    pass
            except safetensors.SafetensorError as error:
                detail = f"the reference reader refuses it: {error}"
                found.append(Difference("file", file.name, detail))
    return found


def _sidecar(
    root: Path, metadata: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, Any] | None, list[Difference]]:
    """The sidecar, and what is wrong with it as a whole."""
    name = provenance.SIDECAR
    try:
        sidecar = provenance.read_sidecar(root)
    except (BadDocument, PathEscapes) as error:
        return None, [Difference("sidecar", name, error.message)]
    if sidecar is None and any(METADATA_KEY in inside for inside in metadata.values()):
        detail = "the shards say that a merge made them; a sidecar of that kind is not there"
        return None, [Difference("sidecar", name, detail)]
    return sidecar, []


def _without_copies(digests: Mapping[str, str], *, tied: bool) -> dict[str, str]:
    """Digests without those of heads that are copies: one model may be stored with and without them."""
    embeddings = {digest for name, digest in digests.items() if EMBEDDING.search(name)}
    return {
        name: digest
        for name, digest in digests.items()
        if not (tied and HEAD.search(name) and digest in embeddings)
    }


def _with_digests(
    recorded: Mapping[str, Any], digests: Mapping[str, str], checkpoint: Checkpoint, source: str
) -> list[Difference]:
    """Compare tensor by tensor."""
    found = []
    for name in sorted(recorded.keys() | digests.keys()):
        was, now = recorded.get(name), digests.get(name)
        if was == now:
            continue
        if now is None:
            found.append(Difference("tensor", name, f"{source} has it, the files do not"))
            continue
        file = checkpoint.tensor(name).file.name
        detail = f"{file} holds {_short(now)}, {source} says {_short(was)}"
        if was is None:
            detail = f"{file} has it, {source} does not"
        found.append(Difference("tensor", name, detail))
    return found


def _with_sidecar(
    sidecar: Mapping[str, Any], model: str, digests: Mapping[str, str], checkpoint: Checkpoint
) -> list[Difference]:
    """Compare tensors, model and recipe with what the sidecar says of them."""
    name, found = provenance.SIDECAR, []
    tensors = sidecar.get("tensors")
    if isinstance(tensors, dict):
        found += _with_digests(tensors, digests, checkpoint, "the sidecar")
    else:
        found.append(Difference("sidecar", name, "it lists no tensors"))
    if sidecar.get("model") != model:
        detail = f"the bytes are {_short(model)}, the sidecar says {_short(sidecar.get('model'))}"
        found.append(Difference("model", name, detail))
    text = json.dumps(sidecar.get("recipe"), sort_keys=True, separators=(",", ":"))
    if digest_text(text) != sidecar.get("recipe_digest"):
        detail = f"its recipe has the digest {_short(digest_text(text))}, it says {_short(sidecar.get('recipe_digest'))}"
        found.append(Difference("sidecar", name, detail))
    return found


def _with_metadata(
    sidecar: Mapping[str, Any], metadata: Mapping[str, Mapping[str, str]]
) -> list[Difference]:
    """Compare the metadata of every shard with the sidecar."""
    expected = provenance.metadata_of(sidecar)
    return [
        Difference("metadata", file, f"its {key!r} is not what the sidecar says")
        for file, inside in metadata.items()
        for key in sorted(expected.keys() | inside.keys())
        if inside.get(key) != expected.get(key)
    ]


def _with_runs(catalog: Catalog, model: str, sidecar: Mapping[str, Any] | None) -> list[Difference]:
    """Compare the recipes and edges of the runs that made a model with themselves and with the sidecar."""
    runs = catalog.rows(
        "select distinct r.recipe, p.canonical from store.run r "
        "left join store.recipe p on p.digest = r.recipe "
        "where r.model_id = ? and r.status = 'COMPLETE' order by r.recipe",
        [model],
    )
    found = [
        Difference("catalog", f"recipe {_short(run['recipe'])}", "its text was changed")
        for run in runs
        if run["canonical"] is None or digest_text(run["canonical"]) != run["recipe"]
    ]
    if sidecar is None or not runs:
        return found
    if sidecar.get("recipe_digest") not in [run["recipe"] for run in runs]:
        detail = (
            f"no run of the sidecar's recipe {_short(sidecar.get('recipe_digest'))} made this model"
        )
        found.append(Difference("catalog", "runs", detail))
    rows = catalog.rows(
        "select parent from store.edge where child = ? and status = 'recorded'", [model]
    )
    missing = _parents(sidecar) - {row["parent"] for row in rows} - {model}
    found += [
        Difference(
            "catalog", "edges", f"the edge to the sidecar's parent {_short(parent)} is missing"
        )
        for parent in sorted(missing)
    ]
    return found


def _parents(sidecar: Mapping[str, Any]) -> set[str]:
    """The digests of the parents a sidecar names."""
    named = sidecar.get("parents")
    rows = named if isinstance(named, list) else []
    return {str(row.get("digest")) for row in rows if isinstance(row, dict)}


def _short(digest: object) -> str:
    """As much of a digest as people are shown."""
    return str(digest)[:ID_DIGITS]
