"""Accelerators: the same bytes on every one there is, and by rules on those that are not here."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from elsewhere import THERE, Elsewhere
from safetensors.torch import save_file

from engine import kernels
from engine.arithmetic import applied, seen_slice
from engine.device import applied_on, device_of
from engine.draws import Draws
from engine.journal import begun
from engine.methods import all_methods
from engine.reader import Reader
from engine.recipe import AdapterSize
from engine.run import run_plan
from engine.slices import Slices
from engine.survey import survey, survey_tensor
from registry.errors import Interrupted, NonFinite, NotEnoughMemory, UnknownDevice
from registry.progress import SILENT, Silent

METHODS = all_methods()
DEVICES = [
    torch.device("cpu"),
    *(torch.device("cuda", i) for i in range(torch.cuda.device_count())),
]
"""The processor does what an accelerator would, without kernels; and all accelerators that this machine has."""

SHAPES = {
    "lm_head.weight": ((30, 40), torch.float16),
    "model.embed_tokens.weight": ((150, 9), torch.bfloat16),
    "model.layers.0.mlp.up_proj.weight": ((40, 33), torch.float32),
    "model.layers.0.conv.weight": ((5, 4, 3), torch.float64),
    "model.norm.weight": ((140_001,), torch.bfloat16),
    "scale": ((), torch.float32),
}
PORTABLE = {
    "breadcrumbs", "breadcrumbs_ties", "cast", "consensus", "dare", "dare_k", "dare_linear", "dare_ties", "emr", "expo",
    "karcher", "linear", "localize_and_stitch", "magmax", "model_stock", "multislerp", "nearswap", "nuslerp",
    "passthrough", "prune_magnitude", "ram", "ramplus", "sce", "slerp", "task_arithmetic", "ties", "varm", "widen",
}  # fmt: skip


def choices():
    """Each portable method by its defaults, and with each other value of its choices and flags."""
    for name in sorted(PORTABLE):
        yield pytest.param(name, {}, id=name)
        for each in METHODS[name].parameters:
            values = each.choices or ((False, True) if each.kind == "flag" else ())
            for value in values:
                parameters = {each.keyword: value}
                if value != each.default and METHODS[name].anywhere_with(parameters):
                    yield pytest.param(name, parameters, id=f"{name}-{each.name}-{value}")
    yield pytest.param("sce", {"select_topk": 0.3}, id="sce-select_topk-0.3")
    yield pytest.param("emr", {"task": 2}, id="emr-task-2")
    yield pytest.param("nearswap", {"t": 0.0}, id="nearswap-t-0")
    yield pytest.param("consensus", {"at_least": 1, "lambda_": 0.3}, id="consensus-at_least-1")


@pytest.fixture(scope="module")
def states():
    """A base and three models near to it, with zeros of both signs, and with equal changes."""
    generator = torch.Generator().manual_seed(0)
    base = {n: torch.randn(s, generator=generator).to(d) for n, (s, d) in SHAPES.items()}
    for values in base.values():
        values.view(-1)[::5] = -0.0
        values.view(-1)[1::9] = 0.0
    made = [base]
    for _ in range(3):
        near = {
            n: (v.double() + 0.01 * torch.randn(v.shape, generator=generator)).to(v.dtype)
            for n, v in base.items()
        }
        for name, values in near.items():
            values.view(-1)[1::10] = base[name].view(-1)[1::10]
        made.append(near)
    return made


@pytest.fixture(scope="module")
def parents(states, parent_at, tmp_path_factory):
    """The base and the models, on disk."""
    folders = [tmp_path_factory.mktemp(f"parent-{i}") for i in range(len(states))]
    for folder, state in zip(folders, states, strict=True):
        save_file(state, folder / "model.safetensors")
        (folder / "config.json").write_text("{}", encoding="utf-8")
    return [parent_at(folder) for folder in folders]


@pytest.fixture
def plan_of(parents, planned):
    """The plan of a merge of the three models, by a method and its parameters."""
    base, *others = parents

    def plan(name, parameters=None, **options):
        models = others[: METHODS[name].n_models[1]]
        return planned(name, models, base=base, seed=5, **options, **(parameters or {}))

    return plan


@pytest.fixture
def made(tmp_path):
    """The bytes of a plan's result, and what the run found."""
    count = iter(range(99))

    def make(plan, **options):
        folder = tmp_path / f"made-{next(count)}"
        folder.mkdir()
        outcome = run_plan(plan, folder, metadata={}, jobs=2, **options)
        return (folder / "model.safetensors").read_bytes(), outcome.change, outcome.state

    return make


