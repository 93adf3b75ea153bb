"""False claims: how many of those that were called so are, and how many of them were."""

from collections.abc import Iterable

from zoo_lineage.judge import below, rates
from zoo_lineage.matching import Facts, Union


def false_claims(truth: Facts, flagged: Iterable[tuple[str, str]]) -> Facts:
    """How many of the claims that were called wrong are, and how many of the wrong ones were called so.

    Wrong claims that weights cannot tell are left out: that name an ancestor, or a model with the values of a parent, or
    one to which no direction leads.

    Args:
        truth: of a split with cards.
        flagged: (child, claimed parent) that were called wrong; others than those of the truth's claims do not count.
    """
    called = set(flagged)
    union, above = Union(), dict[str, set[str]]()
    for edge in truth["edges"]:
        if not edge["direction_identifiable"]:
            union.join(edge["child"], edge["parent"])
    for edge in truth["edges"]:
        above.setdefault(union.find(edge["child"]), set()).add(union.find(edge["parent"]))
    hits = [
        (any((claim["child"], said) in called for said in claim["base_model"]), claim["true"])
        for claim in truth["claims"]
        if claim["true"]
        or not {union.find(said) for said in claim["base_model"]}
        & ({union.find(claim["child"])} | below(union.find(claim["child"]), above))
    ]
    right = sum(said and not true for said, true in hits)
    found = rates(right, sum(said for said, _ in hits), sum(not true for _, true in hits))
    return {"false_claims": found, "n_claims": len(hits)}
