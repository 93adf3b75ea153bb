"""The use case `merge`: recipe → plan → run → a new model with its edges in the catalog.

The output is written beside its final name and renamed when it is whole. A failed run leaves a row and no half
model. What was recorded can be made again: `reproduce` runs the stored recipe and compares digests.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from engine import provenance
from engine.adapter_merge import RELATIVE_ERROR, merge_adapters
from engine.assemble import decide, load_adapters, pin_down
from engine.change import Change
from engine.edits import EditError
from engine.journal import Journal, begun, folder_of, is_alive
from engine.memory import refuse_too_large
from engine.options import Options
from engine.output import place, refuse_full_disk
from engine.parent import refuse_change
from engine.permission import allowances, license_of_plan, refuse_conflict
from engine.plan import Plan
from engine.recipe import Recipe
from engine.recorded import from_canonical
from engine.run import Outcome, run_plan
from registry.catalog import ID_DIGITS, Catalog, Columns, now, refuse_lost
from registry.checkpoint import read_checkpoint
from registry.database import Reader
from registry.errors import CatalogError, RegError, UnknownModel
from registry.fingerprint import digest_model, digest_tensors, digest_text
from registry.license_findings import Effective
from registry.progress import SILENT, Progress
from registry.records import Edge, Evidence
from registry.records import Recipe as RecipeRow
from registry.records import Run as RunRow
from registry.scan import ensure, scan
from registry.version import VERSION

_WORTH_SAYING = 0.01
"""Share of the changed elements that rounding took back, from which on it is said."""


@dataclass(frozen=True)
class Merged:
    """A finished merge.

    Attributes:
        model: id of the new model, which is its digest.
        run: id of the run.
        folder: where it is.
        seconds: the run took.
        read_bytes: tensor bytes read, by this run and those it resumed.
        write_bytes: tensor bytes written, likewise.
        notes: of the plan and of the run.
        change: against the reference; None for an adapter, which has none.
        license: of the result, as its lineage makes it.
    """

    model: str
    run: str
    folder: Path
    seconds: float
    read_bytes: int
    write_bytes: int
    notes: tuple[str, ...]
    change: Change | None
    license: Effective


def plan(
    catalog: Catalog, recipe: Recipe, *, allow_unrelated: bool = False, progress: Progress = SILENT
) -> Plan:
    """Resolve a recipe's models, pin it and decide every step.

    What the recipe alone can be refused for is refused before any model is looked at.

    Raises:
        UnknownModel: a model that is neither in the catalog nor on disk.
        NotHomologous: no common base is known and ``allow_unrelated`` is not set.
        RegError: as `engine.pin.pin` and `engine.planner.make_plan`.
    """
    asked = pin_down(catalog, recipe, allow_unrelated=allow_unrelated, progress=progress)
    return decide(catalog, asked)


def merge(
    catalog: Catalog,
    recipe: Recipe,
    output: Path,
    *,
    options: Options | None = None,
    progress: Progress = SILENT,
    told: Callable[[str], None] | None = None,
) -> Merged:
    """Merge as ``recipe`` says into ``output`` and register the result.

    Args:
        catalog: knows the models, and is told of the result.
        recipe: what to do.
        output: a folder that is not there or empty.
        options: how to do it.
        progress: told of every byte read or written.
        told: hears, before it begins, what needs more memory and what stays on the processor.

    Raises:
        OutputExists: ``output`` is there and not empty.
        NotEnoughDisk: the result does not fit.
        NotEnoughMemory: what must be worked on at once does not fit.
        NothingToResume: as ``options`` insist.
        LicenseConflict: no licence satisfies all models, and ``options`` do not allow it.
        Interrupted: Ctrl-C in a run that can be resumed.
        RegError: as `plan` and `run_plan`; nothing is left at ``output`` then.
    """
    options = options or Options()
    place(output)
    decided = plan(catalog, recipe, allow_unrelated=options.allow_unrelated, progress=progress)
    license_ = license_of_plan(catalog, decided)
    refuse_conflict(license_, options.allow_license_conflict)
    if decided.recipe.adapter is None:
        refuse_too_large(decided, options.memory_bytes)
    if told:
        said = (license_.summary,) if license_.remarkable else ()
        for note in (*decided.remarks(options.memory_bytes, options.device), *said):
            told(note)
    return _carry_out(catalog, decided, license_, output, options, progress=progress)


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
        UnknownModel: no recipe of this model is recorded.
        BadRecipe: what is recorded is none.
        BadAddress: a parent is gone.
    """
    place(output)
    expected = ensure(catalog, target)
    decided = decide(catalog, from_canonical(recorded_recipe(catalog, expected)))
    license_ = license_of_plan(catalog, decided)
    done = _carry_out(catalog, decided, license_, output, options or Options(), progress=progress)
    return expected, done


