"""Listings of a hub's models: CSV, JSON lines, plain and packed."""

import csv
import gzip
import io
import json
from typing import Any

from torture.chance import Chance
from torture.court import Court
from torture.ground import Ground

from registry.errors import BadListing
from registry.listing import read_listing

WHAT = "listings"

_ROWS: tuple[dict[str, Any], ...] = (
    {"id": "org/base", "downloads": 5, "likes": 1, "tags": ["license:mit", "transformers"], "sha": "a" * 40, "createdAt": "2024-01-01T00:00:00.000Z"},
    {"modelId": "org/child", "tags": "['base_model:org/base', 'base_model:finetune:org/base', 'license:apache-2.0']", "lastModified": "2024-02-01",
        "pipeline_tag": "text-generation", "library_name": "peft", "downloads": "1,000", "likes": "2.0"},
    {"model_id": "org/merge", "base_model": "['org/base', 'org/child']", "base_model_relation": "merge", "license": "llama3", "cardData": {"base_model": ["org/base"], "license": ["mit"]}},
    {"id": "org/self", "base_model": ["org/self", "org/nobody", ""], "createdAt": 1_700_000_000_000},
)  # fmt: skip
_WORDS = ("id", "modelId", "tags", "base_model", "base_model:org/base", "base_model:merge:org/x", "license", "license:mit", "downloads", "likes", "createdAt", "sha", "cardData", "org/base", "org/child")  # fmt: skip


def attempt(chance: Chance, court: Court, ground: Ground) -> None:
    """Read rows; now and then import files and ask of them."""
    folder = ground.clear()
    if not chance.now_and_then(0.08):
        for _ in range(50):
            row = chance.damaged(chance.one(_ROWS), vocabulary=_WORDS)
            if isinstance(row, dict):
                court.reads("read_listing", lambda given=row: _read(given))
        return
    ground.catalog(known=chance.now_and_then(0.5))
    for name in ("a.csv", "b.jsonl"):
        (folder / name).write_bytes(_made(chance, name))
    ended = court.types("import", "a.csv", "b.jsonl", *chance.one(((), ("--json",), ("--format", "csv"), ("--format", "jsonl"))))  # fmt: skip
    court.types("import", "b.jsonl")
    if ended.code == 0:
        again = court.types("import", "a.csv", "b.jsonl", "--json")
        if again.code == 0 and json.loads(again.out).get("new"):
            court.finds("an import that never ends", again.out)
    words = chance.one((
        ("ls", "--where", "true"), ("lineage", "org/base"), ("show", "org/child"), ("licenses", "org/merge"), ("sql", "from problems"), ("lineage",),
        ("candidates", "org/child"), ("mergeable", "org/child", "org/base"), ("lineage", "org/self", "--json"), ("licenses",),
    ))  # fmt: skip
    court.types(*words)


def _read(row: dict[str, Any]) -> Any:
    """What a row says; text is what the database can hold."""
    try:
        listing = read_listing(row)
    except BadListing:
        return None
    json.dumps(listing, ensure_ascii=False).encode()
    return listing


def _made(chance: Chance, name: str) -> bytes:
    """A file, most often with damage."""
    rows = [chance.damaged(chance.one(_ROWS), vocabulary=_WORDS) if chance.now_and_then(0.6) else chance.one(_ROWS) for _ in range(chance.randrange(8))]  # fmt: skip
    if name.endswith("jsonl"):
        raw = b"\n".join(chance.json(row) if chance.now_and_then(0.3) else json.dumps(row).encode() for row in rows)  # fmt: skip
    else:
        columns = list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
        text = io.StringIO()
        writer = csv.writer(text, delimiter=chance.one(",,,;\t|"))
        writer.writerow(columns)
        writer.writerows([row.get(key, "") for key in columns] for row in rows if isinstance(row, dict))  # fmt: skip
        raw = text.getvalue().encode(errors="surrogatepass")
    if chance.now_and_then(0.3):
        raw = chance.spoilt(raw)
    if chance.now_and_then(0.2):
        raw = gzip.compress(raw)
        raw = chance.spoilt(raw) if chance.now_and_then(0.5) else raw
    return raw
