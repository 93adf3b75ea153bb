"""The licences of a catalog's models, as its lineage makes them.

Computed when asked for and never stored: findings depend on cards, on edges of every origin and on the table of
licences, and what is stored would be wrong as soon as one of them changed.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from registry.catalog import Catalog
from registry.license_findings import Effective, effective
from registry.license_table import license_table
from registry.licensing import Descent, Licensed
from registry.lineage import Lineage

LEAST_CONFIDENCE = 0.5
"""An edge that is less likely right than wrong carries no licence."""

ALLOWED = "license"
"""Method of the evidence that a licence conflict was known and allowed."""

_RESULT = "result"


def licenses(
    catalog: Catalog, models: Sequence[str] | None = None, *, lineage: Lineage | None = None
) -> dict[str, Effective]:
    """The effective licence of models.

    Args:
        catalog: what is known.
        models: ids; None: all.
        lineage: of the models and all their ancestors, where it was read before.
    """
    graph = lineage or Lineage.load(catalog, models)
    licensed, descents = _facts(catalog, graph)
    return effective(licensed, descents, license_table(), only=models)


def license_of_merge(
    catalog: Catalog, parents: Iterable[str], *, lineage: Lineage | None = None
) -> Effective:
    """The licence that a model made of these would have, and what it must obey.

    Args:
        catalog: what is known.
        parents: ids; every one counts, whatever its coefficient.
        lineage: of the parents and all their ancestors, where it was read before.
    """
    wanted = sorted(set(parents))
    graph = lineage or Lineage.load(catalog, wanted)
    licensed, descents = _facts(catalog, graph)
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


def _facts(catalog: Catalog, lineage: Lineage) -> tuple[list[Licensed], list[Descent]]:
    """What cards say of the models of a graph, and its edges as far as they are believed."""
    declared: dict[str, list[str]] = defaultdict(list)
    for row in catalog.rows(
        "select distinct model_id, object from store.claim where predicate = 'license' "
        "and model_id in (select store.each(?)) order by model_id, object",
        [list(lineage.nodes)],
    ):
        declared[row["model_id"]].append(row["object"])
    made = {edge.child for edge in lineage.edges if edge.status == "recorded"}
    models = [
        Licensed(id_, node.name, tuple(declared[id_]), ours=id_ in made)
        for id_, node in lineage.nodes.items()
    ]
    believed = (e for e in lineage.edges if e.confidence >= LEAST_CONFIDENCE)
    return models, [Descent(e.child, e.parent, e.relation) for e in believed]
