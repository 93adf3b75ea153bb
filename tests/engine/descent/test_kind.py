"""Kinds of changes: each named by what only it leaves, with the number that decided."""

from functools import cache

import numpy as np
import pytest
from descent_families import LAYOUT, SPREAD, STARTS, WIDTH, Family, changed, put, rounded

from engine.descent.kind import Change, Kind, kind_of


@cache
def start(dtype="BF16"):
    family = Family(2, dtype)
    return family, family.base()


def found(child, parent=None, dtype="BF16"):
    """The kind of a child of the base, or of another parent."""
    bucket, _ = put({"p": start(dtype)[1] if parent is None else parent, "c": child}, dtype)
    return kind_of(Change(bucket, 0, 1))


def smallest_zero(w):
    """30 % of the entries, the smallest, are 0."""
    return np.where(np.abs(w) >= np.quantile(np.abs(w), 0.3), w, 0)


def two_of_four(w):
    """Of each four entries the two smallest are 0."""
    groups = w.reshape(-1, 4).copy()
    np.put_along_axis(groups, np.argsort(np.abs(groups), 1)[:, :2], 0, 1)
    return groups.reshape(w.shape)


def int4(w):
    """Groups of 32 entries on 16 levels."""
    groups = w.reshape(-1, 32)
    step = np.abs(groups).max(1, keepdims=True) / 7
    return (np.clip(np.round(groups / step), -8, 7) * step).reshape(w.shape)


def int8(w):
    """Rows on 255 levels."""
    step = np.abs(w).max(1, keepdims=True) / 127
    return np.round(w / step) * step


def without_direction(w, family):
    """What a matrix writes along one direction is taken out."""
    v = family.rng.normal(size=WIDTH)
    v /= np.linalg.norm(v)
    return changed(w, lambda m: m - np.outer(v, v @ m), writes)


def writes(patch):
    """Tell whether a matrix writes to the residual stream."""
    return "o_proj" in patch.tensor or "down_proj" in patch.tensor


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_an_equal_model_is_a_copy(dtype):
    kind = found(start(dtype)[1].copy(), dtype=dtype)
    assert kind == Kind("copy", "changed_share", 0.0, "every sampled entry is equal")


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize("size", [0.03, 0.08])
def test_a_little_training_is_a_finetune_and_says_how_much(dtype, size):
    family, base = start(dtype)
    kind = found(family.tuned(base, size), dtype=dtype)
    assert (kind.name, kind.statistic) == ("finetune", "relative_l2")
    assert kind.value == pytest.approx(size, rel=0.1)


def test_only_gains_that_changed_are_a_finetune_too():
    _, base = start()
    tuned = base.copy()
    for patch, at in zip(LAYOUT.patches, STARTS, strict=False):
        if patch.is_vector:
            tuned[at : at + patch.size] *= 1.25
    kind = found(tuned)
    assert (kind.name, kind.value) == ("finetune", 0.0)


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_much_training_is_continued_pretraining(dtype):
    family, base = start(dtype)
    kind = found(family.tuned(base, 0.6, rank=24), dtype=dtype)
    assert kind.name == "continued_pretrain"
    assert kind.value == pytest.approx(0.6, rel=0.1)


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_merged_adapter_is_known_by_its_rank(dtype, rank):
    family, base = start(dtype)
    kind = found(family.adapted(base, rank), dtype=dtype)
    assert (kind.name, kind.statistic) == ("adapter_merged", "rank")
    assert kind.value == rank


def test_a_merged_adapter_of_some_modules_only_is_one():
    family, base = start()
    whole = family.adapted(base, 4)
    part = base.copy()
    for patch, at in zip(LAYOUT.patches, STARTS, strict=False):
        if "v_proj" in patch.tensor:
            part[at : at + patch.size] = whole[at : at + patch.size]
    kind = found(part)
    assert (kind.name, kind.value) == ("adapter_merged", 4.0)


