"""Trim, elect, disjoint merge."""

from reference.steps import each, elect_and_merge, trimmed


def ties(
    models, *, weight=1.0, density=0.2, lambda_=1.0, normalize=True, sign="sum", tie="majority"
):
    n = len(models)
    weights = each(weight, n)
    parts = [w * trimmed(m, p) for m, p, w in zip(models, each(density, n), weights, strict=True)]
    return elect_and_merge(parts, weights, lambda_=lambda_, normalize=normalize, sign=sign, tie=tie)
