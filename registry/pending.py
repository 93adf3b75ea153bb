"""Work that a scan leaves to whoever comes next: noted with the rows that it is about, so that no kill makes it forgotten."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from registry.catalog import Catalog
from registry.database import Transaction
from registry.fingerprint import digest_text

_CASTS = "casts:"
"""How keys of `store.setting` begin whose values are models of which it was not looked whether they are casts."""


@dataclass(frozen=True)
class Pending:
    """What is left to do.

    Attributes:
        notes: keys of the notes that say so.
        models: ids of models with digests that have not been compared with others of their shapes.
    """

    notes: tuple[str, ...]
    models: tuple[str, ...]


def leave(transaction: Transaction, models: Iterable[str]) -> None:
    """Note that models have come which may be casts of others."""
    ids = sorted(set(models))
    if ids:
        note = {"key": [_CASTS + digest_text("\n".join(ids))], "value": [json.dumps(ids)]}
        transaction.insert("setting", note, "nothing")


def pending(catalog: Catalog) -> Pending:
    """What was left to do by all scans so far; nothing where there is no catalog."""
    if not catalog.is_made:
        return Pending((), ())
    rows = catalog.rows(
        "select key, value from store.setting where starts_with(key, ?) order by key", [_CASTS]
    )
    models = {model for row in rows for model in json.loads(row["value"])}
    return Pending(tuple(row["key"] for row in rows), tuple(sorted(models)))


def settle(transaction: Transaction, notes: Sequence[str]) -> None:
    """Drop the notes of what is done; what was noted meanwhile stays."""
    transaction.execute(
        "delete from store.setting where key in (select store.each(?))", [list(notes)]
    )
