"""Assignment and optimal transport: who takes whose place. The door to scipy and to POT."""

from typing import Literal

import torch

Solver = Literal["exact", "sinkhorn"]


def assignment(gain: torch.Tensor) -> torch.Tensor:
    """The permutation p that maximises Σ_i gain[i, p(i)]: (n,) int64.

    The identity stays where nothing gains more than it by more than rounding, so that units that cannot be told
    apart stay where they are.

    Args:
        gain: (n, n) float64.
    """
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - slow to load

    n = len(gain)
    _, columns = linear_sum_assignment(gain.numpy(), maximize=True)
    found = torch.from_numpy(columns).to(torch.int64)
    best, now = float(gain[torch.arange(n), found].sum()), float(gain.diagonal().sum())
    return found if best > now + _SMALL * float(gain.abs().max()) * n else torch.arange(n)


_SMALL = 1e-12


def coupling(cost: torch.Tensor, solver: Solver, regularization: float) -> torch.Tensor:
    """How much of unit i goes to unit j, for equal shares of all units: (n, m) float64 that sums to 1.

    Rows sum to 1/n and columns to 1/m; those of "sinkhorn" to 1e-6, or as near as 1000 rounds come.

    Args:
        cost: (n, m) float64, at least 0.
        solver: "exact" (the earth mover's distance) or "sinkhorn" (arXiv:1306.0895, in the log domain).
        regularization: of "sinkhorn", > 0, in units of the largest cost.
    """
    n, m = cost.shape
    largest = float(cost.max()) if cost.numel() else 0.0
    scaled = cost / largest if largest > 0 else cost
    if solver == "exact" and n == m:
        made = torch.zeros(n, m, dtype=torch.float64)
        made[torch.arange(n), assignment(-scaled)] = 1 / n
        return made
    import ot  # noqa: PLC0415 - slow to load

    rows, columns = (
        torch.full((n,), 1 / n).double().numpy(),
        torch.full((m,), 1 / m).double().numpy(),
    )
    if solver == "exact":
        found = ot.emd(rows, columns, scaled.numpy(), numItermax=_MOST_STEPS)
    else:
        found = ot.sinkhorn(
            rows, columns, scaled.numpy(), regularization,
            method="sinkhorn_log", numItermax=_MOST_ROUNDS, stopThr=_NEAR, warn=False,
        )  # fmt: skip
    return torch.from_numpy(found)


_MOST_STEPS = 10_000_000
_MOST_ROUNDS = 1_000
_NEAR = 1e-6
