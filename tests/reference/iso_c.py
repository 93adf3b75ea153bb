"""The sum of task vectors with a flat spectrum."""

from reference.spectra import above_rounding, is_map, svd

EXEMPT = {
    "alone": "the spectrum of one model is flattened too",
    "copies": "the spectrum of one model is flattened too",
}


def iso_c(models, *, tensor, lambda_=1.0, vocabulary=False):
    total = sum(models)
    if not is_map(total, tensor, vocabulary):
        return lambda_ * total / len(models)
    u, s, vh = above_rounding(svd(total))
    return lambda_ * s.sum() / min(total.shape) * u @ vh
