"""What the Hub's library raises, in our words."""

import json

import pytest
from huggingface_hub import get_session
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.utils import hf_raise_for_status

from registry.errors import HubBusy, HubRefused, HubRejected, Offline, Unreadable
from registry.hub_failure import failure_of, library_errors


def raised(call):
    with pytest.raises(library_errors()) as caught:
        call()
    return failure_of(caught.value, {"ab" * 32: "model.safetensors"})


def throw(error, cause=None):
    raise error from cause


def test_an_answer_is_known_by_its_status_however_often_it_is_wrapped(hub):
    hub.fault(
        "/x", status=429, headers={"Retry-After": "7"}, body=b'{"error": "slow down"}', times=None
    )

    def ask():
        try:
            hf_raise_for_status(get_session().post(f"{hub.endpoint}/x"))
        except OSError as error:
            throw(RuntimeError("Error while uploading"), error)

    found = raised(ask)
    assert (found.status, found.wait_seconds, found.may_pass) == (429, 8.0, True)
    named = found.named("hf://a/b", "nothing was written")
    assert isinstance(named, HubBusy)
    assert "slow down" in named.message
    assert named.message.endswith("; nothing was written")


@pytest.mark.parametrize(
    ("error", "kind", "passes", "said"),
    [
        (OfflineModeIsEnabled("x"), Offline, False, "HF_HUB_OFFLINE"),
        (FileNotFoundError(2, "No such file or directory", "/a/b"), Unreadable, False, "/a/b: No such"),
        (ConnectionResetError("reset"), HubBusy, True, "ConnectionResetError"),
        (json.JSONDecodeError("Expecting value", "<html>", 0), HubBusy, True, "JSONDecodeError"),
        (ValueError("OID " + "ab" * 32 + ": too\nlarge"), HubRejected, False, "OID model.safetensors: too large"),
        (RuntimeError(""), HubRejected, False, "RuntimeError"),
    ],
)  # fmt: skip
def test_every_other_error_has_a_name(error, kind, passes, said):
    found = raised(lambda: throw(error))
    assert found.may_pass is passes
    named = found.named("hf://a/b", "state")
    assert type(named) is kind
    assert said in named.message


def test_a_token_is_shown_to_nobody(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret-of-a-mirror")
    words = "Bearer secret-of-a-mirror is not hf_abcdefghijklmnop\x1b[2J"
    text = raised(lambda: throw(ValueError(words))).said
    assert "secret" not in text
    assert "hf_" not in text
    assert text.isprintable()


def test_refusals_say_what_to_do(hub):
    hub.fault("/x", status=403, headers={"X-Error-Code": "GatedRepo"}, body=b"{}")
    found = raised(lambda: hf_raise_for_status(get_session().get(f"{hub.endpoint}/x")))
    named = found.named("hf://a/b", "state")
    assert isinstance(named, HubRefused)
    assert "gated" in named.message
    assert named.hint == "ask its owner"
