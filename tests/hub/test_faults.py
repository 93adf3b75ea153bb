"""What goes wrong on purpose, as the client bears it."""

import time

import httpx2
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError

LARGE = bytes(range(256)) * 1000
FILES = {"config.json": b"{}", "model.safetensors": LARGE}


@pytest.fixture
def api(hub):
    hub.add("org/m", FILES)
    return HfApi(endpoint=hub.endpoint, token=False)


@pytest.fixture
def slept(monkeypatch):
    """Seconds that the client would have waited."""
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


def test_a_client_waits_as_it_is_told_and_goes_on(hub, api, slept):
    fault = hub.fault("GET /api/models", status=429, headers={"Retry-After": "3"}, times=2)
    assert [model.id for model in api.list_models()] == ["org/m"]
    assert [request.status for request in hub.log] == [429, 429, 200]
    assert slept == [4.0, 4.0]  # one more than told
    assert fault.hits == 2


def test_a_single_question_is_not_asked_again(hub, api):
    hub.fault("GET /api/models/org/m", status=503, body=b"busy")
    with pytest.raises(HfHubHTTPError) as error:
        api.model_info("org/m")
    assert (error.value.response.status_code, error.value.response.content) == (503, b"busy")
    assert api.model_info("org/m").id == "org/m"


def test_faults_strike_after_and_as_often_as_they_should(hub, api):
    hub.fault("/api/models/org/m", status=500, after=1, times=2)
    hub.fault("/api/models/org/m", status=502, times=None)
    seen = []
    for _ in range(5):
        with pytest.raises(HfHubHTTPError) as error:
            api.model_info("org/m")
        seen.append(error.value.response.status_code)
    assert seen == [502, 500, 500, 502, 502]
    hub.clear_faults()
    assert api.model_info("org/m").id == "org/m"


def test_a_dropped_download_goes_on_where_it_ended(hub, api, slept, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # less is not written
    hub.fault("GET .*model.safetensors", origin="cdn", drop_after=100_000)
    with open(api.hf_hub_download("org/m", "model.safetensors"), "rb") as got:
        assert got.read() == LARGE
    first, second = hub.log.find(origin="cdn")
    assert (first.status, first.bytes_sent) == (200, 100_000)
    assert (second.status, second.range) == (206, "bytes=100000-")
    assert second.bytes_sent == len(LARGE) - 100_000


def test_a_connection_can_end_without_an_answer(hub, api):
    hub.fault("GET /api/models/org/m", hang_up=True)
    with pytest.raises(httpx2.RemoteProtocolError):
        api.model_info("org/m")
    assert hub.log[0].status == 0
    assert api.model_info("org/m").id == "org/m"


def test_one_byte_is_wrong_and_the_client_does_not_see_it(hub, api):
    hub.fault("GET", origin="cdn", corrupt=True)
    with open(api.hf_hub_download("org/m", "model.safetensors"), "rb") as file:
        got = file.read()
    wrong = [i for i in range(len(LARGE)) if got[i] != LARGE[i]]
    assert (len(got), wrong) == (len(LARGE), [len(LARGE) // 2])
    assert api.verify_repo_checksums("org/m").mismatches[0]["path"] == "model.safetensors"


def test_silence_outlasts_a_client(hub, api):
    hub.fault("GET /api/models/org/m", slow=30)
    with pytest.raises(httpx2.ReadTimeout):
        api.model_info("org/m", timeout=0.2)
    assert api.model_info("org/m", timeout=10).id == "org/m"


def test_a_short_silence_only_delays(hub, api):
    hub.fault("GET /api/models/org/m", slow=0.2)
    start = time.monotonic()
    assert api.model_info("org/m").id == "org/m"
    assert time.monotonic() - start >= 0.2


def test_headers_can_be_added_to_the_real_answer(hub, api):
    hub.fault("HEAD", headers={"X-Repo-Commit": "0" * 40})
    told = api.get_hf_file_metadata(url=f"{hub.endpoint}/org/m/resolve/main/config.json")
    assert told.commit_hash == "0" * 40


def test_an_upload_is_tried_again(hub, slept):
    hub.add("org/m", FILES)
    hub.fault("^PUT", origin="cdn", status=500)
    HfApi(endpoint=hub.endpoint, token=hub.token).upload_file(
        repo_id="org/m", path_or_fileobj=LARGE[::-1], path_in_repo="new.bin"
    )
    assert [r.status for r in hub.log.find("^PUT")] == [500, 200]
    assert hub.repo("org/m").head.read("new.bin") == LARGE[::-1]


def test_an_ended_hub_does_not_wait_for_the_slow(hub, api):
    hub.fault("GET /api/models/org/m", slow=60)
    with pytest.raises(httpx2.ReadTimeout):
        api.model_info("org/m", timeout=0.1)
    start = time.monotonic()
    hub.close()
    assert time.monotonic() - start < 5


def test_a_download_waits_when_there_are_too_many(hub, api, slept):
    hub.fault("GET", origin="cdn", status=429, headers={"Retry-After": "1"})
    api.hf_hub_download("org/m", "model.safetensors")
    assert [request.status for request in hub.log.find(origin="cdn")] == [429, 200]
    assert constants.HF_HUB_DISABLE_XET
