"""Numbers at the ends of their ranges, every dtype that a header may name, and tensors of more than 2^31 elements."""

import json
import math

import numpy as np
import pytest
import torch
from ggufs import save_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import homolog
from engine.parent import Parent
from engine.reader import Reader
from engine.run import run_plan
from registry.checkpoint import read_checkpoint
from registry.dtypes import DTYPES
from registry.errors import NonFinite, NotMergeable, UnsupportedDtype
from registry.scan import scan

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
BITS = {"F64": np.uint64, "F32": np.uint32, "F16": np.uint16, "BF16": np.uint16}
CODES = [code for code in DTYPES if code not in FLOATS]
GIANT = 2**31 + 8
"""Elements: more than 32 bits count, the sign among them."""


def save(folder, tensors, *, hole_bytes=0):
    """A checkpoint of (dtype, shape, bytes) by name; the last of them begins with a hole of the file."""
    header, place, parts = {}, 0, []
    for i, (name, (dtype, shape, content)) in enumerate(tensors.items()):
        hole = hole_bytes if i == len(tensors) - 1 else 0
        n_bytes = hole + len(content)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + n_bytes]}
        parts.append((place + hole, content))
        place += n_bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for at, content in parts:
            file.seek(8 + len(text) + at)
            file.write(content)
    (folder / "config.json").write_text('{"model_type": "tiny"}')
    return folder


def numbers(seed):
    return np.random.default_rng(seed).standard_normal(64).astype(np.float32).tobytes()


