"""The use case `extract`: what training changed, as a LoRA of the base.

Every changed projection becomes the best product of its rank (`engine.low_rank`). What no product of two factors can
hold, such as norms, embeddings and heads, is taken along whole, or left out if only projections are asked for.
"""

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import torch

from engine import provenance
from engine.adapter import DECODERS, tied_head
from engine.lookup import identify, load_parent
from engine.lora_writer import NewAdapter, Pair
from engine.low_rank import LowRank, one_thread, truncated
from engine.output import located, place, refuse_full_disk, unfinished
from engine.parent import Parent, refuse_change
from engine.projection import changed, homes, is_projection, is_transposed
from engine.reader import Reader
from engine.run_record import stranded_adapter
from engine.source import Source, load
from engine.threads import in_order
from registry.catalog import ID_DIGITS, Catalog, Columns, now, refuse_lost
from registry.errors import BadParameter, NotMergeable
from registry.fingerprint import digest_text
from registry.header import TensorRef
from registry.license_report import card_license, license_of_merge
from registry.progress import SILENT, Progress
from registry.records import Edge, Evidence
from registry.scan import scan
from registry.tensor_name import EMBEDDING, HEAD
from registry.version import VERSION

METADATA_KEY = "homolog_extract"
"""Where the adapter's file says what it was made from."""

_TIES = ("ForMaskedLM", "ForPreTraining", "ForConditionalGeneration")
_NAME_LENGTH = 100


@dataclass(frozen=True)
class Change:
    """One tensor that training changed, and what became of the change.

    Attributes:
        tensor: its name.
        action: "low_rank", "whole" or "left_out".
        rank: of the factors; 0 where there are none.
        delta_l2: ‖δ‖_F.
        relative_error: ‖δ - δ'‖_F / ‖δ‖_F of what the adapter holds, in [0, 1].
    """

    tensor: str
    action: str
    rank: int
    delta_l2: float
    relative_error: float


