"""Proofs: what all entries of files tell, of a few kinds, and of claims that are wrong."""

import tracemalloc

import numpy as np
import pytest
import torch
from descent_trees import base, rounded, saved, summed, tuned
from safetensors.torch import save_file

from engine.descent.kind import Kind
from engine.descent.proof import is_refuted, of_pair, of_pieces, of_sum
from engine.descent.slab import shared
from engine.reader import Reader
from registry.checkpoint import read_checkpoint

N = 2 * (6 * 48 * 48 + 48) + 96 * 48
N_MATRIX = N - 2 * 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoints by name; made once."""
    b = base(1)
    models = {"b": b, "one": tuned(b, 2), "two": tuned(b, 3)}
    models["merge"] = summed((0.3, models["one"]), (0.7, models["two"]))
    models["own"] = {
        name: summed(((at % 5) / 10, {name: models["one"][name]}), (1 - (at % 5) / 10, {name: models["two"][name]}))[name]
        for at, name in enumerate(b)
    }  # fmt: skip
    models["pieces"] = {name: models["one" if at % 2 else "two"][name] for at, name in enumerate(b)}
    models["sparse"] = {
        name: np.where(np.arange(w.size).reshape(w.shape) % 4 == 0, 0, w) if w.ndim > 1 else w
        for name, w in b.items()
    }
    models["low"] = {name: low(w, name) if w.ndim > 1 else w for name, w in b.items()}
    models["int4"] = {name: grid(w) if w.ndim > 1 else w for name, w in b.items()}
    made = tmp_path_factory.mktemp("proof")
    for name, model in models.items():
        saved(made / name, model)
    saved(made / "fine", {n: w + np.float32(1e-6) for n, w in b.items()}, dtype=torch.float32)
    return made


def low(w, name):
    """Rank 3 is added."""
    rng = np.random.default_rng(len(name))
    return rounded(w + 0.01 * rng.normal(size=(len(w), 3)) @ rng.normal(size=(3, w.shape[1])))


def grid(w):
    """The first 32 entries of each row on 15 levels."""
    step = np.abs(w).max() / 7
    return rounded(np.concatenate([np.round(w[:, :32] / step) * step, w[:, 32:]], 1))


def measured(folder, work, child, *parents):
    """What a function of a reader and the shared tensors gives."""
    tensors = shared(
        read_checkpoint(folder / child), [read_checkpoint(folder / p) for p in parents]
    )
    with Reader() as reader:
        return work(reader, tensors)


def pair(folder, kind, child, parent="b"):
    return measured(folder, lambda *given: of_pair(*given, kind), child, parent)


def total(folder, child, *coefficients):
    kind = Kind("merge", "match", 0.99, "")
    return measured(folder, lambda *given: of_sum(*given, kind, coefficients), child, "one", "two")


def test_a_copy_is_equal_in_all_entries_and_another_is_not(folder):
    copy = Kind("copy", "equal_share", 1.0, "")
    found = pair(folder, copy, "b")
    assert found == Kind("copy", "equal_share", 1.0, f"100% of all {N:,} entries are equal")
    assert is_refuted(pair(folder, copy, "one"))
    assert not is_refuted(found)


def test_a_cast_is_equal_after_rounding(folder):
    found = pair(folder, Kind("cast", "equal_share", 1.0, ""), "b", "fine")
    assert found.value > 0.99
    assert found.detail.endswith("after rounding")


def test_a_difference_is_measured_over_all_matrices(folder):
    found = pair(folder, Kind("finetune", "relative_l2", 0.5, ""), "one")
    b, one = base(1), tuned(base(1), 2)
    above, below = (
        sum(float(np.square(part[n]).sum(dtype=np.float64)) for n in b if b[n].ndim > 1)
        for part in ({n: one[n].astype(float) - b[n] for n in b}, b)
    )
    assert found.value == pytest.approx((above / below) ** 0.5, rel=1e-9)
    assert f"over all {N_MATRIX:,} entries" in found.detail


def test_a_pruned_share_is_that_of_all_matrices(folder):
    found = pair(folder, Kind("pruned", "new_zero_share", 0.5, ""), "sparse")
    assert found.value == pytest.approx(0.25, abs=1e-3)
    assert "100% of the others stayed" in found.detail


def test_groups_on_few_levels_are_counted(folder):
    found = pair(folder, Kind("quantized", "grouped_levels_share", 0.5, ""), "int4")
    assert found.value == 1
    back = pair(folder, Kind("quantized", "grouped_levels_share", 0.5, ""), "b", "int4")
    assert back.value == 0


@pytest.mark.parametrize("claimed", [1, 3, 9])
def test_the_rank_of_a_merged_adapter_is_that_of_whole_matrices(folder, claimed):
    found = pair(folder, Kind("adapter_merged", "rank", float(claimed), ""), "low")
    assert (found.value, found.statistic) == (3, "rank")
    assert "all 13 matrices" in found.detail
    trained = pair(folder, Kind("adapter_merged", "rank", float(claimed), ""), "one")
    assert trained.value > 6


def test_no_difference_has_no_rank_and_other_kinds_have_no_proof(folder):
    assert pair(folder, Kind("adapter_merged", "rank", 3.0, ""), "b") is None
    assert pair(folder, Kind("noise", "relative_noise", 0.1, ""), "one") is None


def test_a_merge_is_its_parents_sum_in_every_entry(folder):
    found = total(folder, "merge", 0.3, 0.7)
    assert found.value > 0.9999
    assert "none is more than 0.50 ulp away" in found.detail
    assert "weights of their own" not in found.detail


def test_tensors_that_the_weights_do_not_make_have_weights_of_their_own(folder):
    found = total(folder, "own", 0.2, 0.8)
    assert found.value > 0.98
    assert "tensors have weights of their own" in found.detail


def test_what_is_no_sum_is_refuted(folder):
    assert is_refuted(total(folder, "b", 0.5, 0.5))


def test_tensors_taken_whole_are_counted_by_their_entries(folder):
    kind = Kind("frankenmerge", "match", 1.0, "")
    found = measured(folder, lambda *given: of_pieces(*given, kind), "pieces", "one", "two")
    assert found.value == 1
    other = measured(folder, lambda *given: of_pieces(*given, kind), "pieces", "one", "b")
    even = sum(w.size for at, w in enumerate(base(1).values()) if at % 2)
    assert other.value == even / N
    assert is_refuted(other)


def peak_of(folder, rows, work):
    """Peak of arrays while a function of three models of one matrix of so many rows runs, bytes."""
    folder.mkdir()
    torch.manual_seed(0)
    for name in ("c", "p", "q"):
        save_file({"w": torch.randn(rows, 512).bfloat16()}, folder / f"{name}.safetensors")
    child, *parents = (read_checkpoint(folder / f"{name}.safetensors") for name in "cpq")
    tracemalloc.start()
    try:
        with Reader() as reader:
            work(reader, child, parents)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "work",
    [
        lambda reader, child, parents: of_sum(
            reader, shared(child, parents), Kind("merge", "match", 1.0, ""), (0.5, 0.5)
        ),
        lambda reader, child, parents: of_pair(
            reader, shared(child, parents[:1]), Kind("quantized", "grouped_levels_share", 1.0, "")
        ),
        lambda reader, child, parents: of_pair(
            reader, shared(child, parents[:1]), Kind("adapter_merged", "rank", 1.0, "")
        ),
    ],
    ids=["sum", "pair", "rank"],
)
def test_memory_does_not_grow_with_the_tensors(tmp_path, work):
    small, large = (peak_of(tmp_path / str(rows), rows, work) for rows in (512, 3072))
    assert large < 1.3 * small
