"""One model as it is."""

EXEMPT = {"order": "there is only one model"}


def cast(models):
    (model,) = models
    return model.copy()
