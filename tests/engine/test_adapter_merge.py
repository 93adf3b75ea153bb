"""Adapters merged with each other are what real peft makes of the sum, or what our own engine makes of dense deltas."""

import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft_lab import TOKENS, Lab, close, dense, pinned, relative, run, stacked, three_adapters

from engine.adapter import wear
from engine.adapter_delta import task_vectors
from engine.adapter_merge import SPECTRAL, coefficients, merge_adapters
from engine.arithmetic import merged, seen
from engine.methods import all_methods
from engine.pin import pin
from engine.planner import make_plan
from engine.reader import Reader
from engine.recipe import Module, Part, Recipe, Slice
from engine.source import load
from registry.errors import BadParameter, BadRecipe, NonFinite, NotMergeable

Q0, GATE1 = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.gate_proj.weight"


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The network of `three`."""
    lab = Lab(tmp_path_factory.mktemp("three"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lab.base()
    return lab


@pytest.fixture(scope="module")
def three(old):
    """Adapters of different modules, ranks, scales and ways to scale; nobody changes them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return three_adapters(old)


def test_a_weighted_sum_is_the_sum_of_what_the_adapters_add(three):
    weights, names = [0.5, -1.0, 2.0], None
    new, changes, notes = run("task_arithmetic", three, weight=weights, lambda_=0.8)
    names = [change.tensor for change in changes]
    assert names == sorted(dense(new))
    for name, parts in stacked(three, names).items():
        expected = sum(0.8 * w * p.double() for w, p in zip(weights, parts, strict=True))
        close(dense(new)[name], expected)
    ranks = {c.tensor: c.rank for c in changes}
    assert ranks[Q0] == 3 + 2 + 1
    assert ranks[GATE1] == 2 + 4
    assert ranks["model.layers.0.mlp.down_proj.weight"] == 4
    assert max(c.relative_error for c in changes) < 1e-6
    assert "one changes 4 of 14 tensors; elsewhere its task vector is 0" in notes
    assert notes[-1].startswith("relative error of the merged change: ")


def test_peft_computes_with_the_merged_adapter_what_it_computes_with_their_sum(old, three):
    weights = [0.5, -1.0, 2.0]
    new, _, _ = run("task_arithmetic", three, weight=weights)
    old.write(new)
    found = old.in_peft("merged")(TOKENS).logits
    network = old.fresh()
    plain = network.state_dict()
    total = {name: tensor.clone().double() for name, tensor in plain.items()}
    for adapter, weight in zip(three, weights, strict=True):
        own = old.in_peft(adapter.name).merge_and_unload().state_dict()
        for name, tensor in own.items():
            total[name] += weight * (tensor.double() - plain[name].double())
    network.load_state_dict(total)
    torch.testing.assert_close(found, network(TOKENS).logits, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, old.fresh()(TOKENS).logits, atol=1e-2)


def test_peft_concatenates_to_the_same_product(lab):
    lab.base()
    adapters = [lab.adapter("one", 1, r=3), lab.adapter("two", 2, r=5, lora_alpha=20)]
    new, _, _ = run("task_arithmetic", adapters, weight=[0.25, 1.5])
    model = lab.in_peft("one", "two")
    model.add_weighted_adapter(["one", "two"], [0.25, 1.5], "cat", combination_type="cat")
    for pair in new.pairs:
        module = model.get_submodule(f"base_model.model.{pair.path}")
        close(pair.b @ pair.a, module.get_delta_weight("cat").detach())
        assert pair.rank == module.r["cat"]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(weights=st.lists(st.floats(-3, 3), min_size=3, max_size=3), lambda_=st.floats(-2, 2))
def test_law_coefficients_are_those_of_the_method(weights, lambda_, three):
    vectors = task_vectors(three, None)
    recipe = pinned("task_arithmetic", three, weight=weights, lambda_=lambda_)
    plan = make_plan(recipe, vectors.zero, vectors.models)
    step = plan.steps[0]
    expected = [lambda_ * w for w in weights]
    assert coefficients(plan, step) == pytest.approx(expected, rel=1e-6, abs=1e-30)


