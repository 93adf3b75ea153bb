"""The shelf of sketches: those the catalog has, and those that are read because it has not."""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.descent.invariant import Values
from engine.descent.patch import SPEC, Layout, Patch
from engine.descent.sketch import Sketch, layout_for, take, weights
from engine.reader import Reader
from registry.catalog import Catalog, Columns, now, still_models
from registry.dtypes import QUANTS
from registry.errors import (
    BadAddress,
    CatalogChanged,
    CorruptCheckpoint,
    FileChanged,
    RegError,
    RunError,
    Unreadable,
)
from registry.progress import SILENT, Progress
from registry.records import Sketch as SketchRow

_BATCH = 64  # sketches that are written in one transaction


def spec_of(n_scalars: int | None) -> str:
    """The name of the rules for so many scalars; None: for all."""
    return f"{SPEC}/{n_scalars or 'all'}"


def sketches_of(
    catalog: Catalog, models: Sequence[str], n_scalars: int | None, *, progress: Progress = SILENT
) -> tuple[list[Sketch], dict[str, str]]:
    """The sketches of models, in their order; those that were read are put on the shelf.

    Args:
        catalog: knows the models.
        models: ids.
        n_scalars: about how many; None: every entry, which is never put on the shelf.
        progress: told of every model.

    Returns:
        The sketches, and of models that have none, why.
    """
    found = {} if n_scalars is None else shelved(catalog, models, spec_of(n_scalars))
    missing = [model for model in models if model not in found]
    problems: dict[str, str] = {}
    fresh: list[Sketch] = []
    progress.start("sketch", len(missing))
    try:
        for model in missing:
            made = _read(catalog, model, n_scalars)
            if isinstance(made, str):
                problems[model] = made
            else:
                found[model] = made
                fresh.append(made)
            if n_scalars is not None and len(fresh) == _BATCH:
                put(catalog, fresh, spec_of(n_scalars))
                fresh = []
            progress.advance(1)
    finally:  # what was read is kept, whoever stops us
        if n_scalars is not None and fresh:
            put(catalog, fresh, spec_of(n_scalars))
    return [found[model] for model in models if model in found], problems


def _read(catalog: Catalog, model: str, n_scalars: int | None) -> Sketch | str:
    """A sketch from a model's files, or why there is none."""
    try:
        checkpoint = catalog.checkpoint(model)
        tensors = weights(checkpoint.tensors)
        if any(ref.dtype in QUANTS for ref in checkpoint.tensors):
            return "is quantised in blocks, which are not read; its vectors alone tell no descent"
        if not tensors:
            return "has no tensor whose values are weights"
        with Reader() as reader:
            return take(reader, model, tensors, layout_for(tensors, n_scalars))
    except (BadAddress, CorruptCheckpoint, FileChanged, RunError, Unreadable) as error:
        return with_hint(error)


def with_hint(error: RegError) -> str:
    """What an error says, and what to type next."""
    return f"{error.message}: {error.hint}" if error.hint else error.message


def shelved_ids(catalog: Catalog, models: Sequence[str], n_scalars: int) -> set[str]:
    """Which of some models have a sketch of so many scalars on the shelf."""
    rows = catalog.rows(
        "select model_id from store.sketch where spec = ? and model_id in (select store.each(?))",
        [spec_of(n_scalars), list(models)],
    )
    return {row["model_id"] for row in rows}


def out_of_reach(catalog: Catalog, n_scalars: int) -> list[str]:
    """Models that are nowhere but on the Hub, and have no sketch of so many scalars on the shelf."""
    rows = catalog.rows(
        "select model_id from store.address a join store.model m on m.id = a.model_id "
        "where m.kind = 'model' and not exists (select 1 from store.sketch s "
        "where s.model_id = a.model_id and s.spec = ?) "
        "group by model_id having bool_and(a.source not in ('local', 'hf-cache')) and bool_or(a.source = 'hub') order by 1",
        [spec_of(n_scalars)],
    )
    return [row["model_id"] for row in rows]


