"""The weighted mean."""

from reference.steps import each


def linear(models, *, weight=1.0, normalize=True):
    weights = each(weight, len(models))
    total = sum(w * m for w, m in zip(weights, models, strict=True))
    return total / sum(weights) if normalize else total
