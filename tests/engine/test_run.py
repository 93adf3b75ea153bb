"""Running plans: the same bytes however the work is shared out, exact arithmetic, and nothing left of a failure."""

import json
import math
import os
import re
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.draws import Draws
from engine.methods import all_methods
from engine.reader import Reader
from engine.run import Change, run_plan
from engine.survey import survey
from registry.errors import FileChanged, NonFinite, NotEnoughDisk

METHODS = all_methods()
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
TENSORS = {
    "model.embed_tokens.weight": ((37, 11), torch.bfloat16),
    "model.layers.0.mlp.up_proj.weight": ((50, 61), torch.bfloat16),
    "model.layers.0.mlp.down_proj.weight": ((61, 50), torch.float32),
    "model.layers.0.conv.weight": ((5, 4, 3), torch.float16),
    "model.layers.1.mlp.up_proj.weight": ((40, 33), torch.float64),
    "model.norm.weight": ((1003,), torch.float32),
    "scale": ((), torch.float32),
    "one": ((1,), torch.bfloat16),
    "nothing": ((0, 5), torch.bfloat16),
}


def weights(seed, *, near=None, scale=0.01):
    """Tensors of many shapes and dtypes, close to those of ``near``; the whole numbers are those of every model."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, (shape, dtype) in TENSORS.items():
        noise = torch.randn(shape, generator=generator)
        made[name] = (noise if near is None else near[name].float() + scale * noise).to(dtype)
    made["frozen.weight"] = torch.arange(24.0).reshape(4, 6).bfloat16()
    made["model.ids"] = torch.arange(7)
    made["mask"] = torch.tensor([[True, False], [False, True]])
    return made


@pytest.fixture
def models(make_parent):
    base = weights(0)
    parents = [make_parent("base", base)]
    for i, name in enumerate(("one", "two", "three"), 1):
        parents.append(make_parent(name, weights(i, near=base), shards=i))
    return parents


def plan_of(method, models, planned, **parameters):
    base, *others = models
    return planned(method, others[: METHODS[method].n_models[1]], base=base, **parameters)


def written(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def run(plan, folder, **options):
    folder.mkdir(parents=True)
    return run_plan(plan, folder, metadata={"format": "pt"}, **options).change


def same_bits(x, y):
    """Equal dtype, shape and bytes, signs of zeros included."""
    flat = (t.contiguous().reshape(-1).view(torch.uint8) for t in (x, y))
    return (x.dtype, x.shape) == (y.dtype, y.shape) and torch.equal(*flat)


def noise(dtype, seed):
    return torch.randn(3000, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("method", METHODS)
def test_bytes_do_not_depend_on_threads_slices_or_memory(method, models, planned, tmp_path):
    plan = plan_of(method, models, planned, seed=7)
    expected_change = run(plan, tmp_path / "0", jobs=1)
    expected = written(tmp_path / "0")
    assert list(expected) == ["model.safetensors"]
    ways = [(4, 1000, 512 << 20), (3, 257, 1)]
    for i, (jobs, chunk, memory) in enumerate(ways, 1):
        change = run(plan, tmp_path / str(i), jobs=jobs, chunk=chunk, memory_bytes=memory)
        assert written(tmp_path / str(i)) == expected
        assert (change.n, change.n_changed, change.max_abs) == (
            expected_change.n,
            expected_change.n_changed,
            expected_change.max_abs,
        )


@given(jobs=st.integers(1, 4), chunk=st.integers(50, 5000), memory=st.integers(1, 1 << 24))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_masks_do_not_depend_on_slices(
    *, jobs, chunk, memory, models, planned, tmp_path_factory
):
    plan = plan_of("dare_ties", models, planned, seed=3)
    folders = [tmp_path_factory.mktemp("run") / "o" for _ in range(2)]
    run(plan, folders[0], jobs=1)
    run(plan, folders[1], jobs=jobs, chunk=chunk, memory_bytes=memory)
    assert written(folders[0]) == written(folders[1])


@pytest.mark.parametrize("shard_bytes", [1, 3000, 10_000])
def test_shards_change_no_tensor(shard_bytes, models, planned, tensors_in, tmp_path):
    plan = plan_of("dare_linear", models, planned)
    run(plan, tmp_path / "whole")
    run(plan, tmp_path / "cut", shard_bytes=shard_bytes)
    whole, cut = tensors_in(tmp_path / "whole"), tensors_in(tmp_path / "cut")
    assert len(list((tmp_path / "cut").glob("*.safetensors"))) > 1
    assert whole.keys() == cut.keys()
    assert all(same_bits(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize("out", [None, *DTYPES])
@pytest.mark.parametrize("stored", DTYPES)
def test_linear_is_plain_float32_arithmetic_and_one_cast(
    *, stored, out, make_parent, planned, tensors_in, tmp_path
):
    states = [{"w": noise(DTYPES[stored], i)} for i in range(3)]
    models = [make_parent(str(i), state) for i, state in enumerate(states)]
    weight = [0.5, 0.3, -0.1]
    plan = planned("linear", models, weight=weight, normalize=False, dtype=out)
    run(plan, tmp_path / "out", chunk=999, jobs=2)
    a, b, c = (state["w"].to(torch.float32) for state in states)
    expected = a * weight[0] + b * weight[1] + c * weight[2]
    assert same_bits(tensors_in(tmp_path / "out")["w"], expected.to(DTYPES[out or stored]))


@pytest.mark.parametrize("out", [None, "F32", "F16"])
@pytest.mark.parametrize("stored", DTYPES)
def test_task_arithmetic_is_plain_float32_arithmetic_and_one_cast(
    *, stored, out, make_parent, planned, tensors_in, tmp_path
):
    states = [{"w": noise(DTYPES[stored], i)} for i in range(3)]
    base, *models = [make_parent(str(i), state) for i, state in enumerate(states)]
    plan = planned("task_arithmetic", models, base=base, weight=[0.5, 0.25], lambda_=0.7, dtype=out)
    run(plan, tmp_path / "out", chunk=1001, jobs=2)
    base, one, two = (state["w"].to(torch.float32) for state in states)
    expected = base + ((one - base) * (0.7 * 0.5) + (two - base) * (0.7 * 0.25))
    assert same_bits(tensors_in(tmp_path / "out")["w"], expected.to(DTYPES[out or stored]))


@pytest.mark.parametrize("method", METHODS)
def test_the_result_is_what_the_method_returns(method, models, planned, tensors_in, tmp_path):
    plan = plan_of(method, models, planned, seed=11)
    declared = METHODS[method]
    run(plan, tmp_path / "out", jobs=2, chunk=333)
    result = tensors_in(tmp_path / "out")
    keys = tuple(f"{model}#0" for model in plan.recipe.models)
    parameters = {
        p.keyword: list(v) if isinstance(v := plan.recipe.values[p.name], tuple) else v
        for p in declared.parameters
    }
    with Reader() as reader:
        whole = survey(plan, reader, jobs=1, memory_bytes=1 << 20)
    for step in plan.steps:
        if step.action != "merge":
            continue
        sources = [tensors_in(m.checkpoint.root)[step.name].float() for m in plan.models]
        base = tensors_in(plan.base.checkpoint.root)[step.name].float() if plan.base else None
        context = {
            "base": base, "tensor": step.name, "draws": Draws(11, step.name, keys), "whole": whole, "statistics": None,
            "start": 0,
        }  # fmt: skip
        given = {name: context[name] for name in declared.context} | parameters
        if declared.space == "weight":
            expected = declared.function(sources, **given)
        else:
            expected = base + declared.function([s - base for s in sources], **given)
        assert same_bits(result[step.name], expected.to(DTYPES[step.dtype])), step.name


@pytest.mark.parametrize("method", METHODS)
def test_what_holds_no_weights_is_copied(method, models, planned, tensors_in, tmp_path):
    plan = plan_of(method, models, planned)
    run(plan, tmp_path / "out", chunk=50)
    result, first = tensors_in(tmp_path / "out"), tensors_in(models[0].checkpoint.root)
    assert result.keys() == first.keys()
    for name in ("model.ids", "mask", "frozen.weight", "nothing"):
        assert same_bits(result[name], first[name])
    assert all(result[name].dtype == dtype for name, (_, dtype) in TENSORS.items())


def test_packed_dtypes_are_copied_whole(make_parent, parent_at, planned, tmp_path):
    data = bytes(range(1, 13))
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        header = json.dumps(
            {
                "codes": {"dtype": "F4", "shape": [4, 6], "data_offsets": [0, 12]},
                "w": {"dtype": "F32", "shape": [1], "data_offsets": [12, 16]},
            }
        ).encode()
        value = struct.pack("<f", 1.0 if name == "a" else 2.0)
        (folder / "model.safetensors").write_bytes(
            struct.pack("<Q", len(header)) + header + data + value
        )
    plan = planned("linear", [parent_at(tmp_path / "a"), parent_at(tmp_path / "b")])
    run(plan, tmp_path / "out")
    raw = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert raw.endswith(struct.pack("<f", 1.5) + data)


def test_a_model_listed_twice_draws_two_masks_and_order_draws_the_same(
    models, planned, tensors_in, tmp_path
):
    base, one, two, _ = models
    for name, listed in (("twice", [one, one]), ("ab", [one, two]), ("ba", [two, one])):
        run(planned("dare_linear", listed, base=base, density=0.5, weight=0.5), tmp_path / name)
    assert written(tmp_path / "ab") == written(tmp_path / "ba")
    folders = (base.checkpoint.root, one.checkpoint.root, tmp_path / "twice")
    before, model, merged = (tensors_in(f)["model.norm.weight"] for f in folders)
    kept = ((merged - before) / (model - before)).round().long()
    assert (torch.bincount(kept) > 150).tolist() == [True] * 3  # never, once, twice


@pytest.mark.parametrize(
    ("who", "bad"), [("base", math.nan), ("two", math.inf), ("two", -math.inf)]
)
@pytest.mark.parametrize("method", METHODS)
def test_a_number_that_is_not_finite_is_refused(
    *, method, who, bad, make_parent, planned, tmp_path
):
    states = {
        name: {"a.weight": torch.randn(20, 30), "z.weight": torch.randn(7)}
        for name in ("base", "one", "two")
    }
    states[who]["a.weight"][13, 17] = bad
    base, one, two = (make_parent(name, state) for name, state in states.items())
    takes = METHODS[method].n_models[1]
    uses_base = METHODS[method].base != "none"
    listed = [two, one][:takes] if uses_base else [base, two, one][:takes]
    if takes == 1 and not uses_base:
        listed = [base if who == "base" else two]
    plan = planned(method, listed, base=base)
    folder = tmp_path / "out"
    with pytest.raises(
        NonFinite, match=rf"tensor a\.weight of .*/{who}/model.* holds NaN or infinity"
    ):
        run(plan, folder, jobs=2, chunk=100)
    assert not list(folder.iterdir())


def test_not_finite_in_a_tensor_that_all_share_is_refused_too(make_parent, planned, tmp_path):
    shared = torch.ones(5)
    shared[3] = math.nan
    base, one = (make_parent(n, {"same": shared, "w": torch.randn(4)}) for n in ("base", "one"))
    plan = planned("task_arithmetic", [one], base=base)
    assert plan.steps[0].why == "equal in all parents"
    with pytest.raises(NonFinite, match=r"tensor same of .*/base/"):
        run(plan, tmp_path / "out")


def test_numbers_beyond_float32_are_told_from_infinity(make_parent, planned, tmp_path):
    one = make_parent("one", {"w": torch.tensor([1.0, 1e39], dtype=torch.float64)})
    with pytest.raises(NonFinite, match="holds numbers beyond float32"):
        run(planned("linear", [one, one]), tmp_path / "out")


def test_a_result_that_its_dtype_cannot_hold_is_refused(make_parent, planned, tmp_path):
    one = make_parent("one", {"big": torch.tensor([1.0, 70_000.0]), "small": torch.ones(3)})
    plan = planned("linear", [one, one], dtype="F16")
    with pytest.raises(NonFinite, match="linear makes tensor big not finite in F16"):
        run(plan, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_large_finite_numbers_are_no_infinity(make_parent, planned, tensors_in, tmp_path):
    one = make_parent("one", {"w": torch.full((1000,), 3e38), "h": torch.full((9,), 6e4).half()})
    run(planned("linear", [one, one]), tmp_path / "out")
    assert torch.equal(tensors_in(tmp_path / "out")["w"], torch.full((1000,), 3e38))


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_the_first_error_is_always_the_same(jobs, make_parent, planned, tmp_path):
    state = {f"t{i:02}": torch.randn(2000) for i in range(40)}
    for name in ("t07", "t08", "t09", "t31"):
        state[name][1999] = math.nan
    one = make_parent("one", state)
    plan = planned("linear", [one, one])
    for i in range(4):
        with pytest.raises(NonFinite, match="tensor t07 of"):
            run(plan, tmp_path / str(i), jobs=jobs, chunk=100)


def test_a_parent_that_became_shorter_is_noticed(models, planned, tmp_path):
    plan = plan_of("linear", models, planned)
    file = plan.models[0].checkpoint.tensors[-1].file
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(FileChanged, match=re.escape(str(file))):
        run(plan, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_parent_that_changed_its_bytes_is_noticed(models, planned, tmp_path):
    plan = plan_of("linear", models, planned)
    file = plan.models[1].checkpoint.tensors[0].file
    file.write_bytes(file.read_bytes())
    os.utime(file, ns=(1, 1))
    with pytest.raises(FileChanged, match=re.escape(f"{file} of two changed while it was read")):
        run(plan, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


class Interrupts:
    """Progress that is interrupted after some bytes, as a user does."""

    def __init__(self, after):
        self.left = after

    def start(self, what, total_bytes):
        self.total = total_bytes

    def advance(self, n_bytes):
        self.left -= n_bytes
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [0, 5000])
def test_an_interrupt_leaves_nothing(after, models, planned, tmp_path):
    plan = plan_of("ties", models, planned)
    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        run(plan, tmp_path / "out", progress=Interrupts(after), jobs=2)
    assert not list((tmp_path / "out").iterdir())
    assert torch.get_num_threads() == threads


def test_progress_counts_every_byte_once(models, planned, tmp_path):
    class Counts:
        total = done = 0

        def start(self, what, total_bytes):
            self.total = total_bytes

        def advance(self, n_bytes):
            assert n_bytes >= 0
            self.done += n_bytes

    for i, (method, chunk) in enumerate([("linear", 7), ("ties", None), ("dare_ties", 1000)]):
        plan = plan_of(method, models, planned)
        progress = Counts()
        run(plan, tmp_path / str(i), jobs=1, chunk=chunk, progress=progress)
        assert progress.total == plan.read_bytes + plan.write_bytes
        assert progress.done == progress.total


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties"])
def test_change_is_measured_against_the_reference(method, models, planned, tensors_in, tmp_path):
    plan = plan_of(method, models, planned)
    change = run(plan, tmp_path / "out", jobs=2, chunk=100)
    before = tensors_in(plan.reference.checkpoint.root)
    after = tensors_in(tmp_path / "out")
    names = [*TENSORS, "frozen.weight"]
    old = np.concatenate([before[n].float().double().numpy().ravel() for n in names])
    delta = np.concatenate([after[n].double().numpy().ravel() for n in names]) - old
    assert change.n == len(old)
    assert change.n_changed == np.count_nonzero(delta)
    assert change.sum_sq == pytest.approx(float(delta @ delta), rel=1e-9)
    assert change.base_sum_sq == pytest.approx(float(old @ old), rel=1e-9)
    assert change.max_abs == np.abs(delta).max()
    assert change.relative_l2 == pytest.approx(np.linalg.norm(delta) / np.linalg.norm(old))


def test_a_change_of_nothing_is_zero():
    assert Change() + Change() == Change()
    assert Change(n=3).relative_l2 == 0.0


def test_a_full_disk_is_said_before_any_work(models, planned, tmp_path, monkeypatch):
    def full(handle, offset, length):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NotEnoughDisk, match="no space is left"):
        run(plan_of("linear", models, planned), tmp_path / "out", progress=Interrupts(0))
    assert not list((tmp_path / "out").iterdir())
