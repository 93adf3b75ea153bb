"""Components: what is found of models follows from them alone, and so does its key."""

from dataclasses import replace
from pathlib import Path

import pytest
from descent_trees import base, sketched, tuned

from engine import reader
from engine.descent import component, masked
from engine.descent.component import component_of, key_of, rules
from registry import tensor_name


@pytest.fixture(scope="module")
def members():
    b = base(1)
    return [sketched("b", b), sketched("one", tuned(b, 2)), sketched("two", tuned(b, 3))]


def test_a_family_has_its_edges_and_its_root(members):
    found = component_of(members)
    assert [(e.child, e.parent, e.kind.name) for e in found.edges] == [
        ("one", "b", "finetune"), ("two", "b", "finetune"),
    ]  # fmt: skip
    assert (found.latent, found.root) == ((), "b")
    assert component_of(members) == found


def test_a_model_is_its_own_component(members):
    found = component_of(members[:1])
    assert (found.edges, found.latent, found.root) == ((), (), "b")


def test_siblings_have_a_latent_parent_that_is_named(members):
    b = base(1)
    found = component_of([sketched(f"m{i}", tuned(b, i)) for i in range(2, 6)])
    assert found.latent == ("latent:m2:4",)
    assert {e.parent for e in found.edges} == {"latent:m2:4"}


def test_the_key_tells_members_dtypes_and_entries_apart(members):
    key = key_of(members)
    assert key_of(list(members)) == key
    others = [
        members[:2], members[::-1], [*members[:2], replace(members[2], model="three")],
        [*members[:2], replace(members[2], dtype="F32")],
        [*members[:2], sketched("two", tuned(base(1, layers=1), 3))],
    ]  # fmt: skip
    assert len({key, *map(key_of, others)}) == 6


def test_what_found_nothing_is_not_looked_for_again_and_what_is_found_is_the_same(monkeypatch):
    b = base(1, layers=1)
    members = [sketched("m00", b)] + [sketched(f"m{i}", tuned(b, i)) for i in range(10, 46)]
    made: list[int] = []

    def counted(bucket, child, near, absent):
        made.append(child)
        return search(bucket, child, near, absent)

    search = masked._made_of
    monkeypatch.setattr(masked, "_made_of", counted)
    first = component_of(members[:-1])
    made.clear()
    fresh = component_of(members)
    n_fresh = len(made)
    made.clear()
    later = component_of(members, blanks=frozenset(first.blanks))
    assert later == fresh
    assert len(fresh.blanks) > 100  # five searches a model, about
    assert n_fresh == len(members)
    assert 0 < len(made) < 0.7 * n_fresh  # of the others the new model is not among the nearest
    made.clear()
    assert component_of(members, blanks=frozenset(fresh.blanks)) == fresh
    assert made == []


@pytest.mark.parametrize("module", [component, tensor_name, reader])
def test_rules_are_others_where_anything_they_follow_from_is(module, tmp_path, monkeypatch):
    before, folder = rules(), Path(module.__file__).parent
    for file in folder.glob("*.py"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    file = tmp_path / Path(module.__file__).name
    monkeypatch.setattr(module, "__file__", str(file))
    assert rules.__wrapped__() == before
    file.write_text(file.read_text() + "# changed\n")
    assert rules.__wrapped__() != before
