"""Numbers of models and edges: whatever is written, they say what the ids say."""

import duckdb
import pytest
from conftest import save_model, weights
from hypothesis import example, given, settings
from hypothesis import strategies as st
from listings import BASE, CHAT, MERGE, take_in

from registry.catalog import Catalog, now
from registry.generations import with_all
from registry.resources import migrations
from registry.scan import scan

AS_IDS_SAY = """
with recursive near(id) as (
    select ? union select e.child from store.edge e join near n on e.parent = n.id
) select id from near"""


def right(catalog):
    """Hold numbers against ids."""
    assert catalog.rows("select id from store.model where number is null") == []
    assert catalog.rows("select number from store.model group by number having count(*) > 1") == []
    told = "select e.* from store.edge e left join store.model c on c.id = e.child left join store.model p on p.id = e.parent "
    where = "where c.number is distinct from e.child_number or p.number is distinct from e.parent_number"
    assert catalog.rows(told + where) == []
    told = "select a.* from store.address a left join store.model m on m.id = a.model_id "
    assert catalog.rows(told + "where m.number is distinct from a.model_number") == []


NUMBERED = 10
"""The migration that gave models numbers."""

IDS = st.sampled_from("abcdef")
WRITES = st.one_of(
    st.tuples(st.just("model"), IDS),
    st.tuples(st.just("replace model"), IDS),
    st.tuples(st.just("no model"), IDS),
    st.tuples(st.just("edge"), IDS, IDS),
    st.tuples(st.just("replace edge"), IDS, IDS),
    st.tuples(st.just("no edge"), IDS, IDS),
    st.tuples(st.just("commit")),
)


def write(transaction, what, *names):
    model = {
        "id": names[:1],
        "kind": ["model"],
        "status": ["full"],
        "digest_name": ["d"],
        "created_at": [now()],
    }
    edge = {"child": names[:1], "parent": names[1:], "relation": ["cast"], "role": ["parent"], "status": ["measured"],
            "confidence": [1.0], "created_at": [now()]}  # fmt: skip
    if what == "no model":
        transaction.execute("delete from store.model where id = ?", [names[0]])
    elif what == "no edge":
        transaction.execute("delete from store.edge where child = ? and parent = ?", list(names))
    elif what in ("model", "edge"):
        transaction.insert(what, model if what == "model" else edge, "nothing")
    elif what == "replace model":  # as if it were made anew
        transaction.insert("model", model | {"number": [None]}, "replace")
    elif what == "replace edge":
        transaction.insert("edge", edge | {"child_number": [None]}, "replace")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return Catalog(tmp_path_factory.mktemp("numbers") / "c.duckdb")


@settings(max_examples=15, deadline=None)
@example([("model", "a"), ("edge", "a", "b"), ("commit",), ("model", "b"), ("edge", "c", "b")])
@given(writes=st.lists(WRITES, min_size=4, max_size=20))
def test_after_any_writes_numbers_say_what_ids_say(shelf, writes):
    with shelf.write() as transaction:
        transaction.execute("delete from store.edge")
        transaction.execute("delete from store.model")
    start = 0
    ends = [i for i, one in enumerate(writes) if one[0] == "commit"] + [len(writes)]
    for end in ends:
        with shelf.write() as transaction:
            known = set()
            for one in writes[start:end]:
                # DuckDB refuses a key that the same transaction deleted
                if not (one[0].startswith("no ") and one[1:] in known):
                    write(transaction, *one)
                known.add(one[1:])
        right(shelf)
        start = end
    models = {row["id"] for row in shelf.rows("select id from store.model")}
    edges = shelf.rows("select child, parent from store.edge")
    if all({row["child"], row["parent"]} <= models for row in edges):
        with shelf.read() as reader:
            for model in sorted(models):
                said = {row["id"] for row in shelf.rows(AS_IDS_SAY, [model])}
                assert set(with_all(reader, [model], "descendants")) == said | {model}


def test_imports_and_scans_leave_them_right(tmp_path, catalog):
    take_in(catalog, tmp_path, CHAT, BASE)
    right(catalog)
    take_in(catalog, tmp_path, MERGE, CHAT | {"base_model": "gone/one", "tags": []})
    right(catalog)
    folder = save_model(tmp_path / "models" / "lab" / "base", weights(1), card="base_model: x/y")
    scan(catalog, [str(tmp_path / "models")])
    right(catalog)
    folder.rename(tmp_path / "elsewhere")
    scan(catalog, [str(tmp_path / "models")])
    right(catalog)


def test_a_catalog_of_before_gets_them(tmp_path):
    file = tmp_path / "old.duckdb"
    with duckdb.connect(str(file)) as connection:
        for number, sql in migrations():
            if number < NUMBERED:
                connection.execute(sql.read_text(encoding="utf-8"))
                connection.execute("insert into store.migration values (?, 'old', now())", [number])
        for name in "abc":
            connection.execute(
                "insert into store.model (id, kind, status, digest_name, created_at) values (?, 'model', 'full', 'd', now())",
                [name],
            )
        connection.execute(
            "insert into store.edge (child, parent, relation, role, status, confidence, created_at) "
            "values ('b', 'a', 'cast', 'parent', 'measured', 1, now()), ('c', 'b', 'cast', 'parent', 'measured', 1, now())"
        )
    catalog = Catalog(file)
    with catalog.read() as reader:
        assert with_all(reader, ["a"], "descendants") == ["a", "b", "c"]
    right(catalog)
