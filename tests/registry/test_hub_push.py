"""Writing to the Hub: one commit or none, and whatever stops it has a name and says what is there."""

import hashlib
import time

import pytest
from huggingface_hub import HfApi

from registry.errors import (
    DamagedDownload,
    FileChanged,
    HubBusy,
    HubMissing,
    HubMoved,
    HubRefused,
    HubRejected,
    Interrupted,
    Unreadable,
)
from registry.hub import Hub
from registry.hub_push import Target, Upload, push
from registry.hub_requests import Requests

SMALL, LARGE, OTHER = b"---\nlicense: mit\n---\n# A model\n", b"weights" * 4000, b"more" * 5000


def upload(path, content):
    return Upload(path, content, len(content))


FILES = (upload("README.md", SMALL), upload("a.safetensors", LARGE), upload("b.safetensors", OTHER))


@pytest.fixture
def owner(hub, monkeypatch):
    """The hub, asked with the token of one who may do everything; nobody waits for it."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return hub


def send(
    *uploads, to="me/model", message="A push\n\nMore of it", stale=(), last=lambda: None, **target
):
    with Requests() as requests:
        return push(
            Hub(requests), Target(to, **target), uploads or FILES, message=message,
            is_stale=lambda path: path in stale, refuse_change=last,
        )  # fmt: skip


def contents(hub, name="me/model", revision="main"):
    commit = hub.repo(name).at(revision)
    return {path: commit.read(path) for path in commit.entries if path != ".gitattributes"}


def n_commits(hub, name="me/model"):
    return len(hub.repo(name).commits)


def test_a_new_repository_has_the_files_in_one_commit_on_the_first(owner):
    done = send(private=True)
    assert contents(owner) == {f.path: f.content for f in FILES}
    assert (done.created, done.unchanged, done.revision, n_commits(owner)) == (
        True,
        False,
        "main",
        2,
    )
    head = owner.repo("me/model").head
    assert (head.title, head.description, head.sha) == (
        "A push",
        "More of it",
        done.repository.commit,
    )
    assert owner.repo("me/model").private
    assert done.url == f"{owner.endpoint}/me/model/commit/{head.sha}"
    assert [head.entries[f.path].lfs for f in FILES] == [False, True, True]
    assert {f.path for f in done.files} == {f.path for f in FILES} | {".gitattributes"}


def test_the_same_files_again_make_no_commit_and_others_send_only_what_is_new(owner):
    first = send()
    again = send()
    assert (again.unchanged, again.repository.commit) == (True, first.repository.commit)
    owner.log.clear()
    third = send(FILES[0], FILES[1], upload("b.safetensors", OTHER[::-1]), stale={"b.safetensors"})
    assert (third.unchanged, third.created, third.removed) == (False, False, ())
    assert third.replaced == ("b.safetensors",)
    assert (first.replaced, again.replaced) == ((), ())
    assert len(owner.log.find("^PUT /uploads")) == 1
    assert contents(owner)["b.safetensors"] == OTHER[::-1]


def test_what_would_contradict_is_removed_in_the_same_commit(owner):
    owner.add("me/model", {"old.safetensors": OTHER, "notes.txt": b"kept"})
    done = send(FILES[0], FILES[1], stale={"old.safetensors", "absent"})
    assert done.removed == ("old.safetensors",)
    assert set(contents(owner)) == {"README.md", "a.safetensors", "notes.txt"}
    assert n_commits(owner) == 2


def test_a_branch_is_made_when_all_is_sent_and_main_stays(owner):
    owner.add("me/model", {"config.json": b"{}"})
    main = owner.repo("me/model").head.sha
    fault = owner.fault("^PUT /uploads", times=None, status=500)
    with pytest.raises(HubBusy, match="the repository is as it was"):
        send(branch="trial")
    assert (fault.hits > 1, set(owner.repo("me/model").branches)) == (True, {"main"})
    owner.clear_faults()
    done = send(branch="trial")
    assert done.revision == "trial"
    assert contents(owner, revision="trial").keys() == {"config.json", *(f.path for f in FILES)}
    assert owner.repo("me/model").head.sha == main
    assert send(FILES[0], branch="trial").unchanged


def test_a_pull_request_leaves_the_branch_as_it_is(owner):
    with pytest.raises(HubMissing, match="nothing was written"):
        send(pull_request=True)
    owner.add("me/model", {"config.json": b"{}"})
    done = send(pull_request=True)
    assert (done.revision, done.url) == ("refs/pr/1", f"{owner.endpoint}/me/model/discussions/1")
    assert contents(owner).keys() == {"config.json"}
    assert contents(owner, revision="refs/pr/1")["a.safetensors"] == LARGE


def test_a_commit_of_somebody_else_meanwhile_stays_the_last_one(owner):
    owner.add("me/model", {"config.json": b"{}"})
    with pytest.raises(HubMoved, match="somebody else made a commit meanwhile") as caught:
        send(last=lambda: owner.add("me/model", {"theirs.txt": b"1"}))
    assert "hf://me/model" in caught.value.message
    assert contents(owner) == {"theirs.txt": b"1"}


def test_a_change_of_the_files_at_the_last_moment_commits_nothing(owner):
    def refuse():
        message = "changed"
        raise FileChanged(message)

    with pytest.raises(FileChanged):
        send(last=refuse)
    assert (contents(owner), n_commits(owner)) == ({}, 1)


def test_an_upload_that_breaks_commits_nothing_and_goes_on_with_what_is_missing(owner):
    owner.fault("^PUT /uploads", times=None, after=1, hang_up=True)
    with pytest.raises(HubBusy, match="the public repository was made, and is empty") as caught:
        send()
    assert "need not be sent again" in caught.value.hint
    assert contents(owner) == {}
    owner.clear_faults()
    owner.log.clear()
    assert not send().created
    assert len(owner.log.find("^PUT /uploads")) == 1
    assert contents(owner) == {f.path: f.content for f in FILES}


def test_ctrl_c_commits_nothing_and_says_so(owner):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="nothing was committed"):
        send(last=stop)
    assert contents(owner) == {}


def test_a_commit_whose_answer_got_lost_is_found(owner):
    lost = owner.fault("^POST .*/commit/main", drop_after=10)
    done = send()
    assert lost.hits == 1
    assert (n_commits(owner), done.repository.commit) == (2, owner.repo("me/model").head.sha)
    assert not done.unchanged


def test_a_hub_that_is_busy_for_a_while_is_asked_again(owner):
    faults = [
        owner.fault(pattern, times=2, status=503)
        for pattern in ("/api/repos/create", "validate-yaml", "/branch/", "/commit/")
    ]
    send(branch="trial")
    assert [fault.hits for fault in faults] == [2, 2, 2, 2]
    assert contents(owner, revision="trial")["a.safetensors"] == LARGE


REFUSALS = [
    ("/commit/", 401, "", HubRefused, "does not accept the token"),
    ("/commit/", 402, "", HubRefused, "wants to be paid"),
    ("/commit/", 403, "", HubRefused, "no right to write"),
    ("/commit/", 403, "GatedRepo", HubRefused, "gated"),
    ("/commit/", 404, "", HubMissing, "no such repository or branch"),
    ("/commit/", 413, "", HubRejected, "too large"),
    ("/commit/", 400, "", HubRejected, "does not take it"),
    ("/commit/", 503, "", HubBusy, "status 503"),
    ("/preupload/", 403, "", HubRefused, "no right to write"),
    ("objects/batch", 413, "", HubRejected, "too large"),
    ("PUT /uploads", 403, "", HubRefused, "no right to write"),
    ("validate-yaml", 429, "", HubBusy, "status 429"),
]


@pytest.mark.parametrize(("where", "status", "code", "error", "said"), REFUSALS)
def test_a_refusal_has_a_name_and_commits_nothing(owner, where, status, code, error, said):
    owner.add("me/model", {"config.json": b"{}"})
    headers = {"X-Error-Code": code} if code else {}
    owner.fault(where, times=None, status=status, headers=headers, body=b"{}")
    with pytest.raises(error, match=said) as caught:
        send()
    assert "nothing was committed, and the repository is as it was" in caught.value.message
    assert caught.value.message.startswith("hf://me/model: ")
    assert caught.value.hint
    assert (contents(owner), n_commits(owner)) == ({"config.json": b"{}"}, 1)


def test_a_file_that_is_too_large_is_named(owner):
    body = (
        b'{"objects": [{"oid": "%s", "error": {"code": 422, "message": "over 50 GB"}, "size": 1}]}'
    )
    oid = hashlib.sha256(LARGE).hexdigest().encode()
    owner.fault("objects/batch", status=200, body=body % oid)
    with pytest.raises(HubRejected, match=r"a\.safetensors: `over 50 GB"):
        send()


def test_a_name_that_is_taken_is_refused(owner):
    owner.fault("/api/repos/create", status=409, body=b'{"error": "exists"}')
    with pytest.raises(
        HubRefused, match=r"is there already, and not yours to see.*nothing was written"
    ):
        send()


def test_private_is_refused_where_everybody_sees_it(owner):
    owner.add("me/model", {"config.json": b"{}"})
    with pytest.raises(HubRefused, match="is there already and public"):
        send(private=True)
    owner.add("me/model", {"config.json": b"{}"}, private=True)
    assert not send(private=True).created


def test_without_a_right_to_write_nothing_is_written(hub, monkeypatch):
    with pytest.raises(HubRefused, match="no token is known"):
        send()
    assert not hub.log.find()
    hub.add("me/model", {"config.json": b"{}"})
    for token, said in (
        ("hf_nobody_has_this", "does not accept the token"),
        (hub.outsider_token, "no right"),
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        for name in ("me/model", "me/other"):
            with pytest.raises(HubRefused, match=said) as caught:
                send(to=name)
            assert token not in caught.value.message
    assert contents(hub) == {"config.json": b"{}"}
    assert hub.store.get("me/other") is None


def test_a_listing_that_lacks_what_was_sent_is_an_error_and_none_is_none(owner):
    owner.add("me/model", {"config.json": b"{}"})
    owner.fault("GET .*/tree/", after=1, status=200, body=b"[]")
    with pytest.raises(DamagedDownload, match=r"lacks README\.md, a\.safetensors, b\.safetensors"):
        send()
    owner.clear_faults()
    owner.fault("GET .*/tree/", after=1, times=None, status=404, body=b"{}")
    assert send().files is None


def test_a_file_that_is_gone_is_named_before_anything_is_asked(owner, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(LARGE)
    there = Upload("a.safetensors", path, len(LARGE), path.stat().st_mtime_ns)
    assert there.is_unchanged
    path.unlink()
    assert not there.is_unchanged
    with pytest.raises((HubRejected, Unreadable), match="nothing was written"):
        send(there)
    assert not owner.log.find("/api/models|/api/repos")


def test_a_renamed_repository_is_written_under_its_name(owner):
    owner.add("me/old", {"config.json": b"{}"})
    owner.rename("me/old", "me/model")
    done = send(to="me/old")
    assert (done.repository.name, contents(owner)["a.safetensors"]) == ("me/model", LARGE)


def test_the_token_goes_to_the_hub_alone(owner):
    send()
    assert all(r.authorization is None for r in owner.log.find(origin="cdn"))
    assert all(r.authorization for r in owner.log.find("^POST", origin="api"))


def test_the_library_is_left_as_it_was(owner):
    from huggingface_hub import get_session  # noqa: PLC0415
    from huggingface_hub.utils import are_progress_bars_disabled  # noqa: PLC0415

    before = (get_session().timeout, are_progress_bars_disabled())
    send()
    assert (get_session().timeout, are_progress_bars_disabled()) == before
    assert (
        HfApi(endpoint=owner.endpoint).model_info("me/model").sha == owner.repo("me/model").head.sha
    )