def merged_dense(recipe, adapters, names):
    """The merge of the dense deltas, as whole models on a base of zeros, by our own engine."""
    vectors = task_vectors(adapters, None)
    plan = make_plan(recipe, vectors.zero if recipe.base else None, vectors.models)
    parts = stacked(adapters, names)
    by_source = {
        id(source): part
        for step in plan.steps
        for source, part in zip(step.sources, parts[step.name], strict=True)
    }

    def read(source):
        return by_source.get(id(source), torch.zeros(source.shape)).clone()

    found = survey_of(plan, read)
    return {
        step.name: merged(plan, step, read, start=0, whole=found)[1].reshape(step.shape)
        for step in plan.steps
    }


def survey_of(plan, read):
    """What the method's survey finds of the dense deltas."""
    method = plan.recipe.method
    if method.survey is None or method.scope_with(plan.steps[0].values) != "model":
        return None
    values = {p.keyword: plan.steps[0].values[p.name] for p in method.parameters}
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    taken = {k: v for k, v in values.items() if k.rstrip("_") in method.surveyed}
    return method.survey(
        lambda measure, **_: iter([(s.name, measure(seen(plan, s, read))) for s in plan.steps]),
        **taken,
    )


LOOKS_AT_THE_BASE = ("arcee_fusion", "widen")


WANTS_STATISTICS = ("fisher", "regmean")


DELTA_METHODS = [
    name for name in all_methods() if name not in (*LOOKS_AT_THE_BASE, *WANTS_STATISTICS, *SPECTRAL)
]


@pytest.mark.parametrize("method", DELTA_METHODS)
def test_every_method_gives_what_it_gives_for_dense_deltas(method, three):
    declared = all_methods()[method]
    adapters = three[: min(3, declared.n_models[1])]
    needed = {p.name: 0.5 for p in declared.parameters if p.default is None}
    recipe = pinned(method, adapters, seed=7, **needed)
    new, changes, _ = merge_adapters(recipe, adapters, None, rank=1000, jobs=2)
    found = dense(new)
    expected = merged_dense(recipe, adapters, [c.tensor for c in changes])
    assert found
    for name, tensor in expected.items():
        zero = torch.zeros_like(tensor).double()
        assert relative(found.get(name, zero), tensor.double()) < 3e-6
    assert max(c.relative_error for c in changes) < 1e-6


@pytest.mark.parametrize("method", SPECTRAL)
def test_spectral_methods_find_no_directions_in_rounding(method, three):
    new, changes, _ = run(method, three, lambda_=1.0)
    each = {name: torch.stack(parts) for name, parts in stacked(three, dense(new)).items()}
    for name, found in dense(new).items():
        total = each[name].double()
        columns = torch.linalg.svd(torch.cat(list(total), 1), full_matrices=False)
        rank = int(columns.S.gt(1e-5 * columns.S[0]).sum())
        sigma = torch.linalg.svdvals(found)
        assert int((sigma > 1e-4 * sigma[0]).sum()) <= rank
        basis = columns.U[:, :rank]
        assert relative(basis @ (basis.T @ found), found) < 1e-5
        if method == "iso_c":
            mean = float(torch.linalg.svdvals(total.sum(0)).sum()) / rank
            torch.testing.assert_close(
                sigma[:rank], torch.full((rank,), mean).double(), rtol=1e-5, atol=0
            )
    assert max(c.relative_error for c in changes) < 1e-6


