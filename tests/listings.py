"""Small listings, and what a catalog makes of them."""

import json

from registry.intake import import_listings

TABLES = ("model", "address", "claim", "edge", "evidence", "problem")
CHAT = {"id": "lab/chat", "base_model": "lab/base", "tags": ["base_model:finetune:lab/base"], "license": "mit",
        "downloads": 7, "likes": 2, "pipeline_tag": "text-generation", "sha": "c0ffee"}  # fmt: skip
BASE = {"id": "lab/base", "license": "apache-2.0"}
MERGE = {"id": "lab/both", "base_model": ["lab/chat", "Lab/Base", "gone/one"]}


def listing(folder, *rows, name="hub.jsonl"):
    file = folder / name
    file.write_text(
        "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    )
    return file


def take_in(catalog, folder, *rows, **kwargs):
    return import_listings(catalog, [listing(folder, *rows, **kwargs)])


def all_rows(catalog):
    return {table: catalog.rows(f"select * from store.{table} order by all") for table in TABLES}


def edges(catalog):
    rows = catalog.rows(
        "select child_name, parent_name, relation, role, confidence from edges order by all"
    )
    return [tuple(row.values()) for row in rows]


def models(catalog):
    return {
        row["name"]: row["status"]
        for row in catalog.rows("select name, status from models order by name")
    }
