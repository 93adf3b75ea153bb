"""Sketches of models on the Hub: the same scalars and the same edges as of files, for a few megabytes each."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from descent_trees import base, saved, summed, tuned

from engine.descent import afar
from engine.descent.afar import MOST_BYTES, needed, sketch, sketch_of
from engine.descent.infer import infer
from engine.descent.patch import N_SCALARS, layout_of
from engine.descent.shelf import shelved, sketches_of, spec_of
from engine.descent.sketch import take
from engine.pieces import Wanted
from registry.catalog import Catalog
from registry.errors import HubBusy, NotHomologous, Offline, RequestsSpent, TooFarAway
from registry.header import TensorRef
from registry.hub import Hub
from registry.hub_requests import Requests
from registry.remote import opened, places
from registry.scan import scan


def adapted(parent, seed, rank=2):
    """A child into which an adapter was merged: a few directions more in every matrix, gains as they were."""
    rng = np.random.default_rng(seed)
    made = dict(parent)
    for name, old in parent.items():
        if ".layers." in name and old.ndim == 2:
            few = rng.normal(size=(len(old), rank)) @ rng.normal(size=(rank, old.shape[1]))
            made[name] = (old + 0.004 * few).astype(np.float32)
    return made


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """A chain of three, a merge, a model with an adapter merged in, and a cast."""
    root = tmp_path_factory.mktemp("afar")
    b = base(1)
    chat, maths = tuned(b, 2), tuned(b, 3)
    made = {
        "base": b, "chat": chat, "maths": maths, "later": tuned(chat, 4),
        "merged": summed((0.6, chat), (0.4, maths)), "lora": adapted(b, 6),
    }  # fmt: skip
    for name, model in made.items():
        saved(root / name, model)
    saved(root / "cast", b, dtype=torch.float16)
    return root


@pytest.fixture
def there(family, hub):
    """The same family on the Hub."""
    for folder in sorted(family.iterdir()):
        hub.add(f"org/{folder.name}", folder)
    return hub


def ids(catalog):
    return [row["id"] for row in catalog.rows("select id from store.model order by id")]


def edges(catalog):
    """Everything of the inferred edges that does not name a model by its id, whose order decides the last digit of a sum."""
    rows = catalog.rows(
        "select child_name, parent_name, relation, role, round(coefficient, 9) as coefficient, "
        "round(confidence, 9) as confidence from edges where status = 'inferred' order by all"
    )
    last = [r | {k: r[k].rpartition("/")[2] for k in ("child_name", "parent_name")} for r in rows]
    return sorted(last, key=str)


def test_models_on_the_hub_have_the_edges_that_their_files_have(family, there, catalog, tmp_path):
    scan(catalog, ["hf://org/*"])
    there.log.clear()
    done = sketch(catalog, ids(catalog))
    assert (done.n_new, done.n_known, done.problems) == (7, 0, {})
    assert done.n_bytes >= there.log.bytes_sent > 0
    found = infer(catalog)
    local = Catalog(tmp_path / "local.duckdb")
    scan(local, [str(family)])
    expected = infer(local)
    assert edges(catalog) == edges(local)
    assert {e["relation"] for e in edges(local)} >= {"finetune", "merge", "adapter_merged"}
    assert (found.n_models, found.n_afar, found.read_bytes) == (7, 0, expected.read_bytes)


def test_a_sketch_is_fetched_once_and_its_model_is_sampled_from_then_on(there, catalog):
    scan(catalog, ["hf://org/*"])
    sketch(catalog, ids(catalog))
    status = catalog.rows("select distinct status from store.model")
    assert status == [{"status": "sampled"}]
    there.log.clear()
    again = sketch(catalog, ids(catalog))
    assert (again.n_new, again.n_known, again.n_requests, len(there.log)) == (0, 7, 0, 0)
    scan(catalog, ["hf://org/*"])
    assert catalog.rows("select distinct status from store.model") == status


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model that is larger than what is fetched of it, in two dtypes."""
    root = tmp_path_factory.mktemp("large")
    model = base(1, width=640, vocabulary=4096)
    saved(root / "half", model)
    saved(root / "whole", model, dtype=torch.float32)
    return root


def test_of_a_large_model_only_ranges_are_fetched_and_the_scalars_are_the_same(large, hub, tmp_path):  # fmt: skip
    for folder in large.iterdir():
        hub.add(f"org/{folder.name}", folder)
    catalog, local = Catalog(tmp_path / "c.duckdb"), Catalog(tmp_path / "l.duckdb")
    scan(catalog, ["hf://org/*"])
    scan(local, [str(large)])
    spec = spec_of(N_SCALARS)
    for name in ("half", "whole"):
        size = (large / name / "model.safetensors").stat().st_size
        assert size > MOST_BYTES
        hub.log.clear()
        model = catalog.find(f"org/{name}")
        assert sketch(catalog, [model]).problems == {}
        assert 0 < hub.log.bytes_sent <= MOST_BYTES
        assert len(hub.log.find(origin="cdn")) <= 33
        (mine,), _ = sketches_of(local, [local.find(name)], N_SCALARS)
        found = shelved(catalog, [model], spec)[model]
        assert (found.layout, found.dtype) == (mine.layout, mine.dtype)
        assert found.values.tobytes() == mine.values.tobytes()
        assert found.invariants.keys() == mine.invariants.keys()
        assert all(np.array_equal(found.invariants[k], mine.invariants[k]) for k in mine.invariants)


