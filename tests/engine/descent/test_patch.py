"""Patches: which scalars are looked at follows from shapes, and every patch lies inside its tensor."""

import math

import numpy as np
import pytest
from descent_patches import network, shapes
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.descent.patch import Layout, Patch, inside, layout_of, overlap, whole

FEW = settings(max_examples=60, deadline=None)
SHAPE = st.lists(st.integers(0, 300), min_size=0, max_size=3).map(tuple)
SHAPES = st.lists(SHAPE, max_size=12)
SIDE = st.integers(1, 9)


def places(patch):
    """What a patch covers, without its name."""
    return (patch.row, patch.n_rows, patch.column, patch.n_columns)


def layer(shape, n_scalars, n_matrices=6):
    """The places of matrices of one shape in layers; they are all the same."""
    made = layout_of([(f"layers.{i}.w", shape) for i in range(n_matrices)], n_scalars)
    return {places(patch) for patch in made.patches}


def patch(row, n_rows, column, n_columns, *, shape=(20, 20), name="w", is_vector=False):
    return Patch(name, shape, row, n_rows, column, n_columns, is_vector)


@given(SHAPES, st.integers(1, 4096))
@FEW
def test_every_patch_lies_inside_its_tensor(found, n_scalars):
    named = {f"layers.{i}.w": shape for i, shape in enumerate(found)}
    made = layout_of(named.items(), n_scalars)
    assert [p.tensor for p in made.patches] == sorted(n for n in named if math.prod(named[n]))
    for p in made.patches:
        assert p.shape[0] * p.shape[1] == math.prod(named[p.tensor])
        assert p.is_vector == (len(named[p.tensor]) < 2)
        assert 0 <= p.row < p.row + p.n_rows <= p.shape[0]
        assert 0 <= p.column < p.column + p.n_columns <= p.shape[1]
        assert p.share >= 1


@given(st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=8))
@FEW
def test_where_patches_lie_does_not_follow_from_names(found):
    ours = layout_of([(f"layers.{i}.w", s) for i, s in enumerate(found)], 512)
    theirs = layout_of([(f"z{9 - i}.other", s) for i, s in enumerate(found)], 512)
    assert [places(p) for p in ours.patches] == [places(p) for p in reversed(theirs.patches)]


@given(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.integers(16, 40000),
    st.integers(16, 40000),
)
@FEW
def test_matrices_of_one_shape_share_scalars_whatever_the_sizes_of_their_sketches(shape, few, many):
    (one,) = layout_of([("a", shape)], few).patches
    (other,) = layout_of([("b", shape)], many).patches
    assert overlap(one, other) is not None


@given(st.integers(256, 60000), st.integers(1, 20000), st.sampled_from(["lm_head", "wte"]))
@FEW
def test_a_longer_vocabulary_has_the_same_coordinates(tokens, more, name):
    others = [(f"layers.{i}.w", (64, 64)) for i in range(80)]
    (one, other) = (
        layout_of([(f"{name}.weight", (n, 64)), *others], 8192) for n in (tokens, tokens + more)
    )
    assert [places(p) for p in one.patches] == [places(p) for p in other.patches]


@given(st.integers(8, 200), st.integers(0, 55))
@FEW
def test_a_small_vocabulary_that_grew_shares_its_rows(tokens, more):
    (one,) = layout_of([("embed_tokens.weight", (tokens, 16))], 512).patches
    (other,) = layout_of([("embed_tokens.weight", (tokens + more, 16))], 512).patches
    assert overlap(one, other) is not None


def test_a_vocabulary_is_looked_at_near_its_front():
    for columns in range(32, 64):
        made = layout_of([("lm_head.weight", (50000, columns))], 512).patches[0]
        assert made.row < 64


@pytest.mark.parametrize("n_scalars", [8192, 32768, 65536])
def test_a_large_model_is_looked_at_in_about_so_many_scalars(n_scalars):
    tensors = [(f"layers.{i}.w{j}", (4096, 4096)) for i in range(32) for j in range(7)]
    tensors += [(f"layers.{i}.norm", (4096,)) for i in range(32)]
    assert n_scalars / 2 < layout_of(tensors, n_scalars).size < 1.5 * n_scalars


def test_of_wide_matrices_at_least_32_columns_are_looked_at():
    made = layout_of([(f"layers.{i}.w", (4096, 4096)) for i in range(96)], 1)
    assert {p.size for p in made.patches} == {32}


def test_a_small_model_is_looked_at_as_a_whole():
    tensors = shapes(network(1))
    made = layout_of(tensors)
    assert made == whole(tensors)
    assert made.size == sum(math.prod(shape) for _, shape in tensors)


def test_layers_of_one_shape_have_one_place():
    assert len(layer((500, 300), 1024)) == 1