def recorded_recipe(catalog: Catalog, model: str) -> Any:
    """The canonical recipe of a merge: from the catalog's runs, else from the sidecar beside its weights.

    Raises:
        UnknownModel: there is neither.
    """
    rows = catalog.rows(
        "select canonical from store.run r join store.recipe p on p.digest = r.recipe "
        "where r.model_id = ? and r.status = 'COMPLETE' order by r.started_at desc, r.id limit 1",
        [model],
    )
    if rows:
        return json.loads(rows[0]["canonical"])
    sidecar = provenance.read_sidecar(catalog.checkpoint(model).root)
    if sidecar is None:
        message = f"no recipe of {catalog.name(model)} is recorded"
        raise UnknownModel(message, hint="reg ls lists which models are merges of ours")
    return sidecar.get("recipe")


def _carry_out(
    catalog: Catalog, decided: Plan, license_: Effective, output: Path, options: Options,
    *, progress: Progress,
) -> Merged:  # fmt: skip
    """Carry out a plan and register the result."""
    target = place(output)
    started_in = folder_of(target, decided, options.shard_bytes)
    n_bytes = 0 if decided.recipe.adapter else decided.write_bytes
    refuse_full_disk(target, n_bytes, started=started_in)
    run, started = uuid4().hex, time.monotonic()
    with (
        begun(
            target, decided, metadata=provenance.metadata(decided, VERSION),
            shard_bytes=options.shard_bytes, run=run, insist=options.resume,
        ) as journal,
        _recorded_end(catalog, run),
    ):  # fmt: skip
        _record_start(catalog, decided, run, target, journal.runs)
        outcome = _written(catalog, decided, journal, options, progress)
        model = _describe(catalog, decided, license_, journal.folder, outcome, jobs=options.jobs)
        journal.take_name(target)
        with catalog.database.kept_open():
            scan(catalog, [str(target)], jobs=options.jobs, digests=outcome.digests)
        merged = Merged(
            model=model, run=run, folder=target, seconds=time.monotonic() - started,
            read_bytes=decided.read_bytes,
            write_bytes=decided.write_bytes if outcome.write_bytes is None else outcome.write_bytes,
            notes=(*decided.notes, *_resumed(outcome), *_lost(decided, outcome), *outcome.notes),
            change=outcome.change, license=license_,
        )  # fmt: skip
        columns = _edges(decided, merged, options.allow_license_conflict)
        _record_complete(catalog, decided, columns, merged, outcome.state)
    return merged


