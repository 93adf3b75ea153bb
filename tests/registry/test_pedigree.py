"""A pedigree holds what the catalog knows of a part of the graph, and nothing of this machine."""

from registry.lineage import Lineage
from registry.pedigree import License, pedigree
from registry.scan import scan


def test_models_come_with_licences_and_facts(family, catalog):
    scan(catalog, [str(family.base), str(family.chat), str(family.stranger)])
    found = pedigree(catalog, Lineage.load(catalog), catalog.find("chat"))
    by_name = {member.name: member for member in found.members.values()}
    assert list(by_name) == ["base", "chat", "stranger"]
    assert found.about == by_name["chat"].id
    chat = by_name["chat"]
    assert chat.licenses == (License("apache-2.0", "Apache-2.0", declared=True),)
    assert any("notices" in text for text in chat.asked)
    assert chat.facts["n_tensors"] == 19
    assert chat.facts["status"] == "full"
    assert chat.facts["architecture"] == "LlamaForCausalLM"
    assert chat.repositories == ()
    assert [(e.child, e.parent) for e in found.edges] == [(chat.id, by_name["base"].id)]
    assert str(family.root) not in str(found)


def test_what_only_somebody_names_is_a_member_too(family, catalog):
    scan(catalog, [str(family.chat)])
    found = pedigree(catalog, Lineage.load(catalog))
    assert [(m.name, m.facts["status"]) for m in found.members.values()] == [
        ("base", "latent"), ("chat", "full")
    ]  # fmt: skip
