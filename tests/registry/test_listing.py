"""One row of a listing, read as hostile."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import BadListing
from registry.listing import MAX_PARENTS, names_models, read_listing

HUB_ROW = {
    "_id": "64f1", "id": "lab/chat", "modelId": "lab/chat", "author": "lab", "sha": "0a1b", "lastModified":
    "2024-05-06T07:08:09.000Z", "downloads": 12, "likes": 3, "pipeline_tag": "text-generation",
    "library_name": "transformers", "createdAt": 1700000000,
    "tags": ["license:mit", "base_model:lab/base", "base_model:finetune:lab/base", "region:us"],
}  # fmt: skip


def parents(**row):
    return [(p.object, p.relation) for p in read_listing({"id": "a/b"} | row).parents]


def test_a_row_of_the_hubs_api():
    found = read_listing(HUB_ROW)
    assert (found.name, found.kind, found.licenses) == ("lab/chat", "model", ("mit",))
    assert [(p.object, p.relation, p.raw) for p in found.parents] == [
        ("lab/base", "finetune", "base_model:lab/base")
    ]
    assert (found.revision, found.task, found.library) == (
        "0a1b",
        "text-generation",
        "transformers",
    )
    assert (found.downloads, found.likes) == (12, 3)
    assert found.modified_at == "2024-05-06 07:08:09+00:00"
    assert found.published_at == "2023-11-14 22:13:20+00:00"
    assert found.wrong == ()


@pytest.mark.parametrize(
    "base_model",
    [
        ["x/one", "x/two"],
        '["x/one", "x/two"]',
        "['x/one', 'x/two']",
        "x/one,x/two",
        [{"id": "x/one"}, {"name": "x/two"}],
        {"relation": "merge", "models": [{"id": "x/one"}, {"id": "x/two"}]},
        ["x/one", "X/One", "x/two", None, ""],
    ],
)  # fmt: skip
def test_parents_in_every_shape_that_dumps_give_them(base_model):
    assert [name for name, _ in parents(base_model=base_model)] == ["x/one", "x/two"]


def test_tags_tell_relations_and_parents():
    tags = ["base_model:x/one", "base_model:quantized:x/one", "base_model:x/two", "other"]
    assert parents(tags=tags) == [("x/one", "quantized"), ("x/two", None)]
    assert parents(tags=json.dumps(tags)) == parents(tags=tags) == parents(tags=str(tags))
    assert parents(base_model="x/one", tags=["merge"]) == [("x/one", "merge")]
    assert parents(base_model="x/one", base_model_relation="adapter") == [("x/one", "adapter")]
    assert parents(tags=["base_model:strange:word"]) == [("strange:word", None)]


def test_what_only_the_card_says_stands_in():
    row = {
        "id": "a/b",
        "cardData": {"base_model": "x/one", "license": "other", "license_name": "own", "id": "c/d"},
    }
    found = read_listing(row)
    assert (found.name, found.licenses, found.parents[0].object) == ("a/b", ("own",), "x/one")


def test_an_adapter_is_told_by_relation_and_by_library():
    assert read_listing({"id": "a/b", "library": "peft"}).kind == "adapter"
    assert read_listing({"id": "a/b", "tags": ["base_model:adapter:x/y"]}).kind == "adapter"


@pytest.mark.parametrize(
    "nothing", ["", " ", "nan", "None", "NULL", "n/a", "[]", None, float("nan")]
)
def test_words_for_nothing_say_nothing(nothing):
    row = {"id": "a/b"} | dict.fromkeys(
        ("downloads", "created_at", "license", "pipeline_tag"), nothing
    )
    if not isinstance(nothing, float):
        row["base_model"] = nothing
    found = read_listing(row)
    assert (found.downloads, found.published_at, found.parents) == (None, None, ())
    if not isinstance(nothing, float):
        assert (found.wrong, found.licenses, found.task) == ((), (), None)


@pytest.mark.parametrize(
    ("value", "count"),
    [(5, 5), ("5", 5), ("5.0", 5), (5.0, 5), ("1e3", 1000), (0, 0), (2**63 - 1, 2**63 - 1)],
)
def test_counts(value, count):
    assert read_listing({"id": "a/b", "likes": value}).likes == count


@pytest.mark.parametrize(
    "value", [-1, "-1", 2.5, "many", True, [1], {"a": 1}, 2**63, float("inf"), "9" * 5000, "٣x"]
)
def test_a_count_that_is_none_is_noted_and_the_row_stands(value):
    found = read_listing({"id": "a/b", "likes": value})
    assert found.likes is None
    assert len(found.wrong) == 1
    assert "likes" in found.wrong[0]
    assert len(found.wrong[0]) < 200
    assert found.wrong[0].isprintable()


@pytest.mark.parametrize(
    "value", ["yesterday", "9999999", -1e300, 1e300, True, ["2024"], "2024-13-01"]
)
def test_a_time_that_is_none_is_noted(value):
    found = read_listing({"id": "a/b", "created_at": value})
    assert (found.published_at, len(found.wrong)) == (None, 1)


@pytest.mark.parametrize(
    "name",
    [None, "", 7, ["a/b"], "a/b/c", "a b", "../x", "a/..", "/abs", "a/b@main", "a/*", "a--b", "a\x1b[31m/b", "a/b\u202e",
     "x" * 500, "a/" + "b" * 100_000, "a\x00b", "\ud800"],
)  # fmt: skip
def test_a_row_without_a_repositorys_name_is_refused(name):
    with pytest.raises(BadListing) as caught:
        read_listing({"id": name})
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    "parent", ["x\x1b]0;t\x07", "\ud800", "y" * 1001, {"a": 1}, 2**70, 2.5, True]
)
def test_a_parent_that_is_no_name_is_noted_and_the_others_stand(parent):
    found = read_listing({"id": "a/b", "base_model": [parent, "x/one"]})
    assert [p.object for p in found.parents] == ["x/one"]
    assert len(found.wrong) == 1
    assert found.wrong[0].isprintable()


def test_too_many_parents_are_cut():
    found = read_listing({"id": "a/b", "base_model": [f"x/m{i}" for i in range(1000)]})
    assert len(found.parents) == MAX_PARENTS
    assert "more than 100 parents" in found.wrong[0]


def test_columns_are_known_under_their_usual_names():
    for column in ("id", "modelId", "model_id", "MODEL ID", "repo-id", "name"):
        assert names_models(["x", column])
        assert read_listing({column: "a/b"}).name == "a/b"
    assert not names_models(["_id", "title"])
    assert read_listing({"name": "x/y", "id": "a/b"}).name == "a/b"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
COLUMNS = (
    "base_model",
    "tags",
    "license",
    "downloads",
    "created_at",
    "cardData",
    "sha",
    "relation",
    "base_models",
)


@given(st.dictionaries(st.sampled_from(COLUMNS), VALUES))
def test_whatever_else_a_row_holds_it_is_read_and_can_be_shown(row):
    found = read_listing({"id": "a/b"} | row)
    assert found.name == "a/b"
    assert all(word.isprintable() for word in found.wrong)
    assert all(0 < len(p.object) <= 1000 for p in found.parents)
    assert len({p.name for p in found.parents}) == len(found.parents)
