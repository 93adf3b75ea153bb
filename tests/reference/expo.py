"""Beyond the model, along its task vector."""

EXEMPT = {
    "alone": "the model is left behind by alpha",
    "copies": "there is only one model",
    "order": "there is only one model",
}


def expo(models, *, alpha=0.3):
    (model,) = models
    return model + alpha * model
