"""Lists of models and of collections."""

import http.client
import itertools
from urllib.parse import urlsplit

import pytest
from hub.store import BEGINNING
from huggingface_hub import HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError


def card(text):
    return {"README.md": f"---\n{text}\n---\n".encode()}


@pytest.fixture
def api(hub, family):
    hub.add("org/base", family.base, likes=5)
    hub.add("org/chat", card("base_model: org/base\nlicense: mit\npipeline_tag: text-generation"))
    hub.add("lab/Chat-2", card("base_model: org/base\ntags: [chat]"), downloads=7, likes=9)
    hub.add("lab/merged", card("base_model: [org/chat, lab/Chat-2]"), downloads=9, gated=True)
    hub.add("lab/secret", card("base_model: org/base"), private=True, tags=["hidden"])
    hub.log.clear()
    return HfApi(endpoint=hub.endpoint, token=False)


def names(models):
    return [model.id for model in models]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["org/base", "org/chat", "lab/Chat-2", "lab/merged"]),
        ({"author": "lab"}, ["lab/Chat-2", "lab/merged"]),
        ({"author": "la"}, []),
        ({"search": "CHAT"}, ["org/chat", "lab/Chat-2"]),
        ({"filter": "base_model:org/base"}, ["org/chat", "lab/Chat-2"]),
        ({"filter": "base_model:finetune:org/base"}, ["org/chat", "lab/Chat-2"]),
        ({"filter": "base_model:merge:org/chat"}, ["lab/merged"]),
        ({"filter": ["base_model:org/base", "license:mit"]}, ["org/chat"]),
        ({"filter": "safetensors"}, ["org/base"]),
        ({"pipeline_tag": "text-generation"}, ["org/chat"]),
        ({"gated": True}, ["lab/merged"]),
        ({"num_parameters": "min:1K,max:1M"}, ["org/base"]),
        ({"num_parameters": "min:1B"}, []),
        ({"sort": "downloads", "limit": 2}, ["lab/merged", "lab/Chat-2"]),
        ({"sort": "likes", "limit": 2}, ["lab/Chat-2", "org/base"]),
        ({"sort": "created_at", "limit": 1}, ["lab/merged"]),
        ({"author": "lab", "filter": "chat", "search": "2"}, ["lab/Chat-2"]),
    ],
)
def test_a_list_meets_all_conditions(api, asked, expected):
    assert names(api.list_models(**asked)) == expected


def test_last_modified_is_of_the_last_commit(hub, api):
    hub.add("org/base", {"a": b""})
    assert names(api.list_models(sort="last_modified", limit=1)) == ["org/base"]
    hub.add("org/base", {"b": b""}, date=BEGINNING.replace(year=2000))
    assert names(api.list_models(sort="last_modified"))[-1] == "org/base"


def test_pages_hold_every_model_once_and_keep_the_conditions(hub, api):
    for i in range(10):
        hub.add(f"many/m{i}", card("tags: [chat]"))
    for size in (1, 3, 10, 11):
        hub.page_size = size
        hub.log.clear()
        found = names(api.list_models(filter="chat", author="many", sort="likes"))
        assert found == [f"many/m{i}" for i in range(10)]
        assert len(hub.log) == -(-10 // size)


def test_pages_are_asked_for_only_when_they_are_read(hub, api):
    hub.page_size = 1
    assert len(list(itertools.islice(api.list_models(), 2))) == 2
    assert len(hub.log) == 2
    hub.log.clear()
    assert names(api.list_models(limit=3)) == ["org/base", "org/chat", "lab/Chat-2"]
    assert len(hub.log) == 3


def test_how_much_is_told_is_asked_for(api):
    (plain,) = api.list_models(author="org", search="chat")
    assert (plain.sha, plain.siblings, plain.card_data) == (None, None, None)
    assert plain.tags
    (full,) = api.list_models(author="org", search="chat", full=True, cardData=True)
    assert len(full.sha) == 40
    assert [file.rfilename for file in full.siblings] == ["README.md"]
    assert full.card_data.base_model == "org/base"
    (some,) = api.list_models(author="org", search="chat", expand=["sha", "baseModels"])
    assert (some.tags, some.sha) == (None, full.sha)
    assert some.base_models["relation"] == "finetune"
    (config,) = api.list_models(author="org", search="base", fetch_config=True)
    assert config.config["model_type"] == "llama"


def test_private_models_are_listed_for_those_who_may_see_them(hub, api):
    assert "lab/secret" not in names(api.list_models())
    own = HfApi(endpoint=hub.endpoint, token=hub.token)
    assert names(own.list_models(filter="hidden")) == ["lab/secret"]


def test_what_this_hub_cannot_filter_by_is_refused(api):
    with pytest.raises(BadRequestError, match="cannot list by inference"):
        list(api.list_models(inference="warm"))
    with pytest.raises(BadRequestError, match="must be one of"):
        list(api.list_models(sort="beauty"))
    with pytest.raises(BadRequestError, match="cannot be"):
        list(api.list_models(num_parameters="many"))


@pytest.mark.parametrize("asked", ["limit=0", "limit=-1", "limit=x", "cursor=x", "cursor=%C3%A9"])
def test_pages_that_cannot_be_are_refused(hub, asked):
    connection = http.client.HTTPConnection(urlsplit(hub.endpoint).netloc, timeout=10)
    connection.request("GET", f"/api/models?{asked}")
    assert connection.getresponse().status == 400
    connection.close()


def test_collections(hub, api):
    hub.collect(
        "org/picks-0123", ["org/base", "lab/secret", "lab/merged", "org/gone"], title="Picks"
    )
    hub.collect("lab/all-4567", [f"org/{name}" for name in ("base", "chat")] * 3)
    picks = api.get_collection("org/picks-0123")
    assert (picks.title, picks.slug) == ("Picks", "org/picks-0123")
    assert [(item.item_id, item.item_type) for item in picks.items] == [
        ("org/base", "model"),
        ("lab/merged", "model"),
    ]
    own = HfApi(endpoint=hub.endpoint, token=hub.token).get_collection("org/picks-0123")
    assert len(own.items) == 3
    assert [one.slug for one in api.list_collections(owner="org")] == ["org/picks-0123"]
    assert [one.slug for one in api.list_collections(item="models/org/chat")] == ["lab/all-4567"]
    assert [len(one.items) for one in api.list_collections()] == [2, 4]
    with pytest.raises(HfHubHTTPError):
        api.get_collection("org/none-1")
