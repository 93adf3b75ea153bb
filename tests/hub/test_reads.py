"""Questions about one repository."""

import http.client
import json
from urllib.parse import urlsplit

import hypothesis.strategies as st
import pytest
from hub.server import LocalHub
from huggingface_hub import HfApi
from hypothesis import given

CARD = b"---\nlicense: mit\nbase_model: org/base\ntags: [chat]\n---\n# A model\n"
FILES = {
    "README.md": CARD,
    "config.json": b'{"model_type": "llama", "hidden_size": 16}',
    "model.safetensors": bytes(range(256)) * 100,
    "small.bin": b"small",
    "sub/deep/a.txt": b"a",
    "sub/b.txt": b"b",
}


@pytest.fixture
def api(hub):
    hub.add("org/m", FILES)
    hub.log.clear()
    return HfApi(endpoint=hub.endpoint, token=False)


def raw(address, path, **headers):
    """Status, headers and body of a GET as they are on the wire."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def test_the_page_of_a_model(hub, api):
    info = api.model_info("org/m", files_metadata=True)
    assert info.sha == hub.repo("org/m").head.sha
    assert (info.author, info.private, info.gated) == ("org", False, False)
    assert info.card_data.to_dict()["license"] == "mit"
    assert info.tags == [
        "base_model:finetune:org/base",
        "base_model:org/base",
        "chat",
        "license:mit",
        "llama",
        "region:us",
        "safetensors",
        "transformers",
    ]
    files = {file.rfilename: file for file in info.siblings}
    assert list(files) == sorted(FILES)
    assert {name: file.size for name, file in files.items()} == {
        n: len(b) for n, b in FILES.items()
    }
    assert [name for name, file in files.items() if file.lfs] == ["model.safetensors"]
    # git hash-object, by hand
    assert files["sub/b.txt"].blob_id == "63d8dbd40c23542e740659a7168a0ce3138ea748"
    assert len(hub.log) == 1


def test_without_blobs_only_names_are_told(api):
    assert {file.size for file in api.model_info("org/m").siblings} == {None}


def test_only_what_is_asked_for_is_told(api):
    info = api.model_info("org/m", expand=["baseModels", "sha", "gated"])
    assert info.base_models == {
        "relation": "finetune",
        "models": [{"_id": "org/base", "id": "org/base"}],
    }
    assert (info.tags, info.siblings, info.gated) == (None, None, False)
    with pytest.raises(Exception, match="must be one of"):
        api.model_info("org/m", expand=["nonsense"])


def test_children_are_counted_and_results_read(hub, api):
    hub.add("org/base", {".eval_results/a.yaml": b"- dataset: {id: d, task_id: t}\n  value: 0.5\n"})
    info = api.model_info("org/base", expand=["childrenModelCount", "evalResults"])
    assert info.children_model_count == 1
    assert [(e.dataset_id, e.task_id, e.value) for e in info.eval_results] == [("d", "t", 0.5)]


@pytest.mark.parametrize(
    ("files", "relation"),
    [
        ({"README.md": b"---\nbase_model: a/b\n---\n"}, "finetune"),
        ({"README.md": b"---\nbase_model: [a/b, c/d]\n---\n"}, "merge"),
        (
            {"README.md": b"---\nbase_model: [a/b]\nbase_model_relation: quantized\n---"},
            "quantized",
        ),
        ({"README.md": b"---\nbase_model: a/b\n---\n", "m.gguf": b""}, "quantized"),
        ({"adapter_config.json": b'{"base_model_name_or_path": "a/b"}'}, "adapter"),
    ],
)
def test_the_relation_to_the_base_is_said_or_seen(hub, files, relation):
    hub.add("org/m", files)
    tags = HfApi(endpoint=hub.endpoint).model_info("org/m").tags
    assert {"base_model:a/b", f"base_model:{relation}:a/b"} <= set(tags)


@pytest.mark.parametrize(
    "card", [b"", b"---\n[1, 2]\n---\n", b"---\n{: :\n---\n", b"\xff\xfe---", b"---\nx"]
)
def test_a_card_without_sense_is_no_card(hub, card):
    hub.add("org/m", {"README.md": card})
    assert HfApi(endpoint=hub.endpoint).model_info("org/m").card_data is None


def test_parameters_are_counted_in_headers(hub, family):
    hub.add("org/m", family.sharded)
    told = HfApi(endpoint=hub.endpoint).model_info("org/m").safetensors
    n = sum(tensor.numel() for tensor in family.weights["base"].values())
    assert (told.parameters, told.total) == ({"BF16": n}, n)


def test_the_tree_flat_and_deep(hub, api):
    flat = [(entry.path, hasattr(entry, "tree_id")) for entry in api.list_repo_tree("org/m")]
    assert flat == [
        ("README.md", False),
        ("config.json", False),
        ("model.safetensors", False),
        ("small.bin", False),
        ("sub", True),
    ]
    deep = [entry.path for entry in api.list_repo_tree("org/m", recursive=True)]
    assert sorted(deep) == sorted([*FILES, "sub", "sub/deep"])
    below = [entry.path for entry in api.list_repo_tree("org/m", "sub")]
    assert below == ["sub/b.txt", "sub/deep"]
    deepest = [entry.path for entry in api.list_repo_tree("org/m", "sub/deep")]
    assert deepest == ["sub/deep/a.txt"]


def test_pages_of_a_tree_hold_each_entry_once(hub, api):
    whole = [entry.path for entry in api.list_repo_tree("org/m", recursive=True)]
    hub.log.clear()
    hub.page_size = 3
    assert [entry.path for entry in api.list_repo_tree("org/m", recursive=True)] == whole
    assert len(hub.log) == 3  # eight entries


def test_an_expanded_tree_names_the_commit_that_changed_each_file(hub, api):
    hub.add("org/m", {**FILES, "config.json": b"{}"}, message="Change the config")
    told = {e.path: e for e in api.list_repo_tree("org/m", recursive=True, expand=True)}
    assert told["config.json"].last_commit.title == "Change the config"
    assert told["README.md"].last_commit.title == "Upload model"
    assert told["sub"].last_commit.title == "Upload model"


def test_some_paths(api):
    found = api.get_paths_info("org/m", ["sub", "none", "model.safetensors"], expand=True)
    assert [entry.path for entry in found] == ["sub", "model.safetensors"]
    assert found[1].lfs.size == 25_600
    assert api.get_paths_info("org/m", "none") == []


def test_branches_tags_and_commits(hub, api):
    first = hub.repo("org/m").head.sha
    hub.branch("org/m", "feature/x")
    hub.tag("org/m", "v1.0")
    second = hub.add("org/m", {"a.txt": b""}, message="Second\n\nand why")
    refs = api.list_repo_refs("org/m")
    assert {branch.name: branch.target_commit for branch in refs.branches} == {
        "main": second,
        "feature/x": first,
    }
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v1.0", first)]
    assert [c.commit_id for c in api.list_repo_commits("org/m")] == [second, first]
    assert api.list_repo_commits("org/m")[0].message == "and why"
    hub.page_size = 1
    assert len(api.list_repo_commits("org/m")) == 2
    for revision in ("feature/x", "v1.0", first, first[:7]):
        assert api.model_info("org/m", revision=revision).sha == first
    third = hub.add("org/m", {"b.txt": b""}, branch="feature/x")
    assert hub.repo("org/m").line(hub.repo("org/m").commits[third])[1].sha == first


def test_a_renamed_repository_answers_under_both_names(hub, api):
    hub.rename("org/m", "new/n")
    hub.log.clear()
    assert api.model_info("org/m").id == "new/n"
    assert [request.status for request in hub.log] == [307, 200]
    assert [e.path for e in api.list_repo_tree("org/m", "sub/deep")] == ["sub/deep/a.txt"]
    assert api.get_paths_info("org/m", "small.bin")[0].size == 5
    api.hf_hub_download("org/m", "sub/b.txt")
    api.hf_hub_download("org/m", "model.safetensors")
    assert api.model_info("ORG/M").id == "new/n"
    hub.rename("new/n", "newer/n")
    assert api.model_info("org/m").id == "newer/n"


def test_a_former_name_can_be_taken_by_somebody_else(hub, api):
    hub.rename("org/m", "new/n")
    other = hub.add("org/m", {"config.json": b"other"})
    assert api.model_info("org/m").sha == other
    assert api.model_info("new/n").sha != other


def test_a_name_may_have_no_owner(hub, api):
    hub.add("gpt2", {"config.json": b"{}"})
    assert api.model_info("gpt2").id == "gpt2"
    assert [e.path for e in api.list_repo_tree("gpt2")] == ["config.json"]
    api.hf_hub_download("gpt2", "config.json")


def test_all_shards_headers_in_one_request(hub, family, api):
    hub.add("org/sharded", family.sharded)
    hub.log.clear()
    told = api.get_sharded_safetensors_metadata("org/sharded")
    assert len(hub.log) == 1
    assert set(told.weight_map) == set(family.weights["base"])
    with pytest.raises(Exception, match="No safetensors index"):
        api.get_sharded_safetensors_metadata("org/m")


def test_raw_shows_the_pointer_of_a_large_file(hub, api):
    status, headers, body = raw(hub.endpoint, "/org/m/raw/main/model.safetensors")
    assert status == 200
    assert body.startswith(b"version https://git-lfs.github.com/spec/v1\noid sha256:")
    assert body.endswith(b"\nsize 25600\n")
    assert headers["X-Repo-Commit"] == hub.repo("org/m").head.sha


def test_errors_are_named_in_headers(hub, api):
    status, headers, body = raw(hub.endpoint, "/org/m/resolve/main/none")
    assert (status, headers["X-Error-Code"]) == (404, "EntryNotFound")
    assert headers["X-Repo-Commit"] == hub.repo("org/m").head.sha
    assert json.loads(body)["error"] == headers["X-Error-Message"]


@pytest.mark.parametrize("name", ["été.txt", "a b.txt", "a%2Fb.txt", "a#b?.txt", "x" * 200, "日本"])
def test_any_name_can_be_downloaded(hub, name):
    hub.add("org/m", {name: b"content"})
    api = HfApi(endpoint=hub.endpoint)
    assert [entry.path for entry in api.list_repo_tree("org/m")] == [name]
    with open(api.hf_hub_download("org/m", name), "rb") as file:
        assert file.read() == b"content"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Address and path of a large file on the CDN, and its bytes."""
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        hub.add("org/m", FILES)
        where = raw(hub.endpoint, "/org/m/resolve/main/model.safetensors")[1]["Location"]
        yield hub.cdn, where.removeprefix(hub.cdn), FILES["model.safetensors"]


