"""Task vectors, added."""

from reference.linear import linear


def task_arithmetic(models, *, weight=1.0, lambda_=1.0, normalize=False):
    return lambda_ * linear(models, weight=weight, normalize=normalize)
