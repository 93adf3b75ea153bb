"""Catalogs of made-up models of which only sketches are known: no files, no weights, ids that are names."""

import json

import numpy as np

from registry.catalog import Catalog, Columns, now
from registry.records import Edge, Model, Score, Sketch

SPEC = "patches-1/1024"
WIDE = 64
PATCHES = [
    ["layers.0.q.weight", 64, WIDE, 0, 8, 0, WIDE, 0],
    ["layers.0.up.weight", 256, WIDE, 0, 8, 0, WIDE, 0],
    ["norm.weight", 1, WIDE, 0, 1, 0, 8, 1],
]
"""Two matrices, the second with four times the entries for each scalar, and a vector."""

N = 2 * 8 * WIDE + 8


def drawn(seed, scale=1.0):
    """The scalars of a stranger; those of the vector are 1."""
    values = np.random.default_rng(seed).normal(0, scale, N).astype(np.float32)
    values[-8:] = 1
    return values


def put(
    catalog, sketches, *, patches=PATCHES, signature="s", dtype="BF16", kind="model", status="full"
):
    """Make models: name → scalars, or None for one that was never sketched."""
    columns = Columns()
    columns.add(
        Model(id=name, kind=kind, status=status, digest_name="made-up", signature=signature, dtype=dtype, n_params=N,
              n_bytes=2 * N, n_tensors=3, created_at=now())
        for name in sketches
    )  # fmt: skip
    columns.add(
        Sketch(model_id=name, spec=SPEC, dtype=dtype, patches=json.dumps(patches), n_scalars=len(values),
               scalars=values.astype("<f4").tobytes(), invariants="{}", read_bytes=0, taken_at=now())
        for name, values in sketches.items() if values is not None
    )  # fmt: skip
    with catalog.write() as transaction:
        columns.insert(transaction, "error")


def family(folder, empty):
    """A catalog of a base with children a and b, a liar and its twin that claim the base, and one that nothing is known of.

    Args:
        folder: where to make it.
        empty: the bytes of a catalog that knows nothing.
    """
    catalog = Catalog(folder / "c.duckdb")
    catalog.path.write_bytes(empty)
    base = drawn(0)
    put(catalog, {"base": base, "a": base + drawn(1, 0.05), "b": base + drawn(2, 0.05)})
    put(
        catalog,
        {"liar": drawn(3), "twin": drawn(3) + drawn(4, 0.05), "turned": drawn(5), "bare": None},
    )
    join(catalog, ("liar", "base"), ("twin", "base"), ("bare", "base"), status="declared")
    return catalog


def join(catalog, *edges, relation="finetune", status="inferred"):
    """Make edges of pairs of a child and a parent."""
    columns = Columns()
    columns.add(
        Edge(child=child, parent=parent, relation=relation, role="parent", status=status, coefficient=None,
             confidence=0.9, run_id=None, created_at=now())
        for child, parent in edges
    )  # fmt: skip
    with catalog.write() as transaction:
        columns.insert(transaction, "error")


def scored(catalog, model, **values):
    """Give a model scores by task."""
    columns = Columns()
    columns.add(
        Score(id=f"{model} {task}", model_id=model, task=task, metric="loss" if task == "prose" else "acc", value=value,
              stderr=None, n=None, harness=None, harness_version=None, shots=None, origin="claimed", source="here",
              scored_at=None, raw="")
        for task, value in values.items()
    )  # fmt: skip
    with catalog.write() as transaction:
        columns.insert(transaction, "error")
