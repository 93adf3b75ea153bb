"""Digests: what changes an identity and what does not."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from registry import fingerprint
from registry.checkpoint import read_checkpoint
from registry.errors import BadDocument, PathEscapes, TruncatedFile, Unreadable
from registry.fingerprint import (
    DigestAsItComes,
    architecture_fingerprint,
    digest_model,
    digest_stream,
    digest_tensor,
    digest_tensors,
    digest_text,
    tokenizer_fingerprint,
)
from registry.header import TensorRef, read_header


def identity(root: Path, **settings) -> str:
    checkpoint = read_checkpoint(root)
    return digest_model(digest_tensors(checkpoint.tensors, **settings), tied=checkpoint.tied)


def save_sharded(folder, tensors, placing):
    """Write ``tensors`` in as many shards as ``placing`` names: {tensor: shard}."""
    folder.mkdir()
    for shard in sorted(set(placing.values())):
        part = {name: tensors[name] for name in tensors if placing[name] == shard}
        save_file(part, folder / shard, metadata={"shard": shard})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placing}))
    return folder


def with_header(content: bytes, **changes) -> bytes:
    """The same tensors under another header: metadata, order of keys, padding."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header = {"__metadata__": changes["metadata"]} | dict(reversed(header.items()))
    raw = json.dumps(header, indent=3).encode() + b" " * 777
    return len(raw).to_bytes(8, "little") + raw + content[8 + length :]


