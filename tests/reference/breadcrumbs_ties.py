"""Both tails of each task vector are dropped, then TIES without trimming."""

from reference.pruning import middle
from reference.steps import each, elect_and_merge

EXEMPT = {
    "alone": "gamma drops the largest entries at any density",
    "copies": "gamma drops the largest entries at any density",
}


def breadcrumbs_ties(
    models,
    *,
    weight=1.0,
    density=0.2,
    gamma=0.01,
    lambda_=1.0,
    normalize=False,
    per="tensor",
    small="keep",
    sign="sum",
    tie="positive",
):
    n = len(models)
    weights = each(weight, n)
    parts = [
        w * middle(m, p, g, per, small)
        for m, w, p, g in zip(models, weights, each(density, n), each(gamma, n), strict=True)
    ]
    return elect_and_merge(parts, weights, lambda_=lambda_, normalize=normalize, sign=sign, tie=tie)