def shapes(hidden, inner, layers, vocabulary, narrow, *, tied=False):
    """The tensors of a decoder as they are in use."""
    found = {"model.embed_tokens.weight": (vocabulary, hidden)}
    found |= {} if tied else {"lm_head.weight": (vocabulary, hidden)}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        found |= {
            f"{at}.self_attn.q_proj.weight": (hidden, hidden), f"{at}.self_attn.k_proj.weight": (narrow, hidden),
            f"{at}.self_attn.v_proj.weight": (narrow, hidden), f"{at}.self_attn.o_proj.weight": (hidden, hidden),
            f"{at}.mlp.gate_proj.weight": (inner, hidden), f"{at}.mlp.up_proj.weight": (inner, hidden),
            f"{at}.mlp.down_proj.weight": (hidden, inner), f"{at}.input_layernorm.weight": (hidden,),
        }  # fmt: skip
    return found


@pytest.mark.parametrize(
    ("sizes", "tied"),
    [
        ((576, 1536, 30, 49152, 192), True), ((896, 4864, 24, 151936, 128), True),
        ((4096, 14336, 32, 128256, 1024), False), ((8192, 28672, 80, 128256, 1024), False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_models_as_large_as_those_in_use_need_no_more_than_is_allowed(sizes, tied, dtype):
    at, tensors = 1 << 17, []
    for name, shape in shapes(*sizes, tied=tied).items():
        n_bytes = int(np.prod(shape)) * (2 if dtype == "BF16" else 4)
        tensors.append(TensorRef(name, dtype, shape, Path("all"), at, n_bytes))
        at += n_bytes
    with Wanted() as wanted:
        take(wanted, "m", tensors, layout_of([(t.name, t.shape) for t in tensors]))

    class There:
        header_bytes = 1 << 17

        class checkpoint:  # noqa: N801 - stands for an attribute
            pass

    There.checkpoint.tensors = tensors
    ranges = needed(There, wanted.ranges)
    assert sum(r.size for r in ranges) <= MOST_BYTES - There.header_bytes
    assert len(ranges) < 200


def test_it_goes_on_where_the_requests_ran_out(there, catalog):
    scan(catalog, ["hf://org/*"])
    with pytest.raises(RequestsSpent):
        sketch(catalog, ids(catalog), most_requests=12, jobs=1)
    n = catalog.rows("select count(*) as n from store.sketch")[0]["n"]
    assert 0 < n < 7
    done = sketch(catalog, ids(catalog))
    assert (done.n_known, done.n_new) == (n, 7 - n)


def test_what_is_wrong_with_one_model_costs_no_other(there, catalog):
    scan(catalog, ["hf://org/*"])
    there.remove("org/chat")
    done = sketch(catalog, ids(catalog))
    assert done.n_new == 6
    assert list(done.problems) == [catalog.find("org/chat")]
    assert "there is no such repository" in done.problems[catalog.find("org/chat")]
    found = infer(catalog)
    assert (found.n_models, found.n_afar) == (6, 1)


def test_a_hub_that_is_out_of_order_ends_it(there, catalog, monkeypatch):
    monkeypatch.setattr("registry.hub_requests._LONGEST_WAIT_SECONDS", 0.01)
    scan(catalog, ["hf://org/*"])
    there.fault("/resolve/", status=503, times=None)
    with pytest.raises(HubBusy):
        sketch(catalog, ids(catalog), jobs=1)


def test_too_much_is_refused_and_nothing_is_fetched(there, catalog, monkeypatch):
    scan(catalog, ["hf://org/base"])
    monkeypatch.setattr(afar, "MOST_BYTES", 20_000)
    (place,) = places(catalog, ids(catalog)).values()
    with Requests() as requests, ThreadPoolExecutor(1) as pool, opened(Hub(requests), place) as remote:  # fmt: skip
        there.log.clear()
        with pytest.raises(TooFarAway, match="at most 20,000 are fetched") as refused:
            sketch_of(remote, pool)
    assert refused.value.hint == "hf download org/base"
    assert len(there.log) == 0
    (why,) = sketch(catalog, ids(catalog)).problems.values()
    assert "at most 20,000 are fetched" in why


def test_models_that_are_here_are_not_fetched(family, there, catalog, monkeypatch, tmp_path):
    shutil.copytree(family / "base", tmp_path / "base")
    scan(catalog, [str(tmp_path / "base")])
    there.log.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert sketch(catalog, ids(catalog)).n_new == 1
    assert len(there.log) == 0
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    scan(catalog, ["hf://org/chat"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Offline):
        sketch(catalog, ids(catalog))


def test_infer_says_what_it_takes_to_look_at_models_of_the_hub(there, catalog):
    scan(catalog, ["hf://org/*"])
    there.log.clear()
    with pytest.raises(NotHomologous) as refused:
        infer(catalog)
    assert refused.value.hint == "reg scan --sketch hf://org/name fetches what it takes"
    assert len(there.log) == 0
