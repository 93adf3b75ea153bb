"""The use case `merge`: recipe → plan → run → a new model with its edges in the catalog.

The output is written beside its final name and renamed when it is whole. A failed run leaves a row and no half
model. What was recorded can be made again: `reproduce` runs the stored recipe and compares digests.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from engine import methods, provenance
from engine.plan import Parent, Plan, make_plan
from engine.recipe import PinnedRecipe, Recipe, from_canonical, pin
from engine.run import MEMORY_BYTES, Change, run_plan
from engine.writer import SHARD_BYTES
from registry.catalog import Catalog, Columns, now
from registry.checkpoint import read_checkpoint
from registry.errors import (
    NotEnoughDisk,
    NotHomologous,
    OutputExists,
    RegError,
    RunFailed,
    UnknownModel,
)
from registry.fingerprint import digest_model, digest_tensors, digest_text
from registry.lineage import Lineage
from registry.progress import SILENT, Progress
from registry.records import Edge, Evidence
from registry.records import Recipe as RecipeRow
from registry.records import Run as RunRow
from registry.scan import ensure, scan
from registry.verdict import mergeable
from registry.version import VERSION


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it changes a tensor's bytes.

    Attributes:
        jobs: threads; None: one per core.
        memory_bytes: for tensors, at any moment.
        shard_bytes: largest shard of the output.
        allow_unrelated: merge although no common base is known.
    """

    jobs: int | None = None
    memory_bytes: int = MEMORY_BYTES
    shard_bytes: int = SHARD_BYTES
    allow_unrelated: bool = False


@dataclass(frozen=True)
class Merged:
    """A finished merge.

    Attributes:
        model: id of the new model, which is its digest.
        run: id of the run.
        folder: where it is.
        seconds: the run took.
        read_bytes: tensor bytes read.
        write_bytes: tensor bytes written.
        notes: of the plan.
    """

    model: str
    run: str
    folder: Path
    seconds: float
    read_bytes: int
    write_bytes: int
    notes: tuple[str, ...]


def plan(
    catalog: Catalog, recipe: Recipe, *, allow_unrelated: bool = False, progress: Progress = SILENT
) -> Plan:
    """Resolve a recipe's models, pin it and decide every step.

    Raises:
        UnknownModel: a model that is neither in the catalog nor on disk.
        NotHomologous: no common base is known and ``allow_unrelated`` is not set.
        RegError: as `pin` and `make_plan`.
    """
    methods.get(recipe.method)
    ids = [ensure(catalog, part.model, progress=progress) for part in recipe.models]
    base = ensure(catalog, recipe.base, progress=progress) if recipe.base else None
    if base is None and methods.get(recipe.method).space == "delta":
        base = Lineage.load(catalog).common_base(list(dict.fromkeys(ids)))
        if base is None:
            names = ", ".join(part.model for part in recipe.models)
            message = f"no common base of {names} is known"
            raise NotHomologous(message, hint="give --base MODEL, or base_model: in the recipe")
    pinned = pin(recipe, base, ids)
    if not allow_unrelated:
        _refuse_strangers(catalog, pinned)
    return pinned_plan(catalog, pinned)


def pinned_plan(catalog: Catalog, pinned: PinnedRecipe) -> Plan:
    """Decide every step of a pinned recipe."""
    base = parent(catalog, pinned.base) if pinned.base else None
    return make_plan(pinned, base, [parent(catalog, model) for model in pinned.models])


def parent(catalog: Catalog, model: str) -> Parent:
    """What a plan needs of a model: name, files and digests."""
    rows = catalog.rows("select name, digest from store.tensor where model_id = ?", [model])
    digests = {row["name"]: row["digest"] for row in rows if row["digest"]}
    return Parent(model, catalog.name(model), catalog.checkpoint(model), digests)


def merge(
    catalog: Catalog,
    recipe: Recipe,
    output: Path,
    *,
    options: Options | None = None,
    progress: Progress = SILENT,
) -> Merged:
    """Merge as ``recipe`` says and register the result.

    Raises:
        OutputExists: ``output`` is there and not empty.
        NotEnoughDisk: the result does not fit.
        RegError: as `plan` and `run_plan`; nothing is left at ``output`` then.
    """
    options = options or Options()
    _refuse_existing(output)
    decided = plan(catalog, recipe, allow_unrelated=options.allow_unrelated, progress=progress)
    return carry_out(catalog, decided, output, options=options, progress=progress)


