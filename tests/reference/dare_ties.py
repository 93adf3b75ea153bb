"""Random drop, then TIES."""

from reference.steps import each, elect_and_merge, rescaled


def dare_ties(
    models, *, uniforms, weight=1.0, density=0.5, lambda_=1.0, normalize=True, rescale=True,
    rescale_by="density", sign="sum", tie="positive",
):  # fmt: skip
    weights = each(weight, len(models))
    kept = rescaled(models, uniforms, density, rescale, rescale_by)
    parts = [w * m for m, w in zip(kept, weights, strict=True)]
    return elect_and_merge(parts, weights, lambda_=lambda_, normalize=normalize, sign=sign, tie=tie)
