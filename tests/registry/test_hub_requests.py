"""Requests to the Hub: counted, patient, and with the token for nobody else."""

import threading
import time

import pytest
from huggingface_hub import constants

from registry import hub_requests
from registry.errors import BadParameter, HubBusy, HubMissing, HubRefused, Offline, RequestsSpent
from registry.hub import Hub
from registry.hub_requests import MOST_WAITS, Answer, Requests, refuse

CANARY = "hf_" + "canary" * 5


@pytest.fixture
def impatient(monkeypatch):
    """Pauses that are not asked for take no time."""
    monkeypatch.setattr(hub_requests, "_LONGEST_WAIT_SECONDS", 0.01)


@pytest.fixture
def repository(hub):
    hub.add("org/model", {"config.json": b"{}", "model.safetensors": bytes(50_000)})
    return hub


def test_what_passes_is_asked_again(repository, impatient):
    for status in (429, 500, 503):
        repository.fault("GET /api/models/org/model", status=status)
    repository.fault("GET /api/models/org/model", hang_up=True)
    with Requests() as requests:
        assert Hub(requests).pin("org/model").name == "org/model"
        assert requests.n_requests == 5


def test_what_does_not_pass_ends_after_some_tries(repository, impatient):
    fault = repository.fault("GET /api/models/org/model", status=503, times=None)
    with Requests() as requests, pytest.raises(HubBusy, match=r"org/model.*6 tries \(status 503\)"):
        Hub(requests).pin("org/model")
    assert fault.hits == MOST_WAITS + 1


def test_without_a_network_nobody_waits_long(hub, impatient, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with Requests() as requests, pytest.raises(HubBusy, match="3 tries") as caught:
        Hub(requests).pin("org/model")
    assert "HF_HUB_OFFLINE=1" in caught.value.hint


@pytest.mark.parametrize(
    "to", ["http://[half", "http://host:port/", "ftp://host/", "huggingface.co", "http:"]
)
def test_addresses_that_lead_nowhere_are_told(repository, monkeypatch, to):
    if "//" in to:
        repository.fault("GET /api/models/org/model", status=302, headers={"Location": to})
        with Requests() as requests, pytest.raises(HubBusy, match="a redirect to nowhere"):
            Hub(requests).pin("org/model")
    monkeypatch.setenv("HF_ENDPOINT", to)
    with pytest.raises(BadParameter, match="HF_ENDPOINT is"):
        Requests()


def test_nothing_is_asked_once_the_block_is_left(repository):
    with Requests() as requests:
        hub = Hub(requests)
    repository.log.clear()
    with pytest.raises(HubBusy, match="stopped"):
        hub.pin("org/model")
    assert not list(repository.log)


def test_all_threads_are_quiet_as_long_as_the_hub_wishes(repository):
    repository.fault("GET /api/models/org/model", status=429, headers={"Retry-After": "1"})
    with Requests() as requests:
        hub = Hub(requests)
        begun = time.monotonic()
        threads = [threading.Thread(target=hub.pin, args=["org/model"]) for _ in range(4)]
        for thread in threads:
            thread.start()
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        assert time.monotonic() - begun > 1.5
    asked = [request.status for request in repository.log.find("GET /api/models/org/model")]
    assert asked == [429, 200, 200, 200, 200]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 8),
        ({"ratelimit": '"api";r=0;t=55'}, 56),
        ({"ratelimit": '"api";r=3;t=55', "retry-after": "2"}, 3),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, 0),
        ({}, 0),
    ],
)
def test_how_long_the_hub_asks_to_wait(headers, seconds):
    assert Answer(429, headers, b"", "http://hub").wait_seconds == seconds


def test_who_asks_for_too_much_patience_is_left_alone(repository):
    repository.fault("GET /api/models", status=429, headers={"Retry-After": "86400"})
    with Requests() as requests, pytest.raises(HubBusy, match="86401 s"):
        Hub(requests).pin("org/model")


def test_the_block_that_is_left_wakes_who_waits(repository):
    repository.fault("GET /api/models", status=429, headers={"Retry-After": "600"}, times=None)
    ended = []

    def ask(hub):
        with pytest.raises(HubBusy):
            hub.pin("org/model")
        ended.append(True)

    with Requests() as requests:
        thread = threading.Thread(target=ask, args=[Hub(requests)])
        thread.start()
        while not repository.log.find("org/model"):
            time.sleep(0.01)
    thread.join(5)
    assert ended == [True]


def test_no_more_is_asked_than_was_allowed(repository):
    with Requests(most_requests=2) as requests:
        hub = Hub(requests)
        hub.pin("org/model")
        hub.pin("org/model")
        with pytest.raises(RequestsSpent, match="2 requests"):
            hub.pin("org/model")
    assert len(repository.log.find("org/model")) == 2


def test_the_token_goes_to_the_hub_and_to_nobody_else(repository, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", CANARY)
    repository.token = CANARY
    with Requests() as requests:
        hub = Hub(requests)
        one = hub.pin("org/model")
        (weights,) = (f for f in hub.files(one) if f.path == "model.safetensors")
        hub.part(one, weights, 0, 10)
        hub.part(one, weights, 10, 20)
    assert {r.authorization for r in repository.log.find(origin="api")} == {f"Bearer {CANARY}"}
    assert [r.authorization for r in repository.log.find(origin="cdn")] == [None, None]


def test_offline_means_offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Offline, match="HF_HUB_OFFLINE"):
        Requests()


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "GatedRepo", HubRefused),
        (401, "GatedRepo", HubRefused),
        (403, "", HubRefused),
        (401, "RepoNotFound", HubMissing),
        (404, "RepoNotFound", HubMissing),
        (404, "RevisionNotFound", HubMissing),
        (404, "EntryNotFound", HubMissing),
        (418, "", HubBusy),
    ],
)
def test_answers_that_are_none_have_names(status, code, error):
    answer = Answer(status, {"x-error-code": code}, b"", "http://hub")
    with pytest.raises(error, match="hf://org/model"):
        refuse("hf://org/model", answer)


def test_a_longer_body_than_asked_for_is_not_read(repository):
    with Requests() as requests:
        url = f"{requests.endpoint}/org/model/resolve/main/model.safetensors"
        assert len(requests.get("it", url, {}, 100).content) <= 1 << 16
