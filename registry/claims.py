"""What people say a model descends from, and under which licence: read, never believed.

A `Claim` keeps the words of its source. Whom the words mean is decided elsewhere, by looking among the known models.
Malformed metadata costs the claim it would have been, never the model: it becomes a `Problem`.

Sources: the card's front matter, `adapter_config.json`, `config.json`, mergekit's `mergekit_config.yml` or, without it, the
recipe in the card, the metadata of safetensors files (ours, the web UI's, Stability's ModelSpec, kohya's), keys of GGUF and
our sidecar `homolog.json`.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from registry import mergekit
from registry.card import card_of, parse_yaml_documents, read_text
from registry.checkpoint import Checkpoint, Problem
from registry.documents import parse_json, read_json
from registry.errors import BadDocument, PathEscapes, RegError, Unreadable
from registry.file_ref import FileRef, resolve_inside
from registry.gguf_keys import conversion, statements

Predicate = Literal["base_model", "merge_parent", "relation", "license"]
Source = Literal["card", "adapter_config", "config", "mergekit_config", "metadata", "sidecar", "gguf"]  # fmt: skip

SIDECAR_FORMAT = "homolog-sidecar-1"
"""The `format` of a `homolog.json` that this version reads."""

METADATA_KEY = "homolog"
"""Where a safetensors file holds the same facts, as JSON text."""

MAX_RAW = 2_000
"""Characters of a snippet that are kept."""

RELATIONS = (
    "finetune",
    "continued_pretrain",
    "adapter",
    "merge",
    "quantized",
    "cast",
    "copy",
    "distill",
)
"""Words that an edge may take from a claim; others stay in the claim."""

MAX_OBJECT = 1_000
"""Characters of a name."""

_MAX_CLAIMS = 1_000
_MAX_WRONG = 5
_MAX_BITS = 64
_CARD_NAME_KEYS = ("name", "id", "model", "model_id", "path", "repo_id")
_DIGEST = re.compile(r"[0-9a-f]{8,128}")
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")
_WEBUI_PARENTS = ("primary_model_hash", "secondary_model_hash", "tertiary_model_hash")


@dataclass(frozen=True, slots=True)
class Claim:
    """What one source says about a model.

    Attributes:
        predicate: what is said: its base, a model merged into it, its relation to its parents, or its licence.
        object: the words of the source, blanks around them left out; a path stays the path it was, a parent of our
            own merges is `digest:<hex>`.
        relation: finetune, merge, adapter, quantized, … as the source says or implies; None when it does neither.
        coefficient: weight in the merge, as written, not normalised; None unless the source gives one number.
        source: where it was said.
        raw: the snippet it was read from, at most `MAX_RAW` characters.
    """

    predicate: Predicate
    object: str
    relation: str | None
    coefficient: float | None
    source: Source
    raw: str


@dataclass
class _Notes:
    """What one file says, and what in it could not be understood."""

    source: Source
    file: str
    claims: list[Claim] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(
        self,
        predicate: Predicate,
        value: Any,
        raw: Any,
        *,
        relation: str | None = None,
        coefficient: Any = None,
    ) -> None:
        """Note a claim; null and blank say nothing, what is no name is noted as wrong."""
        if value is None or (isinstance(value, str) and not value.strip()):
            return
        text = name_text(value)
        if text is None:
            self.wrong.append(f"{predicate} is a {type(value).__name__}, it must be text")
        elif len(text) > MAX_OBJECT:
            self.wrong.append(
                f"{predicate} has {len(text)} characters; at most {MAX_OBJECT} are a name"
            )
        elif not is_plain(text):
            self.wrong.append(f"{predicate} {text[:80]!r} holds control characters or no UTF-8")
        elif len(self.claims) >= _MAX_CLAIMS:
            self.wrong.append(f"says more than {_MAX_CLAIMS} things; the others are left out")
        else:
            weight = _scalar(coefficient)
            self.claims.append(Claim(predicate, text, relation, weight, self.source, snippet(raw)))

    def parsed(self, metadata: dict[str, str], key: str) -> dict[str, Any]:
        """The JSON object below a key; {} when it is absent or, which is noted, something else."""
        if key not in metadata:
            return {}
        try:
            document = parse_json(metadata[key], where=key)
        except BadDocument as error:
            self.wrong.append(error.message)
            return {}
        if isinstance(document, dict):
            return document
        self.wrong.append(f"{key} is a {type(document).__name__}, it must be an object")
        return {}

    def listed(self, value: Any, what: str) -> list[Any]:
        """The items of a list; none when it is absent or, which is noted, something else."""
        if isinstance(value, list):
            return value
        if value is not None:
            self.wrong.append(f"{what} is a {type(value).__name__}, it must be a list")
        return []


def read_claims(checkpoint: Checkpoint) -> tuple[tuple[Claim, ...], tuple[Problem, ...]]:
    """Read all that is said about a checkpoint.

    Returns:
        The claims, at most one for each (source, predicate, object), in a fixed order of sources; and one problem
        for each file of which something could not be understood. Nothing is raised for what files hold.
    """
    claims: dict[tuple[str, str, str], Claim] = {}
    problems = []
    for notes, read in _readers(checkpoint):
        trouble: RegError | None = None
        try:
            read(notes)
        except PathEscapes:
            continue  # a link that leads out is among the checkpoint's own problems
        except (BadDocument, Unreadable) as error:
            trouble = error
        if trouble is None and notes.wrong:
            trouble = BadDocument(f"{notes.file}: {some(notes.wrong)}")
        if trouble is not None:
            detail = trouble.message[:MAX_RAW]
            problems.append(Problem(str(checkpoint.root), notes.file, trouble.kind, detail))
        for claim in notes.claims:
            key = (claim.source, claim.predicate, claim.object)
            claims[key] = _joined(claims[key], claim) if key in claims else claim
    return tuple(claims.values()), tuple(problems)


def snippet(value: Any) -> str:
    """A value as it is kept beside what was read from it: text, else JSON, at most `MAX_RAW` characters."""
    if isinstance(value, str) and value.isascii():  # nearly all are
        return value[:MAX_RAW]
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):  # an integer of thousands of digits, lists a thousand deep
        text = f"a {type(value).__name__} that cannot be written"
    return text[:MAX_RAW].encode(errors="replace").decode()


def name_text(value: Any) -> str | None:
    """A name as text, blanks around it left out: text or, as YAML reads `base_model: 7`, a whole number.

    None for everything else, also for numbers of more than 64 bits.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _MAX_BITS:
        return str(value)
    return value.strip() if isinstance(value, str) else None


