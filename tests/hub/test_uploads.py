"""What changes repositories, as the client does it."""

import http.client
import json
from urllib.parse import urlsplit

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

LARGE = bytes(range(256)) * 100


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.endpoint, token=hub.token)


def posted(hub, path, body, method="POST"):
    """Status and body of a request that the client would not send."""
    connection = http.client.HTTPConnection(urlsplit(hub.endpoint).netloc, timeout=10)
    connection.request(method, path, body, {"Authorization": f"Bearer {hub.token}"})
    answer = connection.getresponse()
    told = answer.status, json.loads(answer.read())
    connection.close()
    return told


def commit(hub, repo_id, *operations, header=None):
    told = [{"key": "header", "value": header or {"summary": "x"}}, *operations]
    body = "\n".join(json.dumps(line) for line in told)
    return posted(hub, f"/api/models/{repo_id}/commit/main", body)


def test_a_folder_goes_up_and_comes_back(hub, api, family, tmp_path):
    url = api.create_repo("owner/m")
    assert (url.repo_id, url.endpoint) == ("owner/m", hub.endpoint)
    told = api.upload_folder(repo_id="owner/m", folder_path=family.chat, commit_message="Chat")
    assert told.oid == hub.repo("owner/m").head.sha
    assert told.commit_url == f"{hub.endpoint}/owner/m/commit/{told.oid}"
    api.snapshot_download("owner/m", local_dir=tmp_path)
    for file in family.chat.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()
    assert "*.safetensors filter=lfs" in (tmp_path / ".gitattributes").read_text()
    (put,) = hub.log.find("^PUT", origin="cdn")
    assert put.bytes_received == (family.chat / "model.safetensors").stat().st_size
    assert put.authorization is None
    assert [c.title for c in api.list_repo_commits("owner/m")] == ["Chat", "initial commit"]


def test_what_is_there_is_not_sent_again(hub, api, family):
    hub.add("org/base", family.base)
    api.create_repo("owner/m")
    api.upload_folder(repo_id="owner/m", folder_path=family.base)
    assert hub.log.find("^PUT") == []
    before = hub.repo("owner/m").head.sha
    api.upload_folder(repo_id="owner/m", folder_path=family.base)
    assert hub.repo("owner/m").head.sha == before


def test_a_commit_adds_deletes_and_copies_at_once(hub, api):
    hub.add("owner/m", {"a.txt": b"a", "old/b.txt": b"b", "c.txt": b"c", "w.bin": LARGE})
    api.create_commit(
        "owner/m",
        [
            CommitOperationAdd("a.txt", b"changed"),
            CommitOperationAdd("new.bin", LARGE[::-1]),
            CommitOperationDelete("c.txt"),
            CommitOperationDelete("old/"),
            CommitOperationCopy("w.bin", "copy.bin"),
        ],
        commit_message="All",
    )
    head = hub.repo("owner/m").head
    assert list(head.entries) == ["a.txt", "copy.bin", "new.bin", "w.bin"]
    assert head.read("a.txt") == b"changed"
    assert head.read("new.bin") == LARGE[::-1]
    assert head.entries["copy.bin"].content == head.entries["w.bin"].content


def test_a_commit_on_an_older_state_is_refused(hub, api):
    first = hub.add("owner/m", {"a.txt": b"1"})
    second = hub.add("owner/m", {"a.txt": b"2"})
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as error:
        api.create_commit(
            "owner/m",
            [CommitOperationAdd("b.txt", b"")],
            commit_message="x",
            parent_commit=first,
        )
    assert error.value.response.status_code == 412
    assert hub.repo("owner/m").head.sha == second
    api.create_commit(
        "owner/m", [CommitOperationAdd("b.txt", b"")], commit_message="x", parent_commit=second
    )


def test_commits_go_to_branches(hub, api):
    hub.add("owner/m", {"a.txt": b"1"})
    api.create_branch("owner/m", branch="try/1")
    api.upload_file(repo_id="owner/m", path_or_fileobj=b"2", path_in_repo="a.txt", revision="try/1")
    assert hub.repo("owner/m").head.read("a.txt") == b"1"
    assert hub.repo("owner/m").at("try/1").read("a.txt") == b"2"
    with pytest.raises(HfHubHTTPError, match="already exists"):
        api.create_branch("owner/m", branch="try/1")
    api.create_branch("owner/m", branch="try/1", exist_ok=True)
    api.delete_branch("owner/m", branch="try/1")
    with pytest.raises(RevisionNotFoundError):
        api.upload_file(
            repo_id="owner/m", path_or_fileobj=b"2", path_in_repo="a.txt", revision="try/1"
        )
    with pytest.raises(HfHubHTTPError, match="default branch"):
        api.delete_branch("owner/m", branch="main")


def test_tags(hub, api):
    first = hub.add("owner/m", {"a.txt": b"1"})
    api.create_tag("owner/m", tag="v1")
    hub.add("owner/m", {"a.txt": b"2"})
    assert api.model_info("owner/m", revision="v1").sha == first
    with pytest.raises(HfHubHTTPError, match="exists already"):
        api.create_tag("owner/m", tag="v1")
    api.delete_tag("owner/m", tag="v1")
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag("owner/m", tag="v1")


