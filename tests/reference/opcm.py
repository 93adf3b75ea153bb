"""Models merged one after the other, each projected away from what is merged already."""

import numpy as np
from reference.spectra import is_map, svd

EXEMPT = {
    "coarse": "of equal singular values the library chooses the vectors, and they decide what is dropped",
    "copies": "a copy lies in the directions that are merged already",
    "order": "models are merged one after the other",
}


def opcm(models, *, tensor, alpha=0.5, rank_rule="paper", vocabulary=False, n_merged=1, scale=1.0):
    total = scale * models[0]
    for model in models[1:]:
        rest = model
        if is_map(model, tensor, vocabulary) and total.any():
            u, s, vh = svd(total)
            shares = np.cumsum(s) / s.sum()
            if rank_rule == "paper":
                r = sum(share < alpha * (1 - 1e-12) for share in shares) + (alpha > 0)
            else:
                r = next((i for i, share in enumerate(shares) if share > alpha), 0)
            inside = u.T @ model @ vh.T
            for i in range(len(s)):
                for j in range(len(s)):
                    if i == j or (i < r and j < r):
                        rest = rest - inside[i, j] * np.outer(u[:, i], vh[j])
        total = total + rest
    norms = [np.linalg.norm(m) for m in models]
    mean = (n_merged * norms[0] + sum(norms[1:])) / (n_merged + len(norms) - 1)
    size = np.linalg.norm(total)
    return total * mean / size if mean and size else total
