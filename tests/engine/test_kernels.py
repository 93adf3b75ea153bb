"""Compiled kernels: the same bits as torch, by themselves and in runs of every method."""

import shutil

import numpy as np
import pytest
import torch

from engine import kernels, ops, products
from engine.change import Change, closed, compared, ending
from engine.draws import Draws
from engine.methods import all_methods
from engine.pick import Drawn, Largest, Middle
from engine.products import SUMMED
from engine.run import run_plan
from engine.selected import Selected
from engine.slices import Slices
from engine.variance import agreed
from registry.errors import NonFinite
from registry.header import TensorRef

HAS_COMPILER = bool(shutil.which("cc") or shutil.which("gcc"))
METHODS = all_methods()
LONG = 70_001
HAS_STATISTICS = ("fisher", "regmean")


@pytest.fixture
def with_and_without(monkeypatch):
    """Compute something with kernels, if there is a compiler, and without."""

    def both(compute):
        first = compute()
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "library", lambda: None)
            return first, compute()

    return both


def random(seed, n=LONG, dtype=torch.float32):
    values = torch.randn(n, generator=torch.Generator().manual_seed(seed)) * 0.02
    values[::7] = 0
    values[1::11] = -0.0
    return values.to(dtype)


def slices(dtypes, shape=None, *, base=torch.bfloat16):
    refs = [TensorRef("w", "F32", (LONG,), "model.safetensors", 0, 0)] * len(dtypes)
    stored = [random(i, dtype=dtype) for i, dtype in enumerate(dtypes, 1)]
    origin = None if base is None else (refs[0], random(0, dtype=base))
    return Slices(refs, stored, torch.Size(shape or (LONG,)), origin)


def same(x, y):
    return x.shape == y.shape and torch.equal(
        x.reshape(-1).view(torch.uint8), y.reshape(-1).view(torch.uint8)
    )


DTYPES = [torch.bfloat16, torch.float32, torch.float16]
PICKS = {
    "all": [None] * 3,
    "largest": [Largest(0.01, 300), Largest(0.0, 9), Largest(0.02, LONG)],
    "middle": [
        Middle(Largest(0.01, 300), Largest(0.03, 200)),
        Middle(Largest(0.0, 9), Largest(0.02, LONG)),
        Middle(Largest(0.02, LONG), Largest(3.4e38, 0)),
    ],
    "drawn": [Drawn(Draws(5, "w", ("a", "b", "c"), 3), i, p) for i, p in enumerate((0.5, 0.1, 1))],
}


def test_there_are_kernels_where_there_is_a_compiler(monkeypatch):
    assert (kernels.library() is not None) == HAS_COMPILER
    assert kernels.ready([torch.ones(3)]) == HAS_COMPILER
    assert not kernels.ready([torch.ones(3, dtype=torch.float64)])
    assert not kernels.ready([torch.ones(4, 4).T[:2]])
    monkeypatch.setattr(kernels, "library", lambda: None)
    assert not kernels.ready([torch.ones(3)])


@pytest.mark.parametrize("base", [None, *DTYPES])
def test_slices_are_read_alike(base, with_and_without):
    for i in range(3):
        one, other = with_and_without(lambda i=i: slices(DTYPES, base=base)[i])
        assert same(one, other)


@pytest.mark.parametrize("picks", PICKS.values(), ids=PICKS)
@pytest.mark.parametrize("base", [None, torch.bfloat16])
def test_weighted_sums_are_alike(base, picks, with_and_without):
    one, other = with_and_without(
        lambda: ops.weighted_sum(slices(DTYPES, base=base), [0.3, -1.7, 0.9], picks)
    )
    assert same(one, other)


@pytest.mark.parametrize("picks", PICKS.values(), ids=PICKS)
@pytest.mark.parametrize("sign", ["sum", "count"])
@pytest.mark.parametrize("elect", ["parts", "values"])
@pytest.mark.parametrize(("winner", "normalize"), [(-1, True), (0, True), (1, False)])
def test_agreements_are_alike(*, picks, sign, elect, winner, normalize, with_and_without):
    one, other = with_and_without(
        lambda: ops.agreement(
            slices(DTYPES), [0.5, -0.5, 1.0], scales=[0.7, 1.3, -0.2], picks=picks, sign=sign,
            elect=elect, winner=winner, normalize=normalize, lambda_=0.9,
        )
    )  # fmt: skip
    assert same(one, other)


