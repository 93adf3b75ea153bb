"""Random numbers that depend on nothing but their place.

A draw is a function of (seed, model, tensor name, element index): the same for any slice, chunk, shard, thread or
machine. The first three choose a stream of PCG64DXSM, the index a place in it: the generator's state at any place
has a closed form, so that a slice is reached in a few steps however far away it is.

O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms for Random Number Generation",
2014. NumPy guarantees that the raw stream of a seed never changes.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from engine import kernels
from registry.fingerprint import digest_text

_WORDS = 1 << 16
"""Words drawn at once, so that they stay in the processor's cache; results do not depend on it."""

_STEP = np.float32(2.0**-24)
"""Distance between neighbouring draws; 24 bits are what float32 holds of [0, 1)."""


@dataclass(frozen=True)
class Draws:
    """The random numbers of one tensor of one merge, from element ``start`` on.

    Attributes:
        seed: the recipe's seed, any int.
        tensor: the tensor's name.
        models: one stable key per model (its digest), so that the recipe's order does not matter.
        start: flat index of the first element of the current slice, at least 0.
    """

    seed: int
    tensor: str
    models: tuple[str, ...]
    start: int = 0

    def at(self, start: int) -> "Draws":
        """The same draws, from flat index ``start`` on."""
        return replace(self, start=start)

    def uniform(self, model: int, shape: torch.Size) -> torch.Tensor:
        """Uniform numbers in [0, 1) for the ``model``-th model: (*shape) float32, multiples of 2⁻²⁴.

        Law: for flat tensors, ``uniform(m, n)[a:b] == at(start + a).uniform(m, b - a)``.
        """
        n = shape.numel()
        state, step, half = self.place(model)
        values = torch.empty(n)
        if kernels.uniform(state, step, half, values):
            return values.reshape(shape)
        n_words = (half + n + 1) // 2  # each 64-bit word of the stream serves two elements
        stream = np.random.PCG64DXSM()
        stream.state = {
            "bit_generator": "PCG64DXSM", "state": {"state": state, "inc": step},
            "has_uint32": 0, "uinteger": 0,
        }  # fmt: skip
        drawn = np.empty(2 * n_words, dtype=np.float32)
        for first in range(0, n_words, _WORDS):
            bits = stream.random_raw(min(_WORDS, n_words - first)).view(np.uint32)
            bits >>= 8
            part = drawn[2 * first : 2 * first + len(bits)]
            np.multiply(bits, _STEP, out=part, dtype=np.float32, casting="unsafe")  # exact
        return torch.from_numpy(drawn[half : half + n]).reshape(shape)

    def place(self, model: int) -> tuple[int, int, int]:
        """Where the slice begins in the stream of the ``model``-th model: state, increment, and which half of the word."""
        word, half = divmod(self.start, 2)
        state, step = _begin(f"{self.seed}\0{self.models[model]}\0{self.tensor}")
        return _advanced(state, step, word), step, half


_MULTIPLIER = 0xDA942042E4DD58B5
_MASK = (1 << 128) - 1


@lru_cache(maxsize=4096)
def _begin(key: str) -> tuple[int, int]:
    """State and increment of a stream at its first word."""
    state = np.random.PCG64DXSM(int(digest_text(key), 16)).state["state"]
    return int(state["state"]), int(state["inc"])


def _advanced(state: int, step: int, words: int) -> int:
    """The state so many words on: of the linear map, its power by repeated squaring."""
    factor, addend, by, to = 1, 0, _MULTIPLIER, step
    while words:
        if words & 1:
            factor, addend = factor * by & _MASK, (addend * by + to) & _MASK
        to = (by + 1) * to & _MASK
        by = by * by & _MASK
        words >>= 1
    return (factor * state + addend) & _MASK
