"""Laws that every merge method obeys, found by its file and called by what it declares.

Each method has a twin in `tests/reference/`, NumPy in float64 written from the paper. It takes the models' arrays
(weights or task vectors), the method's parameters by their names in the engine, and what the engine adds: ``base``,
``tensor``, ``uniforms`` (one array of draws per model) and ``statistics``; a method that surveys the model takes the
one tensor for the whole. A law that a method does not obey is in the twin's ``EXEMPT``, with the reason.
"""

import inspect
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.draws import Draws
from engine.method import Seen, alone
from engine.methods import all_methods
from registry.errors import BadParameter

METHODS = all_methods()

TWINS = {name: import_module(f"reference.{name}") for name in METHODS}
LAWS = {"alone", "coarse", "copies", "finite", "order", "random", "unbiased"}

SHAPES = [(), (0,), (1,), (7,), (40,), (2, 4), (3, 0), (0, 3), (1, 5), (5, 1), (9, 8), (4, 3, 2)]
NAMES = ["model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight", "lm_head.weight"]
NUMBERS = (-2.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0, 3.0)

few = settings(deadline=None, max_examples=10)


def exempt(method, law):
    """Tell whether a method says, with a reason, that it does not obey a law."""
    return bool(getattr(TWINS[method.name], "EXEMPT", {}).get(law))


def methods_that(fits, law=""):
    """Run a test with each method that fits and obeys the law."""
    found = [m for m in METHODS.values() if fits(m) and not exempt(m, law)]
    return pytest.mark.parametrize("method", found, ids=[method.name for method in found])


every_method = methods_that(lambda _: True)


def numbers(shape, seed, *, coarse):
    """Binary fractions, so that sums are exact: whole numbers, with many equal ones, or fine ones without."""
    generator = torch.Generator().manual_seed(seed)
    if coarse:
        return torch.randint(-4, 5, shape, generator=generator).float()
    return torch.randn(shape, generator=generator).mul_(1024).round_().div_(1024)


@st.composite
def families(draw, method, *, at_least=1):
    """A base and as many models (or task vectors) as the method takes, some entries of which cancel."""
    coarse = draw(st.booleans()) and not exempt(method, "coarse")
    shape, seed = draw(st.sampled_from(SHAPES)), draw(st.integers(0, 2**32))
    low, high = method.n_models
    n = draw(st.integers(max(low, at_least), max(at_least, min(high, 4))))
    models = [numbers(shape, seed + i, coarse=coarse) for i in range(n)]
    if n > 1:
        against = numbers(shape, seed + n, coarse=coarse) > 0.5
        models[1] = torch.where(against, -models[0], models[1])
    return models, numbers(shape, seed + n + 1, coarse=coarse)


@st.composite
def choices(draw, method, n, numbers=NUMBERS):
    """A value for each of the method's parameters."""
    values = {}
    for each in method.parameters:
        if each.kind in {"number", "count"}:
            fit = [x for x in numbers if x in each.range and (each.kind == "number" or x == int(x))]
            right = st.sampled_from([int(x) for x in fit] if each.kind == "count" else fit)
            one_each = each.per_model and draw(st.booleans())
            values[each.keyword] = draw(
                st.lists(right, min_size=n, max_size=n) if one_each else right
            )
        else:
            kinds = each.choices or (False, True)
            values[each.keyword] = draw(st.sampled_from(kinds))
    normal = values.get("normalize") or values.get("normalize_weights")
    if normal and "weight" in values:
        weight = values["weight"]
        assume(sum(weight) if isinstance(weight, list) else weight)
    return values


def statistics_of(models):
    """Something like Fisher information: positive, of each model's shape."""
    return [model.square().add_(0.5) for model in models]