def is_plain(text: str) -> bool:
    """Tell whether a text could be a name: no control characters, and nothing that was no UTF-8."""
    return _STEERING.search(text) is None


def some(sentences: list[str]) -> str:
    """The first few of many sentences, saying how many were left out."""
    more = len(sentences) - _MAX_WRONG
    return "; ".join(sentences[:_MAX_WRONG]) + (f"; and {more} more" if more > 0 else "")


def _readers(checkpoint: Checkpoint) -> Iterator[tuple[_Notes, Callable[[_Notes], None]]]:
    """Every source of claims that this checkpoint has."""
    files = {ref.path: ref for ref in checkpoint.files if not ref.dangling}
    for ref in files.values():
        if ref.format == "sidecar":
            yield _Notes("sidecar", ref.path), partial(_read_sidecar, checkpoint.root, ref)
    recipes = [
        ref for ref in files.values()
        if ref.format == "recipe" and ref.path.startswith("mergekit_config.")
    ]  # fmt: skip
    for ref in recipes:
        yield _Notes("mergekit_config", ref.path), partial(_read_mergekit, checkpoint.root, ref)
    if not recipes and checkpoint.format != "gguf":  # there it is the recipe of what was converted
        yield _Notes("mergekit_config", "README.md"), partial(_read_mergekit_card, checkpoint)
    yield (
        _Notes("adapter_config", "adapter_config.json"),
        partial(_read_adapter, checkpoint.adapter_config),
    )
    yield _Notes("config", "config.json"), partial(_read_config, checkpoint)
    yield _Notes("card", "README.md"), partial(_read_card, checkpoint)
    if checkpoint.format == "gguf":
        yield _Notes("gguf", checkpoint.root.name), partial(_read_keys, checkpoint)
        return
    shards = [ref.path for ref in files.values() if ref.format == "safetensors"]
    first = shards[0] if shards else checkpoint.root.name
    yield _Notes("metadata", first), partial(_read_metadata, checkpoint.metadata)