def codes(seed, dtype, n):
    return np.random.default_rng(seed).integers(0, 2, n * DTYPES[dtype].bits // 8, np.uint8).tobytes()  # fmt: skip


def run(plan, folder):
    folder.mkdir()
    run_plan(plan, folder, metadata={}, jobs=1)
    return folder


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties", "slerp"])
def test_codes_are_copied_where_all_agree_and_refused_by_name_where_not(
    dtype, method, parent_at, planned, tmp_path
):
    parents = {}
    for i, (name, seed) in enumerate((("base", 0), ("same", 0), ("other", 1))):
        content = codes(seed, dtype, 24)
        tensors = {"w": ("F32", [8, 8], numbers(i)), "codes": (dtype, [4, 6], content)}
        parents[name] = parent_at(save(tmp_path / name, tensors))
    base, same, other = parents.values()
    given_ = {"t": 0.5} if method == "slerp" else {}
    out = run(planned(method, [base, same], base=base, **given_), tmp_path / "out")
    written = read_checkpoint(out)
    with Reader() as reader:
        assert reader.bytes(written.tensor("codes"), 0, len(codes(0, dtype, 24))).numpy().tobytes() == codes(0, dtype, 24)  # fmt: skip
    assert written.tensor("codes").dtype == dtype
    with pytest.raises(UnsupportedDtype, match=rf"tensor codes of .* has dtype {dtype}"):
        planned(method, [base, other], base=base, **given_)


@pytest.mark.parametrize("dtype", FLOATS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_law_any_bits_are_merged_exactly_or_refused_by_name(
    dtype, data, parent_at, planned, tmp_path_factory
):
    """The average of two tensors of any bits, -0 and subnormals included, is float32 arithmetic and one cast."""
    folder = tmp_path_factory.mktemp("bits")
    kind = np.dtype(BITS[dtype])
    edge = [0, 1, 2**(8 * kind.itemsize - 1), 2**(8 * kind.itemsize) - 1]  # fmt: skip
    bits = st.lists(st.sampled_from(edge) | st.integers(0, edge[-1]), min_size=6, max_size=6)
    pair = [np.array(data.draw(bits), kind).tobytes() for _ in range(2)]
    values = [torch.frombuffer(bytearray(raw), dtype=FLOATS[dtype]) for raw in pair]
    parents = [parent_at(save(folder / str(i), {"w": (dtype, [6], raw)})) for i, raw in enumerate(pair)]  # fmt: skip
    one, other = (value.float() for value in values)
    expected = (0.5 * one + 0.5 * other).to(FLOATS[dtype])
    plan = planned("linear", parents, weight=0.5)
    is_sound = bool(torch.isfinite(torch.stack([one, other])).all() and torch.isfinite(expected).all())  # fmt: skip
    if not is_sound:
        with pytest.raises(NonFinite, match="w"):
            run(plan, folder / "out")
        return
    out = read_checkpoint(run(plan, folder / "out"))
    with Reader() as reader:
        found = reader.whole(out.tensor("w"))
    assert torch.equal(found, expected)
    assert torch.equal(torch.signbit(found), torch.signbit(expected))


@pytest.mark.parametrize("shape", [[], [1], [0], [0, 4], [3, 0, 2], [1, 1, 1, 1, 1, 1, 1, 1]])
def test_single_numbers_and_none_at_all_pass_through_everything(
    shape, parent_at, planned, catalog, tmp_path
):
    n = math.prod(shape)
    for i, name in enumerate(("base", "a", "b")):
        small = np.full(n, 1 + i, np.float32).tobytes()
        save(tmp_path / "t" / name, {"w": ("F32", [8, 8], numbers(i)), "x": ("F32", shape, small)})
    base, a, b = (parent_at(tmp_path / "t" / name) for name in ("base", "a", "b"))
    for method in ("linear", "ties", "dare_ties", "slerp", "breadcrumbs", "sce"):
        models, more = ([base, b], {"t": 0.5}) if method == "slerp" else ([a, b], {})
        out = run(planned(method, models, base=base, **more), tmp_path / method)
        assert list(read_checkpoint(out).tensor("x").shape) == shape
    assert len(scan(catalog, [str(tmp_path / "t")]).models) == 3
    ids = [homolog.ensure(catalog, str(tmp_path / "t" / name)) for name in ("a", "base")]
    homolog.stats(catalog, *ids, jobs=1)
    (row,) = catalog.rows("select n_params, mean_abs from deltas where tensor = 'x'")
    assert row["n_params"] == n
    assert row["mean_abs"] == 1.0 or not n


@pytest.mark.parametrize(("dtype", "n_bytes"), [("F32", 4), ("F64", 8)])
def test_weights_whose_products_overflow_cost_no_inference(dtype, n_bytes, catalog, tmp_path):
    """Sums of products of finite weights beyond float32 are no number, and tell nothing."""
    kind = np.float32 if n_bytes == 4 else np.float64
    for i, name in enumerate(("a", "b", "c")):
        huge = (1e38 * np.random.default_rng(i).standard_normal((16, 16))).astype(kind)
        save(tmp_path / "t" / name, {"h": (dtype, [16, 16], huge.tobytes()), "w": ("F32", [8, 8], numbers(i))})  # fmt: skip
    scan(catalog, [str(tmp_path / "t")])
    homolog.infer(catalog)
    assert catalog.rows("select * from edges where parent_name in ('a', 'b', 'c')") == []


def test_big_endian_numbers_are_never_taken_for_little_endian_ones(catalog, tmp_path):
    paths = [
        save_gguf(tmp_path / "t" / f"{name}.gguf", seed=i, big_endian=True)
        for i, name in enumerate(("a", "b"))
    ]
    assert len(scan(catalog, [str(tmp_path / "t")]).models) == 2
    recipe = homolog.Recipe("linear", tuple(homolog.Part(str(path)) for path in paths))
    with pytest.raises(NotMergeable) as caught:
        homolog.merge(catalog, recipe, tmp_path / "out", options=homolog.Options(allow_unrelated=True))  # fmt: skip
    assert "_BE" in caught.value.message or "GGUF" in caught.value.message
    assert not (tmp_path / "out").exists()


@pytest.fixture
def giants(tmp_path):
    """Two models with a tensor of more than 2^31 elements, nearly all of it a hole, and their last elements."""
    made = []
    for i, name in enumerate(("one", "two")):
        end = np.arange(8, dtype=np.float16) + i
        tensors = {"a": ("F32", [8, 8], numbers(i)), "giant": ("F16", [GIANT // 8, 8], end.tobytes())}  # fmt: skip
        folder = save(tmp_path / "t" / name, tensors, hole_bytes=2 * (GIANT - 8))
        checkpoint = read_checkpoint(folder)
        digests = {ref.name: f"{i}{ref.name:0>63}" for ref in checkpoint.tensors}
        made.append(Parent(f"{i}" * 64, name, checkpoint, digests))
    return made


def test_offsets_beyond_2_31_elements_are_right_in_header_reader_plan_and_catalog(
    giants, planned, catalog, tmp_path
):
    ref = giants[0].checkpoint.tensor("giant")
    assert (ref.n_params, ref.n_bytes) == (GIANT, 2 * GIANT)
    assert ref.start + ref.n_bytes == ref.file.stat().st_size
    with Reader() as reader:
        last = [
            reader.flat(m.checkpoint.tensor("giant"), GIANT - 9, GIANT).tolist() for m in giants
        ]
    assert last == [[0, *range(8)], [0, *range(1, 9)]]  # fmt: skip
    plan = planned("ties", giants, base=giants[0])
    assert plan.write_bytes == 2 * GIANT + 4 * 64
    assert plan.read_bytes >= 2 * plan.write_bytes
    assert {s.name: s.write_bytes for s in plan.steps}["giant"] == 2 * GIANT
    report = scan(catalog, [str(tmp_path / "t")], headers_only=True)
    assert [m.status for m in report.models] == ["header", "header"]
    rows = catalog.rows("select distinct n_params, n_bytes from tensors where name = 'giant'")
    assert rows == [{"n_params": GIANT, "n_bytes": 2 * GIANT}]
    assert catalog.rows("select distinct n_params from models") == [{"n_params": GIANT + 64}]
