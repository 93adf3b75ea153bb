"""What would be pushed of a model, decided before anything is asked: every file, the card, and what is to be said of it.

Nothing on this machine changes. Of configs that name a folder of this machine, a copy without it goes to the Hub.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.card import Card, card_of, read_card, read_text, without_paths
from registry.catalog import Catalog
from registry.checkpoint import Checkpoint
from registry.documents import read_json
from registry.errors import BadDocument, BadParameter, LicenseConflict
from registry.file_ref import FileRef, resolve_inside
from registry.hub_card import Facts, card_text
from registry.hub_parent import HubParent, parents_of
from registry.hub_push import Target, Upload
from registry.hub_scores import is_our_file, measured, parse_benchmarks, result_files
from registry.license_findings import Effective
from registry.license_report import licenses
from registry.names import HUB, printable

CARD = "README.md"
"""Name of the card in a repository."""

SIDECAR = "homolog.json"
"""Name of the file that says how a merge was made."""

_WHOLE = (
    "index",
    "config",
    "adapter_config",
    "generation_config",
    "tokenizer",
    "sidecar",
    "recipe",
    "eval",
)
_ENDINGS = (".json", ".txt", ".jinja", ".model", ".spm", ".tiktoken")
_CODE = ".py"  # of architectures that transformers does not have
_NOTICES = ("license", "licence", "notice", "use_policy", "acceptable_use")
_OF_TRAINING = (
    "trainer_state",
    "training_args",
    "train_results",
    "eval_results",
    "all_results",
    "results",
)
_LARGEST_OTHER_BYTES = 100_000_000
_PATH_KEYS = (
    "_name_or_path",
    "name_or_path",
    "base_model_name_or_path",
    "tokenizer_file",
    "vocab_file",
)
_LARGEST_CONFIG_BYTES = 4_000_000


@dataclass(frozen=True)
class Asked:
    """How a model is to be pushed.

    Attributes:
        allow_license_conflict: why it is passed on although no licence obeys all it was made of.
        card: a file whose text and keys stand in for those of the model's own card.
        benchmarks: SUITE=ORG/DATASET[:TASK] texts.
    """

    allow_license_conflict: str | None = None
    card: Path | None = None
    benchmarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Publication:
    """What would be pushed.

    Attributes:
        model: id.
        name: what people here call it.
        target: where to.
        checkpoint: its files.
        card: the text of the card.
        uploads: all files, the card among them, by path.
        left: names of files of the folder that stay here.
        parents: as the card tells them.
        license: as the lineage makes it.
        allowed: why it is passed on nevertheless; None where no licences contradict.
        notes: what is worth knowing.
        warnings: what should be looked at first.
    """

    model: str
    name: str
    target: Target
    checkpoint: Checkpoint
    card: str
    uploads: tuple[Upload, ...]
    left: tuple[str, ...]
    parents: tuple[HubParent, ...]
    license: Effective
    allowed: str | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def n_bytes(self) -> int:
        """Of all files."""
        return sum(upload.size_bytes for upload in self.uploads)

    def contradicts(self, path: str) -> bool:
        """Whether a file of the repository that is not among ours would be taken for a part of this model."""
        at_top = "/" not in path
        weights = path.endswith((".safetensors", ".safetensors.index.json"))
        return (at_top and (weights or path in (SIDECAR, "adapter_config.json"))) or is_our_file(
            path
        )


def publication(
    catalog: Catalog, model: str, target: Target, asked: Asked | None = None
) -> Publication:
    """Decide what is pushed of a model; asks the network nothing.

    Args:
        catalog: knows its files and its lineage.
        model: id.
        target: where to.
        asked: how.

    Raises:
        FileChanged: its files are not those that were scanned.
        BadAddress: they are gone.
        BadParameter: of its weights only headers were read; a benchmark that is none.
        LicenseConflict: no licence obeys all it was made of, and no reason is given.
        BadDocument: its card or its sidecar cannot be read, or the sidecar is another model's.
        PathEscapes: one of its files is a link that leads out of its folder.
    """
    asked = asked or Asked()
    benchmarks = parse_benchmarks(asked.benchmarks)
    checkpoint = catalog.checkpoint(model)
    name = catalog.name(model)
    _refuse_headers(catalog, model, name, checkpoint)
    earlier = HUB + target.name  # what the last push wrote there says nothing new
    license_ = licenses(catalog, [model], without=earlier)[model]
    _refuse_conflict(name, license_, asked.allow_license_conflict)
    parents = parents_of(catalog, model, _recipe_order(model, checkpoint), without=earlier)
    scores = measured(catalog, model)
    facts = Facts(
        name=name.rpartition("/")[2], digest=model, parents=parents, license=license_,
        allowed=asked.allow_license_conflict if license_.conflicts else None, scores=scores,
        benchmarks=benchmarks, library=_library(checkpoint),
    )  # fmt: skip
    own = _own_card(checkpoint, asked.card)
    text, card_notes = card_text(own, facts)
    chosen = [ref for ref in checkpoint.files if _goes(ref, checkpoint)]
    made = {CARD: text} | result_files(scores, benchmarks)
    files, notes = _files(checkpoint, chosen, parents, without=made)
    made_here = [Upload(path, words.encode(), len(words.encode())) for path, words in made.items()]
    uploads = sorted([*files, *made_here], key=lambda upload: upload.path)
    left = tuple(r.path for r in checkpoint.files if r not in chosen and r.path not in made)
    return Publication(
        model=model, name=name, target=target, checkpoint=checkpoint, card=text, uploads=tuple(uploads), left=left,
        parents=parents, license=license_, allowed=facts.allowed, notes=(*notes, *card_notes),
        warnings=tuple(_warnings(catalog, model, own, parents)),
    )  # fmt: skip


def _refuse_headers(catalog: Catalog, model: str, name: str, checkpoint: Checkpoint) -> None:
    """Refuse a model of which nobody knows what its weights are."""
    (row,) = catalog.rows("select status from store.model where id = ?", [model])
    if row["status"] != "full":
        message = f"{name}: only its headers were read, so nobody could tell whether the right weights are pushed"
        raise BadParameter(message, hint=f"reg scan {checkpoint.root}")


def _refuse_conflict(name: str, license_: Effective, reason: str | None) -> None:
    """Refuse to pass on what no licence lets anybody pass on, unless there is a reason."""
    if license_.conflicts and reason is None:
        detail = "; ".join(finding.detail for finding in license_.conflicts)
        message = f"{name}: the licences it is under cannot all be obeyed: {detail}"
        hint = "--allow-license-conflict REASON pushes nevertheless and records why"
        raise LicenseConflict(message, hint=hint)


def _recipe_order(model: str, checkpoint: Checkpoint) -> list[str]:
    """Ids of the parents as the sidecar lists them; [] without one.

    Raises:
        BadDocument: it cannot be read, or tells of other weights.
    """
    if not any(ref.format == "sidecar" for ref in checkpoint.files):
        return []
    document = read_json(resolve_inside(checkpoint.root, SIDECAR))
    told = document.get("model") if isinstance(document, dict) else None
    if told != model:
        message = f"{checkpoint.root}: {SIDECAR} tells of the model {printable(str(told))[:12]}, the weights are {model[:12]}"
        raise BadDocument(message, hint=f"reg verify {checkpoint.root}")
    parents = document.get("parents")
    rows = parents if isinstance(parents, list) else []
    return [str(row.get("digest")) for row in rows if isinstance(row, dict)]


def _library(checkpoint: Checkpoint) -> str | None:
    """What loads a model, as the Hub calls it."""
    if checkpoint.kind == "adapter":
        return "peft"
    return "transformers" if checkpoint.config.get("model_type") else None


def _own_card(checkpoint: Checkpoint, given: Path | None) -> Card:
    """The card that the owner wrote."""
    if given is None:
        return Card({}, "") if checkpoint.layout == "file" else card_of(checkpoint)
    return read_card(read_text(given), where=str(given))


def _goes(ref: FileRef, checkpoint: Checkpoint) -> bool:
    """Whether a file of the model's folder is pushed as it is: what it is loaded from, and what its licences ask for."""
    if ref.dangling or ref.format == "card":
        return False
    if ref.format == "safetensors":
        return ref.path in {tensor.file.name for tensor in checkpoint.tensors}
    if checkpoint.layout == "file":
        return False
    if ref.format in _WHOLE:
        return not is_our_file(ref.path)
    name = ref.path.lower()
    if ref.format != "other" or "/" in name or name.startswith((".", *_OF_TRAINING)):
        return False
    endings = (*_ENDINGS, _CODE) if "auto_map" in checkpoint.config else _ENDINGS
    told = name.endswith(endings) and not name.endswith(".index.json")
    return ref.size_bytes <= _LARGEST_OTHER_BYTES and (told or name.startswith(_NOTICES))


