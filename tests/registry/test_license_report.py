"""The licences of what a catalog holds."""

import pytest
from scanned import tiny, with_card

from registry.license_report import LEAST_CONFIDENCE, card_license, license_of_merge, licenses
from registry.scan import scan


@pytest.fixture
def made(tmp_path, catalog):
    """Make models of name → front matter, scan them; gives name → id."""

    def make(**cards):
        for value, (name, card) in enumerate(cards.items()):
            folder = tiny(tmp_path / "models" / name, float(value))
            if card:
                with_card(folder, card)
        scan(catalog, [str(tmp_path / "models")])
        return {name: catalog.find(name) for name in cards}

    return make


def test_a_child_is_bound_by_its_base(made, catalog):
    ids = made(base="license: llama2", chat="license: mit\nbase_model: base")
    found = licenses(catalog, [ids["chat"]])
    assert list(found) == [ids["chat"]]
    assert found[ids["chat"]].declared == ("mit",)
    assert found[ids["chat"]].suggested == "llama2"
    assert [f.kind for f in found[ids["chat"]].findings] == ["license_drift"]
    assert licenses(catalog)[ids["chat"]] == found[ids["chat"]]
    assert set(licenses(catalog)) == set(ids.values())


def test_a_licence_of_its_own_name_and_a_list_are_read(made, catalog):
    ids = made(
        one="license: other\nlicense_name: qwen-research", two="license: [mit, cc-by-nc-4.0]"
    )
    found = licenses(catalog)
    assert found[ids["one"]].suggested == "qwen-research"
    assert found[ids["two"]].suggested == "cc-by-nc-4.0"


def test_a_base_that_nobody_has_shown_is_unknown(made, catalog):
    ids = made(chat="license: mit\nbase_model: nobody/has-it")
    (finding,) = licenses(catalog, [ids["chat"]])[ids["chat"]].findings
    assert finding.kind == "license_unknown"
    assert "nobody/has-it" in finding.detail


def test_an_edge_that_is_more_likely_wrong_carries_nothing(made, catalog):
    ids = made(base="license: llama2", chat="license: mit\nbase_model: base")
    with catalog.write() as transaction:
        transaction.execute("update store.edge set confidence = ?", [LEAST_CONFIDENCE - 0.01])
    assert licenses(catalog)[ids["chat"]].findings == ()
    with catalog.write() as transaction:
        transaction.execute("update store.edge set confidence = ?", [LEAST_CONFIDENCE])
    assert licenses(catalog)[ids["chat"]].findings


def test_a_model_that_a_run_made_is_not_unknown_for_its_silence(made, catalog):
    ids = made(base="license: mit", merge="base_model: base")
    assert [f.kind for f in licenses(catalog)[ids["merge"]].findings] == ["license_unknown"]
    with catalog.write() as transaction:
        transaction.execute("update store.edge set status = 'recorded'")
    assert licenses(catalog)[ids["merge"]].findings == ()


def test_models_that_claim_each_other_are_judged(made, catalog):
    ids = made(a="license: mit\nbase_model: b", b="license: gemma\nbase_model: a")
    assert licenses(catalog)[ids["a"]].suggested == "gemma"


def test_a_merge_counts_every_parent_and_all_above(made, catalog):
    ids = made(base="license: gemma", a="license: mit\nbase_model: base", b="license: apache-2.0")
    found = license_of_merge(catalog, [ids["a"], ids["b"]])
    assert found.suggested == "gemma"
    assert found == license_of_merge(catalog, [ids["b"], ids["a"], ids["a"]])
    assert license_of_merge(catalog, [ids["b"]]).suggested == "apache-2.0"


@pytest.mark.parametrize(
    ("one", "two", "stated"),
    [
        ("mit", "apache-2.0", ("apache-2.0", None)),
        ("mit", "qwen", ("other", "qwen")),
        ("mit", "bsd-2-clause", ("other", None)),
        ("gpl-3.0", "llama3.1", ("other", None)),
        ("mit", "who-knows", (None, None)),
    ],
)
def test_a_card_states_one_licence_or_other_or_nothing(made, catalog, one, two, stated):
    ids = made(a=f"license: {one}", b=f"license: {two}")
    assert card_license(license_of_merge(catalog, ids.values())) == stated