def call(method, models, base, *, draws=None, tensor=NAMES[0], **parameters):
    draws = draws or Draws(0, tensor, tuple("abcdefgh"))
    statistics = statistics_of(models)
    known = {p.keyword: parameters[p.keyword] for p in method.parameters if p.keyword in parameters}
    whole = None
    if method.scope_with({p.name: p.default for p in method.parameters} | known) == "model":
        seen = Seen(tensor, models, base, draws, statistics)
        surveyed = {name: value for name, value in known.items() if name in method.surveyed}
        whole = method.survey(alone(seen), **surveyed)
    context = {
        "base": base, "tensor": tensor, "draws": draws, "whole": whole, "statistics": statistics,
        "start": 0,
    }  # fmt: skip
    return method.function(models, **{name: context[name] for name in method.context}, **known)


def same_bytes(x, y):
    return x.shape == y.shape and torch.equal(x.view(torch.int32), y.view(torch.int32))


@every_method
@few
@given(data=st.data())
def test_method_agrees_with_the_paper_in_float64(method, data):
    models, base = data.draw(families(method))
    parameters = data.draw(choices(method, len(models)))
    tensor = data.draw(st.sampled_from(NAMES))
    result = call(method, models, base, tensor=tensor, **parameters)
    draws = Draws(0, tensor, tuple("abcdefgh"))
    context = {
        "base": base.double().numpy(),
        "tensor": tensor,
        "draws": [draws.uniform(i, base.shape).double().numpy() for i in range(len(models))],
        "statistics": [s.double().numpy() for s in statistics_of(models)],
    }
    twin = getattr(TWINS[method.name], method.name)
    asked = {
        "uniforms" if k == "draws" else k: v for k, v in context.items() if k in method.context
    }
    added = {k: v for k, v in asked.items() if k in inspect.signature(twin).parameters}
    expected = twin([m.double().numpy() for m in models], **added, **parameters)
    assert expected.shape == tuple(result.shape)
    np.testing.assert_allclose(result.double().numpy(), expected, rtol=1e-5, atol=1e-4)


@every_method
@few
@given(data=st.data())
def test_inputs_stay_as_they_were_and_the_result_is_new(method, data):
    models, base = data.draw(families(method))
    parameters = data.draw(choices(method, len(models)))
    before = [x.clone() for x in (base, *models)]
    result = call(method, models, base, **parameters)
    assert result.dtype == torch.float32
    assert result.shape == base.shape
    assert all(same_bytes(x, y) for x, y in zip(before, (base, *models), strict=True))
    result.fill_(7)
    assert all(same_bytes(x, y) for x, y in zip(before, (base, *models), strict=True))


@methods_that(lambda _: True, "finite")
@few
@given(data=st.data())
def test_finite_models_give_a_finite_result(method, data):
    models, base = data.draw(families(method))
    parameters = data.draw(choices(method, len(models)))
    extremes = torch.tensor([0.0, -0.0, 1e-45, -1e-38, 1e-20, 1.0, -1e10, 1e30])
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
    wild = [extremes[torch.randint(0, 8, base.shape, generator=generator)] for _ in (base, *models)]
    zero = data.draw(st.integers(0, len(models)))
    wild[zero].zero_()
    assert call(method, wild[1:], wild[0], **parameters).isfinite().all()


@methods_that(lambda _: True, "alone")
@few
@given(data=st.data())
def test_one_model_alone_is_given_back(method, data):
    models, base = data.draw(families(method))
    if method.n_models[0] == 1:
        assert torch.equal(call(method, models[:1], base, density=1.0), models[0])
    else:
        twice = models[:1] * method.n_models[0]
        torch.testing.assert_close(call(method, twice, base, density=1.0), models[0])


@methods_that(lambda _: True, "copies")
@few
@given(data=st.data())
def test_copies_of_one_model_give_that_model(method, data):
    models, base = data.draw(families(method))
    n = len(models)
    merged = call(method, models[:1] * n, base, weight=1 / n, density=1.0)
    torch.testing.assert_close(merged, models[0])


@methods_that(lambda method: "draws" in method.context, "unbiased")
def test_random_methods_give_the_model_in_the_mean(method):
    model, base = numbers((50_000,), 0, coarse=False), torch.zeros(50_000)
    merged = call(method, [model], base, density=0.25)
    error = (merged - model).double()
    deviation = float(model.double().square().sum() * 3) ** 0.5  # of Σ (m/p - 1) x, with p = 1/4
    assert abs(float(error.sum())) < 5 * deviation
    assert 0.2 < float((merged != 0).double().mean()) < 0.3


