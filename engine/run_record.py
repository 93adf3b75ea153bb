"""What the catalog is told of a run: that it started, and its one end, with the edges of what it made.

The folder of a merge takes its name before the catalog is told. Who is stopped in between, by whomever, leaves a whole
result that no run owns up to: it is found here, so that the same merge only has to register it.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine import provenance
from engine.change import Change
from engine.lora_writer import WEIGHTS
from engine.output import located, place
from engine.permission import allowances
from engine.plan import Plan
from registry.catalog import ID_DIGITS, Catalog, Columns, now, refuse_lost
from registry.errors import CatalogError, OutputExists, RegError
from registry.fingerprint import digest_text
from registry.header import read_header
from registry.license_findings import Effective
from registry.process import is_alive
from registry.records import Edge, Evidence
from registry.records import Recipe as RecipeRow
from registry.records import Run as RunRow
from registry.version import VERSION
from registry.workroom import is_in_use


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


@dataclass(frozen=True)
class Stranded:
    """A whole result that the catalog was not told of.

    Attributes:
        run: id of the run that made it.
        folder: where it is.
        model: what its sidecar says that it is.
        recipe: digest of the recipe, as its sidecar says.
        state: what its method must know to go on.
    """

    run: str
    folder: Path
    model: str
    recipe: str
    state: dict[str, float] | None


def stranded(catalog: Catalog, output: Path) -> Stranded | None:
    """The result at ``output`` that a run gave its name and was stopped before it could tell the catalog.

    Args:
        catalog: knows which runs have ended.
        output: as typed.

    Returns:
        None when nothing is there, or the folder is free to be written.

    Raises:
        OutputExists: anything else is there: a model that is registered, or is being registered now.
        RunFailed: the operating system does not let us look.
    """
    try:
        place(output)
    except OutputExists:
        found = _stranded(catalog, located(output))
        if found is None:
            raise
        return found
    return None


def _stranded(catalog: Catalog, folder: Path) -> Stranded | None:
    """As `stranded`, of a folder that is not empty; None where it is not such a result."""
    try:
        sidecar = provenance.read_sidecar(folder) or {}
    except (RegError, OSError):
        return None
    recipe, model, state = (sidecar.get(key) for key in ("recipe_digest", "model", "state"))
    if not (isinstance(recipe, str) and isinstance(model, str)) or is_in_use(folder):
        return None
    if not catalog.is_made:
        return None
    runs = catalog.rows(
        "select id, status, model_id from store.run where output = ? and recipe = ? order by started_at desc, id",
        [str(folder), recipe],
    )
    left = [row["id"] for row in runs if row["status"] != "COMPLETE"]
    if not left or any(row["model_id"] == model for row in runs):
        return None
    return Stranded(left[0], folder, model, recipe, state if isinstance(state, dict) else None)


def stranded_adapter(catalog: Catalog, output: Path, key: str) -> str | None:
    """What an adapter at ``output`` says that was asked for it, where the catalog was not told of it.

    Args:
        catalog: knows of those that were registered.
        output: as typed.
        key: of the adapter's metadata, under which it says so.

    Returns:
        None when nothing is there, or the folder is free to be written.

    Raises:
        OutputExists: anything else is there.
        RunFailed: the operating system does not let us look.
    """
    try:
        place(output)
    except OutputExists:
        folder = located(output)
        try:
            said = read_header(folder / WEIGHTS).metadata.get(key)
        except (RegError, OSError):
            said = None
        if said is None or is_in_use(folder) or _is_registered(catalog, folder):
            raise
        return said
    return None


def _is_registered(catalog: Catalog, folder: Path) -> bool:
    """Tell whether the catalog knows what the adapter in a folder was made of."""
    rows = catalog.rows(
        "select 1 from store.edge e join store.address a on a.model_id = e.child "
        "where a.uri = ? and e.status = 'recorded'",
        [str(folder)],
    )
    return bool(rows)


@contextmanager
def recorded_end(catalog: Catalog, run: str) -> Iterator[None]:
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


def record_start(
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
            "select id, process, started_at from store.run where status = 'STARTED' and recipe = ? and output = ?",
            [decided.recipe.digest, str(target)],
        )
        ended = [
            r["id"]
            for r in started
            if r["id"] in resumed or not is_alive(r["process"], r["started_at"])
        ]
        transaction.execute(
            "update store.run set status = 'ABORTED', ended_at = ?, error = ? where id in (select store.each(?))",
            [now(), f"the process ended; run {run[:ID_DIGITS]} went on", ended],
        )
        columns.insert(transaction, "nothing")


def edges_of(decided: Plan, merged: Merged, allowed: str | None) -> Columns:
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


def record_complete(
    catalog: Catalog, decided: Plan, columns: Columns, merged: Merged, state: dict[str, float] | None
) -> None:  # fmt: skip
    """Write the edges of a finished run and mark it COMPLETE."""
    with catalog.write() as transaction:
        refuse_lost(transaction, (p["digest"] for p in provenance.parents_of(decided)))
        columns.insert(transaction, "replace")
        transaction.execute(
            "update store.run set status = 'COMPLETE', model_id = ?, ended_at = ?, seconds = ?, "
            "read_bytes = ?, write_bytes = ?, error = null, state = ? where id = ?",
            [
                merged.model, now(), merged.seconds, merged.read_bytes, merged.write_bytes,
                None if state is None else json.dumps(state, sort_keys=True), merged.run,
            ],
        )  # fmt: skip
