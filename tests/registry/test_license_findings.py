"""What follows from licences: sixty lineages by hand, and laws over any."""

import tomllib
from pathlib import Path

import pytest

from registry.license_findings import covered, effective, joinable
from registry.license_table import license_table
from registry.licensing import Descent, Licensed

DOCUMENT = tomllib.loads((Path(__file__).parent / "license_graphs.toml").read_text("utf-8"))
GRAPHS = DOCUMENT["graph"]
TABLE = license_table()


def models_of(graph):
    return [
        Licensed(name, name, tuple(t for t in text.split(" & ") if t not in ("", "ours")), text == "ours")
        for name, text in graph["models"].items()
    ]  # fmt: skip


def descents_of(graph):
    triples = (edge.split(" ") for edge in graph["edges"])
    return [Descent(child, parent, relation) for child, relation, parent in triples]


def judged(graph):
    model = graph.get("model", list(graph["models"])[-1])
    return effective(models_of(graph), descents_of(graph), TABLE)[model]


def expected_atoms(graph):
    found = set()
    for atom in graph["atoms"]:
        found |= set(DOCUMENT["sets"][atom[1:]]) if atom[0] == "@" else {atom}
    return sorted(a for a in found if a[0] != "-" and f"-{a}" not in found)


def spelled(finding):
    words = [finding.kind, finding.about, "from", ", ".join(finding.ancestors)]
    # That an unknown ancestor is above is in its name already.
    late = finding.inherited and finding.kind != "license_unknown"
    return " ".join(word for word in words if word) + (", inherited" if late else "")


def test_there_are_sixty_graphs_and_no_two_say_the_same():
    assert len(GRAPHS) >= 60
    assert len({graph["says"] for graph in GRAPHS}) == len(GRAPHS)


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph["says"])
def test_a_lineage_makes_exactly_these_atoms_findings_and_licence(graph):
    found = judged(graph)
    assert sorted(a if v is None else f"{a}={v}" for a, v in found.atoms) == expected_atoms(graph)
    assert sorted(map(spelled, found.findings)) == sorted(graph["findings"])
    assert (found.suggested or "") == graph["licence"]


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph["says"])
def test_every_atom_names_its_rule_its_source_and_a_model(graph):
    found = judged(graph)
    assert found.why
    for held in found.held:
        assert held.rule.id.endswith(held.rule.atom)
        assert held.rule.source
        assert held.origin in graph["models"]
    for said in (*found.obligations, *(f for f in found.findings if f.kind != "license_unknown")):
        assert said.rules
        for rule in said.rules:
            assert rule in said.detail if hasattr(said, "detail") else rule in said.text


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph["says"])
def test_the_order_of_models_and_edges_says_nothing(graph):
    models, descents = models_of(graph), descents_of(graph)
    one = effective(models, descents, TABLE)
    other = effective(models[::-1], [*descents[::-1], *descents], TABLE)
    assert one == other


def test_only_those_asked_for_are_judged():
    graph = GRAPHS[1]
    assert list(effective(models_of(graph), descents_of(graph), TABLE, only=["chat"])) == ["chat"]


def test_the_obligations_join_numbers_by_the_least_and_texts_by_all():
    graph = next(g for g in GRAPHS if g["says"] == "the least cap counts and both are known")
    asked = {o.atom: o.value for o in judged(graph).obligations if o.atom == "user_cap"}
    assert asked == {"user_cap": 100_000_000}
    badges = [o.value for o in judged(graph).obligations if o.atom == "badge"]
    assert badges == ["Built with Llama", "Built with Qwen"]
    (notice,) = (o for o in judged(graph).obligations if o.atom == "notice")
    assert notice.ancestors == ("a", "b")
    assert notice.rules == ("llama3.1:notice", "qwen:notice")


def test_the_summary_is_one_line_with_licence_conflicts_and_what_is_asked():
    graph = next(g for g in GRAPHS if g["says"] == "gpl and llama cannot both be obeyed")
    summary = judged(graph).summary
    assert "\n" not in summary
    assert summary.startswith("licence: no single one (no licence satisfies all it was made of)")
    assert "copyleft-restricted: gpl-3.0:share_alike, llama3.1:use_policy" in summary
    assert "user_cap 700,000,000" in summary


def test_copyleft_licences_join_where_their_texts_let_them():
    assert joinable("lgpl-3.0", TABLE) == {"lgpl-3.0", "gpl-3.0", "agpl-3.0"}
    assert joinable("agpl-3.0", TABLE) == {"agpl-3.0"}


def test_a_longer_prefix_and_a_smaller_cap_are_as_strict():
    llama3, llama31, qwen = (
        {r.atom: r for r in TABLE.licenses[id_].rules} for id_ in ("llama3", "llama3.1", "qwen")
    )
    assert covered(llama31["name_prefix"], [llama3["name_prefix"]], TABLE)
    assert not covered(llama3["name_prefix"], [llama31["name_prefix"]], TABLE)
    assert covered(llama3["user_cap"], [qwen["user_cap"]], TABLE)
    assert not covered(qwen["user_cap"], [llama3["user_cap"]], TABLE)
