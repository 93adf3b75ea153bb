"""The order in which floats are added up: in rows of `LANES` partial sums, those folded by halves."""

import numpy as np

from engine.kernels import LANES, Floats


def laned(values: Floats) -> float:
    """The sum of numbers: every `LANES`-th to one partial sum, those folded by halves."""
    whole = np.zeros(-(-len(values) // LANES) * LANES)
    whole[: len(values)] = values
    sums = row_by_row(whole.reshape(-1, LANES))
    while len(sums) > 1:
        sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    return float(sums[0])


def row_by_row(values: Floats) -> Floats:
    """The sum of the rows of a matrix, one after the other."""
    if values.shape[1] == 1:  # numpy takes one column for a row, which it sums in pairs
        return row_by_row(np.repeat(values, 2, axis=1))[:1]
    return np.asarray(np.add.reduce(np.ascontiguousarray(values), axis=0))