def _files(
    checkpoint: Checkpoint, chosen: Sequence[FileRef], parents: Sequence[HubParent], *, without: Iterable[str]
) -> tuple[list[Upload], list[str]]:  # fmt: skip
    """The files of the folder as they are pushed, and what differs from those here."""
    root = checkpoint.root if checkpoint.layout == "folder" else checkpoint.root.parent
    files, notes = [], []
    for ref in (ref for ref in chosen if ref.path not in without):
        path = resolve_inside(root, ref.path)
        changed = _without_folders(path, ref, parents)
        if changed is None:
            files.append(Upload(ref.path, path, ref.size_bytes, ref.mtime_ns))
        else:
            content, said = changed
            files.append(Upload(ref.path, content, len(content)))
            notes += [f"{ref.path}: {line}" for line in said]
    return [*files, *_modules(checkpoint)], notes


def _modules(checkpoint: Checkpoint) -> Iterator[Upload]:
    """The configs of the further modules of a sentence encoder (`1_Pooling/config.json`)."""
    for config in (
        sorted(checkpoint.root.glob("*_*/config.json")) if checkpoint.layout == "folder" else ()
    ):
        module = config.parent
        if not module.is_symlink() and config.is_file():
            status = resolve_inside(module, config.name).stat()
            if status.st_size <= _LARGEST_CONFIG_BYTES:
                yield Upload(
                    f"{module.name}/{config.name}", config, status.st_size, status.st_mtime_ns
                )