def carry_out(
    catalog: Catalog, decided: Plan, output: Path, *, options: Options, progress: Progress = SILENT
) -> Merged:
    """Carry out a plan and register the result; as `merge`."""
    output = output.expanduser().absolute()
    _refuse_existing(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    _refuse_full_disk(decided, output.parent)
    run = uuid4().hex
    started = time.monotonic()
    _record_start(catalog, decided, run, output)
    with _recorded_end(catalog, run), _unfinished(output, run) as folder:
        change = run_plan(
            decided, folder, metadata=provenance.metadata(decided, VERSION),
            shard_bytes=options.shard_bytes, jobs=options.jobs,
            memory_bytes=options.memory_bytes, progress=progress,
        )  # fmt: skip
        model = _describe(catalog, decided, folder, change, options.jobs)
    scan(catalog, [str(output)], jobs=options.jobs)
    merged = Merged(
        model,
        run,
        output,
        time.monotonic() - started,
        decided.read_bytes,
        decided.write_bytes,
        decided.notes,
    )
    _record_end(catalog, decided, merged)
    return merged


def reproduce(
    catalog: Catalog,
    target: str,
    output: Path,
    *,
    options: Options | None = None,
    progress: Progress = SILENT,
) -> tuple[str, Merged]:
    """Run the recipe a merge was made with again; return (expected digest, what came out).

    Raises:
        UnknownModel: no recipe of this model is recorded, or a parent is gone.
    """
    expected = ensure(catalog, target)
    pinned = from_canonical(recorded_recipe(catalog, expected))
    decided = pinned_plan(catalog, pinned)
    return expected, carry_out(
        catalog, decided, output, options=options or Options(), progress=progress
    )


def recorded_recipe(catalog: Catalog, model: str) -> dict[str, Any]:
    """The canonical recipe of a merge: from the catalog's runs, else from the sidecar beside its weights."""
    rows = catalog.rows(
        "select canonical from store.run r join store.recipe p on p.digest = r.recipe "
        "where r.model_id = ? and r.status = 'COMPLETE' order by r.started_at desc limit 1",
        [model],
    )
    if rows:
        found: dict[str, Any] = json.loads(rows[0]["canonical"])
        return found
    sidecar = provenance.read_sidecar(catalog.checkpoint(model).root)
    if sidecar is None:
        message = f"no recipe of {catalog.name(model)} is recorded"
        raise UnknownModel(message, hint="reg ls lists which models are merges of ours")
    recipe: dict[str, Any] = sidecar["recipe"]
    return recipe


def _refuse_strangers(catalog: Catalog, pinned: PinnedRecipe) -> None:
    """Refuse models of which it is known, or not known at all, that they share no base."""
    if len(set(pinned.models)) == 1 and not pinned.base:
        return
    verdict = mergeable(catalog, pinned.models, pinned.base)
    failed = next(
        (r for r in verdict.reasons if r.check in ("homologous", "delta") and r.ok is False), None
    )
    if failed:
        hint = "reg mergeable explains; --allow-unrelated merges nevertheless"
        raise NotHomologous(failed.detail, hint=hint)


def _refuse_existing(output: Path) -> None:
    """Nothing is ever overwritten."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        message = f"{output} exists and is not empty"
        raise OutputExists(message, hint="choose another -o, or remove it first")


def _refuse_full_disk(decided: Plan, folder: Path) -> None:
    """Say so before the first byte when the result cannot fit."""
    free = shutil.disk_usage(folder).free
    if decided.write_bytes > free:
        message = f"the result has {decided.write_bytes:,} bytes; {folder} has {free:,} free"
        raise NotEnoughDisk(message, hint="free some space, or choose another -o")


@contextmanager
def _unfinished(output: Path, run: str) -> Iterator[Path]:
    """A folder beside ``output`` that takes its name when the block ends well, and goes when it does not."""
    folder = output.with_name(f".{output.name}.{run[:8]}.partial")
    try:
        folder.mkdir()
        yield folder
        for file in folder.iterdir():
            if file.is_file():
                _sync(file)
        _sync(folder)
        if output.exists():
            output.rmdir()
        folder.rename(output)
        _sync(output.parent)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RunFailed(f"cannot write {output}: {error.strerror}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _sync(path: Path) -> None:
    """Put a file or folder on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _recorded_end(catalog: Catalog, run: str) -> Iterator[None]:
    """Record FAILED or ABORTED when the block does not end well."""
    try:
        yield
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "ABORTED"
        text = error.message if isinstance(error, RegError) else repr(error)
        with catalog.write() as transaction:
            transaction.execute(
                "update store.run set status = ?, ended_at = ?, error = ? where id = ?",
                [status, now(), text, run],
            )
        raise


def _record_start(catalog: Catalog, decided: Plan, run: str, output: Path) -> None:
    """Write the recipe and a run that has STARTED."""
    columns = Columns()
    columns.add(
        [RecipeRow(digest=decided.recipe.digest, canonical=decided.recipe.text, created_at=now())]
    )
    columns.add([
        RunRow(
            id=run, recipe=decided.recipe.digest, status="STARTED", output=str(output), model_id=None,
            engine_version=VERSION, process=os.getpid(), started_at=now(), ended_at=None,
            seconds=None, read_bytes=None, write_bytes=None, error=None,
        )
    ])  # fmt: skip
    with catalog.write() as transaction:
        columns.insert(transaction, "nothing")


def _describe(
    catalog: Catalog, decided: Plan, folder: Path, change: Change, jobs: int | None
) -> str:
    """Write config, sidecar and card into a folder that has its shards; return the model's digest."""
    provenance.write_companions(decided, folder)
    checkpoint = read_checkpoint(folder)
    digests = digest_tensors(checkpoint.tensors, jobs=jobs)
    model = digest_model(digests, tied=checkpoint.tied)
    provenance.write_sidecar(decided, folder, model=model, digests=digests, version=VERSION)
    provenance.write_readme(
        decided, folder, model=model, change=change, version=VERSION,
        licenses=_licenses(catalog, decided), measured=_known_facts(catalog, decided),
    )  # fmt: skip
    return model


def _licenses(catalog: Catalog, decided: Plan) -> Mapping[str, str | None]:
    """Parent id → licence as its card says it."""
    rows = catalog.rows(
        "select id, license from models where id in (select store.each(?))",
        [[p.id for p in decided.parents]],
    )
    return {row["id"]: row["license"] for row in rows}


def _known_facts(catalog: Catalog, decided: Plan) -> tuple[tuple[str, str], ...]:
    """What the catalog has measured of the parents: sizes of their task vectors and scores."""
    facts = []
    for model in decided.models:
        name = provenance.public_name(model)
        for row in catalog.rows(
            "select relative_l2, max_abs from delta_summary where child_id = ? and base_id = ?",
            [model.id, decided.reference.id],
        ):
            value = f"{row['relative_l2'] or 0:.6f} (largest |δ| {row['max_abs'] or 0:.6g})"
            facts.append((f"relative L2 of {name}'s task vector", value))
        for row in catalog.rows(
            "select task, metric, value, stderr, n from scores where model_id = ? and origin = 'measured' "
            "order by task, metric",
            [model.id],
        ):
            value = f"{row['value']:.4f} ± {row['stderr'] or 0:.4f} (n = {row['n']})"
            facts.append((f"{row['task']} ({row['metric']}) of {name}", value))
    return tuple(facts)


def _record_end(catalog: Catalog, decided: Plan, merged: Merged) -> None:
    """Write the edges of a finished run and mark it COMPLETE."""
    columns = Columns()
    for entry in provenance.parents_of(decided):
        if entry["digest"] == merged.model:
            continue
        edge = Edge(
            child=merged.model, parent=entry["digest"], relation="merge", role=entry["role"], status="recorded",
            coefficient=entry["coefficient"], confidence=1.0, run_id=merged.run, created_at=now(),
        )  # fmt: skip
        columns.add([edge])
        columns.add([
            Evidence(
                id=digest_text(f"run\0{merged.run}\0{edge.parent}\0{edge.role}"), child=edge.child,
                parent=edge.parent, relation="merge", status="recorded", method="run", version=VERSION,
                statistic="recipe", value=None, scope="full",
                detail=f"run {merged.run[:12]} of recipe {decided.recipe.digest[:12]}",
            )
        ])  # fmt: skip
    with catalog.write() as transaction:
        columns.insert(transaction, "replace")
        transaction.execute(
            "update store.run set status = 'COMPLETE', model_id = ?, ended_at = ?, seconds = ?, "
            "read_bytes = ?, write_bytes = ? where id = ?",
            [
                merged.model,
                now(),
                merged.seconds,
                merged.read_bytes,
                merged.write_bytes,
                merged.run,
            ],
        )