def test_a_shorter_adapter_is_the_best_of_its_rank(three):
    full, _, _ = run("task_arithmetic", three)
    short, changes, notes = run("task_arithmetic", three, rank=2)
    square, wanted = 0.0, {c.tensor: c for c in changes}
    for name, product in dense(full).items():
        u, s, vh = torch.linalg.svd(product)
        close(dense(short)[name], u[:, :2] * s[:2] @ vh[:2])
        assert wanted[name].rank == 2
        error = float(s[2:].norm() / s.norm())
        assert wanted[name].relative_error == pytest.approx(error, rel=1e-4)
        square += float(s[2:].square().sum())
    total = (square / sum(float(p.square().sum()) for p in dense(full).values())) ** 0.5
    assert notes[-1] == f"relative error of the merged change: {total:.3g}"


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "iso_c"])
def test_energy_decides_the_rank(method, three):
    full, _, _ = run(method, three, rank=1000)
    _, changes, _ = run(method, three, energy=0.9)
    exact = dense(full)
    for change in changes:
        s = torch.linalg.svdvals(exact[change.tensor])
        shares = s.square().cumsum(0) / s.square().sum()
        assert change.rank == int((shares < 0.9 - 1e-9).sum()) + 1
        assert change.relative_error <= 0.1**0.5 + 1e-6


def test_by_default_ranks_add_up(three):
    for method in ("task_arithmetic", "ties"):
        _, changes, _ = run(method, three)
        ranks = {c.tensor.split(".")[-2]: c.rank for c in changes}
        assert (ranks["q_proj"], ranks["v_proj"], ranks["o_proj"]) == (6, 7, 4)
    assert max(c.relative_error for c in changes) > 0.01
    assert all(0 <= c.relative_error < 1 for c in changes)


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "iso_c", "dare_linear"])
def test_the_number_of_threads_changes_nothing(method, three):
    one, two = (run(method, three, jobs=jobs, rank=3)[0].tensors for jobs in (1, 2))
    assert list(one) == list(two)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_progress_is_told_of_every_byte(three):
    told = []

    class Listener:
        def start(self, what, total_bytes):
            told.append((what, total_bytes))

        def advance(self, n_bytes):
            told.append(n_bytes)

    recipe = pinned("ties", three)
    merge_adapters(recipe, three, None, jobs=1, progress=Listener())
    stored = sum(t.n_bytes for adapter in three for t in adapter.checkpoint.tensors)
    assert told[0] == ("merge", stored)
    assert sum(told[1:]) == stored


def test_law_the_order_of_adapters_does_not_matter_to_their_sum(three):
    weights = [0.5, -1.0, 2.0]
    one, _, _ = run("task_arithmetic", three, weight=weights)
    two, _, _ = run("task_arithmetic", three[::-1], weight=weights[::-1])
    for name, product in dense(one).items():
        close(dense(two)[name], product)


def test_linear_without_weights_is_the_mean(three):
    mean, _, _ = run("linear", three)
    total, _, _ = run("task_arithmetic", three, lambda_=1 / 3)
    for name, product in dense(total).items():
        close(dense(mean)[name], product)


@pytest.mark.parametrize(
    ("method", "options"), [("expo", {"alpha": 0.5}), ("passthrough", {"scale": 1.5})]
)
def test_one_adapter_is_scaled(method, options, three):
    new, changes, _ = run(method, three[:1], **options)
    assert {c.rank for c in changes} == {3}
    for name, (delta,) in stacked(three[:1], dense(new)).items():
        close(dense(new)[name], 1.5 * delta)


def test_weights_may_differ_by_tensor(three):
    weight = [[{"filter": "layers.0", "value": 2.0}, {"value": 0.0}], 1.0, 0.0]
    new, _, _ = run("task_arithmetic", three, weight=weight)
    parts = stacked(three, [Q0, GATE1])
    close(dense(new)[Q0], 2 * parts[Q0][0] + parts[Q0][1])
    close(dense(new)[GATE1], parts[GATE1][1])


def test_an_adapter_of_zeros_adds_nothing(lab):
    lab.base()
    one = lab.adapter("one", 1)
    zero = lab.adapter("zero", 2, scale=0.0)
    new, _, _ = run("task_arithmetic", [one, zero])
    alone, _, _ = run("task_arithmetic", [one])
    for name, product in dense(alone).items():
        close(dense(new)[name], product)
    for method in ("task_arithmetic", "ties", "iso_c"):
        with pytest.raises(NotMergeable, match="no module that zero adapt has a merged change"):
            run(method, [zero])
    half, changes, _ = run("localize_and_stitch", [one, zero], density=1e-3)
    assert {c.action for c in changes} == {"low_rank", "left_out"}
    assert len(half.pairs) == sum(c.action == "low_rank" for c in changes)


