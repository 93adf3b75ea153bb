"""Writing past the page cache: the same files as without, whatever is cut, refused or late, and no error is lost."""

import errno
import fcntl
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import direct
from engine.direct import BLOCK, BUFFER_BYTES, Direct, buffer_bytes
from engine.writer import OutputTensor, Writer, shards_of
from registry.errors import NotEnoughDisk

MIB = 1 << 20
LONG = 2 * BUFFER_BYTES + 5 * BLOCK


@pytest.fixture(scope="module", autouse=True)
def small_limits():
    """Files and pieces of a few blocks are worth it, and few edges wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "LEAST_FILE_BYTES", 1)
        patch.setattr(direct, "LEAST_BYTES", BLOCK)
        patch.setattr(direct, "LATER_BYTES", 4 * BLOCK)
        patch.setattr(direct, "EVERY_BYTES", 32 * BLOCK)
        yield


@pytest.fixture
def file(tmp_path):
    """A file of zeros, and a descriptor of it."""
    path = tmp_path / "file"
    path.write_bytes(bytes(LONG))
    handle = os.open(path, os.O_RDWR)
    yield path, handle
    os.close(handle)


def refuse_to_open(monkeypatch):
    real = os.open

    def refused(path, flags, *mode):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", refused)


def refuse_to_write(monkeypatch):
    real = os.pwrite

    def refused(handle, data, offset):
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT:
            refused.n += 1
            if refused.n % 2:
                raise OSError(errno.EINVAL, "Invalid argument")
        return real(handle, data, offset)

    refused.n = 0
    monkeypatch.setattr(os, "pwrite", refused)


def write_little(monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda handle, data, offset: real(handle, data[: 2 * BLOCK], offset)
    )


def nothing(monkeypatch):
    """The system does what it is asked for."""


@pytest.mark.parametrize("memory", [0, BUFFER_BYTES, 8 * BUFFER_BYTES])
@pytest.mark.parametrize("trouble", [nothing, refuse_to_open, refuse_to_write, write_little])
@pytest.mark.parametrize("jobs", [1, 4])
def test_files_are_those_that_would_be_written_at_once(
    memory, trouble, jobs, tmp_path, monkeypatch
):
    rng = random.Random(jobs)
    tensors = [
        OutputTensor(f"t{i}", "U8", (n,), n)
        for i, n in enumerate([LONG, 1, BLOCK, 3 * BLOCK + 7, 0, 2 * MIB + 1, 100, 77_777])
    ]
    content = {t.name: rng.randbytes(t.n_bytes) for t in tensors}
    pieces = []
    for t in tensors:
        cuts = sorted({0, t.n_bytes, *(rng.randrange(t.n_bytes + 1) for _ in range(5))})
        pieces += [(t.name, a, b) for a, b in pairwise(cuts)]
    rng.shuffle(pieces)
    trouble(monkeypatch)
    with Writer(tmp_path, shards_of(tensors, 3 * MIB), {}, memory_bytes=memory) as writer:

        def write(piece):
            name, start, stop = piece
            writer.write(name, start, memoryview(content[name])[start:stop])

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(write, pieces))
        writer.land()
        for ref in writer.refs.values():  # there for others before the end
            with ref.file.open("rb") as opened:
                opened.seek(ref.start)
                assert opened.read(ref.n_bytes) == content[ref.name]
        writer.finish()
    assert len(list(tmp_path.glob("*.safetensors"))) > 1


@given(cuts=st.lists(st.integers(0, LONG), min_size=1, max_size=12), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_any_pieces_in_any_order(cuts, seed, tmp_path_factory):
    rng = random.Random(seed)
    content, path = rng.randbytes(LONG), tmp_path_factory.mktemp("pieces") / "file"
    path.write_bytes(bytes(LONG))
    ends = sorted({0, LONG, *cuts})
    pieces = list(pairwise(ends))
    rng.shuffle(pieces)
    handle = os.open(path, os.O_RDWR)
    one = Direct(3 * BUFFER_BYTES)
    one.open(path, LONG)
    for start, stop in pieces:
        if not one.write(path, handle, memoryview(content)[start:stop], start):
            os.pwrite(handle, content[start:stop], start)  # the system cannot do it here
    one.close()
    os.close(handle)
    assert path.read_bytes() == content


def test_bytes_may_change_once_they_are_taken(file):
    path, handle = file
    one, data = Direct(2 * BUFFER_BYTES), bytearray(b"x" * LONG)
    one.open(path, LONG)
    if not one.write(path, handle, memoryview(data), 0):
        assert not one._files  # a file system that cannot do it
        return
    data[:] = b"y" * LONG
    one.close()
    assert path.read_bytes() == b"x" * LONG


def test_what_waits_is_written_when_it_is_much_or_old(file):
    path, handle = file
    one = Direct(2 * BUFFER_BYTES)
    one._take(path, handle)
    one.write(path, handle, memoryview(b"a" * 100), 5)
    assert (one._n_later, one._n_since) == (100, 100)
    one.write(path, handle, memoryview(b"b" * 4 * BLOCK), 1000)  # three blocks, two edges
    assert len(one._later) == 3
    one.write(path, handle, memoryview(b"c" * 32 * BLOCK), 8 * BLOCK)
    assert not one._later
    one._lander.submit(bool).result()
    expected = b"a" * 100 + bytes(895) + b"b" * 4 * BLOCK
    assert path.read_bytes()[5 : 1000 + 4 * BLOCK] == expected
    one._files.clear()
    one.close()


@pytest.mark.parametrize("size", [100, BLOCK + 100, 4 * BUFFER_BYTES])
def test_a_write_that_fails_is_told_with_its_file(size, tmp_path, monkeypatch):
    def full(handle, data, offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    tensor = OutputTensor("w", "U8", (size,), size)

    def attempt():
        with Writer(tmp_path, shards_of([tensor]), {}, memory_bytes=2 * BUFFER_BYTES) as writer:
            monkeypatch.setattr(os, "pwrite", full)
            writer.write("w", 0, memoryview(bytes(size)))
            writer.finish()

    with pytest.raises(NotEnoughDisk, match=r"model\.safetensors: no space is left"):
        attempt()
    assert not list(tmp_path.iterdir())
    assert not [t for t in threading.enumerate() if "ThreadPool" in t.name]


def test_any_error_of_a_thread_is_told(tmp_path, monkeypatch):
    tensor = OutputTensor("w", "U8", (LONG,), LONG)

    def attempt():
        with Writer(tmp_path, shards_of([tensor]), {}, memory_bytes=2 * BUFFER_BYTES) as writer:
            if not writer._direct._files:  # a file system that cannot do it
                raise ZeroDivisionError
            monkeypatch.setattr(direct, "write_all", lambda *_: 1 / 0)
            writer.write("w", 0, memoryview(bytes(LONG)))
            writer.finish()

    with pytest.raises(ZeroDivisionError):
        attempt()


def test_a_folder_that_is_left_for_a_later_run_has_what_waited(tmp_path):
    tensors = [OutputTensor("a", "U8", (100,), 100), OutputTensor("b", "U8", (LONG,), LONG)]

    def stop():
        with Writer(
            tmp_path, shards_of(tensors), {}, resumable=True, memory_bytes=2 * BUFFER_BYTES
        ) as writer:
            writer.write("a", 0, memoryview(b"x" * 100))
            writer.write("b", 0, memoryview(b"y" * LONG))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop()
    with Writer(tmp_path, shards_of(tensors), {}, resumable=True) as writer:
        assert writer.resumed
        for ref in writer.refs.values():
            data = ref.file.read_bytes()[ref.start : ref.start + ref.n_bytes]
            assert data == {"a": b"x", "b": b"y"}[ref.name] * ref.n_bytes


def test_short_files_and_little_memory_go_through_the_page_cache(file, monkeypatch):
    monkeypatch.setattr(direct, "LEAST_FILE_BYTES", 32 * MIB)
    path, handle = file
    for memory, size in ((8 * BUFFER_BYTES, 32 * MIB - 1), (0, 32 * MIB)):
        one = Direct(memory)
        one.open(path, size)
        assert not one.write(path, handle, memoryview(bytes(LONG)), 0)
        one.close()
    assert path.read_bytes() == bytes(LONG)


def test_buffers_take_a_sixteenth_of_the_memory_and_16_mebibytes_at_most():
    given_to = {0: 0, 127: 0, 128: 8, 191: 8, 192: 12, 256: 16, 512: 16, 4096: 16}
    assert {m: buffer_bytes(m * MIB) // MIB for m in given_to} == given_to