TENSORS = {
    "model.embed_tokens.weight": torch.arange(40, dtype=torch.float32).reshape(10, 4),
    "model.layers.0.weight": torch.arange(16, dtype=torch.bfloat16).reshape(4, 4),
    "model.layers.1.weight": torch.arange(16, dtype=torch.bfloat16).reshape(4, 4),
    "model.norm.weight": torch.ones(4),
    "scale": torch.tensor(3, dtype=torch.int64),
    "nothing": torch.zeros(0, 4),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    file = tmp_path_factory.mktemp("plain") / "model.safetensors"
    save_file(TENSORS, file)
    return file


@settings(max_examples=25)
@given(st.lists(st.integers(1, 4), min_size=len(TENSORS), max_size=len(TENSORS)))
def test_law_sharding_changes_nothing(plain, tmp_path_factory, numbers):
    placing = {name: f"part-{n}.safetensors" for name, n in zip(TENSORS, numbers, strict=True)}
    folder = save_sharded(tmp_path_factory.mktemp("sharded") / "model", TENSORS, placing)
    assert identity(folder) == identity(plain)


def test_names_of_files_and_headers_change_nothing(plain, tmp_path):
    other = tmp_path / "another name.safetensors"
    other.write_bytes(with_header(plain.read_bytes(), metadata={"recipe": "x"}))
    assert read_header(other).data_start != read_header(plain).data_start
    assert identity(other) == identity(plain)


@settings(max_examples=60)
@given(st.data())
def test_law_one_flipped_bit_of_a_tensor_changes_its_digest_and_no_other(
    plain, tmp_path_factory, data
):
    refs = [ref for ref in read_header(plain).tensors if ref.n_bytes]
    ref = data.draw(st.sampled_from(refs))
    place = ref.start + data.draw(st.integers(0, ref.n_bytes - 1))
    content = bytearray(plain.read_bytes())
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    flipped = tmp_path_factory.mktemp("flipped") / "model.safetensors"
    flipped.write_bytes(content)
    before, after = (
        digest_tensors(read_header(plain).tensors),
        digest_tensors(read_header(flipped).tensors),
    )
    assert [name for name in before if before[name] != after[name]] == [ref.name]
    assert digest_model(before) != digest_model(after)


def test_dtype_shape_and_name_count(tmp_path):
    bits = torch.arange(8, dtype=torch.int16)
    ways = [
        {"a": bits},
        {"a": bits.view(torch.bfloat16)},
        {"a": bits.view(torch.float16)},
        {"a": bits.reshape(2, 4)},
        {"a": bits.reshape(4, 2)},
        {"a": bits.reshape(8, 1)},
        {"b": bits},
        {"a": bits, "b": bits.clone()},
        {"a": bits, "b": torch.zeros(0)},
    ]
    found = []
    for i, tensors in enumerate(ways):
        save_file(tensors, tmp_path / f"{i}.safetensors")
        found.append(identity(tmp_path / f"{i}.safetensors"))
    assert len(set(found)) == len(ways)


def test_equal_tensors_have_equal_digests_wherever_they_lie(plain):
    digests = digest_tensors(read_header(plain).tensors)
    assert digests["model.layers.0.weight"] == digests["model.layers.1.weight"]


def test_exchanged_tensors_make_another_model():
    assert digest_model({"a": "0" * 64, "b": "1" * 64}) != digest_model(
        {"a": "1" * 64, "b": "0" * 64}
    )


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_law_blocks_and_threads_change_nothing(plain, monkeypatch, block, jobs):
    expected = identity(plain)
    monkeypatch.setattr(fingerprint, "BLOCK_BYTES", block)
    monkeypatch.setattr(fingerprint, "_buffers", fingerprint.threading.local())
    assert identity(plain, jobs=jobs) == expected


def test_digests_come_in_the_order_asked_for_and_progress_counts_all_bytes(plain):
    refs = read_header(plain).tensors[::-1]
    done = []
    digests = digest_tensors(refs, jobs=2, progress=done.append)
    assert list(digests) == [ref.name for ref in refs]
    assert digests == {ref.name: digest_tensor(ref) for ref in refs}
    assert sum(done) == sum(ref.n_bytes for ref in refs)


def test_no_tensors_have_no_digests():
    assert digest_tensors([]) == {}


def test_an_identity_can_be_computed_from_its_description_alone(plain):
    lines = b""
    for name, tensor in sorted(TENSORS.items()):
        code = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64"}[tensor.dtype]
        shape = ",".join(str(size) for size in tensor.shape)
        raw = bytes(tensor.reshape(-1).view(torch.uint8).tolist())
        digest = blake3(f"blake3-tensor-1\0{code}\0{shape}\0".encode() + raw).hexdigest()
        lines += f"{name}\0{digest}\n".encode()
    assert identity(plain) == blake3(b"blake3-tensors-1\0" + lines).hexdigest()
    assert digest_text("τ") == blake3("blake3-text-1\0τ".encode()).hexdigest()


def test_identities_stay_the_same_from_version_to_version(plain):
    assert identity(plain) == "058a272392fe1e2e5d3e42e8a86173c20cadb181e5da6119982e663218103cbf"
    assert digest_text("τ") == "cb0b8baa99293205eef3e32b8c2cb202e5b6c3eafb00e2ee388bca51d19360bc"


def test_a_file_that_shrinks_after_its_header_was_read_is_an_error_and_not_a_crash(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({f"t{i}": torch.zeros(1 << 18) for i in range(8)}, file)
    refs = read_header(file).tensors
    with file.open("r+b") as out:
        out.truncate(refs[3].start + 5)
    with pytest.raises(TruncatedFile, match=f"ends at byte {refs[3].start + 5}; tensor t3"):
        digest_tensors(refs, jobs=2)
    file.unlink()
    with pytest.raises(Unreadable):
        digest_tensor(refs[0])


def test_a_tied_model_saved_with_and_without_its_head_has_one_digest(tmp_path):
    head = {"lm_head.weight": TENSORS["model.embed_tokens.weight"].clone()}
    found = {}
    for name, more, config in [
        ("without", {}, {"tie_word_embeddings": True}),
        ("with", head, {"tie_word_embeddings": True}),
        ("silent", head, {}),
        ("untied", head, {"tie_word_embeddings": False}),
        (
            "other head",
            {"lm_head.weight": head["lm_head.weight"] + 1},
            {"tie_word_embeddings": True},
        ),
    ]:
        (tmp_path / name).mkdir()
        save_file(TENSORS | more, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        found[name] = identity(tmp_path / name)
    assert found["without"] == found["with"] == found["silent"]
    assert len({found["without"], found["untied"], found["other head"]}) == 3


def refs(shapes, dtype="BF16"):
    return [TensorRef(name, dtype, shape, Path("x"), 0, 0) for name, shape in shapes.items()]


SHAPES = {
    "model.embed_tokens.weight": (10, 4),
    "model.layers.0.weight": (4, 4),
    "lm_head.weight": (10, 4),
}


def test_an_architecture_is_names_and_shapes_without_dtypes_vocabulary_and_tied_heads():
    one = architecture_fingerprint(refs(SHAPES))
    assert architecture_fingerprint(reversed(refs(SHAPES, "F32"))) == one
    assert (
        architecture_fingerprint(refs({k: (12, 4) if v[0] == 10 else v for k, v in SHAPES.items()}))
        == one
    )
    assert (
        architecture_fingerprint(refs({k: v for k, v in SHAPES.items() if k != "lm_head.weight"}))
        == one
    )
    assert architecture_fingerprint(refs(SHAPES | {"lm_head.weight": (10, 5)})) != one
    assert architecture_fingerprint(refs(SHAPES | {"model.layers.0.weight": (4, 5)})) != one
    assert architecture_fingerprint(refs(SHAPES | {"model.layers.1.weight": (4, 4)})) != one
    assert architecture_fingerprint(refs(SHAPES | {"model.embed_tokens.weight": (10, 5)})) != one


TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "added_tokens": [
        {"id": 3, "content": "<s>", "special": True},
        {"id": 4, "content": "</s>", "special": True},
    ],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
}


def tokenizer_print(folder, name, document, **layout):
    (folder / name).mkdir()
    (folder / name / "tokenizer.json").write_text(json.dumps(document, **layout))
    return tokenizer_fingerprint(folder / name)


def test_a_tokenizer_is_what_it_does_and_not_how_it_is_written(tmp_path):
    one = tokenizer_print(tmp_path, "one", TOKENIZER)
    reversed_keys = {key: TOKENIZER[key] for key in reversed(TOKENIZER)}
    reversed_keys["model"] = {
        "merges": [["a", "b"]],
        "vocab": {"ab": 2, "b": 1, "a": 0},
        "type": "BPE",
    }
    reversed_keys["added_tokens"] = TOKENIZER["added_tokens"][::-1]
    same = [
        tokenizer_print(tmp_path, "spaces", TOKENIZER, indent=4),
        tokenizer_print(tmp_path, "keys", reversed_keys),
        tokenizer_print(
            tmp_path, "rest", TOKENIZER | {"truncation": {"max_length": 5}, "version": "2.0"}
        ),
    ]
    assert same == [one] * 3


@pytest.mark.parametrize(
    "change",
    [
        {"model": TOKENIZER["model"] | {"vocab": {"a": 1, "b": 0, "ab": 2}}},
        {"model": TOKENIZER["model"] | {"merges": []}},
        {"model": {"type": "Unigram", "vocab": [["a", -1.0], ["b", -2.0]]}},
        {"added_tokens": []},
        {"normalizer": None},
        {"pre_tokenizer": None},
    ],
)
def test_whatever_changes_ids_changes_the_tokenizer(tmp_path, change):
    assert tokenizer_print(tmp_path, "one", TOKENIZER) != tokenizer_print(
        tmp_path, "two", TOKENIZER | change
    )


def test_older_tokenizers_are_read_from_their_own_files(tmp_path):
    assert tokenizer_fingerprint(tmp_path) is None
    seen = []
    for name, content in [
        ("tokenizer.model", b"\x00\x01"),
        ("vocab.txt", b"[PAD]\nthe\n"),
        ("vocab.json", b'{"a": 0}'),
        ("merges.txt", b"#version: 0.2\na b\n"),
        ("tokenizer.json", json.dumps(TOKENIZER).encode()),
    ]:
        (tmp_path / name).write_bytes(content)
        seen.append(tokenizer_fingerprint(tmp_path))
    assert len(set(seen)) == 5
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "merges.txt").write_bytes(b"a b\n")
    assert tokenizer_fingerprint(tmp_path) == seen[3]


def test_a_tokenizer_is_known_by_all_its_bytes(tmp_path):
    one = tokenizer_print(tmp_path, "one", TOKENIZER)
    assert tokenizer_print(tmp_path, "two", TOKENIZER) == one
    text = (tmp_path / "two" / "tokenizer.json").read_text()
    (tmp_path / "two" / "tokenizer.json").write_text(text.replace('"ab": 2', '"ab": 3'))
    assert tokenizer_fingerprint(tmp_path / "two") not in (one, None)
    assert tokenizer_fingerprint(tmp_path / "one") == one


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"model": {}}',
        '{"model": {"vocab": 1}}',
        '{"model": {"vocab": {}, "merges": 1}}',
    ],
)
def test_a_malformed_tokenizer_is_a_bad_document(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(BadDocument, match=r"tokenizer\.json"):
        tokenizer_fingerprint(tmp_path)


def test_a_tokenizer_that_is_a_link_out_of_its_folder_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "secret").write_text("{}")
    for name in ("tokenizer.json", "merges.txt"):
        (tmp_path / "model" / "vocab.json").write_text("{}")
        (tmp_path / "model" / name).symlink_to("../secret")
        with pytest.raises(PathEscapes):
            tokenizer_fingerprint(tmp_path / "model")
        (tmp_path / "model" / name).unlink()


