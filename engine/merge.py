"""The use case `merge`: recipe → plan → run → a new model with its edges in the catalog.

The output is written beside its final name and renamed when it is whole. A failed run leaves a row and no half
model. What was recorded can be made again: `reproduce` runs the stored recipe and compares digests.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from engine import provenance
from engine.adapter_merge import RELATIVE_ERROR, merge_adapters
from engine.assemble import decide, load_adapters, pin_down
from engine.edits import EditError
from engine.journal import Journal, begun, folder_of
from engine.memory import refuse_too_large
from engine.options import Options
from engine.output import place, refuse_full_disk, taken
from engine.parent import refuse_change
from engine.permission import license_of_plan, refuse_conflict
from engine.plan import Plan
from engine.recipe import Recipe
from engine.recorded import from_canonical
from engine.run import Outcome, run_plan
from engine.run_record import (
    Merged,
    Stranded,
    edges_of,
    record_complete,
    record_start,
    recorded_end,
    stranded,
)
from registry.catalog import ID_DIGITS, Catalog
from registry.checkpoint import read_checkpoint
from registry.database import Reader
from registry.errors import UnknownModel
from registry.fingerprint import digest_model, digest_tensors
from registry.license_findings import Effective
from registry.progress import SILENT, Progress
from registry.scan import ensure, scan
from registry.version import VERSION

_WORTH_SAYING = 0.01
"""Share of the changed elements that rounding took back, from which on it is said."""


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
        OutputExists: ``output`` is there and not empty, and not the result of a run that was stopped from registering it.
        NotEnoughDisk: the result does not fit.
        NotEnoughMemory: what must be worked on at once does not fit.
        NothingToResume: as ``options`` insist.
        LicenseConflict: no licence satisfies all models, and ``options`` do not allow it.
        Interrupted: Ctrl-C in a run that can be resumed.
        RegError: as `plan` and `run_plan`; nothing is left at ``output`` then.
    """
    options = options or Options()
    stranded(catalog, output)  # raises where there is no room for a result
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
    stranded(catalog, output)
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
    """Carry out a plan and register the result; one that a run was stopped from registering is registered."""
    found = stranded(catalog, output)
    if found is not None and found.recipe == decided.recipe.digest:
        return _taken_in(catalog, decided, license_, found, options, progress=progress)
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
        recorded_end(catalog, run),
    ):  # fmt: skip
        record_start(catalog, decided, run, target, journal.runs)
        outcome = _written(catalog, decided, journal, options, progress)
        model = _describe(catalog, decided, license_, journal.folder, outcome)
        journal.take_name(target)
        merged = Merged(
            model=model, run=run, folder=target, seconds=time.monotonic() - started,
            read_bytes=decided.read_bytes,
            write_bytes=decided.write_bytes if outcome.write_bytes is None else outcome.write_bytes,
            notes=(*decided.notes, *_resumed(outcome), *_lost(decided, outcome), *outcome.notes),
            change=outcome.change, license=license_,
        )  # fmt: skip
        columns = edges_of(decided, merged, options.allow_license_conflict)
        with catalog.database.as_one():  # the digests are known: this takes moments
            scan(catalog, [str(target)], jobs=options.jobs, digests=outcome.digests)
            record_complete(catalog, decided, columns, merged, outcome.state)
    return merged


def _taken_in(
    catalog: Catalog, decided: Plan, license_: Effective, found: Stranded, options: Options,
    *, progress: Progress,
) -> Merged:  # fmt: skip
    """Register the result of a run that was stopped when all of it was made; what was not scanned yet is digested.

    Raises:
        OutputExists: what is there is not what its sidecar says.
    """
    started = time.monotonic()
    scanned = scan(catalog, [str(found.folder)], jobs=options.jobs, progress=progress)
    if [model.id for model in scanned.models] != [found.model]:
        raise taken(found.folder)
    note = (
        f"run {found.run[:ID_DIGITS]} had made all of it and was stopped before it was registered"
    )
    merged = Merged(
        model=found.model, run=found.run, folder=found.folder, seconds=time.monotonic() - started,
        read_bytes=decided.read_bytes, write_bytes=read_checkpoint(found.folder).n_bytes,
        notes=(*decided.notes, note), change=None, license=license_,
    )  # fmt: skip
    columns = edges_of(decided, merged, options.allow_license_conflict)
    record_complete(catalog, decided, columns, merged, found.state)
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
    digests = digest_tensors(read_checkpoint(folder).tensors, jobs=options.jobs)
    return Outcome(
        None, digests=digests, notes=tuple(told), measured=((what, value),), write_bytes=new.n_bytes
    )


def _describe(
    catalog: Catalog, decided: Plan, license_: Effective, folder: Path, outcome: Outcome
) -> str:
    """Write sidecar and card into a folder that has its shards; return the model's digest."""
    checkpoint = read_checkpoint(folder)
    model = digest_model(outcome.digests, tied=checkpoint.tied)
    provenance.write_sidecar(
        decided, folder, model=model, digests=outcome.digests, version=VERSION, state=outcome.state
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
