"""Random numbers that depend on nothing but their place.

A draw is a function of (seed, model, tensor name, element index): the same for any slice, chunk, shard, thread or
machine. The first three choose a stream of PCG64DXSM, the index a place in it: the generator's state at any place
has a closed form, so that a slice is reached in a few steps however far away it is.

O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms for Random Number Generation",
2014. NumPy guarantees that the raw stream of a seed never changes.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

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
        word, half = divmod(self.start, 2)  # each 64-bit word of the stream serves two elements
        n_words = (half + shape.numel() + 1) // 2
        stream = self._stream(model).advance(word)
        values = np.empty(2 * n_words, dtype=np.float32)
        for first in range(0, n_words, _WORDS):
            bits = stream.random_raw(min(_WORDS, n_words - first)).view(np.uint32)
            bits >>= 8
            part = values[2 * first : 2 * first + len(bits)]
            np.multiply(bits, _STEP, out=part, dtype=np.float32, casting="unsafe")  # exact
        return torch.from_numpy(values[half : half + shape.numel()]).reshape(shape)

    def _stream(self, model: int) -> np.random.PCG64DXSM:
        """The stream of the ``model``-th model, at its first word."""
        key = digest_text(f"{self.seed}\0{self.models[model]}\0{self.tensor}")
        return np.random.PCG64DXSM(int(key, 16))
