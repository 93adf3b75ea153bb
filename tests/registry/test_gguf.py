"""GGUF headers, judged by the format's own reader."""

import math
import warnings

import gguf
import pytest
from gguf import GGMLQuantizationType as Type
from ggufs import SHAPES, save_gguf, save_split

from registry.checkpoint import read_checkpoint
from registry.dtypes import DTYPES, GGUF_DTYPES, QUANTS
from registry.errors import BadIndex, EmptyCheckpoint, MissingShard
from registry.file_ref import gguf_groups, list_files, list_folder
from registry.fingerprint import digest_tensors
from registry.gguf import FIRST_BYTES, parse_gguf, read_gguf

INTERNAL = {"Q8_1"}  # of the library, in no file
WRITABLE = [t for t in Type if t.name not in INTERNAL and not t.name.startswith("I")]


def judged(path):
    """What the reader of the format says: tensors as (name, dtype, shape, start, bytes), and the keys that are no lists."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, in the library
        reader = gguf.GGUFReader(path)
    tensors = {
        (t.name, t.tensor_type.name, tuple(int(n) for n in reversed(t.shape)), int(t.data_offset), int(t.n_bytes))
        for t in reader.tensors
    }  # fmt: skip
    keys = {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.") and field.types[0] != gguf.GGUFValueType.ARRAY
    }
    lists = {
        name: len(field.data)
        for name, field in reader.fields.items()
        if field.types[:1] == [gguf.GGUFValueType.ARRAY]
    }
    return tensors, keys, lists, reader.data_offset


def ours(path):
    header = read_gguf(path)
    tensors = {
        (t.name, t.dtype.removesuffix("_BE"), t.shape, t.start, t.n_bytes) for t in header.tensors
    }
    return tensors, header.keys, header.lengths, header.data_start


def test_every_dtype_has_the_blocks_of_the_judge():
    theirs = {int(t): (t.name, *gguf.GGML_QUANT_SIZES[t]) for t in Type if t.name not in INTERNAL}
    assert {n: (b.code, b.n_params, b.block_bytes) for n, b in GGUF_DTYPES.items()} == theirs
    plain = [b for b in GGUF_DTYPES.values() if b.n_params == 1]
    assert all(DTYPES[b.code].bits == 8 * b.block_bytes for b in plain)
    assert not QUANTS & DTYPES.keys()


@pytest.mark.parametrize("dtype", WRITABLE, ids=lambda t: t.name)
def test_tensors_and_keys_are_those_of_the_judge(tmp_path, dtype):
    path = save_gguf(tmp_path / "x.gguf", dtype, n_tokens=20, keys={"general.name": "Größe"})
    found = ours(path)
    assert found == judged(path)
    assert {t[0]: t[2] for t in found[0]} == SHAPES


@pytest.mark.parametrize("big_endian", [False, True])
def test_keys_of_all_kinds_in_both_byte_orders(tmp_path, big_endian):
    keys = {"a.list": ["x", "yy"], "b.list": [1, 2, 3], "a.number": -5.25, "a.text": "z" * 60_000}
    path = save_gguf(tmp_path / "x.gguf", Type.F16, keys=keys, big_endian=big_endian)
    assert ours(path) == judged(path)


@pytest.mark.parametrize("alignment", [1, 64, 4096])
def test_the_alignment_of_the_file_counts(tmp_path, alignment):
    path = save_gguf(tmp_path / "x.gguf", keys={"general.alignment": alignment})
    assert ours(path) == judged(path)


def test_every_type_of_number_is_read(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    values = {"uint8": 255, "int8": -128, "uint16": 65535, "int16": -32768, "uint32": 2**32 - 1,
              "int32": -(2**31), "uint64": 2**64 - 1, "int64": -(2**63), "float32": 0.5,
              "float64": math.pi, "bool": False}  # fmt: skip
    for kind, value in values.items():
        getattr(writer, f"add_{kind}")(f"a.{kind}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    keys = read_gguf(tmp_path / "x.gguf").keys
    assert {k.removeprefix("a."): v for k, v in keys.items() if k.startswith("a.")} == values
    assert type(keys["a.bool"]) is bool


def test_big_endian_is_another_model(tmp_path):
    big, little = (save_gguf(tmp_path / f"{b}.gguf", Type.F16, big_endian=b) for b in (True, False))
    assert {t.dtype for t in read_gguf(big).tensors} == {"F16_BE", "F32_BE"}
    one, other = (digest_tensors(read_gguf(p).tensors) for p in (big, little))
    assert not set(one.values()) & set(other.values())


def test_a_vocabulary_is_passed_over(tmp_path):
    path = save_gguf(tmp_path / "x.gguf", n_tokens=50_000)
    n_read = []

    def read(start, stop):
        n_read.append(stop - start)
        with path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    header = parse_gguf(read, path, path.stat().st_size)
    assert header.lengths["tokenizer.ggml.tokens"] == 50_000
    assert n_read[0] == FIRST_BYTES
    assert len(n_read) < 8
    assert sum(n_read) < 2 * header.data_start
    assert sum(len(str(v)) for v in header.keys.values()) < 100


def test_a_file_is_a_checkpoint(tmp_path):
    path = save_gguf(tmp_path / "m.gguf", Type.Q8_0, n_tokens=8)
    found = read_checkpoint(path)
    assert (found.layout, found.kind, found.format) == ("file", "model", "gguf")
    assert found.config["model_type"] == "llama"
    assert found.config["llama.context_length"] == 4096
    assert found.config["tokenizer.ggml.model"] == "gpt2"
    assert found.config["vocab_size"] == 8
    assert found.n_params == 8 * 256 + 4 * 512 + 256
    assert found.n_bytes == (8 * 256 + 4 * 512) // 32 * 34 + 4 * 256
    assert not found.metadata


def test_unread_it_has_no_tensors(tmp_path):
    path = save_gguf(tmp_path / "m.gguf")
    found = read_checkpoint(path, with_gguf=False)
    assert (found.tensors, found.keys, found.config) == ((), {}, {})


def test_parts_are_one_checkpoint(tmp_path):
    parts = save_split(tmp_path)
    for part in parts:
        assert [f.path for f in list_files(part)] == [p.name for p in parts]
    found = read_checkpoint(parts[0])
    assert [t.name for t in found.tensors] == sorted(SHAPES)
    parts[1].unlink()
    with pytest.raises(MissingShard, match="2 of its 3 parts"):
        read_checkpoint(parts[0])


def test_parts_that_were_swapped_are_refused(tmp_path):
    parts = save_split(tmp_path)
    parts[1].rename(tmp_path / "x")
    parts[2].rename(parts[1])
    (tmp_path / "x").rename(parts[2])
    with pytest.raises(BadIndex, match=r"part 2 \(from 0\) of 3, and is part 1 of 3"):
        read_checkpoint(parts[0])


def test_one_part_under_another_name_is_refused(tmp_path):
    save_split(tmp_path)[1].rename(tmp_path / "alone.gguf")
    with pytest.raises(BadIndex, match="of 3, and is part 0 of 1"):
        read_checkpoint(tmp_path / "alone.gguf")


def test_a_vocabulary_alone_is_no_model(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_token_list(["a"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(EmptyCheckpoint, match="holds no tensor"):
        read_checkpoint(tmp_path / "x.gguf")


def test_a_card_is_that_of_gguf_only_where_nothing_else_is(tmp_path):
    for name in ("a-Q4.gguf", "b-00001-of-00002.gguf", "b-00002-of-00002.GGUF", "README.md"):
        (tmp_path / name).touch()
    groups = [[f.path for f in g] for g in gguf_groups(list_folder(tmp_path)[0])]
    assert groups == [
        ["a-Q4.gguf", "README.md"],
        ["b-00001-of-00002.gguf", "b-00002-of-00002.GGUF", "README.md"],
    ]
    (tmp_path / "model.safetensors").touch()
    assert all(f.format == "gguf" for g in gguf_groups(list_folder(tmp_path)[0]) for f in g)
