"""One model, scaled."""

EXEMPT = {"order": "there is only one model"}


def passthrough(models, *, scale=1.0):
    (model,) = models
    return scale * model
