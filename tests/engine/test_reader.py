"""Reading slices: any dtype, any place, and a name for whatever goes wrong."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from engine.reader import DTYPES, FLOATS, Reader
from registry.dtypes import DTYPES as KNOWN
from registry.errors import FileChanged, RunFailed, UnsupportedDtype
from registry.header import TensorRef, read_header

SHAPES = [(), (1,), (0,), (3, 0), (17,), (5, 7), (2, 3, 4)]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A file with a tensor of every dtype and shape, and what is in it."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for code, dtype in DTYPES.items():
        for shape in SHAPES:
            numbers = torch.randint(0, 2, shape, generator=generator)
            if code not in ("BOOL", "U8"):
                numbers = torch.randint(0, 100, shape, generator=generator)
            tensors[f"{code}{list(shape)}"] = numbers.to(dtype)
    file = tmp_path_factory.mktemp("reader") / "model.safetensors"
    save_file(tensors, file)
    return {t.name: t for t in read_header(file).tensors}, tensors


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_slice_is_that_slice_of_the_tensor(data, stored):
    refs, tensors = stored
    name = data.draw(st.sampled_from(sorted(refs)))
    n = refs[name].n_params
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    with Reader() as reader:
        found = reader.flat(refs[name], start, stop)
    expected = tensors[name].reshape(-1)[start:stop]
    assert found.dtype == expected.dtype
    assert torch.equal(found.view(torch.uint8), expected.contiguous().view(torch.uint8))


def test_parts_of_a_region_are_counted_from_its_start(stored):
    refs, tensors = stored
    name = "BF16[5, 7]"
    with Reader() as reader:
        region = reader.region(refs[name], 3, 30)
        assert torch.equal(region.part(2, 9), tensors[name].reshape(-1)[5:12])
        assert torch.equal(region.read(), tensors[name].reshape(-1)[3:30])


def test_a_whole_tensor_has_its_shape(stored):
    refs, tensors = stored
    with Reader() as reader:
        for name, ref in refs.items():
            found = reader.whole(ref)
            assert (found.dtype, found.shape) == (tensors[name].dtype, tensors[name].shape)
            assert torch.equal(found.double(), tensors[name].double())


def test_every_dtype_is_one_of_the_format_and_as_wide():
    for code, dtype in DTYPES.items():
        assert KNOWN[code].bits == 8 * dtype.itemsize
    assert set(FLOATS) <= set(DTYPES)


def test_a_dtype_the_engine_cannot_hold_is_named(stored):
    some = next(iter(stored[0].values()))
    ref = TensorRef("w", "F4", (2,), some.file, 0, 1)
    with (
        Reader() as reader,
        pytest.raises(UnsupportedDtype, match=r"tensor w of .* dtype F4; .*BF16"),
    ):
        reader.flat(ref, 0, 2)


def test_a_file_that_ends_early_is_named(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(10), "w": torch.zeros(100)}, file)
    ref = next(t for t in read_header(file).tensors if t.name == "w")
    os.truncate(file, file.stat().st_size - 1)
    with Reader() as reader:
        assert reader.flat(ref, 0, 50).shape == (50,)
        with pytest.raises(FileChanged, match="ends inside tensor w") as caught:
            reader.flat(ref, 0, 100)
    assert caught.value.hint == f"reg scan {tmp_path}"


def test_a_file_that_is_gone_is_named(tmp_path):
    ref = TensorRef("w", "F32", (2,), tmp_path / "gone.safetensors", 0, 8)
    with (
        Reader() as reader,
        pytest.raises(RunFailed, match=r"tensor w of .*gone\.safetensors: No such file"),
    ):
        reader.whole(ref)


def open_files():
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_all_files_are_closed(stored):
    before = open_files()
    with Reader() as reader:
        reader.whole(next(iter(stored[0].values())))
        assert open_files() == before + 1
    assert open_files() == before


@pytest.mark.parametrize("pinned", [False, *[True] * torch.cuda.is_available()])
def test_regions_are_read_into_memory_that_stays_in_its_place_where_that_is_asked_for(
    pinned, stored
):
    refs, tensors = stored
    ref = next(t for t in refs.values() if t.dtype == "BF16" and t.shape == (5, 7))
    with Reader(pinned=pinned) as reader:
        read = reader.region(ref, 3, 30).read()
        assert read.is_pinned() == pinned
        assert torch.equal(read, tensors[ref.name].reshape(-1)[3:30])
        assert not reader.flat(ref, 3, 30).is_pinned()