def _read_card(checkpoint: Checkpoint, notes: _Notes) -> None:
    """`base_model`, `base_model_relation`, `license`, `license_name` and the tag `merge` of the front matter."""
    data = card_of(checkpoint).front_matter
    stated = data.get("base_model_relation")
    notes.add("relation", stated, stated)
    relation = notes.claims[0].object if notes.claims else None
    tags = data.get("tags")
    bases = _flat(data.get("base_model"))
    if relation is None and checkpoint.format == "gguf" and len(bases) == 1:
        # its tags are those of the model that was converted
        relation = conversion(checkpoint.tensors)
    elif relation is None and isinstance(tags, list) and "merge" in tags:
        relation = "merge"  # mergekit's cards say it in no other way
    for item in bases:
        value = item
        if isinstance(item, dict):
            value = next((item[key] for key in _CARD_NAME_KEYS if item.get(key)), item or None)
        notes.add("base_model", value, item, relation=relation)
    keys = ("license", "license_name", "license_link")
    raw = {key: data[key] for key in keys if data.get(key) is not None}
    for item in _flat(data.get("license")) or [None]:
        own = data.get("license_name") if item in (None, "other") else None
        notes.add("license", own or item, raw)


def _read_keys(checkpoint: Checkpoint, notes: _Notes) -> None:
    """What the keys of GGUF say."""
    for said in statements(checkpoint.keys, conversion(checkpoint.tensors)):
        notes.add(said.predicate, said.value, said.raw, relation=said.relation)


def _flat(value: Any) -> list[Any]:
    """The items of a list of lists; one item when it is no list. Nesting is bounded by the YAML reader."""
    if isinstance(value, list):
        return [inner for item in value for inner in _flat(item)]
    return [] if value is None else [value]


def _read_adapter(config: dict[str, Any], notes: _Notes) -> None:
    """The model that an adapter was trained on; the revision, when there is one, stays in the snippet."""
    raw = {key: config[key] for key in ("base_model_name_or_path", "revision") if config.get(key)}
    notes.add("base_model", config.get("base_model_name_or_path"), raw, relation="adapter")


def _read_config(checkpoint: Checkpoint, notes: _Notes) -> None:
    """The name transformers loaded the weights from before it saved them."""
    value = checkpoint.config.get("_name_or_path")
    if not (isinstance(value, str) and _is_own_name(value.strip(), checkpoint.root)):
        notes.add("base_model", value, {"_name_or_path": value})


def _is_own_name(value: str, root: Path) -> bool:
    """Tell whether a config names the very folder it lies in.

    True for that path, its last one or two parts, the id of a folder in the Hub's cache, and a Hub id `org/name` in
    a folder called `name`.
    """
    root = root.absolute()
    own = {str(root), root.name, "/".join(root.parts[-2:])}
    own |= {
        part.removeprefix("models--").replace("--", "/", 1)
        for part in root.parts
        if part.startswith("models--")
    }
    organisation, slash, name = value.rstrip("/").partition("/")
    is_hub_id = bool(slash) and organisation not in ("", ".", "..", "~")
    return value.rstrip("/") in own or (is_hub_id and name == root.name)


def _read_mergekit(root: Path, ref: FileRef, notes: _Notes) -> None:
    """The models of one recipe or of a chain of recipes."""
    _read_recipe(read_text(resolve_inside(root, ref.path)), notes)