def test_patches_are_read_in_rows_of_few_bytes_save_for_a_few_matrices():
    tensors = [(f"layers.{i}.w", (512, 100_000)) for i in range(64)]
    heights = sorted(p.n_rows for p in layout_of(tensors, 1 << 16).patches)
    assert heights[:56] == [1] * 56
    assert all(1 < height <= 64 for height in heights[56:])


def test_of_many_layers_whole_ones_are_chosen_by_their_number_alone():
    def chosen(n_layers):
        tensors = [(f"layers.{i}.w{j}", (8, 8)) for i in range(n_layers) for j in range(4)]
        found = layout_of(tensors).patches
        assert len(found) == 96
        return {p.layer for p in found}

    shallow, deep = chosen(40), chosen(60)
    assert len(shallow) == len(deep) == 24
    assert {i for i in deep if i < 40} <= shallow


def test_matrices_outside_of_layers_are_always_chosen():
    tensors = [(f"layers.{i}.w{j}", (8, 8)) for i in range(60) for j in range(4)]
    names = {p.tensor for p in layout_of([*tensors, ("head", (8, 8)), ("tail", (8, 8))]).patches}
    assert {"head", "tail"} <= names


def test_a_vector_is_looked_at_from_its_front():
    (found,) = layout_of([("b", (1000,))], 1024).patches
    assert found == Patch("b", (1, 1000), 0, 1, 0, 64, is_vector=True)
    assert found.share == 1000 / 64


def test_a_scalar_is_a_vector_of_one_entry():
    expected = (Patch("s", (1, 1), 0, 1, 0, 1, is_vector=True),)
    assert layout_of([("s", ())]).patches == expected
    assert whole([("s", ())]).patches == expected


def test_a_convolution_has_a_row_for_each_slice_along_its_first_axis():
    (found,) = whole([("c", (4, 3, 2, 2))]).patches
    assert found == Patch("c", (4, 12), 0, 4, 0, 12, is_vector=False)


@pytest.mark.parametrize("tensors", [[], [("w", (0, 8))], [("w", (8, 0)), ("v", (0,))]])
def test_tensors_without_entries_are_not_looked_at(tensors):
    assert layout_of(tensors) == whole(tensors) == Layout(())
    assert layout_of(tensors).size == 0


def test_a_layout_does_not_depend_on_the_order_of_tensors():
    tensors = shapes(network(1, tokens=9000, hidden=96))
    assert layout_of(tensors, 999) == layout_of(tensors[::-1], 999)


def test_digests_tell_layouts_apart():
    w = patch(0, 2, 0, 2)
    others = [
        patch(1, 2, 0, 2), patch(0, 3, 0, 2), patch(0, 2, 1, 2), patch(0, 2, 0, 3),
        patch(0, 2, 0, 2, shape=(21, 20)), patch(0, 2, 0, 2, name="v"),
        patch(0, 2, 0, 2, is_vector=True),
    ]  # fmt: skip
    assert Layout((patch(0, 2, 0, 2),)).digest == Layout((w,)).digest
    assert len({Layout((p,)).digest for p in (w, *others)}) == 1 + len(others)
    assert Layout((w,)).digest != Layout((w, w)).digest != Layout(()).digest


def test_the_overlap_of_two_rectangles_is_what_both_hold():
    both = overlap(patch(0, 4, 2, 6), patch(3, 9, 0, 5, name="other"))
    assert both == patch(3, 1, 2, 3)


def test_the_overlap_of_matrices_of_other_heights_is_of_their_common_rows():
    both = overlap(patch(0, 20, 0, 20), patch(0, 25, 0, 20, shape=(25, 20)))
    assert both == patch(0, 20, 0, 20)


@pytest.mark.parametrize(
    "other",
    [
        patch(4, 4, 0, 4),
        patch(0, 4, 4, 4),
        patch(0, 4, 0, 4, shape=(20, 21)),
        patch(0, 4, 0, 4, is_vector=True),
    ],
    ids=["rows", "columns", "width", "vector"],
)
def test_there_is_no_overlap_of_what_shares_nothing(other):
    assert overlap(patch(0, 4, 0, 4), other) is None
    assert overlap(other, patch(0, 4, 0, 4)) is None


@given(st.lists(SIDE, min_size=8, max_size=8))
@FEW
def test_the_scalars_of_an_overlap_are_the_same_in_both(numbers):
    matrix = np.arange(400).reshape(20, 20)
    a, b = patch(*numbers[:4]), patch(*numbers[4:])

    def held(p):
        return matrix[p.row : p.row + p.n_rows, p.column : p.column + p.n_columns].reshape(-1)

    both = overlap(a, b)
    shared = sorted(set(held(a).tolist()) & set(held(b).tolist()))
    assert (both is None) == (not shared)
    if both is not None:
        assert held(a)[inside(both, a)].tolist() == held(b)[inside(both, b)].tolist() == shared
