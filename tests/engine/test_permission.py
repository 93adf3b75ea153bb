"""A merge that no licence allows is refused before anything is written, or made with its reason on record."""

import pytest
from conftest import moved, save_model

from engine.merge import merge, plan, reproduce
from engine.options import Options
from engine.permission import allowances, license_of_plan, refuse_conflict
from engine.recipe import Part, Recipe
from registry.card import read_card
from registry.errors import LicenseConflict
from registry.license_report import licenses
from registry.scan import scan

PAIR = Recipe(
    method="linear", models=(Part("one", {"weight": 0.99}), Part("two", {"weight": 0.01}))
)


@pytest.fixture
def shelf(family, tmp_path, catalog):
    """A base under Apache-2.0 and three fine-tunes that say GPL, Gemma and MIT."""
    base = family.weights["base"]
    save_model(tmp_path / "m" / "base", base, card="license: apache-2.0")
    for seed, (name, license_) in enumerate(
        {"one": "gpl-3.0", "two": "gemma", "three": "mit"}.items()
    ):
        card = f"base_model: base\nlicense: {license_}"
        save_model(tmp_path / "m" / name, moved(base, 40 + seed, 0.001), card=card)
    scan(catalog, [str(tmp_path / "m")])
    return catalog


def test_a_conflict_stops_a_merge_before_anything_is_written(shelf, tmp_path):
    with pytest.raises(LicenseConflict, match=r"gpl-3\.0:share_alike 5") as caught:
        merge(shelf, PAIR, tmp_path / "out")
    assert "gemma:use_policy 3.1, 3.2" in caught.value.message
    assert "--allow-license-conflict REASON" in caught.value.hint
    assert not list(tmp_path.glob("*out*"))
    assert shelf.rows("select * from store.run") == []


def test_a_coefficient_of_a_hundredth_still_contributes(shelf):
    found = license_of_plan(shelf, plan(shelf, PAIR))
    assert [f.about for f in found.conflicts] == ["copyleft-restricted"]


def test_a_reason_lets_it_be_made_and_is_kept_with_every_edge(shelf, tmp_path):
    told = []
    options = Options(allow_license_conflict="never leaves this house")
    merged = merge(shelf, PAIR, tmp_path / "out", options=options, told=told.append)
    kept = shelf.rows(
        "select parent_name, detail from evidence where method = 'license' and child = ? order by all",
        [merged.model],
    )
    assert [row["parent_name"] for row in kept] == ["one", "two"]
    for row in kept:
        assert row["detail"].startswith(
            "licence conflict allowed: never leaves this house (copyleft"
        )
    assert any(
        "copyleft-restricted: gpl-3.0:share_alike, gemma:use_policy" in note for note in told
    )
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert read_card(text).front_matter["license"] == "other"
    assert "No single licence: no licence satisfies all it was made of" in text
    assert [f.about for f in licenses(shelf, [merged.model])[merged.model].conflicts] == [
        "copyleft-restricted"
    ]
    expected, again = reproduce(shelf, "out", tmp_path / "again")
    assert expected == again.model == merged.model


def test_without_a_conflict_a_reason_is_not_kept_and_the_licence_is_stated(shelf, tmp_path):
    recipe = Recipe(method="linear", models=(Part("two"), Part("three")))
    told = []
    options = Options(allow_license_conflict="just in case")
    merged = merge(shelf, recipe, tmp_path / "out", options=options, told=told.append)
    assert shelf.rows("select * from evidence where method = 'license'") == []
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert read_card(text).front_matter["license"] == "gemma"
    assert any(note.startswith("licence: gemma (covers all") for note in told)
    assert merged.license.suggested == "gemma"
    assert shelf.rows("select license from models where id = ?", [merged.model]) == [
        {"license": "gemma"}
    ]


def test_only_a_conflict_is_refused_and_only_an_allowed_one_is_kept(shelf):
    fine = license_of_plan(
        shelf, plan(shelf, Recipe(method="linear", models=(Part("two"), Part("three"))))
    )
    refuse_conflict(fine, None)
    assert list(allowances(fine, "because", [])) == []
    assert list(allowances(license_of_plan(shelf, plan(shelf, PAIR)), None, [])) == []
