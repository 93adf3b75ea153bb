"""The README tells the truth: what it names exists, what it types runs."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from hub.server import LocalHub

from cli.main import SUMMARIES, run
from cli.story import STORY
from engine.method import Method
from engine.methods import all_methods
from registry.catalog import Catalog
from registry.resources import data_folder

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

HUB = """{"id": "lab/chat", "base_model": "lab/tiny", "downloads": 90, "license": "mit"}
{"id": "lab/math", "base_model": "lab/tiny", "tags": ["base_model:adapter:lab/tiny"], "downloads": 12}
{"id": "lab/both", "base_model": ["lab/chat", "lab/math"], "downloads": 5}
"""


@pytest.fixture
def playground(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _empty_catalog: bytes, hub: LocalHub
) -> Path:
    """The folder that `reg demo --keep` leaves: the trained models, the suites, an empty catalog; a Hub with those models."""
    zoo = data_folder() / "zoo"
    for model in zoo.iterdir():
        if model.is_dir() and model.name != "suites":
            hub.add(f"homolog-zoo/{model.name}", model)
    shutil.copytree(zoo / "suites", tmp_path / "suites")
    for model in zoo.iterdir():
        if model.is_dir() and model.name != "suites":
            shutil.copytree(model, tmp_path / "models" / model.name)
    shutil.copytree(data_folder() / "finds", tmp_path / "finds")
    (tmp_path / "hub.jsonl").write_text(HUB, encoding="utf-8")
    (tmp_path / ".reg").mkdir()
    (tmp_path / ".reg" / "catalog.duckdb").write_bytes(_empty_catalog)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REG_CATALOG", raising=False)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return tmp_path


def commands() -> list[tuple[str, list[str]]]:
    """Every `reg` line of the README's story, in order, and what it shows; the opening block repeats some."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(BLOCKS[1:]).splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        else:
            found[-1][1].append(line)
    return [(line, shown) for line, shown in found if line.startswith("reg")]


def test_every_command_of_the_readme_runs_and_shows_what_it_says(
    playground: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = commands()
    assert len(told) > 20
    assert sum(len(shown) for _, shown in told) > 40
    for line, shown in told:
        expected = 3 if "exit 3" in line else 0
        words = shlex.split(line, comments=True)[1:]
        assert run(words) == expected, line
        printed = iter(row.rstrip() for row in capsys.readouterr().out.splitlines())
        for row in shown:  # all of these, in this order; others may stand between them
            assert row in printed, f"{line} does not print {row!r}"


def test_the_opening_block_shows_commands_that_the_story_runs() -> None:
    story = {shlex.split(line, comments=True)[1] for line, _ in commands()}
    opening = [line.split()[2] for line in BLOCKS[0].splitlines()]
    assert set(opening) <= story


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"reg {name}" in README


@pytest.mark.parametrize("method", all_methods().values(), ids=lambda m: m.name)
def test_the_readme_s_table_has_every_method_as_it_is(method: Method) -> None:
    def shown(value: object) -> str:
        return (
            str(value).lower()
            if isinstance(value, bool)
            else f"{value:g}"
            if isinstance(value, float)
            else str(value)
        )

    parameters = ", ".join(f"{p.name} ({shown(p.default)})" for p in method.parameters)
    space = "task vectors" if method.space == "delta" else "weights"
    assert f"| `{method.name}` | {space} | {parameters} | {method.paper} |" in README


def test_every_view_is_in_the_readme_and_every_column_has_a_comment(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.duckdb")
    with catalog.write():
        pass
    columns = catalog.rows(
        "select table_name, column_name, comment from duckdb_columns() where schema_name = 'main' and not internal"
    )
    assert len({row["table_name"] for row in columns}) == 17
    for row in columns:
        assert f"`{row['table_name']}`" in README
        assert row["comment"], row


def test_the_demo_s_story_uses_models_that_ship(playground: Path) -> None:
    models = {folder.name for folder in (playground / "models").iterdir()}
    named = {
        word for step in STORY for word in step.command if (data_folder() / "zoo" / word).is_dir()
    }
    assert {"arithmetic", "reverse", "prose", "stranger"} <= named <= models | {"suites"}


def test_the_python_of_the_readme_runs(playground: Path) -> None:
    code = re.search(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert code is not None
    exec(compile(code[1], "README.md", "exec"), {})  # noqa: S102 - our own page


def test_the_recipes_of_the_readme_merge(playground: Path) -> None:
    recipes = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(recipes) > 2
    assert run(["scan", "models"]) == 0
    for i, recipe in enumerate(recipes):
        (playground / "recipe.yaml").write_text(recipe, encoding="utf-8")
        assert run(["merge", "recipe.yaml", "-o", f"merged-{i}"]) == 0, recipe
        assert (playground / f"merged-{i}" / "model.safetensors").is_file()