@pytest.fixture
def on(monkeypatch):
    """The options of a run on a device, whose tensors no kernel takes; for the processor as a device there are none."""

    def options(device):
        if device.type == "cpu":
            monkeypatch.setattr(kernels, "library", lambda: None)
        return {"device": device}

    return options


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize(("name", "parameters"), list(choices()))
def test_every_device_makes_the_same_bytes_and_statistics(
    *, name, parameters, device, plan_of, made, on
):
    plan = plan_of(name, parameters)
    assert any(map(plan.is_portable, plan.steps))
    expected = made(plan)
    assert made(plan, **on(device)) == expected
    if not parameters:
        assert made(plan, **on(device), chunk=70_000)[0] == expected[0]


@pytest.mark.parametrize(("name", "parameters"), list(choices()))
def test_a_method_takes_only_steps_that_all_devices_round_alike(name, parameters, plan_of):
    plan, steps = plan_of(name, parameters), []
    with Reader() as reader:
        found = survey(plan, reader, jobs=1, memory_bytes=1 << 28)
        for step in filter(plan.is_portable, plan.steps):
            whole = found
            if plan.surveys(step) == "tensor":
                whole = survey_tensor(plan, step, reader, None)
            for ends in plan.slices(step):
                expected = applied(plan, step, seen_slice(plan, step, reader, *ends), whole)
                inputs = seen_slice(plan, step, reader, *ends)
                with Elsewhere() as device:
                    result = applied_on(THERE, plan, step, inputs, whole)
                steps += device.steps
                assert type(result) is torch.Tensor
                assert torch.equal(
                    result.reshape(-1).view(torch.int32), expected.reshape(-1).view(torch.int32)
                )
    assert {"_to_copy", "copy"} <= set(steps)


def test_the_device_that_is_none_refuses_what_devices_differ_in():
    with Elsewhere():
        there = torch.ones(3).to(THERE)
        for step in (
            lambda: there / 3, lambda: there + torch.ones(3), there.exp, there.sum,
            lambda: there.add_(there, alpha=2), lambda: torch.addcmul(there, there, there),
            lambda: torch.maximum(there, there),
        ):  # fmt: skip
            with pytest.raises(AssertionError):
                step()
        with pytest.raises(RuntimeError):
            there.numpy()
        assert not kernels.ready([there])
        assert torch.equal((there / there).cpu(), torch.ones(3))


def test_methods_that_are_portable_are_those_that_the_documents_name():
    found = {
        name
        for name, method in METHODS.items()
        if method.anywhere_with({p.name: p.default for p in method.parameters})
    }
    assert found == PORTABLE


def test_the_readme_names_the_portable_methods():
    text = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"steps that all devices round alike: ([^.]*)\.", text)
    assert set(re.findall(r"`(\w+)`", named)) == PORTABLE


def test_what_stays_on_the_processor_is_said(plan_of):
    plan, fisher = plan_of("ties"), plan_of("fisher")
    assert (plan.stays("cpu"), fisher.stays("cpu"), plan.stays("cuda")) == (None, None, None)
    said = "6 of 6 tensors are merged on the processor, not on cuda: fisher with these parameters cannot do otherwise"
    assert fisher.stays("cuda") == said
    assert fisher.remarks(1 << 40, "cuda") == [said]
    first, *others = plan.steps
    made = replace(plan, steps=(replace(first, statistics=()), *others))
    said = made.stays("cuda:0")
    assert said is not None
    assert said.startswith(
        "1 of 6 tensors are merged on the processor, not on cuda:0: they are computed"
    )
    adapters = replace(plan, recipe=replace(plan.recipe, adapter=AdapterSize(8)))
    assert adapters.stays("cuda") == "adapters are merged on the processor, not on cuda"
    assert adapters.remarks(0, "cpu") == []


@pytest.mark.parametrize("parameters", [{"per": "row"}, {"per": "tensor"}])
def test_parameters_that_need_rows_keep_a_method_on_the_processor(parameters, plan_of, made):
    plan = plan_of("breadcrumbs", parameters)
    assert any(map(plan.is_portable, plan.steps)) == (parameters["per"] == "tensor")
    said = plan.stays("cuda:1")
    assert (said is None) == (parameters["per"] == "tensor")
    if said is not None:
        assert said.startswith("6 of 6 tensors are merged on the processor, not on cuda:1: bread")
    assert made(plan, device=DEVICES[-1]) == made(plan)


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_stochastic_rounding_and_other_dtypes_are_the_same(device, plan_of, made, on):
    plan = plan_of("dare_ties", dtype="BF16")
    stochastic = replace(plan, recipe=replace(plan.recipe, rounding="stochastic"))
    plans = [plan, stochastic, plan_of("dare_ties", dtype="F32")]
    expected = [made(each) for each in plans]
    assert [made(each, **on(device)) for each in plans] == expected
    assert expected[0] != expected[1]


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("bad", range(4))
def test_what_is_not_finite_is_named_alike(*, bad, device, states, make_parent, planned, made, on):
    parents = []
    for i, state in enumerate(states):
        here = {name: values.clone() for name, values in state.items()}
        if i == bad:
            here["model.norm.weight"][139_000] = float("nan")
        parents.append(make_parent(str(i), here))
    plan = planned("task_arithmetic", parents[1:], base=parents[0])
    with pytest.raises(NonFinite) as plain:
        made(plan)
    with pytest.raises(NonFinite) as there:
        made(plan, **on(device))
    assert plain.value.message == there.value.message
    assert f"{bad}/model" in plain.value.message


