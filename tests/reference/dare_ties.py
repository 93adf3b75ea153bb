"""Random drop, then TIES."""

from reference.steps import dropped, each, elect_and_merge


def dare_ties(
    models,
    *,
    uniforms,
    weight=1.0,
    density=0.5,
    lambda_=1.0,
    normalize=True,
    sign="sum",
    tie="positive",
):
    n = len(models)
    weights = each(weight, n)
    parts = [
        w * m / p
        for m, p, w in zip(
            dropped(models, uniforms, density), each(density, n), weights, strict=True
        )
    ]
    return elect_and_merge(parts, weights, lambda_=lambda_, normalize=normalize, sign=sign, tie=tie)