def test_the_dtype_is_the_recipe_s(three):
    new, changes, _ = run("task_arithmetic", three, dtype="BF16")
    assert {t.dtype for t in new.tensors.values()} == {torch.bfloat16}
    assert all(1e-4 < c.relative_error < 1e-2 for c in changes)
    _, changes, _ = run("ties", three, dtype="BF16", rank=1000)
    assert all(1e-4 < c.relative_error < 1e-2 for c in changes)


def test_law_a_base_that_is_not_needed_changes_nothing(old, three):
    base = old.read("base")
    for method in ("task_arithmetic", "ties", "linear", "iso_cts"):
        one, two = (run(method, three, ground, rank=3)[0] for ground in (None, base))
        assert one.base == str(old.folder / "base")
        assert two.base == "base"
        assert all(torch.equal(one.tensors[n], tensor) for n, tensor in two.tensors.items())
        assert one.config["target_modules"] == two.config["target_modules"]


def test_what_was_merged_can_be_merged_again(old, three):
    new, _, _ = run("task_arithmetic", three)
    old.write(new, "again")
    merged_one = old.read("again")
    again, _, _ = run("task_arithmetic", [merged_one])
    assert all(torch.equal(again.tensors[n], t) for n, t in new.tensors.items())
    config = merged_one.checkpoint.adapter_config
    assert config["task_type"] == "CAUSAL_LM"
    worn = wear(old.read("base"), merged_one)
    product = dense(new)[Q0]
    with Reader() as reader:
        change = load(reader, worn.made[Q0]) - old.fresh().state_dict()[Q0]
    close(change, product)


def test_nan_in_a_factor_and_overflow_are_refused(lab):
    lab.base()
    one = lab.adapter("one", 1)

    def broken(tensors):
        next(iter(tensors.values())).view(-1)[0] = float("nan")

    for method in ("task_arithmetic", "ties"):
        with pytest.raises(NonFinite, match=r"tensor base_model\..* of .*spoilt-one"):
            run(
                method,
                [
                    lab.spoilt("one", broken)
                    if method == "task_arithmetic"
                    else lab.read("spoilt-one")
                ],
            )
    with pytest.raises(NonFinite, match="merged change of tensor model"):
        run("task_arithmetic", [one], weight=1e6, dtype="F16")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": -1}, "rank is -1"),
        ({"energy": 1.5}, "energy 1.5"),
        ({"energy": float("nan")}, "energy nan"),
    ],
)
def test_what_is_out_of_range_is_refused(options, words, three):
    with pytest.raises(BadParameter, match=words):
        run("task_arithmetic", three, **options)


def test_what_adapters_do_not_have_is_refused_in_recipes(three):
    part = [Part(a.name, layers=(0, 1)) for a in three]
    sliced = Recipe("linear", tuple(part), modules=(Module("", (Slice(tuple(part)),)),))
    plain = pinned("linear", three)
    recipes = {
        "layer_range": pin(sliced, None, [a.id for a in three]),
        "chat_template": replace(plain, chat_template="{{ messages }}"),
        "statistics": replace(plain, statistics=("a", "b", "c")),
        "round": replace(plain, rounding="stochastic"),
    }
    for key, recipe in recipes.items():
        with pytest.raises(BadRecipe, match=f"the recipe has {key}, which means nothing"):
            merge_adapters(recipe, three, None)
    for method in LOOKS_AT_THE_BASE:
        with pytest.raises(BadRecipe, match=f"method {method} looks at the base's weights"):
            run(method, three[:1])


def test_a_model_among_the_adapters_is_refused(old, three):
    with pytest.raises(NotMergeable, match="is no adapter"):
        run("task_arithmetic", [three[0], old.read("base")])
    with pytest.raises(NotMergeable, match="is an adapter"):
        run("task_arithmetic", three[:2], three[2])
