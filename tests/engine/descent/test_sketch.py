"""Sketches: what is read from files is what plain indexing gives, and no more is read than must be."""

import numpy as np
import pytest
import torch
from descent_patches import cut, drawn, network, rounded, saved, shapes, sketch_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from engine.descent.patch import Layout, Patch, layout_of, whole
from engine.descent.sketch import take, weights
from engine.reader import Reader
from registry.errors import FileChanged
from registry.header import read_header

DTYPES = ("F64", "F32", "F16", "BF16")


def read(tensors, layout):
    """A sketch of files."""
    with Reader() as reader:
        return take(reader, "m", tensors, layout)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_scalars", [None, 400])
def test_a_sketch_of_a_file_holds_its_scalars_as_float32(tmp_path, dtype, n_scalars):
    tensors = rounded(network(1), dtype)
    expected = sketch_of(tensors, n_scalars=n_scalars)
    made = read(saved(tmp_path, tensors, dtype), expected.layout)
    assert made.values.dtype == np.float32
    np.testing.assert_array_equal(made.values, expected.values)
    assert (made.model, made.dtype, made.layout) == ("m", dtype, expected.layout)


def test_numbers_of_every_dtype_are_read_as_they_are(tmp_path):
    values = {"w": np.array([[1.0, -2.5], [0.0, 2.0**-14]], np.float32)}
    for dtype in DTYPES:
        made = read(saved(tmp_path / dtype, values, dtype), whole(shapes(values)))
        assert made.values.tolist() == [1.0, -2.5, 0.0, 2.0**-14]


def test_numbers_finer_than_float32_are_rounded_to_it(tmp_path):
    values = {"w": np.array([[1 + 2.0**-40, 1 + 2.0**-23]])}
    made = read(saved(tmp_path, values, "F64"), whole(shapes(values)))
    assert made.values.tolist() == [1.0, 1 + 2.0**-23]


@given(st.integers(1, 12), st.integers(1, 12), st.data())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_rectangle_of_a_matrix_is_read(tmp_path, rows, columns, data):
    n_rows, n_columns = data.draw(st.integers(1, rows)), data.draw(st.integers(1, columns))
    row = data.draw(st.integers(0, rows - n_rows))
    column = data.draw(st.integers(0, columns - n_columns))
    patch = Patch("w", (rows, columns), row, n_rows, column, n_columns, is_vector=False)
    tensors = {"w": drawn(1, rows, columns), "x": drawn(2, 3)}
    made = read(saved(tmp_path, tensors), Layout((patch,)))
    np.testing.assert_array_equal(made.values, cut(tensors["w"], patch))


def test_tensors_of_other_ranks_are_read_as_matrices_and_vectors(tmp_path):
    tensors = {"c": drawn(1, 3, 2, 4), "s": drawn(2), "v": drawn(3, 5)}
    made = read(saved(tmp_path, tensors), whole(shapes(tensors)))
    flat = np.concatenate([tensors[name].reshape(-1) for name in sorted(tensors)])
    np.testing.assert_array_equal(made.values, flat)


def test_tensors_without_entries_make_an_empty_sketch(tmp_path):
    refs = saved(tmp_path, {"w": np.zeros((0, 4), np.float32)})
    made = read(refs, layout_of([(r.name, r.shape) for r in refs]))
    assert made.values.shape == (0,)
    assert (made.invariants, made.read_bytes) == ({}, 0)


def test_the_bytes_read_are_those_from_the_first_scalar_of_each_patch_to_its_last(tmp_path):
    vector = Patch("v", (1, 100), 0, 1, 0, 10, is_vector=True)
    matrix = Patch("layers.1.w", (8, 6), 1, 3, 2, 2, is_vector=False)
    outside = Patch("w", (1, 7), 0, 1, 3, 2, is_vector=False)
    tensors = {"v": drawn(1, 100), "layers.1.w": drawn(2, 8, 6), "w": drawn(3, 1, 7)}
    refs = saved(tmp_path, tensors, "BF16")
    bare = read(refs, Layout(()))
    made = read(refs, Layout((matrix, vector, outside)))
    assert made.read_bytes - bare.read_bytes == 2 * (10 + (2 * 6 + 2) + 2)


def test_of_a_wide_model_a_small_part_is_read(tmp_path):
    tensors = {f"layers.{i}.w": drawn(i, 512, 512) for i in range(6)}
    refs = saved(tmp_path, tensors)
    made = read(refs, layout_of(shapes(tensors), 2048))
    bare = read(refs, Layout(()))
    assert made.read_bytes - bare.read_bytes < sum(r.n_bytes for r in refs) / 4


def test_a_sketch_has_the_invariants_of_the_edges(tmp_path):
    tensors = network(1)
    made = read(saved(tmp_path, tensors), Layout(()))
    assert sorted(made.invariants) == ["embed_tokens.weight rows", "lm_head.weight rows"]


def test_weights_are_the_floats_that_are_no_codes(tmp_path):
    kinds = {
        "f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16,
        "f8": torch.float8_e4m3fn, "i8": torch.int8, "i64": torch.int64, "b": torch.bool,
    }  # fmt: skip
    file = tmp_path / "model.safetensors"
    save_file({name: torch.zeros(2).to(kind) for name, kind in kinds.items()}, file)
    found = weights(read_header(file).tensors)
    assert {ref.name for ref in found} == {"f64", "f32", "f16", "bf16"}


def test_a_file_that_was_cut_is_named(tmp_path):
    tensors = {"layers.0.w": drawn(1, 8, 8)}
    refs = saved(tmp_path, tensors)
    with refs[0].file.open("r+b") as file:
        file.truncate(refs[0].start + 100)
    with pytest.raises(FileChanged, match=r"layers\.0\.w"):
        read(refs, whole(shapes(tensors)))
