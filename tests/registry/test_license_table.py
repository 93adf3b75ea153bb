"""The table of licences: whole, sourced, and checked when it is read."""

import re

import pytest

from registry.errors import BadDocument
from registry.license_table import CHANGED, KEPT, license_table, read_license_table
from registry.resources import data_folder

TABLE = license_table()
TEXT = (data_folder() / "licenses.toml").read_text(encoding="utf-8")


def test_the_licences_people_use_are_in_it():
    assert len(TABLE.licenses) >= 80
    for id_ in (
        "apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nd-4.0",
        "gpl-3.0", "agpl-3.0", "lgpl-3.0", "mpl-2.0", "openrail", "openrail++", "bigscience-bloom-rail-1.0",
        "bigscience-openrail-m", "bigcode-openrail-m", "creativeml-openrail-m", "llama2", "llama3", "llama3.1",
        "llama3.2", "llama3.3", "llama4", "gemma", "qwen", "qwen-research", "falcon", "deepseek", "mrl", "apple-amlr",
        "fair-noncommercial-research-license", "nvidia-open-model", "yi", "tongyi-qianwen", "other", "unknown",
        "openmdw-1.0", "odc-by", "unlicense", "wtfpl", "bsl-1.0", "epl-2.0", "eupl-1.2", "artistic-2.0",
    ):  # fmt: skip
        assert TABLE.find(id_).id == id_


@pytest.mark.parametrize("license_", TABLE.licenses.values(), ids=lambda license_: license_.id)
def test_every_licence_has_a_source_and_every_atom_a_rule(license_):
    assert license_.title
    assert license_.date
    assert license_.rules, "a licence that asks nothing says so with the atom waived"
    for rule in license_.rules:
        atom = TABLE.atoms[rule.atom]
        assert rule.id == f"{license_.id}:{rule.atom}"
        assert rule.source.startswith(license_.title)
        assert rule.source.endswith(rule.at)
        assert atom.says
        assert (rule.value is None) == (atom.join == "or")


def test_every_atom_is_used_and_its_edges_are_said():
    used = {rule.atom for license_ in TABLE.licenses.values() for rule in license_.rules}
    assert used == set(TABLE.atoms)
    weights = {frozenset({CHANGED, KEPT}), frozenset()}
    assert {atom.crosses for atom in TABLE.atoms.values()} == weights
    assert [name for name, atom in TABLE.atoms.items() if not atom.crosses] == ["gated"]


@pytest.mark.parametrize(
    ("relation", "group"),
    [
        *((r, "changed") for r in (
            "finetune", "continued_pretrain", "adapter", "adapter_merged", "merge", "frankenmerge", "quantized",
            "pruned", "vocab_extended", "edited", "permuted", "Finetune", "never-heard",
        )),
        ("cast", "kept"), ("copy", "kept"), ("distilled", "outputs"), ("distill", "outputs"), ("tokenizer", "nothing"),
    ],
)  # fmt: skip
def test_every_kind_of_edge_is_in_a_group(relation, group):
    assert TABLE.group(relation) == group


def test_rules_cross_as_the_table_says():
    llama, gemma = ({r.atom: r for r in TABLE.licenses[id_].rules} for id_ in ("llama3.1", "gemma"))
    assert TABLE.crosses(llama["use_policy"], "finetune")
    assert not TABLE.crosses(llama["use_policy"], "distilled")
    assert TABLE.crosses(gemma["use_policy"], "distilled")
    assert not TABLE.crosses(gemma["use_policy"], "tokenizer")
    assert not TABLE.crosses(gemma["gated"], "finetune")


def test_copyleft_names_itself_and_joins_only_copyleft():
    for license_ in TABLE.licenses.values():
        values = [rule.value for rule in license_.rules if rule.atom == "share_alike"]
        assert values in ([], [license_.id])
        for other in license_.joins:
            assert any(rule.atom == "share_alike" for rule in TABLE.licenses[other].rules)


def test_one_name_can_have_all_prefixes():
    prefixes = {
        rule.value for license_ in TABLE.licenses.values() for rule in license_.rules
        if rule.atom == "name_prefix"
    }  # fmt: skip
    longest = max(prefixes, key=len)
    assert all(longest.startswith(prefix) for prefix in prefixes)


@pytest.mark.parametrize(
    ("text", "id_"),
    [("MIT", "mit"), ("  Apache 2.0 ", "apache-2.0"), ("llama_3.1", "llama3.1"), ("CC-BY-SA", "cc-by-sa-4.0"),
     ("fair-noncommercial", "fair-noncommercial-research-license")],
)  # fmt: skip
def test_other_spellings_are_understood(text, id_):
    assert TABLE.find(text).id == id_


@pytest.mark.parametrize("text", ["", "my own", "apache-3.0", "mit-ish", "[mit]", "\x1b[31mmit"])
def test_what_it_does_not_know_it_does_not_guess(text):
    assert TABLE.find(text) is None


@pytest.mark.parametrize(
    ("name", "id_"),
    [("google/gemma-4-31b", "apache-2.0"), ("Gemma4-E2B", "apache-2.0"), ("gemma-3-4b", "gemma"),
     ("gemma-42", "gemma"), ("me/gemma-4", "gemma"), ("x-gemma-4", "gemma"), ("", "gemma")],
)  # fmt: skip
def test_a_version_changes_what_a_word_means_for_models_of_that_name_only(name, id_):
    assert TABLE.find("gemma", name).id == id_
    assert TABLE.find("mit", name).id == "mit"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('[licenses.isc]\ntitle = "ISC License"', "[licenses.isc]", "isc has no title"),
        ('waived = "0"', 'wavied = "0"', "'wavied', which is no atom"),
        ('waived = "0"', 'waived = ""', "wtfpl:waived has no section"),
        ('waived = "0"', 'waived = { is = "x", at = "0" }', "wtfpl:waived takes no value"),
        ('user_cap = { is = 100_000_000, at = "2(b)" }', 'user_cap = "2(b)"', "needs value"),
        ("is = 100_000_000", 'is = "many"', "must be a whole number"),
        ('joins = ["cc-by-sa-4.0"]', 'joins = ["cc-by-sa-5.0"]', "which are no licences"),
        ('aliases = ["mit license", "expat"]', 'aliases = ["apache"]', "is both"),
        ('join = "min"', 'join = "max"', "has no join"),
        ("crosses = []", 'crosses = ["outputs"]', "atom gated crosses"),
        ('means = "apache-2.0"', 'means = "apache-9"', "which is no licence"),
        ("[edges]\nchanged", "[edges]\naltered", "edges has groups"),
        ("[edges]", "[edges", "licenses.toml"),
        ("[conflicts.", "[quarrels.", "the tables are"),
    ],
)  # fmt: skip
def test_a_table_with_a_mistake_is_refused(tmp_path, old, new, says):
    assert old in TEXT
    file = tmp_path / "licenses.toml"
    file.write_text(TEXT.replace(old, new), encoding="utf-8")
    with pytest.raises(BadDocument, match=re.escape(says)):
        read_license_table(file)
