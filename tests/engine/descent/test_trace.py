"""Traces: how a merge chose entries is read from those that stayed alone and those that were dropped."""

import numpy as np
import pytest
from descent_trees import base, rounded, saved, tuned

from engine.descent.slab import shared
from engine.descent.trace import trace
from engine.reader import Reader
from registry.checkpoint import read_checkpoint

B, ONE, TWO = (base(1), tuned(base(1), 2), tuned(base(1), 3))
DELTAS = [{name: m[name].astype(np.float64) - B[name] for name in B} for m in (ONE, TWO)]


def traced(folder, made, scales=(1.0, 1.0), *, vectors=False):
    """The trace of a merge of the two on their base; of vectors alone, where that is asked for."""
    parts = []
    for name, model in {"child": made, "b": B, "one": ONE, "two": TWO}.items():
        parts.append(read_checkpoint(saved(folder / name, model)))
    with Reader() as reader:
        tensors = shared(parts[0], parts[1:])
        return trace(reader, [t for t in tensors if t.is_vector or not vectors], scales)


def sparse(kept):
    """The base with each parent's kept entries, added."""
    return {
        name: rounded(B[name] + sum(delta[name] * kept(delta[name]) for delta in DELTAS))
        for name in B
    }


def largest(delta, share=0.3):
    return np.abs(delta) >= np.quantile(np.abs(delta), 1 - share)


def middle(delta):
    size = np.abs(delta)
    return (size >= np.quantile(size, 0.3)) & (size <= np.quantile(size, 0.9))


def test_drawn_masks_are_told_by_their_chances(tmp_path):
    rng = np.random.default_rng(5)
    seen = traced(tmp_path, sparse(lambda delta: rng.random(delta.shape) < 0.4))
    assert seen.scales == pytest.approx([1.0, 1.0], rel=0.01)
    assert seen.chances == pytest.approx([0.4, 0.4], abs=0.03)
    assert seen.by_size < 0.3
    assert seen.shares == pytest.approx([1.0, 1.0], rel=0.02)


def test_trimmed_entries_are_told_by_their_size(tmp_path):
    seen = traced(tmp_path, sparse(largest))
    assert seen.by_size > 0.95
    assert seen.densities == pytest.approx([0.3, 0.3], abs=0.02)
    assert seen.outer == 0


def test_the_largest_that_were_dropped_are_told(tmp_path):
    seen = traced(tmp_path, sparse(middle))
    assert seen.outer == pytest.approx(0.1, abs=0.02)
    assert seen.densities == pytest.approx([0.6, 0.6], abs=0.03)


def test_of_too_few_entries_nothing_is_told(tmp_path):
    made = sparse(largest)
    assert traced(tmp_path / "vectors", made, vectors=True) is None
    assert traced(tmp_path / "other", made, (9.0, 9.0)) is None
    assert traced(tmp_path / "equal", B) is None
