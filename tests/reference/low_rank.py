"""The strongest directions of one task vector."""

from reference.spectra import is_map, svd

EXEMPT = {
    "coarse": "of equal singular values the library chooses the vectors",
    "copies": "there is only one model",
    "order": "there is only one model",
}


def low_rank(models, *, tensor, rank=16, energy=0.0, vocabulary=False):
    (model,) = models
    if not is_map(model, tensor, vocabulary):
        return model
    u, s, vh = svd(model)
    kept = rank
    if energy > 0:
        kept = next(
            (
                k
                for k in range(1, len(s))
                if (s[:k] ** 2).sum() >= energy * (1 - 1e-12) * (s**2).sum()
            ),
            len(s),
        )
    return u[:, :kept] * s[:kept] @ vh[:kept]