def test_repositories_are_made_moved_set_and_deleted(hub, api):
    api.create_repo("owner/m", private=True)
    assert hub.repo("owner/m").private
    with pytest.raises(HfHubHTTPError, match="already created"):
        api.create_repo("owner/m")
    assert api.create_repo("owner/m", exist_ok=True).repo_id == "owner/m"
    api.update_repo_settings("owner/m", gated="auto", private=False)
    assert (hub.repo("owner/m").gated, hub.repo("owner/m").private) == ("auto", False)
    api.move_repo("owner/m", "org/n")
    assert api.model_info("owner/m").id == "org/n"
    api.create_repo("owner/taken")
    with pytest.raises(HfHubHTTPError, match="exists"):
        api.move_repo("org/n", "owner/taken")
    api.delete_repo("org/n")
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("org/n")
    api.delete_repo("org/n", missing_ok=True)


def test_files_can_be_put_where_a_repository_was(hub, api):
    hub.add("owner/old", {"a.txt": b"1"})
    hub.rename("owner/old", "owner/new")
    api.upload_file(repo_id="owner/old", path_or_fileobj=LARGE, path_in_repo="w.bin")
    assert list(hub.repo("owner/new").head.entries) == ["a.txt", "w.bin"]


def test_a_card_is_checked_before_anything_is_sent(hub, api):
    hub.add("owner/m", {"a.txt": b"1"})
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        api.upload_file(
            repo_id="owner/m", path_or_fileobj=b"---\n{: :\n---\n", path_in_repo="README.md"
        )
    with pytest.raises(ValueError, match="must be an object"):
        api.upload_file(
            repo_id="owner/m", path_or_fileobj=b"---\n- 1\n---\n", path_in_repo="README.md"
        )
    with pytest.warns(UserWarning, match="empty or missing"):
        api.upload_file(repo_id="owner/m", path_or_fileobj=b"# Hi", path_in_repo="README.md")
    assert hub.repo("owner/m").head.read("README.md") == b"# Hi"


@pytest.mark.parametrize(
    ("operation", "status", "said"),
    [
        ({"key": "file", "value": {"path": "a", "content": "?!"}}, 400, "not base64"),
        ({"key": "file", "value": {"path": "../a", "content": ""}}, 400, "Invalid path"),
        ({"key": "file", "value": {"content": ""}}, 400, "Invalid path"),
        ({"key": "lfsFile", "value": {"path": "a", "oid": "0" * 64}}, 400, "not been uploaded"),
        ({"key": "deletedFile", "value": {"path": "none"}}, 404, "doesn't exist"),
        ({"key": "deletedFolder", "value": {"path": "none/"}}, 404, "doesn't exist"),
        ({"key": "nonsense", "value": {}}, 400, "Unknown operation"),
        (["no", "object"], 400, "Invalid line"),
    ],
)
def test_a_commit_is_made_whole_or_not_at_all(hub, operation, status, said):
    sha = hub.add("owner/m", {"a.txt": b"1"})
    good = {"key": "file", "value": {"path": "good.txt", "content": "AAAA"}}
    told, body = commit(hub, "owner/m", good, operation)
    assert told == status
    assert said in body["error"]
    assert hub.repo("owner/m").head.sha == sha


def test_a_commit_needs_a_summary_and_a_branch(hub):
    sha = hub.add("owner/m", {"a.txt": b"1"})
    assert commit(hub, "owner/m", header={"summary": ""})[0] == 400
    assert posted(hub, f"/api/models/owner/m/commit/{sha}", b"")[0] == 400


def test_large_files_do_not_pass_as_small_ones(hub):
    hub.add("owner/m", {"a.txt": b"1"})
    value = {"path": "w.safetensors", "content": "AAAA" * 5000}
    status, body = commit(hub, "owner/m", {"key": "file", "value": value})
    assert status == 400
    assert "LFS" in body["error"]


def test_an_upload_that_is_not_what_was_announced_is_refused(hub, api):
    hub.add("owner/m", {"a.txt": b"1"})
    asked = json.dumps({"objects": [{"oid": "0" * 64, "size": 3}]})
    _, told = posted(hub, "/owner/m.git/info/lfs/objects/batch", asked)
    href = told["objects"][0]["actions"]["upload"]["href"]
    connection = http.client.HTTPConnection(urlsplit(hub.cdn).netloc, timeout=10)
    connection.request("PUT", href.removeprefix(hub.cdn), b"abc")
    assert connection.getresponse().status == 400
    connection.close()
    check = json.dumps({"oid": "0" * 64, "size": 3})
    assert posted(hub, "/owner/m.git/info/lfs/objects/verify", check)[0] == 404


def test_what_makes_no_sense_is_refused_and_shown(hub, api):
    assert posted(hub, "/api/repos/create", b"no json")[0] == 400
    assert posted(hub, "/api/repos/create", b"{}")[0] == 400
    assert posted(hub, "/api/repos/create", b'{"name": "x", "type": "dataset"}')[0] == 400
    assert posted(hub, "/api/nonsense", b"{}")[0] == 404
    assert posted(hub, "/owner/m/resolve/main/x", b"", "PUT")[0] == 404
    hub.add("owner/m", {"a.txt": b"1"})
    assert posted(hub, "/owner/m/resolve/main/x", b"", "PUT")[0] == 405
    with pytest.raises(RemoteEntryNotFoundError):
        api.delete_file("none", repo_id="owner/m")