@pytest.mark.parametrize("sign", ["sum", "count"])
def test_votes_are_alike(sign, with_and_without):
    picks = PICKS["largest"]
    one, other = with_and_without(lambda: ops.votes(slices(DTYPES), [1.0, 0.5, 2.0], picks, sign))
    assert one == other != 0


@pytest.mark.parametrize("by_row", [False, True])
def test_weighted_columns_are_alike(by_row, with_and_without):
    shape = (LONG // 23, 23) if LONG % 23 == 0 else (1, LONG)
    scales = torch.rand((3, shape[0] if by_row else shape[1]))
    one, other = with_and_without(
        lambda: ops.weighted_columns(slices(DTYPES, shape), scales, by_row=by_row)
    )
    assert same(one, other)


@pytest.mark.parametrize("block", [64, 1000, SUMMED])
def test_dot_products_are_alike(block, with_and_without):
    pairs = [(0, 0), (0, 1), (2, 1), (3, 3), (3, 0)]
    one, other = with_and_without(lambda: products.block_dots(slices(DTYPES), pairs, block))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("n", [kernels.MOST, kernels.MOST + 1])
def test_as_many_models_as_there_may_be(n, with_and_without):
    tensors = [random(i, 100) for i in range(n)]
    pairs = [(i, j) for i in range(n) for j in range(i, n)]
    one, other = with_and_without(lambda: products.block_dots(tensors, pairs, SUMMED))
    assert np.array_equal(one, other)
    assert one.all()
    one, other = with_and_without(lambda: ops.weighted_sum(tensors, [1 / n] * n))
    assert same(one, other)
    one, other = with_and_without(lambda: ops.agreement(tensors, [1 / n] * n))
    assert same(one, other)


def test_more_pairs_than_a_kernel_takes_are_no_zeros():
    tensors = [random(0, 10)]
    if kernels.ready(tensors):
        with pytest.raises(ValueError, match="products takes no so many"):
            products.block_dots(tensors, [(0, 0)] * 5000, SUMMED)


@pytest.mark.parametrize("columns", [1, 2, 23, 1025])
def test_dot_products_of_columns_are_alike(columns, with_and_without):
    tensors = [random(i, 130 * columns).reshape(130, columns) for i in range(3)]
    pairs = [(0, 0), (0, 1), (1, 2)]
    one, other = with_and_without(lambda: torch.stack(products.column_dots(tensors, pairs)))
    assert torch.equal(one, other)


@pytest.mark.parametrize("start", [0, 1, 12_345])
def test_draws_are_alike(start, with_and_without):
    draws = Draws(9, "w", ("a",), start)
    one, other = with_and_without(lambda: draws.uniform(0, torch.Size((LONG,))))
    assert same(one, other)


def finish(result, reference, dtype, *, add) -> tuple[torch.Tensor, Change] | None:
    """Close a result by itself."""
    end = ending(reference, dtype, add=add)
    if end is None:
        return None
    kernels.finish(result, end)
    return closed(end)


SUMS = {
    "weighted_sum": lambda models: ops.weighted_sum(models, [0.3, -1.7, 0.9]),
    "agreement": lambda models: ops.agreement(models, [0.3, -1.7, 0.9]),
    "agreed": lambda models: agreed(models, [0.3, 1.7, 0.9], Selected(1e-4)),
    "weighted_columns": lambda models: ops.weighted_columns(models, torch.rand(3, LONG)),
}


@pytest.mark.parametrize("base", [None, torch.bfloat16])
@pytest.mark.parametrize("kind", SUMS)
def test_a_sum_is_closed_as_its_result_would_be(kind, base):
    models = slices(DTYPES, base=base)
    torch.manual_seed(0)
    plain = SUMS[kind](models)
    models.closing = ending(models.origin, torch.bfloat16, add=base is not None)
    torch.manual_seed(0)
    made = SUMS[kind](models)
    if models.closing is None:
        assert same(made, plain)
        return
    assert made.is_meta
    assert models.is_closed(made)
    assert models.is_closed(made.reshape(-1))
    out, change = closed(models.closing)
    expected = finish(plain, models.origin, torch.bfloat16, add=base is not None)
    assert expected is not None
    assert same(out, expected[0])
    assert change == expected[1]
    assert not models.is_closed(made * 2)
    with pytest.raises(TypeError, match="as it is"):
        kernels.finish(made * 2, models.closing)


@pytest.mark.parametrize("out", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("add", [False, True])
def test_rounding_and_comparing_is_alike(*, add, stored, out):
    reference, result = random(0, dtype=stored), random(1) * 1e-4
    if not add:
        result += reference.float()
    made = finish(result.clone(), reference, out, add=add)
    expected = result + reference.float() if add else result
    rounded = expected.to(out)
    assert (made is not None) == HAS_COMPILER
    made = made or (rounded, compared(reference.float(), expected, rounded))
    assert same(made[0], rounded)
    assert made[1] == compared(reference.float(), expected, rounded)
    assert made[1].n_changed > 0


def test_numbers_that_no_dtype_holds_are_told():
    result = torch.tensor([1.0, 3.4e38, -3.4e38, 2.0])
    rounded = result.bfloat16()
    made = finish(result, torch.ones(4), torch.bfloat16, add=False)
    made = made or (rounded, compared(torch.ones(4), result, rounded))
    assert same(made[0], result.bfloat16())
    assert not np.isfinite(made[1].sum_sq)


def test_nan_of_any_bits_is_no_number_and_is_told():
    result = torch.tensor([0x7FFFFFFF, -1, 0x7FFF8001], dtype=torch.int32).view(torch.float32)
    made = finish(result, torch.ones(3), torch.bfloat16, add=False)
    made = made or (result.bfloat16(), compared(torch.ones(3), result, result.bfloat16()))
    assert made[0].isnan().all()
    assert not np.isfinite(made[1].sum_sq)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_is_told_also_where_it_is_not_picked(value, with_and_without):
    parts = [torch.ones(5), torch.tensor([1.0, value, 1, 1, 1])]
    refs = [TensorRef("w", "F32", (5,), name, 0, 20) for name in ("a", "b")]

    def refused() -> str:
        models = Slices(refs, parts, torch.Size((5,)), (refs[0], torch.ones(5)))
        with pytest.raises(NonFinite) as error:
            ops.weighted_sum(models, [1.0, 1.0], [None, Largest(np.inf, 0)])
        return error.value.message

    one, other = with_and_without(refused)
    assert one == other
    assert "b" in one


RUNS = [*((m, {}) for m in METHODS if m not in HAS_STATISTICS), ("sce", {"select_topk": 0.4})]


@pytest.mark.parametrize(("method", "parameters"), RUNS)
def test_every_method_makes_the_same_file(
    method, parameters, make_parent, planned, tmp_path, with_and_without
):
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "model.embed_tokens.weight": (300, 40), "model.layers.0.mlp.up_proj.weight": (90, 40),
        "model.norm.weight": (140_001,),
    }  # fmt: skip
    base = {n: torch.randn(s, generator=generator).bfloat16() for n, s in shapes.items()}
    parents = [make_parent("base", base)]
    for name in ("one", "two", "three"):
        noise = {n: torch.randn(s, generator=generator) * 0.01 for n, s in shapes.items()}
        parents.append(make_parent(name, {n: (base[n] + noise[n]).bfloat16() for n in shapes}))
    models = parents[1:][: METHODS[method].n_models[1]]
    plan = planned(method, models, base=parents[0], **parameters)
    count = iter(range(9))

    def made(**options):
        folder = tmp_path / str(next(count))
        folder.mkdir()
        run_plan(plan, folder, metadata={}, **options)
        return (folder / "model.safetensors").read_bytes()

    one, other = with_and_without(made)
    assert one == other
    assert made(chunk=70_000, jobs=2) == one
