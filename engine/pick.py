"""Picks: which entries of a task vector count, the others being 0."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import hardshrink

from engine.draws import Draws


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest entries of a flat tensor, by magnitude: exactly as many as were asked for.

    Attributes:
        threshold: the magnitude of the smallest of them.
        ties_end: entries of exactly that magnitude belong to them before this flat index, and not from it on.
    """

    threshold: float
    ties_end: int

    def keep(self, values: torch.Tensor, start: int = 0) -> torch.Tensor:
        """A copy of ``values``, the entries from flat index ``start`` on, with 0 where an entry is not kept."""
        below = float(np.nextafter(np.float32(self.threshold), np.float32(0)))
        split = min(max(self.ties_end - start, 0), len(values))
        if split == len(values):
            return hardshrink(values, below)
        kept = hardshrink(values, self.threshold)
        kept[:split] = hardshrink(values[:split], below)
        return kept


@dataclass(frozen=True, slots=True)
class Drawn:
    """Entries that chance keeps, each with the same probability.

    Attributes:
        draws: random numbers of the slice.
        model: whose draws to take.
        density: probability that an entry stays.
    """

    draws: Draws
    model: int
    density: float

    def keep(self, values: torch.Tensor, start: int = 0) -> torch.Tensor:
        """A copy of ``values``, the entries from flat index ``start`` of the slice on, with 0 where one is not kept."""
        drawn = self.draws.at(self.draws.start + start).uniform(self.model, values.shape)
        return drawn.lt_(self.density).mul_(values)


@dataclass(frozen=True, slots=True)
class Middle:
    """The largest entries of a flat tensor, without the very largest.

    Attributes:
        within: the largest entries.
        beyond: fewer of them, that do not count.
    """

    within: Largest
    beyond: Largest

    def keep(self, values: torch.Tensor, start: int = 0) -> torch.Tensor:
        """A copy of ``values``, the entries from flat index ``start`` on, with 0 where an entry is not kept."""
        return self.within.keep(values, start).sub_(self.beyond.keep(values, start))


Pick = Largest | Middle | Drawn | None
"""None: all entries count."""