@dataclass(frozen=True)
class Extracted:
    """An adapter made from two models.

    Attributes:
        model: its id.
        child: id of the model whose change it holds.
        base: id of the model it belongs to.
        folder: where it is.
        changes: by tensor.
        relative_error: of all changes together, in [0, 1].
        n_bytes: of its tensors.
        child_bytes: of the child's tensors.
        seconds: it took.
        notes: what a person should know, in words.
    """

    model: str
    child: str
    base: str
    folder: Path
    changes: tuple[Change, ...]
    relative_error: float
    n_bytes: int
    child_bytes: int
    seconds: float
    notes: tuple[str, ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        """Every rank that factors have, rising."""
        return tuple(sorted({change.rank for change in self.changes if change.rank}))


@dataclass(frozen=True)
class _Part:
    """What was found of one tensor: its change, and the factors or the whole tensor that hold it."""

    change: Change
    factors: LowRank | None = None
    whole: torch.Tensor | None = None


def extract(
    catalog: Catalog,
    child: str,
    base: str,
    output: Path,
    *,
    rank: int = 0,
    energy: float = 0.0,
    projections_only: bool = False,
    jobs: int | None = None,
    progress: Progress = SILENT,
) -> Extracted:
    """Write the change from ``base`` to ``child`` as an adapter of the base, and register it.

    Args:
        catalog: knows both, and will know the adapter.
        child: id.
        base: id.
        output: a folder that is not there or empty.
        rank: most rank of a factor; 0: as ``energy`` asks.
        energy: share of each ‖δ‖² that is kept at least, in (0, 1], as far as ``rank`` allows; 0: as ``rank`` asks.
        projections_only: leave out what has no factors.
        jobs: threads; None: one per core; the result does not depend on it.
        progress: told of every byte read.

    Raises:
        BadParameter: neither rank nor energy, or out of range.
        OutputExists: ``output`` is there and not empty.
        NotMergeable, MissingTensor, ShapeMismatch, UnsupportedDtype: as `decompose`.
        FileChanged, BadAddress: the files are not there, or not as scanned.
    """
    left = stranded_adapter(catalog, output, METADATA_KEY)
    started = time.monotonic()
    new_side, old_side = (load_parent(catalog, identify(catalog, m)) for m in (child, base))
    sides = (new_side, old_side)
    asked = json.dumps(
        {
            "base": old_side.id, "child": new_side.id, "energy": energy, "rank": rank,
            "projections_only": projections_only, "version": VERSION,
        },
        sort_keys=True, separators=(",", ":"),
    )  # fmt: skip
    is_made = left == asked
    target = located(output) if is_made else place(output)
    with catalog.write():
        pass  # whoever may not write to it is told before there is a folder that it does not know
    new, changes, notes = decompose(
        *sides, rank=rank, energy=energy, projections_only=projections_only, jobs=jobs,
        progress=progress,
    )  # fmt: skip
    refuse_change(sides)
    total = _total_error(changes)
    refuse_full_disk(target, 0 if is_made else new.n_bytes)
    if not is_made:
        with unfinished(target) as folder:
            new.write(
                folder, made_by=_story(*sides, changes, total), metadata={METADATA_KEY: asked},
                license_=_license(catalog, sides),
            )  # fmt: skip
    with catalog.database.kept_open():
        scan(catalog, [str(target)], jobs=jobs)
        model = catalog.find(str(target))
    _record(catalog, model, sides, total)
    return Extracted(
        model, new_side.id, old_side.id, target, tuple(changes), total, new.n_bytes,
        new_side.checkpoint.n_bytes, time.monotonic() - started, tuple(notes),
    )  # fmt: skip


def decompose(
    child: Parent,
    base: Parent,
    *,
    rank: int = 0,
    energy: float = 0.0,
    projections_only: bool = False,
    jobs: int | None = None,
    progress: Progress = SILENT,
) -> tuple[NewAdapter, list[Change], list[str]]:
    """The change from ``base`` to ``child`` as an adapter, what became of each changed tensor, and notes.

    Raises:
        BadParameter: neither rank nor energy, or out of range.
        NotMergeable: one of them is an adapter, or no projection changed.
        MissingTensor: the child lacks a tensor of the base.
        ShapeMismatch: one tensor name, two shapes.
        UnsupportedDtype: a changed tensor holds codes.
    """
    _check(child, base, rank, energy)
    pairs = changed(child, base, projections_only=projections_only)
    progress.start("extract", sum(s.n_bytes for _, *both in pairs for s in both if s))
    found: dict[str, _Part] = {}
    with one_thread(), Reader() as reader:

        def work(pair: tuple[str, Source, Source | None]) -> tuple[str, _Part | None]:
            name, new, old = pair
            part = _part(
                reader, name, new, old, rank=rank, energy=energy,
                transposed=is_transposed(base, name), projections_only=projections_only,
            )  # fmt: skip
            progress.advance(sum(s.n_bytes for s in (new, old) if s))
            return name, part

        with closing(in_order(work, pairs, jobs=jobs or os.cpu_count() or 1)) as results:
            found.update((name, part) for name, part in results if part)
        return _assembled(child, base, found, reader)


def _check(child: Parent, base: Parent, rank: int, energy: float) -> None:
    """Refuse what cannot be asked."""
    if rank < 0 or not 0 <= energy <= 1 or not (rank or energy):
        message = f"rank is {rank} and energy {energy:g}; give a rank of at least 1, an energy in (0, 1], or both"
        raise BadParameter(message, hint="reg extract CHILD --rank 16 -o FOLDER")
    for side in (child, base):
        if side.checkpoint.kind == "adapter":
            message = f"{side.name} is an adapter; an adapter is extracted from two whole models"
            raise NotMergeable(message, hint="reg merge puts an adapter on: MODEL+ADAPTER")


def _part(
    reader: Reader,
    name: str,
    new: Source,
    old: Source | None,
    *,
    rank: int,
    energy: float,
    transposed: bool,
    projections_only: bool,
) -> _Part | None:
    """What the adapter holds of one tensor; None where nothing changed."""
    if old is None:
        return _Part(Change(name, "whole", 0, 0.0, 0.0), whole=_stored(reader, new))
    delta = load(reader, new).sub_(load(reader, old))
    if not bool(delta.count_nonzero()):
        return None
    if is_projection(new):
        factors = truncated(delta.T if transposed else delta, rank=rank, energy=energy)
        error = sqrt(factors.error_sq / factors.norm_sq)
        change = Change(name, "low_rank", factors.rank, sqrt(factors.norm_sq), error)
        return _Part(change, factors=factors)
    norm = float(torch.linalg.vector_norm(delta, dtype=torch.float64))
    if projections_only:
        return _Part(Change(name, "left_out", 0, norm, 1.0))
    return _Part(Change(name, "whole", 0, norm, 0.0), whole=_stored(reader, new))


def _stored(reader: Reader, source: Source) -> torch.Tensor:
    """A tensor in its stored dtype; a computed one in float32."""
    return reader.whole(source) if isinstance(source, TensorRef) else load(reader, source)


def _assembled(
    child: Parent, base: Parent, found: dict[str, _Part], reader: Reader
) -> tuple[NewAdapter, list[Change], list[str]]:
    """The adapter that holds all parts."""
    tables = child.tensors
    whole = {name: part.whole for name, part in found.items() if part.whole is not None}
    head = tied_head(child) if child.checkpoint.tied else None
    for name in list(whole):
        if EMBEDDING.search(name) and head and not any(HEAD.search(n) for n in (*tables, *whole)):
            whole[head] = whole[name]
    home = homes(whole, tables)
    for name in home.homeless:
        del whole[name]
        part = found[name]
        found[name] = _Part(Change(name, "left_out", 0, part.change.delta_l2, 1.0))
    for name, source in sorted(tables.items()):
        if name not in whole and home.hold(name):
            whole[name] = _stored(reader, source)
            if name in found:
                norm = found[name].change.delta_l2
                found[name] = _Part(Change(name, "whole", 0, norm, 0.0))
    pairs = [
        Pair(name.removesuffix(".weight"), part.factors.a, part.factors.b)
        for name, part in sorted(found.items())
        if part.factors is not None
    ]
    if not pairs:
        message = (
            f"no projection of {child.name} differs from {base.name}; there is nothing to extract"
        )
        raise NotMergeable(message, hint="reg stats CHILD --base BASE says what changed")
    new = NewAdapter(
        pairs=pairs,
        base=provenance.public_name(base),
        task=_task(base),
        transposed=any(is_transposed(base, f"{pair.path}.weight") for pair in pairs),
        whole=whole,
        modules_to_save=home.modules,
        biases=bool(home.biases),
    )
    changes = [found[name].change for name in sorted(found)]
    return new, changes, _notes(child, changes, whole, home.homeless)


def _notes(
    child: Parent, changes: Sequence[Change], whole: Iterable[str], homeless: Sequence[str]
) -> list[str]:
    """What a person should know of an adapter."""
    notes = [
        f"{name} stands in no module that an adapter could replace; left out" for name in homeless
    ]
    n_left = sum(change.action == "left_out" for change in changes) - len(homeless)
    if n_left:
        notes.append(f"{n_left} changed tensors that are no projections are left out")
    named = child.checkpoint.config.get("architectures")
    network = str(next(iter(named), "")) if isinstance(named, list) else ""
    if child.checkpoint.tied and network.endswith(_TIES) and tied_head(child) is None:
        notes += [
            f"{network} ties other modules to {name}; with the adapter on they stay the base's"
            for name in sorted(whole)
            if EMBEDDING.search(name)
        ]
    return notes


def _task(base: Parent) -> str | None:
    """PEFT's word for what a model does, where an adapter needs no head of its own for it."""
    named = base.checkpoint.config.get("architectures")
    first = str(next(iter(named), "")) if isinstance(named, list) else ""
    return "CAUSAL_LM" if first.endswith(DECODERS) else None


def _total_error(changes: Sequence[Change]) -> float:
    """The relative error of all changes together."""
    norm_sq = sum(c.delta_l2**2 for c in changes)
    error_sq = sum((c.delta_l2 * c.relative_error) ** 2 for c in changes)
    return sqrt(error_sq / norm_sq) if norm_sq else 0.0


def _story(child: Parent, base: Parent, changes: Sequence[Change], total: float) -> str:
    """The body of the card."""
    names = [provenance.public_name(side) for side in (child, base)]
    ranks = sorted({c.rank for c in changes if c.rank})
    lines = [
        f"# LoRA of {_word(names[0])} on {_word(names[1])}\n",
        (
            f"What training changed in `{_word(names[0])}` ({child.id[:ID_DIGITS]}) against "
            f"`{_word(names[1])}` ({base.id[:ID_DIGITS]}), extracted with Homolog {VERSION}.\n"
        ),
        "| what | value |\n| --- | --- |",
        f"| rank | {' to '.join(map(str, dict.fromkeys((ranks[0], ranks[-1]))))} |",
        *(f"| tensors {what} | {n} |" for what, n in _counts(changes)),
        f"| relative error of the change | {total:.6g} |\n",
    ]
    return "\n".join(lines)


def _counts(changes: Sequence[Change]) -> Iterator[tuple[str, int]]:
    """How many tensors went which way."""
    for action, words in (
        ("low_rank", "as factors"),
        ("whole", "whole"),
        ("left_out", "left out"),
    ):
        yield words, sum(c.action == action for c in changes)


def _word(text: str) -> str:
    """A name that cannot break a card."""
    return re.sub(r"[^\w./+-]", " ", text)[:_NAME_LENGTH]


def _license(catalog: Catalog, sides: Sequence[Parent]) -> str | None:
    """The licence that the lineage of the two models leaves to what is made of them, as the Hub calls it."""
    return card_license(license_of_merge(catalog, [side.id for side in sides]))[0]


def _record(catalog: Catalog, model: str, sides: tuple[Parent, Parent], total: float) -> None:
    """Write the edge from the adapter to its base, and why we know."""
    child, base = sides
    columns = Columns()
    columns.add([
        Edge(
            child=model, parent=base.id, relation="adapter", role="parent", status="recorded",
            coefficient=None, confidence=1.0, run_id=None, created_at=now(),
        ),
        Evidence(
            id=digest_text(f"extract\0{model}\0{base.id}\0{child.id}"), child=model,
            parent=base.id, relation="adapter", status="recorded", method="extract",
            version=VERSION, statistic="relative_error", value=total, scope="full",
            detail=f"extracted from {child.name} ({child.id[:ID_DIGITS]})",
        ),
    ])  # fmt: skip
    with catalog.write() as transaction:
        refuse_lost(transaction, (model, base.id))
        columns.insert(transaction, "replace")
