"""Writing shards: what the reference library reads back, bounded files, an index, and no trace of a failure."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from engine import flush
from engine.reader import DTYPES
from engine.writer import INDEX, PAGE, OutputTensor, Writer, shards_of
from registry.checkpoint import read_checkpoint
from registry.dtypes import DTYPES as KNOWN
from registry.errors import NotEnoughDisk, RunFailed
from registry.header import read_header
from registry.tensor_name import layer_of

names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"], exclude_characters="/\\"),
    min_size=1,
    max_size=12,
).filter(lambda name: name not in ("..", "__metadata__"))
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@st.composite
def outputs(draw):
    """Tensors to write, of different names."""
    found = []
    for name in draw(st.lists(names, unique=True, min_size=1, max_size=12)):
        code, shape = draw(st.sampled_from(sorted(DTYPES))), draw(shapes)
        n_bytes = torch.empty(shape).numel() * DTYPES[code].itemsize
        found.append(OutputTensor(name, code, shape, n_bytes))
    return found


def content(tensor):
    """Bytes that tell one tensor from another, and are numbers of any dtype."""
    seed = sum(tensor.name.encode()) % 50
    return bytes((seed + i) % 2 for i in range(tensor.n_bytes))


def open_files():
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def write(folder, tensors, shard_bytes, metadata=None):
    folder.mkdir(parents=True, exist_ok=True)
    with Writer(folder, shards_of(tensors, shard_bytes), metadata or {}) as writer:
        for t in reversed(tensors):
            half = t.n_bytes // 2
            writer.write(t.name, half, memoryview(content(t))[half:])
            writer.write(t.name, 0, memoryview(content(t))[:half])
        writer.finish()


@given(tensors=outputs(), shard_bytes=st.integers(1, 2000))
@settings(max_examples=60)
def test_the_reference_library_reads_what_was_written(tensors, shard_bytes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    write(folder, tensors, shard_bytes, {"format": "pt", "who": "wé"})
    found = {}
    for file in folder.glob("*.safetensors"):
        with safetensors.safe_open(file, "pt") as opened:
            assert opened.metadata() == {"format": "pt", "who": "wé"}
        found |= load_file(file)
    assert found.keys() == {t.name for t in tensors}
    for t in tensors:
        assert (found[t.name].dtype, found[t.name].shape) == (DTYPES[t.dtype], t.shape)
        assert found[t.name].reshape(-1).view(torch.uint8).numpy().tobytes() == content(t)


@given(tensors=outputs(), shard_bytes=st.integers(1, 2000))
@settings(max_examples=60)
def test_shards_are_bounded_numbered_aligned_and_indexed(tensors, shard_bytes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    write(folder, tensors, shard_bytes)
    files = sorted(folder.glob("*.safetensors"))
    headers = [read_header(file) for file in files]
    for header in headers:
        assert header.data_start % 8 == 0
        size = sum(t.n_bytes for t in header.tensors)
        assert size <= shard_bytes or len([t for t in header.tensors if t.n_bytes]) == 1
        assert all(t.start % (KNOWN[t.dtype].bits // 8) == 0 for t in header.tensors)
    if len(files) == 1:
        assert files[0].name == "model.safetensors"
        assert not (folder / INDEX).exists()
        return
    n = len(files)
    assert [f.name for f in files] == [
        f"model-{i:05}-of-{n:05}.safetensors" for i in range(1, n + 1)
    ]
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    assert index["weight_map"] == {t.name: h.file.name for h in headers for t in h.tensors}
    assert index["metadata"]["total_size"] == sum(t.n_bytes for t in tensors)
    if any(t.n_bytes for t in tensors):
        assert read_checkpoint(folder).n_params == sum(
            t.n_params for h in headers for t in h.tensors
        )


def test_layers_stay_together():
    tensors = [
        OutputTensor(f"model.layers.{i}.{part}.weight", "F32", (10,), 40)
        for part in ("a", "b")
        for i in range(12)
    ]
    shards = shards_of([*tensors, OutputTensor("model.norm.weight", "F32", (10,), 40)], 120)
    layers = [[layer_of(t.name) for t in shard.tensors] for shard in shards]
    assert [sorted({-1 if n is None else n for n in shard}) for shard in layers[:3]] == [
        [-1, 0],
        [1, 2],
        [2, 3],
    ]
    assert sum(len(shard) for shard in layers) == 25


def test_large_shards_have_their_tensors_on_pages_of_their_own():
    whole = [OutputTensor(name, "BF16", (n, 1024), n * 2048) for name, n in (("a", 2), ("c", 512))]
    tensors = [*whole, OutputTensor("b", "BF16", (3,), 6), OutputTensor("d", "F32", (1024,), 4096)]
    (shard,) = shards_of(tensors)
    header = shard.header({"format": "pt"})
    assert [t.name for t in shard.tensors] == ["d", "a", "c", "b"]
    assert len(header) % PAGE == 0
    assert len(shards_of(tensors[:1])[0].header({})) < 200


def test_nothing_is_overwritten(tmp_path):
    tensor = OutputTensor("w", "F32", (1,), 4)
    write(tmp_path, [tensor], 100)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(RunFailed, match=r"model\.safetensors: File exists"):
        write(tmp_path, [tensor], 100)
    assert (tmp_path / "model.safetensors").read_bytes() == before


TWO = [OutputTensor("a", "F32", (100,), 400), OutputTensor("b", "F32", (1 << 18,), 1 << 20)]

LIMITED = """
import resource, sys
from pathlib import Path
from engine.writer import OutputTensor, Writer, shards_of
from registry.errors import NotEnoughDisk
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
two = [OutputTensor("a", "F32", (100,), 400), OutputTensor("b", "F32", (1 << 18,), 1 << 20)]
try:
    with Writer(Path(sys.argv[1]), shards_of(two, 1000), {}):
        print("begun")