class Stops(Silent):
    """Progress that is interrupted after some units of the merge."""

    def __init__(self, after):
        self.left = after

    def advance(self, n_bytes):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("begins", ["there", "here"])
def test_a_run_that_was_stopped_goes_on_elsewhere(begins, device, plan_of, made, tmp_path):
    plan, settings = plan_of("dare_ties"), {"metadata": {}, "shard_bytes": 1 << 30}
    order = [device, None] if begins == "there" else [None, device]

    def carry_out(where, progress):
        with begun(tmp_path / "merged", plan, run="r", **settings) as journal:
            outcome = run_plan(
                plan,
                journal.folder,
                jobs=1,
                device=where,
                progress=progress,
                journal=journal,
                **settings,
            )
            journal.take_name(tmp_path / "merged")
        return outcome

    with pytest.raises(Interrupted):
        carry_out(order[0], Stops(4))
    outcome = carry_out(order[1], SILENT)
    assert outcome.n_resumed > 0
    merged = (tmp_path / "merged" / "model.safetensors").read_bytes()
    assert (merged, outcome.change, outcome.state) == made(plan)


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_what_is_drawn_is_where_it_is_needed(device):
    plain = Draws(5, "w", ("a",), 3)
    there = replace(plain, device=device).at(7).uniform(0, torch.Size((2, 3)))
    assert there.device == device
    assert torch.equal(there.cpu(), plain.at(7).uniform(0, torch.Size((2, 3))))


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_nothing_that_was_read_is_changed(device, plan_of):
    plan = plan_of("task_arithmetic")
    step = next(s for s in plan.steps if s.dtype == "F32" and s.shape)
    with Reader() as reader:
        inputs = seen_slice(plan, step, reader, 0, step.n_params)
        assert isinstance(inputs.models, Slices)
        before = [part.clone() for part in inputs.models.stored]
        result = applied_on(device, plan, step, inputs, None)
        result.zero_()
        assert all(map(torch.equal, before, inputs.models.stored))


def test_a_device_that_is_full_is_an_error_with_a_name(plan_of, made):
    def full(deltas, **_):
        raise torch.OutOfMemoryError

    plan = plan_of("task_arithmetic")
    method = replace(plan.recipe.method, function=full, context=())
    plan = replace(plan, recipe=replace(plan.recipe, method=method))
    with pytest.raises(NotEnoughMemory, match=r"the memory of cpu .*: tensor ") as error:
        made(plan, device=torch.device("cpu"))
    assert "--jobs 1" in error.value.hint


def test_slices_that_are_none_are_no_matter_for_a_device(plan_of):
    plan = plan_of("linear")
    with Reader() as reader:
        inputs = seen_slice(plan, plan.steps[0], reader, 0, 4)
        with pytest.raises(TypeError, match="not in slices"):
            applied_on(DEVICES[0], plan, plan.steps[0], replace(inputs, models=[]), None)


def test_the_processor_is_no_accelerator():
    assert device_of("cpu") is None


@pytest.mark.parametrize(
    "name", ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "mps", "CUDA", "cuda:0 "]
)
def test_words_that_name_no_device_are_refused(name):
    with pytest.raises(UnknownDevice, match="it must be cpu, cuda or cuda:N") as error:
        device_of(name)
    assert "--device" in error.value.hint


@pytest.mark.parametrize("index", range(len(DEVICES) + 1))
def test_a_cuda_device_is_found_if_it_is_there(index):
    name, n = f"cuda:{index}", torch.cuda.device_count()
    if index < n:
        assert device_of(name) == torch.device(name)
        assert device_of("cuda") == torch.device("cuda:0")
    else:
        with pytest.raises(UnknownDevice, match=f"device {name} is not there: torch .* finds"):
            device_of(name)
