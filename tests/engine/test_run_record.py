"""A whole result that the catalog was not told of is registered by the same command, and by no other."""

import json
import os

import pytest

import engine.extract
import engine.merge
from engine.extract import extract
from engine.merge import merge, reproduce
from engine.provenance import SIDECAR
from engine.run_record import stranded
from engine.verify import verify
from registry.errors import CatalogLocked, OutputExists
from registry.workroom import locked


def stopped(monkeypatch, module, name, work):
    """Do something that is stopped at a step, when the result has its name."""

    def refuse(*args, **kwargs):
        message = "catalog held by process 1"
        raise CatalogLocked(message)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, refuse)
        with pytest.raises(CatalogLocked):
            work()


def edges(catalog, child):
    return catalog.rows(
        "select parent, role, coefficient, run_id from store.edge where child = ? and status = 'recorded' order by all",
        [child],
    )


@pytest.fixture
def left(shelf, recipe_of, tmp_path, monkeypatch):
    """A merge that was stopped when all was done but its rows."""
    output = tmp_path / "out"
    recipe = recipe_of("linear", "chat", "math")
    stopped(monkeypatch, engine.merge, "record_complete", lambda: merge(shelf, recipe, output))
    return output


def test_the_same_merge_registers_it(shelf, recipe_of, left, tmp_path):
    recipe = recipe_of("linear", "chat", "math")
    before = {path.name: path.stat().st_mtime_ns for path in left.iterdir()}
    found = stranded(shelf, left)
    merged = merge(shelf, recipe, left)
    assert (merged.run, merged.model) == (found.run, found.model)
    assert "was stopped before it was registered" in merged.notes[-1]
    assert {path.name: path.stat().st_mtime_ns for path in left.iterdir()} == before
    assert verify(shelf, str(left)).ok
    whole = merge(shelf, recipe, tmp_path / "whole")
    assert whole.model == merged.model
    assert [edge["coefficient"] for edge in edges(shelf, merged.model)] == [0.5, 0.5]
    (row,) = shelf.rows("select * from store.run where id = ?", [merged.run])
    assert (row["status"], row["error"]) == ("COMPLETE", None)
    with pytest.raises(OutputExists):
        merge(shelf, recipe, left)


def test_another_recipe_does_not(shelf, recipe_of, left):
    with pytest.raises(OutputExists):
        merge(shelf, recipe_of("linear", "math", "chat"), left)
    assert stranded(shelf, left)


def test_nor_does_anybody_while_its_maker_is_at_it(shelf, recipe_of, left):
    handle = locked(left)
    with pytest.raises(OutputExists):
        merge(shelf, recipe_of("linear", "chat", "math"), left)
    os.close(handle)
    assert merge(shelf, recipe_of("linear", "chat", "math"), left).model


def test_nor_when_it_is_not_what_it_says(shelf, recipe_of, left):
    sidecar = json.loads((left / SIDECAR).read_text())
    (left / SIDECAR).write_text(json.dumps(sidecar | {"model": "0" * 64}))
    with pytest.raises(OutputExists):
        merge(shelf, recipe_of("linear", "chat", "math"), left)


def test_what_was_made_again_is_registered_too(shelf, recipe_of, tmp_path, monkeypatch):
    first = merge(shelf, recipe_of("linear", "chat", "math"), tmp_path / "first")
    again = tmp_path / "again"
    stopped(monkeypatch, engine.merge, "scan", lambda: reproduce(shelf, first.model, again))
    expected, merged = reproduce(shelf, first.model, again)
    assert merged.model == expected
    assert shelf.find(str(again)) == expected


@pytest.mark.parametrize("step", ["scan", "_record"])
def test_the_same_extract_registers_an_adapter(shelf, tmp_path, monkeypatch, step):
    output, child, base = tmp_path / "lora", shelf.find("chat"), shelf.find("base")

    def work(**how):
        return extract(shelf, child, base, output, **({"rank": 1} | how))

    stopped(monkeypatch, engine.extract, step, work)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    with pytest.raises(OutputExists):
        work(rank=2)
    done = work()
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert [edge["parent"] for edge in edges(shelf, done.model)] == [base]
    with pytest.raises(OutputExists):
        work()