def test_a_bare_file_has_no_tokenizer(plain):
    assert tokenizer_fingerprint(plain) is None


TENSOR = TensorRef("w", "BF16", (40, 25), Path("nowhere"), 0, 2000)


@given(
    cuts=st.lists(st.integers(0, 2000), max_size=9),
    seed=st.integers(0, 99),
    jobs=st.sampled_from([1, 4]),
)
def test_pieces_in_any_order_have_the_digest_of_the_whole(cuts, seed, jobs):
    rng = random.Random(seed)
    content = rng.randbytes(2000)
    pieces = list(pairwise(sorted({0, 2000, *cuts})))
    rng.shuffle(pieces)
    one = DigestAsItComes(TENSOR, 2000)
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda ends: one.take(ends[0], memoryview(content)[slice(*ends)]), pieces))
    assert one.digest == digest_stream([TENSOR], [content])["w"]


def test_too_much_that_waits_is_given_up():
    content = memoryview(bytes(2000))
    one, other = (DigestAsItComes(TENSOR, 500) for _ in range(2))
    for digest in (one, other):
        digest.take(1400, content[1400:])  # one piece may always wait
        assert digest.digest is None
    one.take(0, content[:1400])
    assert one.digest == digest_stream([TENSOR], [content])["w"]
    other.take(1300, content[1300:1400])
    other.take(0, content[:1300])
    assert other.digest is None


def test_a_digest_of_not_all_bytes_is_none():
    one = DigestAsItComes(TENSOR, 500)
    one.take(0, memoryview(bytes(1999)))
    assert one.digest is None
    one.take(1999, memoryview(bytes(1)))
    assert one.digest == digest_stream([TENSOR], [bytes(2000)])["w"]
