"""Every example in the help of every command is run, in a folder like the one it assumes."""

import json
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from signing_keys import key_pair

from cli.command import Group
from cli.main import MODULES, SUMMARIES

ZOO = Path(__file__).parents[2] / "data" / "zoo"
MODELS = {"base": "base", "arithmetic": "chat", "reverse": "math"}
RECIPE = """
merge_method: ties
base_model: base
models:
  - model: chat
    parameters: {weight: 0.6, density: 0.5}
  - model: math
parameters: {lambda: 0.9}
"""
RESULTS = {
    "results": {"gsm8k": {"acc,none": 0.41, "acc_stderr,none": 0.01}},
    "n-shot": {"gsm8k": 5},
}


def _examples():
    for name in SUMMARIES:
        command = import_module(f"cli.commands.{MODULES.get(name, name)}").command
        if name == "demo":
            continue  # the story is run by its own test
        for leaf in command.commands.values() if isinstance(command, Group) else [command]:
            yield from leaf.examples


@pytest.fixture(scope="module")
def story(place_at, tmp_path_factory):
    """A folder with the models, the recipe, the suite and the results that the examples speak of."""
    folder = tmp_path_factory.mktemp("story")
    (folder / ".reg").mkdir()
    for trained, name in MODELS.items():
        shutil.copytree(ZOO / trained, folder / "models" / name)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "results.json").write_text(json.dumps(RESULTS))
    (folder / "hub.jsonl").write_text(
        '{"id": "lab/base"}\n{"id": "lab/chat", "base_model": "lab/base"}\n'
    )
    (folder / "hub.csv").write_text("id,base_model\nlab/math,lab/base\n")
    suite = (ZOO / "suites" / "arithmetic.jsonl").read_text().splitlines()[:4]
    (folder / "suite.jsonl").write_text("\n".join(suite))
    place = place_at(folder)
    place.run("scan", "models")
    place.run("merge", "recipe.yaml", "-o", "merged")
    place.run("alias", "set", "old", "chat")
    key_pair(folder)
    place.run("sign", "merged", "--key", "key.pem")
    for child, name in (("chat", "lora-a"), ("math", "lora-b")):
        place.run("extract", child, "--base", "base", "--rank", "4", "-o", name)
    return place


@pytest.mark.parametrize("example", list(_examples()))
def test_the_example_runs(example, story):
    words = shlex.split(example)
    assert words[0] == "reg"
    story.run(*words[1:])