def _read_mergekit_card(checkpoint: Checkpoint, notes: _Notes) -> None:
    """The same from the card, where mergekit writes the recipe too."""
    texts: list[str] = []
    with suppress(BadDocument, Unreadable):  # what is wrong with the card is told where it is read
        texts = mergekit.recipes(card_of(checkpoint))
    for text in texts:
        _read_recipe(text, notes)


def _read_recipe(text: str, notes: _Notes) -> None:
    """Models, slices and modules of all documents; what names an earlier document is no parent."""
    documents = []
    for document in parse_yaml_documents(text, where=notes.file):
        if isinstance(document, dict):
            documents.append(document)
        else:
            notes.wrong.append(f"a recipe is a {type(document).__name__}, it must be a mapping")
    steps = {document["name"] for document in documents if isinstance(document.get("name"), str)}
    for document in documents:
        for found in mergekit.mentions(document, notes.wrong):
            if isinstance(found.value, str) and found.value in steps:
                continue
            # a weight inside an intermediate result is no weight in the model
            weight = found.weight if len(documents) == 1 else None
            predicate: Predicate = "base_model" if found.is_base else "merge_parent"
            notes.add(predicate, found.value, found.raw, relation="merge", coefficient=weight)


def _read_metadata(metadata: dict[str, str], notes: _Notes) -> None:
    """What the header of a safetensors file holds beside tensors, by whoever wrote it."""
    _parents(notes.parsed(metadata, METADATA_KEY), notes)
    _read_webui(metadata, notes)
    merged_from = metadata.get("modelspec.merged_from", "")
    for name in merged_from.split(","):
        notes.add("merge_parent", name, merged_from, relation="merge")
    trained_on = metadata.get("ss_sd_model_name", "None")
    if trained_on != "None":
        relation = "adapter" if "ss_network_module" in metadata else None
        notes.add("base_model", trained_on, trained_on, relation=relation)


def _read_webui(metadata: dict[str, str], notes: _Notes) -> None:
    """The Stable Diffusion web UI: a recipe of hashes and, for those and all their ancestors, names."""
    recipe = notes.parsed(metadata, "sd_merge_recipe")
    models = notes.parsed(metadata, "sd_merge_models")
    for digest in [recipe[key] for key in _WEBUI_PARENTS if recipe.get(key)] or list(models):
        entry = models.get(digest) if isinstance(digest, str) else None
        name = entry.get("name") if isinstance(entry, dict) else None
        notes.add("merge_parent", name or digest, {"hash": digest, "name": name}, relation="merge")


def _read_sidecar(root: Path, ref: FileRef, notes: _Notes) -> None:
    """Our own `homolog.json`."""
    document = read_json(resolve_inside(root, ref.path))
    if not isinstance(document, dict) or document.get("format") != SIDECAR_FORMAT:
        notes.wrong.append(f"is no object whose format is {SIDECAR_FORMAT!r}")
    else:
        _parents(document, notes)


def _parents(document: dict[str, Any], notes: _Notes) -> None:
    """The parents that a merge of ours recorded."""
    for parent in notes.listed(document.get("parents"), "parents"):
        digest = parent.get("digest") if isinstance(parent, dict) else None
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            notes.wrong.append("a parent has no digest of 8 to 128 hexadecimal digits")
            continue
        notes.add(
            "base_model" if parent.get("role") == "base" else "merge_parent",
            f"digest:{digest}",
            parent,
            relation="merge",
            coefficient=parent.get("coefficient"),
        )


def _joined(one: Claim, other: Claim) -> Claim:
    """One claim from two that say the same; two coefficients that differ are none."""
    agreed = one.coefficient if one.coefficient == other.coefficient else None
    return replace(one, relation=one.relation or other.relation, coefficient=agreed)


def _scalar(value: Any) -> float | None:
    """A number as float; None for gradients, filters, infinities and everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= sys.float_info.max else None
