"""The report on lineage from weights: what it says of a small family, and how it is laid out."""

from pathlib import Path

from zoo_lineage.family import Pace
from zoo_lineage.make import make
from zoo_lineage.network import Shape
from zoo_lineage.plan import BASE, Family, parents
from zoo_lineage.report import BASELINE, document, main, measure

FAMILY = Family("mlp-small", Shape("mlp", width=64, depth=2), (BASE, *parents()), 5)


def small(tmp_path: Path) -> Path:
    """A family of four, trained for a second: of less there is little to see."""
    make(tmp_path, "dev", [FAMILY], cards=True, pace=Pace(base=500, tune=40))
    return tmp_path


def test_a_split_is_judged_in_every_regime_beside_the_baseline(tmp_path):
    rows = measure(small(tmp_path), "dev", ["2048", "full"])
    assert [(row.regime, row.claims) for row in rows] == [
        ("2048", False), ("2048", True), ("full", False), ("full", True), (BASELINE, False),
    ]  # fmt: skip
    for row in rows[:-1]:
        assert row.report["n_claims"] > 0
        assert row.cpu_seconds > 0
        assert sum(part["edges"] for part in row.report["reliability"]) == 3
        assert row.report["n_models"] == 4
        assert row.report["undirected"]["f1"] > 0
    assert rows[0].read_bytes == rows[1].read_bytes < rows[2].read_bytes
    page = document(rows)
    bins = sum(len(row.report["reliability"]) for row in rows if row.regime == "full")
    assert page.count("| dev |") == 5 + bins
    assert "MoTHer" in page


def test_the_command_writes_the_page(tmp_path):
    out = tmp_path / "page.md"
    main([str(small(tmp_path)), "--splits", "dev", "--regimes", "2048", "--out", str(out)])
    assert out.read_text(encoding="utf-8").startswith("# Lineage from the weights, judged")
