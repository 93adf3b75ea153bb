"""The hub as such: it starts, answers over a fixture, and ends."""

from huggingface_hub import HfApi


def test_a_repository_is_there_once_it_is_added(hub):
    sha = hub.add("org/model", {"config.json": b"{}"})
    assert HfApi(endpoint=hub.endpoint).model_info("org/model").sha == sha
