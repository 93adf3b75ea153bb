"""How a merge was made, written where it cannot get lost: in every shard, in a sidecar, in a card.

The three agree with the catalog, or `engine.verify` says where they do not. None holds a time, a path or a
machine: the same recipe on parents of the same names gives the same bytes. The card also tells what the catalog had
measured of the parents by then.
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.change import Change
from engine.output_config import effective_config
from engine.parent import WORN, Parent
from engine.pinned import ZERO, as_yaml
from engine.plan import Plan
from registry.card import MergeCard, ParentLine, write_card
from registry.catalog import ID_DIGITS
from registry.chat_template import write_chat_template
from registry.claims import METADATA_KEY, SIDECAR_FORMAT
from registry.documents import read_json
from registry.file_ref import list_files, resolve_inside
from registry.license_findings import Effective
from registry.license_report import card_license
from registry.license_table import NOT_ADVICE

SIDECAR = "homolog.json"
"""Name of the file beside the weights that says how they were made."""

_MADE = ("recipe", "recipe_digest", "parents", "engine_version")
"""What shards and sidecar both say."""

_CARRIED = (".json", ".txt", ".jinja", ".model", ".spm")
_CODE = ".py"  # of architectures that transformers does not have
_CARRIED_BYTES = 100_000_000
_MADE_HERE = (
    "config", "index", "card", "sidecar", "recipe", "adapter_config", "eval", "safetensors",
)  # fmt: skip
_OF_THE_REFERENCE = re.compile(r"\.index\.json$|results|^(?:trainer_state|training_args|train)\b")
"""Names of files that tell of the reference's weights: indexes of other formats, scores, states of its training."""


def parents_of(plan: Plan) -> list[dict[str, Any]]:
    """Every parent with name, digest, role and coefficient, the base first.

    A model that wears adapters is one parent and each adapter another, but for the base, which is one already. Of a
    model that another recipe makes, the parents are that recipe's.
    """
    models = zip(plan.models, plan.recipe.coefficients, strict=True)
    based = plan.base is not None and plan.base.id != ZERO
    rows = _roles(plan.base, "base", None, known=()) if plan.base and based else []
    known = {id_ for id_, _, _ in rows}
    for model, coefficient in models:
        rows += _roles(model, "model", coefficient, known=known)
    names = _names(plan)
    return [
        {"name": names[id_], "digest": id_, "role": role, "coefficient": coefficient}
        for id_, role, coefficient in rows
    ]


def _roles(
    parent: Parent, role: str, coefficient: float | None, *, known: Collection[str]
) -> list[tuple[str, str, float | None]]:
    """The models that one parent is made of, and what they are to the result: (id, role, coefficient)."""
    if parent.parents:
        inner = [row for each in parent.parents for row in _roles(each, "model", None, known=known)]
        return list(dict.fromkeys(row for row in inner if row[0] not in known))
    body = parent.id.partition(WORN)[0]
    adapters = [(adapter.id, "adapter", coefficient) for adapter in parent.adapters]
    if adapters and body in known:
        return adapters
    return [(body, role, coefficient), *adapters]


def public_name(parent: Parent) -> str:
    """A parent's name without any folder of this machine: org/name of the Hub, or the folder's own name."""
    name = parent.name
    for adapter in reversed(parent.adapters):
        name = name.removesuffix(WORN + adapter.name)
    parts = name.replace("\\", "/").split("/")
    return name if len(parts) <= 2 and all(parts) else parts[-1]  # noqa: PLR2004 - org and name


def _names(plan: Plan) -> dict[str, str]:
    """Id → public name; the beginning of the id where two models have one name.

    A model with adapters is ``model+adapter``; the result of another recipe has a name made of its digest.
    """
    parents = [*plan.parents, *plan.statistics]
    plain = {p.id.partition(WORN)[0]: public_name(p) for p in _all(parents) if not p.parents}
    taken = Counter(plain.values())
    names = {id_: name if taken[name] == 1 else id_[:ID_DIGITS] for id_, name in plain.items()}
    for parent in _all(parents):
        if parent.parents:
            names[parent.id] = f"stage-{parent.id.partition(':')[2][:ID_DIGITS]}"
        elif parent.adapters:
            names[parent.id] = WORN.join(names[id_] for id_ in parent.id.split(WORN))
    return names


def _all(parents: Iterable[Parent]) -> Iterator[Parent]:
    """Parents, their adapters, and the parents of those that other recipes make."""
    for parent in parents:
        yield parent
        yield from _all((*parent.adapters, *parent.parents))


def metadata(plan: Plan, version: str) -> dict[str, str]:
    """``__metadata__`` of every shard: the recipe, its digest, the parents, who wrote it."""
    return metadata_of(_made(plan, version))


def metadata_of(sidecar: Mapping[str, Any]) -> dict[str, str]:
    """``__metadata__`` that the shards beside a sidecar must have; what it lacks is null."""
    made = {key: sidecar.get(key) for key in _MADE}
    return {"format": "pt", METADATA_KEY: json.dumps(made, sort_keys=True, separators=(",", ":"))}


def _made(plan: Plan, version: str) -> dict[str, Any]:
    """What shards and sidecar both say."""
    facts = (plan.recipe.canonical(), plan.recipe.digest, parents_of(plan), version)
    return dict(zip(_MADE, facts, strict=True))