def _written(
    catalog: Catalog, decided: Plan, journal: Journal, options: Options, progress: Progress
) -> Outcome:
    """Write weights and what belongs to them into a journal's folder."""
    folder, metadata = journal.folder, provenance.metadata(decided, VERSION)
    if decided.recipe.adapter is None:
        provenance.write_companions(decided, folder)
        outcome = run_plan(
            decided, folder, metadata=metadata, shard_bytes=options.shard_bytes, jobs=options.jobs,
            memory_bytes=options.memory_bytes, device=options.accelerator, progress=progress, journal=journal,
        )  # fmt: skip
        return _with_edit(decided, outcome)
    base, adapters = load_adapters(catalog, decided.recipe)
    size = decided.recipe.adapter
    new, _, notes = merge_adapters(
        decided.recipe, adapters, base, rank=size.rank, energy=size.energy, jobs=options.jobs,
        memory_bytes=options.memory_bytes, progress=progress,
    )  # fmt: skip
    refuse_change([*adapters, *([base] if base else [])])
    refuse_full_disk(folder, new.n_bytes)
    new.write(folder, made_by="", metadata=metadata)
    told = [note for note in notes if note not in decided.notes]
    error = next(note for note in told if note.startswith(RELATIVE_ERROR))
    what, _, value = error.partition(": ")
    return Outcome(None, notes=tuple(told), measured=((what, value),), write_bytes=new.n_bytes)


@contextmanager
def _recorded_end(catalog: Catalog, run: str) -> Iterator[None]:
    """Record FAILED or ABORTED when the block does not end well, as far as the catalog can be written."""
    try:
        yield
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "ABORTED"
        text = error.message if isinstance(error, RegError) else repr(error)
        try:
            with catalog.write() as transaction:
                transaction.execute(
                    "update store.run set status = ?, ended_at = ?, error = ? where id = ?",
                    [status, now(), text, run],
                )
        except CatalogError as trouble:
            error.add_note(f"the run could not be marked as {status}: {trouble}")
        raise


def _record_start(
    catalog: Catalog, decided: Plan, run: str, target: Path, resumed: Sequence[str]
) -> None:
    """Write the recipe and a run that has STARTED; of those it resumes, mark the killed as ABORTED."""
    columns = Columns()
    columns.add(
        [RecipeRow(digest=decided.recipe.digest, canonical=decided.recipe.text, created_at=now())]
    )
    columns.add([
        RunRow(
            id=run, recipe=decided.recipe.digest, status="STARTED", output=str(target), model_id=None,
            engine_version=VERSION, process=os.getpid(), started_at=now(), ended_at=None,
            seconds=None, read_bytes=None, write_bytes=None, error=None, state=None,
        )
    ])  # fmt: skip
    with catalog.write() as transaction:
        started = transaction.rows(
            "select id, process from store.run where status = 'STARTED' and recipe = ? and output = ?",
            [decided.recipe.digest, str(target)],
        )
        ended = [r["id"] for r in started if r["id"] in resumed or not is_alive(r["process"])]
        transaction.execute(
            "update store.run set status = 'ABORTED', ended_at = ?, error = ? where id in (select store.each(?))",
            [now(), f"the process ended; run {run[:ID_DIGITS]} went on", ended],
        )
        columns.insert(transaction, "nothing")


def _describe(
    catalog: Catalog, decided: Plan, license_: Effective, folder: Path, outcome: Outcome,
    *, jobs: int | None,
) -> str:  # fmt: skip
    """Write sidecar and card into a folder that has its shards; return the model's digest."""
    checkpoint = read_checkpoint(folder)
    digests = outcome.digests or digest_tensors(checkpoint.tensors, jobs=jobs)
    model = digest_model(digests, tied=checkpoint.tied)
    provenance.write_sidecar(
        decided, folder, model=model, digests=digests, version=VERSION, state=outcome.state
    )
    with catalog.read() as reader:
        facts = _known_facts(reader, decided)
    provenance.write_readme(
        decided, folder, model=model, change=outcome.change, version=VERSION, license_=license_,
        measured=(*facts, *outcome.measured),
    )  # fmt: skip
    return model


