"""`reg merge`, and a recipe as options."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from registry.hub_cache import snapshots

RECIPE = """
merge_method: task_arithmetic
base_model: base
models:
  - model: chat
    parameters: {weight: 0.6}
  - model: math
parameters: {lambda: 0.5}
"""


def test_merge_says_what_it_made(scanned):
    made = scanned.json("merge", "--method", "linear", "chat", "math", "-o", "out/merged")
    assert {"model", "run", "digest", "seconds", "read_bytes", "write_bytes"} <= made.keys()
    assert made["model"] == "merged"
    assert made["folder"] == str(scanned.folder / "out" / "merged")
    assert scanned.json("show", "merged")["id"] == made["digest"]


def test_models_need_not_be_scanned_first(place):
    words = ("merge", "--method", "ties", "--base", "models/base", "models/chat", "models/math")
    digest = place.run(*words, "-o", "merged", "-q").stdout.strip()
    assert place.run("verify", "merged", "-q").stdout.strip() == digest


def test_a_recipe_file_and_options_that_say_the_same_make_the_same_bytes(scanned):
    (scanned.folder / "recipe.yaml").write_text(RECIPE)
    words = (
        "merge",
        "--method",
        "task_arithmetic",
        "--weight",
        "chat=0.6",
        "--set",
        "lambda=0.5",
        "chat",
        "math",
    )
    first = scanned.run("merge", "recipe.yaml", "-o", "a", "-q").stdout
    assert scanned.run(*words, "-o", "b", "--jobs", "1", "--memory", "1MB", "-q").stdout == first


def test_options_reach_the_merge(scanned):
    words = (
        "merge",
        "--method",
        "dare_linear",
        "--seed",
        "3",
        "--dtype",
        "float32",
        "--shard-size",
        "3KiB",
    )
    scanned.run(*words, "--set", "rescale=false", "chat", "math", "-o", "merged")
    shards = sorted((scanned.folder / "merged").glob("*.safetensors"))
    assert len(shards) > 1
    assert {t.dtype for t in load_file(shards[0]).values()} == {torch.float32}
    recipe = scanned.json("show", "merged")["recipe"]
    assert recipe["seed"] == 3
    assert recipe["modules"][0]["slices"][0]["parameters"]["rescale"] is False


def test_nothing_is_overwritten_and_a_refusal_leaves_nothing(place):
    place.run("scan", "models")
    assert (
        "not empty"
        in place.run("merge", "--method", "linear", "chat", "-o", "models", code=1).stderr
    )
    bad = place.run(
        "merge", "--method", "slerp", "--set", "t=2", "chat", "math", "-o", "new", code=1
    )
    assert "[0, 1]" in bad.stderr
    assert not (place.folder / "new").exists()


def test_strangers_are_refused_unless_allowed(place, family):
    words = ("merge", "--method", "linear", "models/chat", str(family.stranger), "-o", "merged")
    assert "--allow-unrelated" in place.run(*words, code=1).stderr
    place.run(*words, "--allow-unrelated")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("chat", "math"), "give a RECIPE"),
        (("a.yaml", "b.yaml"), "give a RECIPE"),
        (("recipe.yaml", "--base", "base", "--weight", "chat=1"), "--base, --weight: a recipe file says this itself"),
        (("--method", "linear", "chat", "--weight", "chat"), "is not NAME=VALUE"),
        (("--method", "linear", "chat", "--weight", "=1"), "is not NAME=VALUE"),
        (("--method", "linear", "chat", "--weight", "chat=much"), "'much' is not a number"),
        (("--method", "linear", "chat", "--weight", "math=1"), "must be one of the models"),
        (("--method", "linear", "chat", "chat", "--weight", "chat=1"), "only once"),
        (("--method", "linear", "chat", "--weight", "chat=1", "--weight", "chat=2"), "only once"),
        (("--method", "linear", "chat", "--memory", "lots"), "512MiB"),
    ],
)  # fmt: skip
def test_wrong_usage_says_what_is_right(known, words, said):
    result = known.run("merge", *words, "-o", "never", code=2)
    assert said in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("nowhere.yaml",), "Unreadable"),
        (("--method", "ties", "--set", "densty=0.5", "chat", "math"), "BadRecipe"),
        (("--method", "tise", "chat", "math"), "UnknownMethod"),
        (("--method", "ties", "--set", "density=yes", "chat", "math"), "BadParameter"),
        (("--method", "linear", "--weight", "chat=nan", "chat", "math"), "BadParameter"),
        (("--method", "linear", "--dtype", "int8", "chat", "math"), "BadRecipe"),
        (("--method", "linear", "chat", "mth"), "UnknownModel"),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_named(known, words, error):
    result = known.run("merge", *words, "-o", "never", "--json", code=1)
    assert f'"error": "{error}"' in result.stderr
    assert not (known.folder / "never").exists()


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(scanned):
    words = ("--method", "linear", "chat", "math", "--device", "cuda:999", "-o", "new/merged")
    for command in ("plan", "merge"):
        said = scanned.run(command, *words, code=1).stderr
        assert "device cuda:999 is not there" in said
        assert "without --device the processor merges, to the same bytes" in said
    assert not (scanned.folder / "new").exists()
    assert scanned.json("sql", "select * from runs") == []


def test_the_device_of_the_processor_is_the_default(scanned):
    words = ("--method", "linear", "chat", "math")
    assert scanned.json("plan", *words)["device"] == "cpu"
    assert scanned.json("plan", *words, "--device", "cpu")["notes"] == []
    digests = {
        scanned.json("merge", *words, *more, "-o", name)["digest"]
        for name, more in (("a", ()), ("b", ("--device", "cpu")))
    }
    assert len(digests) == 1


@pytest.fixture
def on_the_hub(hub, family):
    """Base, chat and math on a Hub."""
    return {f.name: hub.add(f"org/{f.name}", f) for f in (family.base, family.chat, family.math)}


FROM_HUB = ("merge", "--method", "ties", "--base", "hf://org/base", "hf://org/chat", "hf://org/math")  # fmt: skip


def test_models_of_the_hub_are_downloaded_merged_and_named_with_their_commits(place, hub, on_the_hub):  # fmt: skip
    place.run("scan", "hf://org/*")
    why = place.run("merge", "--method", "linear", "org/chat", "org/math", "-o", "no", code=1)
    assert f"give hf://org/chat@{on_the_hub['chat']} in the place of its name" in why.stderr.replace("\n", " ")  # fmt: skip
    made = place.json(*FROM_HUB, "-o", "merged")
    sidecar = json.loads((place.folder / "merged" / "homolog.json").read_text())
    assert sorted(sidecar["addresses"].values()) == sorted(
        f"hf://org/{name}@{commit}" for name, commit in on_the_hub.items()
    )
    assert place.run("verify", "merged", "-q").stdout.strip() == made["digest"]
    words = ("merge", "--method", "ties", "--base", "models/base", "models/chat", "models/math")
    assert place.json(*words, "-o", "local")["digest"] == made["digest"]
    planned = place.json("plan", *FROM_HUB[1:])
    assert planned["base"]["address"] == f"hf://org/base@{on_the_hub['base']}"


def test_without_a_network_a_warm_cache_is_enough_and_no_socket_is_opened(
    place, hub, on_the_hub, monkeypatch
):
    expected = place.run(*FROM_HUB, "-o", "first", "-q").stdout
    shutil.rmtree(place.folder / ".reg")
    (place.folder / ".reg").mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def refuse(*_, **__):
        message = "a socket is opened"
        raise AssertionError(message)

    for name in ("socket", "getaddrinfo", "create_connection"):
        monkeypatch.setattr(f"socket.{name}", refuse)
    hub.log.clear()
    scanned = place.json("scan", "hf://org/chat")
    assert [(m["name"], m["status"]) for m in scanned["models"]] == [("org/chat", "full")]
    assert place.run(*FROM_HUB, "-o", "second", "-q").stdout == expected
    assert "is not in the cache" in place.run("scan", "hf://org/none", code=1).stderr
    assert len(hub.log) == 0


def test_stream_downloads_nothing_and_makes_the_same_model(place, hub, on_the_hub):
    made = place.json(*FROM_HUB, "--stream", "-o", "streamed")
    assert list(snapshots()) == []
    words = ("merge", "--method", "ties", "--base", "models/base", "models/chat", "models/math")
    assert place.json(*words, "-o", "local")["digest"] == made["digest"]
    parents = place.json("sql", "select distinct status from models where name like 'org/%'")
    assert parents == [{"status": "full"}]
