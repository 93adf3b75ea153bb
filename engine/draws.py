"""Random numbers that depend on nothing but their place.

A draw is a function of (seed, model, tensor name, element index): the same for any slice, chunk, shard, thread or
machine. The first three are the key of a stream of 32-bit words; the index is a word's place in it. Words come in blocks
of 65,536: in each, 256 generators xoshiro128+ step side by side, begun by SplitMix64 from the key and the block's number,
so that a processor draws eight or more words at once and a block is reached without those before it.

Blackman and Vigna, "Scrambled Linear Pseudorandom Number Generators", ACM TOMS 47, 2021, who made xoshiro128+ for
floating-point numbers; Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from engine import kernels
from registry.fingerprint import digest_text

_WIDE = 256
"""Generators that step side by side."""

_BLOCK = 1 << 16
"""Words of a block: all that its generators draw."""

_AT_ONCE = 16
"""Blocks that are drawn at once; results do not depend on it."""

_GOLDEN = 0x9E3779B97F4A7C15

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
        device: where they are needed; they are drawn by the processor.
    """

    seed: int
    tensor: str
    models: tuple[str, ...]
    start: int = 0
    device: torch.device | None = None

    def at(self, start: int) -> "Draws":
        """The same draws, from flat index ``start`` on."""
        return replace(self, start=start)

    def uniform(self, model: int, shape: torch.Size) -> torch.Tensor:
        """Uniform numbers in [0, 1) for the ``model``-th model: (*shape) float32, multiples of 2⁻²⁴.

        Law: for flat tensors, ``uniform(m, n)[a:b] == at(start + a).uniform(m, b - a)``.
        """
        values = torch.empty(shape.numel())
        key = self.key(model)
        if not kernels.uniform(key, self.start, values):
            drawn = values.numpy()
            for at, words in _words(key, self.start, len(drawn)):
                to = drawn[at : at + len(words)]
                np.multiply(words >> 8, _STEP, out=to, dtype=np.float32, casting="unsafe")  # exact
        return values.reshape(shape).to(self.device)

    def key(self, model: int) -> kernels.Key:
        """The key of the ``model``-th model's stream."""
        return _key(f"{self.seed}\0{self.models[model]}\0{self.tensor}")


@lru_cache(maxsize=4096)
def _key(text: str) -> kernels.Key:
    """Two 64-bit numbers that follow from a text."""
    digest = digest_text(text)
    return int(digest[:16], 16), int(digest[16:32], 16)


def _words(key: kernels.Key, start: int, n: int) -> Iterator[tuple[int, NDArray[np.uint32]]]:
    """The n words from a place on, part by part with the place of each from ``start``; what `draws.h` does."""
    stop, at_once = start + n, _AT_ONCE * _BLOCK
    for first in range(start // at_once * at_once, stop, at_once):
        end = min(stop, first + at_once)
        n_blocks = -(-(end - first) // _BLOCK)
        n_steps = min(_BLOCK, end - first) if n_blocks == 1 else _BLOCK
        words = _blocks(key, first // _BLOCK, n_blocks, -(-n_steps // _WIDE)).reshape(-1)
        yield max(first, start) - start, words[max(first, start) - first : end - first]


def _blocks(key: kernels.Key, block: int, n: int, n_steps: int) -> NDArray[np.uint32]:
    """The first words of n blocks: (n, n_steps, 256)."""
    generators = np.arange(block * _WIDE + 1, (block + n) * _WIDE + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        halves = [_mixed(np.uint64(half) + generators * np.uint64(_GOLDEN)) for half in key]
    a, b, c, d = (
        (half >> np.uint64(shift)).astype(np.uint32).reshape(n, _WIDE)
        for half in halves
        for shift in (0, 32)
    )
    words = np.empty((n, n_steps, _WIDE), dtype=np.uint32)
    for step in range(n_steps):
        np.add(a, d, out=words[:, step])
        c ^= a
        d ^= b
        shifted = b << 9
        b ^= c
        a ^= d
        c ^= shifted
        d = (d << 11 | d >> 21).astype(np.uint32, copy=False)
    return words


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """What SplitMix64 makes of its counter."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    return words ^ (words >> np.uint64(31))
