"""Singular values of a merge, shrunk by how often they were counted."""

import numpy as np
from reference.spectra import is_map, svd

EXEMPT = {
    "coarse": "of equal singular values the library chooses the vectors",
    "order": "the first model is the merge",
}


def svc(models, *, tensor, alpha=1.0, vocabulary=False):
    merged, *experts = models
    if not is_map(merged, tensor, vocabulary):
        return merged
    u, s, vh = svd(merged)
    scaled = []
    for r in range(len(s)):
        own = s[r] * vh[r]
        counts = []
        for expert in experts:
            seen = u[:, r] @ expert
            counts.append(max(alpha, own @ seen / max(seen @ seen, 1e-12)))
        scaled.append(s[r] * len(experts) / sum(counts))
    return u @ np.diag(scaled) @ vh
