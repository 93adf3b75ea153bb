"""Small checkpoints for the tests of scanning, and what a catalog holds of them afterwards."""

import json
import shutil

import numpy as np
from safetensors.numpy import save_file

from registry.catalog import Catalog
from registry.records import references


def tiny(folder, value, **config):
    """A checkpoint of two tensors; ``value`` decides its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.full((4, 4), value, np.float32)
    save_file({"layers.0.w": weights, "norm": weights[0]}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "tiny", **config}))
    return folder


def linked(room, folder):
    """A folder of one's own with links to the models of a room, which are only read, and a copy of its catalog."""
    for model in room.iterdir():
        if model.is_dir():
            (folder / model.name).symlink_to(model)
    shutil.copy(room / "catalog.duckdb", folder)
    return folder, Catalog(folder / "catalog.duckdb")


def with_card(folder, text):
    (folder / "README.md").write_text(f"---\n{text}\n---\n")
    return folder


def statuses(catalog):
    return {r["name"]: r["status"] for r in catalog.rows("select name, status from models")}


def content(catalog):
    """All rows of a catalog, without the times at which they were written, and the numbers that only it gave."""
    times = ("created_at", "seen_at", "known_since", "applied_at", "measured_at")
    own = (*times, "number", "child_number", "parent_number", "model_number")
    tables = catalog.rows(
        "select table_name as t from duckdb_tables() where schema_name = 'store' order by 1"
    )
    return {
        r["t"]: sorted(
            repr([(k, v) for k, v in row.items() if k not in own])
            for row in catalog.rows(f"select * from store.{r['t']}")
            if not str(row.get("key")).startswith("casts:")  # what the next scan is to do
        )
        for r in tables
    }


def orphans(catalog):
    """Rows that refer to a model which is not there."""
    return [
        (table, column, row["id"])
        for table, column in references("model")
        for row in catalog.rows(
            f"select {column} as id from store.{table} where {column} is not null "
            f"and {column} not in (select id from store.model)"
        )
    ]