def _known_facts(reader: Reader, decided: Plan) -> tuple[tuple[str, str], ...]:
    """What the catalog has measured of the parents: sizes of their task vectors and scores."""
    facts = []
    for model in {m.id: m for m in decided.models}.values():
        name = provenance.public_name(model)
        for row in reader.rows(
            "select relative_l2, max_abs from delta_summary where child_id = ? and base_id = ?",
            [model.id, decided.reference.id],
        ):
            value = f"{row['relative_l2'] or 0:.6g} (largest |δ| {row['max_abs'] or 0:.6g})"
            facts.append((f"relative L2 of {name}'s task vector", value))
        for row in reader.rows(
            "select task, metric, value, stderr, n from scores where model_id = ? and origin = 'measured' "
            "order by task, metric, source",
            [model.id],
        ):
            value = f"{row['value']:.4f} ± {row['stderr'] or 0:.4f} (n = {row['n']})"
            facts.append((f"{row['task']} ({row['metric']}) of {name}", value))
    return tuple(facts)


def _with_edit(decided: Plan, outcome: Outcome) -> Outcome:
    """What was found, with the error of an edit of one model."""
    error = outcome.change.edit if outcome.change else EditError()
    if not error.n_params:
        return outcome
    of = "task vector" if decided.base else "weights"
    what, relative = f"error of the edit, relative to the {of}", error.relative
    value = "no " + of if relative is None else f"{relative:.4g} (largest {error.max_error:.4g})"
    return replace(outcome, notes=(f"{what}: {value}",), measured=((what, value),))


def _resumed(outcome: Outcome) -> list[str]:
    """What an earlier run had done, in a sentence."""
    n, of = outcome.n_resumed, len(outcome.digests)
    return [f"{n} of {of} tensors were finished by a run that had been stopped"] if n else []


def _lost(decided: Plan, outcome: Outcome) -> list[str]:
    """What rounding took back, when it is worth a sentence."""
    change = outcome.change
    if change is None:
        return []
    share = change.n_lost / max(1, change.n_lost + change.n_changed)
    if share < _WORTH_SAYING or decided.recipe.rounding != "nearest":
        return []
    message = (
        f"{share:.1%} of the changed elements are the reference's again after rounding; "
        "out_dtype: float32 keeps them, round: stochastic keeps their mean"
    )
    return [message]


def _edges(decided: Plan, merged: Merged, allowed: str | None) -> Columns:
    """The edges of a finished run, with their evidence."""
    made_of: dict[tuple[str, str], float | None] = {}
    for entry in provenance.parents_of(decided):
        key, coefficient = (entry["digest"], entry["role"]), entry["coefficient"]
        if entry["digest"] != merged.model:
            before = made_of.get(key)
            made_of[key] = coefficient if before is None else before + coefficient
    columns = Columns()
    for (parent, role), coefficient in made_of.items():
        edge = Edge(
            child=merged.model, parent=parent, relation="merge", role=role, status="recorded",
            coefficient=coefficient, confidence=1.0, run_id=merged.run, created_at=now(),
        )  # fmt: skip
        columns.add([
            edge,
            Evidence(
                id=digest_text(f"run\0{merged.run}\0{parent}\0{role}"), child=merged.model,
                parent=parent, relation="merge", status="recorded", method="run", version=VERSION,
                statistic="recipe", value=None, scope="full",
                detail=f"run {merged.run[:ID_DIGITS]} of recipe {decided.recipe.digest[:ID_DIGITS]}",
            ),
        ])  # fmt: skip
        columns.add(allowances(merged.license, allowed, [edge]))
    return columns


def _record_complete(
    catalog: Catalog, decided: Plan, columns: Columns, merged: Merged, state: dict[str, float] | None
) -> None:  # fmt: skip
    """Write the edges of a finished run and mark it COMPLETE."""
    with catalog.write() as transaction:
        refuse_lost(transaction, (p["digest"] for p in provenance.parents_of(decided)))
        columns.insert(transaction, "replace")
        transaction.execute(
            "update store.run set status = 'COMPLETE', model_id = ?, ended_at = ?, seconds = ?, "
            "read_bytes = ?, write_bytes = ?, state = ? where id = ?",
            [
                merged.model, now(), merged.seconds, merged.read_bytes, merged.write_bytes,
                None if state is None else json.dumps(state, sort_keys=True), merged.run,
            ],
        )  # fmt: skip