except NotEnoughDisk as error:
    print(error.message, "|", error.hint)
"""


def test_a_file_longer_than_the_system_allows_is_refused_before_any_work(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    message, hint = done.stdout.split(" | ")
    assert message.endswith("model-00002-of-00002.safetensors: a file this long is not allowed")
    assert "--shard-size" in hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_a_full_disk_leaves_nothing(call, tmp_path, monkeypatch):
    real, calls = getattr(os, call), []

    def second_fails(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, call, second_fails)
    before = open_files()
    with pytest.raises(NotEnoughDisk, match="no space is left"):
        write(tmp_path, TWO, 1000)
    assert not list(tmp_path.iterdir())
    assert open_files() == before


def fail_on_a_full_device(folder):
    with Writer(folder, shards_of(TWO), {}) as writer:
        (path,) = writer._handles
        os.close(writer._handles[path])
        writer._handles[path] = os.open("/dev/full", os.O_WRONLY)
        writer.write("a", 0, memoryview(bytes(400)))


def test_a_full_device_is_named(tmp_path):
    with pytest.raises(NotEnoughDisk, match=r"model\.safetensors: no space is left") as caught:
        fail_on_a_full_device(tmp_path)
    assert caught.value.hint == "free some space, or choose another -o"
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_reservation_is_written_all_the_same(tmp_path, monkeypatch):
    def unsupported(handle, offset, length):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    write(tmp_path, TWO, 1 << 30)
    assert load_file(tmp_path / "model.safetensors")["b"].shape == (1 << 18,)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(RunFailed, match=r"cannot write .*gone"):
        Writer(tmp_path / "gone", shards_of(TWO), {}).__enter__()


def test_an_error_while_flushing_is_told_by_finish(tmp_path, monkeypatch):
    def broken(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(flush, "_sync", broken)
    with Writer(tmp_path, shards_of(TWO), {}) as writer:
        writer._flush = flush.Flush(1)
        writer.write("a", 0, memoryview(b"x" * 400))
        with pytest.raises(NotEnoughDisk, match="no space is left"):
            writer.finish()


def reopened(folder, tensors=TWO, metadata=None, shard_bytes=1000):
    shards = shards_of(tensors, shard_bytes)
    return Writer(folder, shards, metadata or {}, resumable=True)


def stop_in_the_block(folder):
    with reopened(folder) as writer:
        assert not writer.resumed
        writer.write("a", 0, memoryview(b"x" * 400))
        raise ZeroDivisionError


def test_a_resumable_writer_leaves_its_files_and_the_next_goes_on_with_them(tmp_path):
    with pytest.raises(ZeroDivisionError):
        stop_in_the_block(tmp_path)
    with reopened(tmp_path) as writer:
        assert writer.resumed
        writer.write("b", 0, memoryview(b"y" * (1 << 20)))
        writer.finish()
        ref = writer.refs["a"]
        assert (ref.file, ref.shape, ref.n_bytes) == (
            tmp_path / "model-00001-of-00002.safetensors", (100,), 400,
        )  # fmt: skip
    found = {t.name: t for t in read_checkpoint(tmp_path).tensors}
    assert found == writer.refs
    with ref.file.open("rb") as file:
        file.seek(ref.start)
        assert file.read() == b"x" * 400


@pytest.mark.parametrize(
    "other",
    [
        {"metadata": {"who": "me"}},
        {"shard_bytes": 1 << 30},
        {"tensors": TWO[:1]},
        {"tensors": [OutputTensor("a", "I32", (100,), 400), TWO[1]]},
    ],
)
def test_shards_of_another_writer_are_replaced(other, tmp_path):
    with reopened(tmp_path) as writer:
        writer.write("a", 0, memoryview(b"x" * 400))
    before = open_files()
    with reopened(tmp_path, **other) as writer:
        assert not writer.resumed
        names = {shard.file for shard in writer._shards}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert b"x" * 400 not in (tmp_path / min(names)).read_bytes()
    assert open_files() == before


def test_a_disk_that_is_full_from_the_start_leaves_nothing_to_resume(tmp_path, monkeypatch):
    def full(handle, offset, length):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NotEnoughDisk):
        reopened(tmp_path).__enter__()
    assert not list(tmp_path.iterdir())


def fail_in_the_block(folder):
    with Writer(folder, shards_of(TWO, 1000), {}) as writer:
        writer.write("a", 0, memoryview(bytes(400)))
        assert len(list(folder.iterdir())) == 2
        raise ZeroDivisionError


def test_an_error_in_the_block_takes_the_files_away(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fail_in_the_block(tmp_path)
    assert not list(tmp_path.iterdir())