@methods_that(lambda method: method.parameter("lambda"))
@few
@given(data=st.data())
def test_lambda_zero_gives_the_base(method, data):
    models, base = data.draw(families(method))
    parameters = data.draw(choices(method, len(models))) | {"lambda_": 0.0}
    delta = call(method, models, base, **parameters)
    assert method.space == "delta"
    assert torch.equal(base + delta, base)


@methods_that(lambda _: True, "order")
@few
@given(data=st.data())
def test_order_of_models_does_not_matter(method, data):
    models, base = data.draw(families(method, at_least=2))
    n = len(models)
    parameters = data.draw(choices(method, n))
    order = data.draw(st.permutations(range(n)))
    keys = tuple("abcdefgh")[:n]
    one = call(method, models, base, draws=Draws(0, "w", keys), **parameters)
    turned = {
        name: [value[i] for i in order] if isinstance(value, list) else value
        for name, value in parameters.items()
    }
    other = call(
        method,
        [models[i] for i in order],
        base,
        draws=Draws(0, "w", tuple(keys[i] for i in order)),
        **turned,
    )
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


@methods_that(lambda method: method.scope == "element")
@few
@given(data=st.data())
def test_a_slice_of_the_models_gives_that_slice_of_the_result(method, data):
    size, seed = data.draw(st.integers(1, 3000)), data.draw(st.integers(0, 2**32))
    n = min(3, method.n_models[1])
    models = [numbers((size,), seed + i, coarse=False) for i in range(n)]
    parameters = data.draw(choices(method, n, (0, 1, 0.3, 0.7, 1.1)))
    assume(
        method.scope_with({p.name: parameters[p.keyword] for p in method.parameters}) == "element"
    )
    a, b = sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size))))
    draws = Draws(seed, "w", ("a", "b", "c"), start=data.draw(st.integers(0, 2**40)))
    whole = call(method, models, models[0], draws=draws, **parameters)
    part = call(
        method,
        [m[a:b] for m in models],
        models[0][a:b],
        draws=draws.at(draws.start + a),
        **parameters,
    )
    assert same_bytes(whole[a:b], part)


@every_method
def test_bytes_do_not_depend_on_the_number_of_threads(method):
    n = min(3, method.n_models[1])
    base, *models = (
        torch.randn(301, 501, generator=torch.Generator().manual_seed(i)) for i in range(n + 1)
    )
    names = NAMES if "tensor" in method.context else NAMES[:1]
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append([call(method, models, base, tensor=name) for name in names])
    finally:
        torch.set_num_threads(before)
    assert all(same_bytes(one, two) for one, two in zip(*results, strict=True))


@methods_that(lambda method: "draws" in method.context, "random")
def test_another_seed_gives_another_result(method):
    model = torch.ones(1000)
    one, other = (call(method, [model], model, draws=Draws(s, "w", ("a",))) for s in (0, 1))
    assert not torch.equal(one, other)


@every_method
def test_values_out_of_range_are_refused(method):
    for each in method.parameters:
        wrong = (each.range.low - 1, each.range.high + 1, float("nan")) if each.range else (7, "x")
        for value in wrong:
            with pytest.raises(BadParameter, match=each.name):
                each.check(value)


@every_method
def test_what_a_method_does_not_obey_is_a_law_and_has_a_reason(method):
    reasons = getattr(TWINS[method.name], "EXEMPT", {})
    assert set(reasons) <= LAWS
    assert all(len(reason.split()) > 2 for reason in reasons.values())


@every_method
def test_what_other_tools_do_is_a_choice_of_parameters(method):
    for values in method.compat.values():
        assert all(method.parameter(name).check(value) == value for name, value in values.items())


@every_method
def test_methods_cite_and_describe_themselves(method):
    assert method.paper
    assert method.summary.endswith(".")
    assert 1 <= method.n_models[0] <= method.n_models[1]
    assert method.name in all_methods()