def _without_folders(
    path: Path, ref: FileRef, parents: Sequence[HubParent]
) -> tuple[bytes, list[str]] | None:
    """A config that names folders of this machine, without them, and what was changed; None for any other file."""
    is_config = ref.format in ("config", "adapter_config") or ref.path == "tokenizer_config.json"
    if not is_config or ref.size_bytes > _LARGEST_CONFIG_BYTES:
        return None
    try:
        document = read_json(path)
    except BadDocument:
        return None
    if not isinstance(document, dict):
        return None
    repositories = [parent.repository for parent in parents if parent.repository]
    only = repositories[0] if len(parents) == len(repositories) == 1 else None
    said = []
    for key in _PATH_KEYS:
        value = document.get(key)
        is_base = key == "base_model_name_or_path" and only is not None
        if isinstance(value, str) and (_is_here(value, path.parent) or (is_base and value != only)):
            now = only if only is not None and "file" not in key else without_paths(value)
            if now != value:
                document[key] = now
                said.append(
                    f"{key} is {printable(now)!r} on the Hub, here it is {printable(value)!r}"
                )
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return (text.encode(), said) if said else None


def _is_here(value: str, folder: Path) -> bool:
    """Whether a text is a path of this machine."""
    try:
        return without_paths(value) != value or ("/" in value and (folder / value).exists())
    except (OSError, ValueError):
        return False


def _warnings(
    catalog: Catalog, model: str, own: Card, parents: Sequence[HubParent]
) -> Iterator[str]:
    """What an owner may not want to be read, or would want to look at first."""
    private = [parent.name for parent in parents if parent.repository is None]
    if private:
        yield (
            f"{', '.join(private)}: on this machine only, as far as is known; base_model leaves them out, and the "
            "card tells their names and digests (reg push them first, or scan where they are on the Hub)"
        )
    paths = sorted({word for word in _words(own) if _exists(word)})
    if paths:
        yield f"the card names folders of this machine: {', '.join(map(printable, paths))}"
    for row in catalog.rows(
        "select distinct detail, parent from conflicts where child_id = ? and kind in "
        "('claim_refuted', 'claim_contradicted', 'parent_undeclared') order by all",
        [model],
    ):
        yield f"{row['parent']}: {row['detail']}"


def _words(own: Card) -> Iterator[str]:
    """The words of a card that could be absolute paths."""
    text = own.body + "\n" + json.dumps(own.front_matter, ensure_ascii=False)
    for word in text.split():
        bare = word.strip("`'\"()[]{}<>,;:*|")
        if bare.startswith(("/", "~/")) and bare.count("/") > 1:
            yield bare


def _exists(text: str) -> bool:
    """Whether a path is there."""
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False
