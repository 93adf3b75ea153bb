"""The shelf: weights are read once."""

import json
import shutil

import numpy as np
import pytest
from descent_trees import base, saved, tuned
from opened import opened_weights

from engine.descent.shelf import sketches_of, spec_of
from engine.descent.sketch import fetch
from registry.scan import scan


@pytest.fixture
def folder(tmp_path, catalog):
    """Two models that the catalog knows."""
    parent = base(1)
    saved(tmp_path / "models" / "parent", parent)
    saved(tmp_path / "models" / "child", tuned(parent, 2))
    scan(catalog, [str(tmp_path / "models")])
    return tmp_path / "models"


def ids(catalog):
    return [row["id"] for row in catalog.rows("select id from store.model order by id")]


def same(a, b):
    return (
        (a.model, a.dtype, a.layout, a.read_bytes) == (b.model, b.dtype, b.layout, b.read_bytes)
        and np.array_equal(a.values, b.values)
        and a.invariants.keys() == b.invariants.keys()
        and all(np.array_equal(a.invariants[k], b.invariants[k]) for k in a.invariants)
    )


def test_a_sketch_is_read_once_outlives_its_files_and_comes_back_bit_for_bit(folder, catalog):
    models, made = ids(catalog), []
    read = opened_weights(lambda: made.append(sketches_of(catalog, models, 4096)))
    assert sorted({path.split("/")[-2] for path in read}) == ["child", "parent"]
    assert opened_weights(lambda: made.append(sketches_of(catalog, models, 4096))) == []
    shutil.rmtree(folder)
    made.append(sketches_of(catalog, models, 4096))
    (first, none), (second, still), (third, _) = made
    assert none == still == {}
    assert all(map(same, first, third))
    assert [s.model for s in first] == models
    assert all(map(same, first, second))
    assert all(s.read_bytes > 0 and s.invariants for s in first)


def test_invariants_that_were_written_as_numbers_are_read_as_before(folder, catalog):
    models = ids(catalog)
    first, _ = sketches_of(catalog, models, 4096)
    with catalog.write() as transaction:
        for sketch in first:
            text = json.dumps({k: v.tolist() for k, v in sketch.invariants.items()})
            transaction.execute(
                "update store.sketch set invariants = ? where model_id = ?", [text, sketch.model]
            )
    second, _ = sketches_of(catalog, models, 4096)
    assert all(map(same, first, second))


def test_values_are_read_of_those_that_are_fetched_and_of_all_when_one_is_asked_for(
    folder, catalog
):
    models = ids(catalog)
    first, _ = sketches_of(catalog, models, 4096)
    second, _ = sketches_of(catalog, models, 4096)
    shelf = second[0].held
    assert shelf.found == {}
    fetch(second[:1])
    assert list(shelf.found) == models[:1]
    assert np.array_equal(second[1].values, first[1].values)
    assert sorted(shelf.found) == sorted(models)


def test_each_number_of_scalars_has_sketches_of_its_own(folder, catalog):
    models = ids(catalog)
    for n_scalars in (4096, 8192, 4096):
        sketches_of(catalog, models, n_scalars)
    specs = catalog.rows("select spec, count(*) as n from store.sketch group by spec order by spec")
    assert specs == [{"spec": spec_of(4096), "n": 2}, {"spec": spec_of(8192), "n": 2}]


def test_whole_models_are_not_put_on_the_shelf(folder, catalog):
    models = ids(catalog)
    found, problems = sketches_of(catalog, models, None)
    assert problems == {}
    assert [s.values.size for s in found] == [sum(v.size for v in base(1).values())] * 2
    assert catalog.rows("select * from store.sketch") == []


def test_only_what_is_missing_is_read_and_the_order_is_kept(folder, catalog):
    models = ids(catalog)
    sketches_of(catalog, models[:1], 4096)
    made = []
    read = opened_weights(lambda: made.append(sketches_of(catalog, models[::-1], 4096)))
    assert len({path.split("/")[-2] for path in read}) == 1
    assert [s.model for s in made[0][0]] == models[::-1]


def test_a_model_without_files_says_so_and_the_others_are_read(folder, catalog):
    models = ids(catalog)
    gone = catalog.rows("select id from models where name = 'child'")[0]["id"]
    shutil.rmtree(folder / "child")
    found, problems = sketches_of(catalog, models, 4096)
    assert [s.model for s in found] == [model for model in models if model != gone]
    assert list(problems) == [gone]
    assert problems[gone]