N = len(FILES["model.safetensors"])


@given(st.integers(0, N + 10), st.none() | st.integers(0, N + 10))
def test_a_range_is_a_slice(large, first, last):
    address, path, data = large
    last_text = "" if last is None else last
    status, headers, body = raw(address, path, Range=f"bytes={first}-{last_text}")
    stop = N if last is None else min(last + 1, N)
    if last is not None and last < first:
        assert (status, body) == (200, data)  # no range at all: ignored
    elif first >= N:
        assert (status, body, headers["Content-Range"]) == (416, b"", f"bytes */{N}")
    else:
        assert (status, body) == (206, data[first:stop])
        assert headers["Content-Range"] == f"bytes {first}-{stop - 1}/{N}"


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ("bytes=-5", 206, slice(N - 5, N)),
        (f"bytes=-{N + 5}", 206, slice(0, N)),
        ("bytes=-0", 416, slice(0, 0)),
        ("bytes=a-b", 200, slice(0, N)),
        ("bytes=-", 200, slice(0, N)),
        ("lines=0-1", 200, slice(0, N)),
        ("bytes=0-1,5-6", 200, slice(0, N)),
        ("bytes=0-0", 206, slice(0, 1)),
    ],
)
def test_other_forms_of_ranges(large, asked, status, expected):
    address, path, data = large
    told, _, body = raw(address, path, Range=asked)
    assert (told, body) == (status, data[expected])


def test_small_files_have_ranges_too(hub, api):
    status, headers, body = raw(hub.endpoint, "/org/m/resolve/main/README.md", Range="bytes=4-10")
    assert (status, body, headers["Content-Range"]) == (206, CARD[4:11], f"bytes 4-10/{len(CARD)}")
