"""Who may do what, as the client understands it."""

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    SafetensorsParsingError,
)

FILES = {"config.json": b"{}", "model.safetensors": bytes(20_000)}


def api(hub, token=False):
    return HfApi(endpoint=hub.endpoint, token=token)


@pytest.mark.parametrize("who", ["nobody", "outsider"])
def test_a_private_repository_looks_like_none(hub, who):
    hub.add("org/m", FILES, private=True)
    asking = api(hub, {"nobody": False, "outsider": hub.outsider_token}[who])
    errors = []
    for name in ("org/m", "org/none"):
        with pytest.raises(RepositoryNotFoundError) as error:
            asking.model_info(name)
        errors.append(error.value.response)
    assert errors[0].status_code == errors[1].status_code == {"nobody": 401, "outsider": 404}[who]
    assert errors[0].content == errors[1].content
    with pytest.raises(RepositoryNotFoundError):
        asking.hf_hub_download("org/m", "config.json")
    assert list(asking.list_models()) == []


def test_the_token_opens_what_is_private(hub):
    hub.add("org/m", FILES, private=True)
    asking = api(hub, hub.token)
    assert asking.model_info("org/m").private
    assert [model.id for model in asking.list_models()] == ["org/m"]
    with open(asking.hf_hub_download("org/m", "config.json"), "rb") as file:
        assert file.read() == b"{}"


@pytest.mark.parametrize(("who", "status"), [("nobody", 401), ("outsider", 403)])
def test_a_gate_shows_all_but_the_bytes(hub, who, status):
    hub.add("org/m", FILES, gated="manual")
    asking = api(hub, {"nobody": False, "outsider": hub.outsider_token}[who])
    assert asking.model_info("org/m").gated == "manual"
    assert len(list(asking.list_repo_tree("org/m"))) == 2
    with pytest.raises(GatedRepoError, match="restricted") as error:
        asking.hf_hub_download("org/m", "config.json")
    assert error.value.response.status_code == status
    with pytest.raises(GatedRepoError):
        asking.parse_safetensors_file_metadata("org/m", "model.safetensors")
    with pytest.raises(GatedRepoError):
        asking.auth_check("org/m")


def test_the_token_opens_a_gate(hub):
    hub.add("org/m", FILES, gated=True)
    asking = api(hub, hub.token)
    assert asking.model_info("org/m").gated == "auto"
    asking.auth_check("org/m")
    asking.hf_hub_download("org/m", "model.safetensors")


def test_a_token_that_nobody_has_is_refused_even_where_none_is_needed(hub):
    hub.add("org/m", FILES)
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as error:
        api(hub, "hf_wrong").model_info("org/m")
    assert not isinstance(error.value, RepositoryNotFoundError)


def test_tokens_can_be_chosen(hub):
    hub.token = "hf_mine"  # noqa: S105
    hub.add("org/m", FILES, private=True)
    assert api(hub, "hf_mine").whoami()["name"] == "owner"
    assert api(hub, hub.outsider_token).whoami()["name"] == "outsider"


def test_missing_revisions_and_files_have_errors_of_their_own(hub):
    hub.add("org/m", FILES)
    asking = api(hub)
    with pytest.raises(RevisionNotFoundError):
        asking.model_info("org/m", revision="none")
    with pytest.raises(RevisionNotFoundError):
        list(asking.list_repo_tree("org/m", revision="none"))
    with pytest.raises(RevisionNotFoundError):
        asking.hf_hub_download("org/m", "config.json", revision="none")
    with pytest.raises(RemoteEntryNotFoundError):
        asking.hf_hub_download("org/m", "none.json")
    with pytest.raises(RemoteEntryNotFoundError):
        list(asking.list_repo_tree("org/m", "none"))
    assert not asking.file_exists("org/m", "none.json")
    assert not asking.repo_exists("org/none")
    assert not asking.revision_exists("org/m", "none")


def test_a_removed_repository_is_missing(hub):
    hub.add("org/m", FILES)
    hub.remove("org/m")
    with pytest.raises(RepositoryNotFoundError):
        api(hub).model_info("org/m")


@pytest.mark.parametrize("who", ["nobody", "outsider"])
def test_only_the_token_may_write(hub, who):
    hub.add("org/m", FILES)
    asking = api(hub, {"nobody": False, "outsider": hub.outsider_token}[who])
    for work in (
        lambda: asking.create_repo("owner/new"),
        lambda: asking.delete_repo("org/m"),
        lambda: asking.create_branch("org/m", branch="x"),
        lambda: asking.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="org/m"),
    ):
        with pytest.raises(HfHubHTTPError) as error:
            work()
        assert error.value.response.status_code == {"nobody": 401, "outsider": 403}[who]
    assert [repo.id for repo in hub.store] == ["org/m"]
    assert list(hub.repo("org/m").branches) == ["main"]


def test_the_token_does_not_leave_for_the_cdn(hub):
    hub.add("org/m", FILES, private=True)
    asking = api(hub, hub.token)
    asking.hf_hub_download("org/m", "model.safetensors")
    with pytest.raises(SafetensorsParsingError):
        asking.parse_safetensors_file_metadata("org/m", "model.safetensors")  # zeros
    assert len(hub.log.find(origin="cdn")) == 2
    assert {request.authorization for request in hub.log.find(origin="cdn")} == {None}
    assert {r.authorization for r in hub.log.find(origin="api")} == {f"Bearer {hub.token}"}
