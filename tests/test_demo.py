"""The main job, end to end, on really trained weights: what `make demo` shows is true."""

import json
import shutil
from pathlib import Path

import pytest

from cli.main import run
from registry.catalog import Catalog
from registry.resources import data_folder

KEPT = 0.9
"""A merge of two experts must keep this share of each expert's own score."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the story was told."""
    folder = tmp_path_factory.mktemp("demo") / "playground"
    assert run(["demo", "--keep", str(folder)]) == 0
    return folder


@pytest.fixture
def scores(told: Path) -> dict[tuple[str, str], float]:
    """(model, suite) → exact match."""
    rows = Catalog(told / ".reg" / "catalog.duckdb").rows(
        "select model, task, value, n from scores where origin = 'measured'"
    )
    assert all(row["n"] == 200 for row in rows)
    return {(row["model"], row["task"]): row["value"] for row in rows}


def test_experts_are_good_and_the_base_is_not(scores: dict[tuple[str, str], float]) -> None:
    for expert in ("arithmetic", "reverse", "prose"):
        assert scores[expert, expert] >= 0.95
        assert scores["base", expert] < 0.3


@pytest.mark.parametrize("merge", ["sum", "ties"])
def test_a_merge_of_two_experts_keeps_what_both_know(
    scores: dict[tuple[str, str], float], merge: str
) -> None:
    for expert in ("arithmetic", "reverse"):
        assert scores[merge, expert] >= KEPT * scores[expert, expert]


def test_the_table_shows_where_methods_fail(scores: dict[tuple[str, str], float]) -> None:
    assert scores["dare-99", "arithmetic"] < 0.7
    assert scores["far-average", "prose"] < 0.7


def test_measured_scores_agree_with_those_the_training_script_measured(
    scores: dict[tuple[str, str], float],
) -> None:
    truth = json.loads((data_folder() / "zoo" / "zoo.json").read_text(encoding="utf-8"))
    for (model, suite), value in scores.items():
        if model in truth["models"]:
            assert value == pytest.approx(truth["models"][model]["exact_match"][suite], abs=0.02)


def test_the_catalog_knows_the_family_as_it_is(told: Path) -> None:
    truth = json.loads((data_folder() / "zoo" / "zoo.json").read_text(encoding="utf-8"))["models"]
    rows = Catalog(told / ".reg" / "catalog.duckdb").rows(
        "select child_name, parent_name from edges where status = 'declared' and relation <> 'merge'"
    )
    declared = {(row["child_name"], row["parent_name"]) for row in rows}
    known = {(name, facts["parent"]) for name, facts in truth.items() if facts["parent"]}
    assert declared == known | {("subtractor", "stranger")}  # whose card lies


def test_merges_are_recorded_with_parents_and_evidence(told: Path) -> None:
    rows = Catalog(told / ".reg" / "catalog.duckdb").rows(
        "select child_name, parent_name, role from edges where status = 'recorded' and child_name = 'ties'"
    )
    assert {(row["parent_name"], row["role"]) for row in rows} == {
        ("base", "base"), ("arithmetic", "model"), ("reverse", "model"),
    }  # fmt: skip


def test_a_lost_catalog_is_rebuilt_by_scanning(told: Path, tmp_path: Path) -> None:
    again = Catalog(tmp_path / "again.duckdb")
    assert (
        run(["--catalog", str(again.path), "scan", str(told / "models"), str(told / "merged")]) == 0
    )
    before = Catalog(told / ".reg" / "catalog.duckdb")
    query = "select id, name from models where list_contains(addresses, ?)"
    for folder in ("merged/ties", "merged/sum", "models/base"):
        assert again.rows(query, [str(told / folder)]) == before.rows(query, [str(told / folder)])
    parents = (
        "select distinct parent, role from edges "
        "where child = (select model_id from files where uri = ? limit 1) order by all"
    )
    place = [str(told / "merged" / "ties")]
    assert again.rows(parents, place) == before.rows(parents, place) != []


def test_one_flipped_byte_is_named(
    told: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(told / "merged" / "ties", tmp_path / "ties")
    file = tmp_path / "ties" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    capsys.readouterr()
    assert run(["--json", "verify", str(tmp_path / "ties")]) == 3
    differences = json.loads(capsys.readouterr().out)["differences"]
    assert any(d["what"] == "tensor" and d["where"].startswith("model.") for d in differences)