def write_companions(plan: Plan, folder: Path) -> None:
    """Write the config and copy tokenizer, generation config and other small files of the reference.

    Raises:
        PathEscapes: one of them is a link that leads out of the reference's folder.
    """
    checkpoint = plan.reference.checkpoint
    if checkpoint.layout == "file":
        return
    for root, path in _carried(plan):
        shutil.copyfile(resolve_inside(root, path), folder / path)
    for config in sorted(checkpoint.root.glob("*_*/config.json")):
        module = config.parent
        if not module.is_symlink() and config.is_file() and config.stat().st_size <= _CARRIED_BYTES:
            (folder / module.name).mkdir(exist_ok=True)
            shutil.copyfile(resolve_inside(module, config.name), folder / module.name / config.name)
    if plan.vocabulary:
        for name, content in plan.vocabulary.files.items():
            (folder / name).write_bytes(content)
    if plan.chat_template is not None:
        write_chat_template(folder, plan.chat_template)
    if checkpoint.config:
        text = json.dumps(effective_config(plan), indent=2) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")


def _carried(plan: Plan) -> list[tuple[Path, str]]:
    """The small files of the reference that the output takes over: (folder, name)."""
    checkpoint = plan.reference.checkpoint
    endings = (*_CARRIED, _CODE) if "auto_map" in checkpoint.config else _CARRIED
    own = plan.vocabulary is not None and bool(plan.vocabulary.files)
    files = [(checkpoint.root, file) for file in checkpoint.files]
    worn = plan.reference.tokenizer
    if worn is not None and not own:  # an adapter brought more tokens, and its tokenizer
        files = [(root, file) for root, file in files if file.format != "tokenizer"]
        files += [(worn, file) for file in list_files(worn) if file.format == "tokenizer"]
    made_here = (*_MADE_HERE, "tokenizer") if own else _MADE_HERE
    return [
        (root, file.path)
        for root, file in files
        if file.size_bytes <= _CARRIED_BYTES
        and file.path.endswith(endings)
        and file.format not in made_here
        and not _OF_THE_REFERENCE.search(file.path)
        and "/" not in file.path
        and not file.dangling
    ]


def read_sidecar(folder: Path) -> dict[str, Any] | None:
    """The sidecar of a folder; None where there is none of ours.

    Raises:
        BadDocument: it is there and malformed.
        PathEscapes: it is a link that leads out of the folder.
    """
    path = folder / SIDECAR
    if not path.is_file():
        return None
    document = read_json(resolve_inside(folder, SIDECAR))
    ours = isinstance(document, dict) and document.get("format") == SIDECAR_FORMAT
    return document if ours else None


def write_sidecar(
    plan: Plan, folder: Path, *, model: str, digests: Mapping[str, str], version: str,
    state: Mapping[str, float] | None = None,
) -> None:  # fmt: skip
    """Write the sidecar: what made the weights, what the method needs to go on from them, each tensor's digest.

    Beside parents that lie on the Hub it says where, commit included: in the sidecar alone, since the same weights from
    elsewhere give the same shards.
    """
    parents = _all([*plan.parents, *plan.statistics])
    addresses = {p.id.partition(WORN)[0]: p.address for p in parents if p.address}
    document = {
        "format": SIDECAR_FORMAT,
        "model": model,
        **_made(plan, version),
        **({"addresses": dict(sorted(addresses.items()))} if addresses else {}),
        **({"state": dict(sorted(state.items()))} if state else {}),
        "tensors": dict(sorted(digests.items())),
    }
    (folder / SIDECAR).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def write_readme(
    plan: Plan, folder: Path, *, model: str, change: Change | None, license_: Effective,
    measured: tuple[tuple[str, str], ...], version: str,
) -> None:  # fmt: skip
    """Write the model card.

    Args:
        plan: what was carried out.
        folder: of the output.
        model: its digest.
        change: measured against the reference while it was written; None for an adapter.
        license_: of the result, as its lineage makes it; the card states one where there is one, and what is asked.
        measured: further (what, value) lines, such as the parents' delta statistics and scores.
        version: of Homolog.
    """
    names = _names(plan)
    parents = parents_of(plan)
    stated, license_name = card_license(license_)
    own: tuple[tuple[str, str], ...] = ()
    if change is not None:
        own = (
            (f"relative L2 distance to {names[plan.reference.id]}", f"{change.relative_l2:.6g}"),
            (f"largest change against {names[plan.reference.id]}", f"{change.max_abs:.6g}"),
            ("share of parameters changed", f"{change.n_changed / max(1, change.n):.4f}"),
        )
    card = MergeCard(
        title=" + ".join(dict.fromkeys(names[m.id] for m in plan.models))
        + f" ({plan.recipe.method.name})",
        parents=tuple(
            ParentLine(p["name"], p["digest"][:ID_DIGITS], p["role"], p["coefficient"])
            for p in parents
        ),
        method=plan.recipe.method.name,
        recipe_yaml=as_yaml(plan.recipe, names),
        license=stated,
        measured=own + measured,
        version=version,
        model_digest=model,
        recipe_digest=plan.recipe.digest,
        is_adapter=plan.recipe.adapter is not None,
        license_name=license_name,
        license_notes=_license_notes(license_),
    )
    (folder / "README.md").write_text(write_card(card), encoding="utf-8")


def _license_notes(license_: Effective) -> tuple[str, ...]:
    """Why a card states the licence that it states, what is asked, and what contradicts."""
    said = f"{license_.suggested or 'No single licence'}: {license_.why} ({NOT_ADVICE})."
    findings = (f"{finding.kind}: {finding.detail}" for finding in license_.conflicts)
    return (said, *findings, *(obligation.text for obligation in license_.obligations))