def test_a_model_of_low_rank_whose_gains_changed_was_trained():
    family, base = start()
    adapted = family.adapted(base, 4)
    for patch, at in zip(LAYOUT.patches, STARTS, strict=False):
        if patch.is_vector:
            adapted[at : at + patch.size] *= 1.25
    assert found(adapted).name == "finetune"


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_one_direction_taken_out_of_all_layers_is_an_edit(dtype):
    family, base = start(dtype)
    kind = found(family.kept(without_direction(base, family)), dtype=dtype)
    assert (kind.name, kind.statistic) == ("edited", "shared_left_vector")
    assert 0.9 < kind.value <= 1 + 1e-9


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize("size", [0.02, 0.05])
def test_white_noise_is_noise_and_says_how_much(dtype, size):
    family, base = start(dtype)
    noisy = changed(base, lambda w: w + family.rng.normal(0, size * SPREAD, w.shape))
    kind = found(family.kept(noisy), dtype=dtype)
    assert (kind.name, kind.statistic) == ("noise", "relative_noise")
    assert kind.value == pytest.approx(size, rel=0.1)


def test_noise_in_some_tensors_only_is_not_called_noise():
    family, base = start()
    noisy = changed(base, lambda w: w + family.rng.normal(0, 0.05 * SPREAD, w.shape), writes)
    assert found(family.kept(noisy)).name != "noise"


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize(("prune", "share"), [(smallest_zero, 0.3), (two_of_four, 0.5)])
def test_entries_that_became_zero_are_pruning(dtype, prune, share):
    family, base = start(dtype)
    kind = found(family.kept(changed(base, prune)), dtype=dtype)
    assert (kind.name, kind.statistic) == ("pruned", "new_zero_share")
    assert kind.value == pytest.approx(share, abs=0.01)


def test_zeros_the_parent_has_already_are_no_pruning():
    family, base = start()
    sparse = family.kept(changed(base, two_of_four))
    tuned = family.tuned(sparse)
    assert found(np.where(sparse == 0, 0, tuned), sparse).name == "finetune"


def test_a_pruned_model_that_was_trained_on_is_not_called_pruned():
    family, base = start()
    tuned = family.tuned(base)
    sparse = np.where(changed(base, two_of_four) == 0, 0, tuned)
    assert found(sparse).name != "pruned"


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize(
    ("grid", "statistic"), [(int4, "grouped_levels_share"), (int8, "row_regularity")]
)
def test_a_model_on_a_grid_is_quantised(dtype, grid, statistic):
    family, base = start(dtype)
    kind = found(family.kept(changed(base, grid)), dtype=dtype)
    assert (kind.name, kind.statistic) == ("quantized", statistic)
    assert 0.3 < kind.value <= 1


def test_what_was_trained_from_a_grid_is_not_called_quantised():
    family, base = start()
    coarse = family.kept(changed(base, int4))
    assert found(family.tuned(coarse), coarse).name == "finetune"


def test_the_finer_of_two_grids_is_seen_on_a_finetune_too():
    family, base = start()
    tuned = family.tuned(base)
    assert found(family.kept(changed(tuned, int4)), tuned).name == "quantized"


def test_a_change_is_measured_over_whole_matrices():
    _, base = start()
    bucket, _ = put({"p": base, "c": base * 1.5})
    found_ = Change(bucket, 0, 1)
    assert found_.relative() == pytest.approx(0.5)
    assert found_.touched.tolist() == [True] * 24
    assert found_.vectors_changed == 1.0
    (there,), (here,) = found_.parts, Change(bucket, 1, 0).parts
    assert there.difference.shape == (24, WIDTH, WIDTH)
    assert np.array_equal(there.difference, -here.difference)
    half, _ = put({"p": base, "c": changed(base, lambda w: 2 * w, lambda p: p.layer == 1)})
    few = Change(half, 0, 1)
    assert few.touched.sum() == 6
    assert [part.pile.places.tolist() for part in few.parts] == [
        np.flatnonzero(few.touched).tolist()
    ]


def test_zeros_have_a_kind_and_break_nothing():
    _, base = start()
    zero = np.zeros(LAYOUT.size, np.float32)
    assert found(zero, zero).name == "copy"
    kind = found(zero)  # all became 0
    assert (kind.name, kind.value) == ("pruned", 1.0)
    assert np.isfinite(found(base, zero).value)
    assert Change(put({"p": zero, "c": base})[0], 0, 1).relative() == 0.0


def test_rounding_alone_has_no_direction():
    exact = start("F32")[1]
    kind = found(rounded(exact, "BF16"), exact, "BF16")
    assert kind.name not in {"adapter_merged", "edited", "pruned"}
    assert kind.value < 0.01
