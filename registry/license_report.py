"""The licences of a catalog's models, as its lineage makes them.

Computed when asked for and never stored: findings depend on cards, on edges of every origin and on the table of
licences, and what is stored would be wrong as soon as one of them changed.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from registry.catalog import Catalog
from registry.generations import numbers, with_all
from registry.license_findings import Effective, effective
from registry.license_table import license_table
from registry.licensing import Descent, Licensed

LEAST_CONFIDENCE = 0.5
"""An edge that is less likely right than wrong carries no licence."""

ALLOWED = "license"
"""Method of the evidence that a licence conflict was known and allowed."""

_RESULT = "result"


def licenses(
    catalog: Catalog, models: Sequence[str] | None = None, *, without: str | None = None
) -> dict[str, Effective]:
    """The effective licence of models: id → licence, in order of names.

    Args:
        catalog: what is known.
        models: ids; only they and their ancestors are read. None: all that not only listings name.
        without: address of a repository of the Hub whose cards are not listened to.
    """
    licensed, descents = _facts(catalog, models, without)
    return effective(licensed, descents, license_table(), only=models)


def license_of_merge(catalog: Catalog, parents: Iterable[str]) -> Effective:
    """The licence that a model made of these would have, and what it must obey.

    Args:
        catalog: what is known.
        parents: ids; every one counts, whatever its coefficient.
    """
    wanted = sorted(set(parents))
    licensed, descents = _facts(catalog, wanted)
    licensed.append(Licensed(_RESULT, "the result", ours=True))
    descents += [Descent(_RESULT, parent, "merge") for parent in wanted]
    return effective(licensed, descents, license_table(), only=[_RESULT])[_RESULT]


def card_license(license_: Effective) -> tuple[str | None, str | None]:
    """What a card states: (`license`, `license_name`), as the Hub wants them.

    Both are None where nobody knows; `other` without a name stands for more than one licence.
    """
    if license_.suggested is not None:
        known = license_table().licenses[license_.suggested].hub
        return (license_.suggested, None) if known else ("other", license_.suggested)
    unknown = any(finding.kind == "license_unknown" for finding in license_.findings)
    return (None, None) if unknown else ("other", None)


def _facts(
    catalog: Catalog, models: Sequence[str] | None, without: str | None = None
) -> tuple[list[Licensed], list[Descent]]:
    """What cards say of models and their ancestors, and the edges among them as far as they are believed."""
    with catalog.read() as reader:
        if models is None:
            read = reader.rows("select id from store.model where status <> 'listed' order by id")
            models = [row["id"] for row in read]
        near = with_all(reader, models, "ancestors")
        nodes = reader.rows("select id, name from store.nodes(?)", [near])
        ids = [row["id"] for row in nodes]
        said = reader.rows(
            "select distinct model_id, object from store.licences($1) where $2 is null "
            "or not (uri = $2 or starts_with(uri, $2 || '@')) order by model_id, object",
            [ids, without],
        )
        edges = reader.rows_for(
            numbers(reader, ids),
            "select child, parent, relation, status from store.edge "
            "where child_number in (from asked) and confidence >= ?",
            [LEAST_CONFIDENCE],
        )
    declared: dict[str, list[str]] = defaultdict(list)
    for row in said:
        declared[row["model_id"]].append(row["object"])
    made = {edge["child"] for edge in edges if edge["status"] == "recorded"}
    licensed = [
        Licensed(row["id"], row["name"], tuple(declared[row["id"]]), ours=row["id"] in made)
        for row in nodes
    ]
    return licensed, [Descent(e["child"], e["parent"], e["relation"]) for e in edges]