@dataclass(frozen=True)
class Shelf:
    """The values of sketches that the catalog has, read when they are asked for.

    Attributes:
        catalog: has them.
        spec: their rules.
        models: whose there are.
        found: those that were read, by model.
    """

    catalog: Catalog
    spec: str
    models: tuple[str, ...]
    found: dict[str, Values] = field(default_factory=dict)

    def fetch(self, models: Sequence[str]) -> None:
        """Read those of some models at once; those that were read before are not read again.

        Raises:
            CatalogChanged: another process dropped one, or gave it to another model, since this was made.
        """
        missing = [model for model in models if model not in self.found]
        if not missing:
            return
        rows = self.catalog.rows(
            "select model_id, scalars from store.sketch where spec = ? and model_id in (select store.each(?))",
            [self.spec, missing],
        )
        for row in rows:
            self.found[row["model_id"]] = np.frombuffer(row["scalars"], "<f4").astype(np.float32)
        gone = [model for model in missing if model not in self.found]
        if gone:
            message = f"catalog {self.catalog.path}: the sketch of {self.catalog.name(gone[0])} is gone since it was found"
            raise CatalogChanged(message, hint="reg infer, once nothing else writes there")

    def of(self, model: str) -> Values:
        """Those of a model; where they were not fetched, all there are are read."""
        if model not in self.found:
            self.fetch(self.models)
        return self.found[model]


def shelved(catalog: Catalog, models: Sequence[str], spec: str) -> dict[str, Sketch]:
    """The sketches of these rules that are on the shelf, by model; their values stay there."""
    where = "from store.sketch where spec = ? and model_id in (select store.each(?))"
    with catalog.read() as reader:
        # thousands of models have a few layouts among them, each of them a long text
        texts = reader.rows(
            f"select md5(patches) as digest, any_value(patches) as patches {where} group by all",
            [spec, list(models)],
        )
        rows = reader.rows(
            f"select model_id, dtype, md5(patches) as layout, invariants, read_bytes {where}",
            [spec, list(models)],
        )
    layouts = {row["digest"]: _layout(row["patches"]) for row in texts}
    shelf = Shelf(catalog, spec, tuple(row["model_id"] for row in rows))
    return {
        row["model_id"]: Sketch(
            row["model_id"], row["dtype"], layouts[row["layout"]], shelf,
            _turned(row["invariants"]), row["read_bytes"],
        )
        for row in rows
    }  # fmt: skip


def _layout(text: str) -> Layout:
    """A layout that was written by `_patches`."""
    return Layout(tuple(
        Patch(name, (rows, columns), row, n_rows, column, n_columns, bool(is_vector))
        for name, rows, columns, row, n_rows, column, n_columns, is_vector in json.loads(text)
    ))  # fmt: skip


def _turned(text: str) -> dict[str, Values]:
    """Invariants that were written, as lists of numbers by those who came before."""
    return {
        name: np.frombuffer(b64decode(values), "<f4").astype(np.float32)
        if isinstance(values, str) else np.array(values, np.float32)
        for name, values in json.loads(text).items()
    }  # fmt: skip


def _invariants(turned: Mapping[str, Values]) -> str:
    """Invariants as JSON, by name the bytes in base 64: as numbers they take as long to read as all the scalars."""
    return json.dumps({k: b64encode(v.astype("<f4").tobytes()).decode() for k, v in turned.items()})


def put(catalog: Catalog, sketches: Sequence[Sketch], spec: str) -> None:
    """Put sketches on the shelf; models of which only headers were known are sampled from then on."""
    rows = [
        SketchRow(
            model_id=s.model, spec=spec, dtype=s.dtype, patches=_patches(s.layout),
            n_scalars=s.layout.size, scalars=s.values.astype("<f4").tobytes(),
            invariants=_invariants(s.invariants),
            read_bytes=s.read_bytes, taken_at=now(),
        )
        for s in sketches
    ]  # fmt: skip
    with catalog.write() as transaction:
        known = still_models(transaction, (row.model_id for row in rows))
        columns = Columns()
        columns.add(row for row in rows if row.model_id in known)
        columns.insert(transaction, "replace")
        transaction.execute(
            "update store.model set status = 'sampled' where status = 'header' "
            "and id in (select store.each(?))",
            [[sketch.model for sketch in sketches]],
        )


def _patches(layout: Layout) -> str:
    """A layout as JSON."""
    return json.dumps([
        [p.tensor, *p.shape, p.row, p.n_rows, p.column, p.n_columns, int(p.is_vector)]
        for p in layout.patches
    ])  # fmt: skip
