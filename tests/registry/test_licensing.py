"""Laws of how licences come down any lineage."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from registry.license_table import NOTHING, OUTPUTS, license_table
from registry.licensing import Descent, Held, Licensed, bound, own_rules

TABLE = license_table()
IDS = "abcdefg"
TEXTS = [
    "",
    "mit",
    "gemma",
    "llama2",
    "llama3.1",
    "gpl-3.0",
    "cc-by-nd-4.0",
    "cc0",
    "whatever",
    "other",
]
RELATIONS = [
    "finetune",
    "merge",
    "copy",
    "cast",
    "distilled",
    "tokenizer",
    "quantized",
    "never-heard",
]


@st.composite
def lineages(draw):
    models = [
        Licensed(id_, id_, tuple(t for t in [draw(st.sampled_from(TEXTS))] if t), draw(st.booleans()))
        for id_ in IDS[: draw(st.integers(1, len(IDS)))]
    ]  # fmt: skip
    ids = st.sampled_from([m.id for m in models])
    descents = draw(st.lists(st.builds(Descent, ids, ids, st.sampled_from(RELATIONS)), max_size=14))
    return models, descents


@given(lineages())
@settings(max_examples=60)
def test_the_result_solves_the_equations(lineage):
    models, descents = lineage
    found = bound(models, descents, TABLE)
    for model in models:
        expected = {Held(rule, model.id, changed=False) for rule in own_rules(model, TABLE)}
        for descent in (d for d in descents if d.child == model.id):
            keeps = TABLE.group(descent.relation) == "kept"
            expected |= {
                Held(h.rule, h.origin, h.changed or not keeps)
                for h in found[descent.parent]
                if TABLE.crosses(h.rule, descent.relation) and h.origin != model.id
            }
        assert found[model.id] == expected


@given(lineages(), st.sampled_from(IDS), st.sampled_from(IDS), st.sampled_from(RELATIONS))
@settings(max_examples=60)
def test_a_further_ancestor_never_takes_an_atom_away(lineage, child, parent, relation):
    models, descents = lineage
    before = bound(models, descents, TABLE)
    known = {m.id for m in models}
    more = [*models, *(Licensed(i, i, ("agpl-3.0",)) for i in sorted({child, parent} - known))]
    after = bound(more, [*descents, Descent(child, parent, relation)], TABLE)
    assert all(before[id_] <= after[id_] for id_ in known)


@given(lineages(), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_order_says_nothing_and_twice_is_once(lineage, random):
    models, descents = lineage
    mixed = [*descents, *descents]
    random.shuffle(mixed)
    assert bound(models, descents, TABLE) == bound(random.sample(models, len(models)), mixed, TABLE)


@given(lineages())
@settings(max_examples=40)
def test_every_rule_comes_from_a_model_whose_licence_has_it(lineage):
    models, descents = lineage
    own = {m.id: set(own_rules(m, TABLE)) for m in models}
    for rules in bound(models, descents, TABLE).values():
        assert all(held.rule in own[held.origin] for held in rules)


@given(lineages())
@settings(max_examples=40)
def test_without_weights_only_what_binds_outputs_comes_down(lineage):
    models, descents = lineage
    loose = [d for d in descents if TABLE.group(d.relation) in (OUTPUTS, NOTHING)]
    found = bound(models, loose, TABLE)
    assert all(
        held.rule.outputs for id_, rules in found.items() for held in rules if held.origin != id_
    )


def test_a_long_chain_ends_in_time():
    ids = [f"m{i}" for i in range(3_000)]
    models = [Licensed(id_, id_, ("mit",) if i else ("llama2",)) for i, id_ in enumerate(ids)]
    ring = [Descent(child, parent, "cast") for parent, child in itertools.pairwise(ids)]
    found = bound(models[:1] + [Licensed(i, i, ours=True) for i in ids[1:]], ring, TABLE)
    assert {h.origin for h in found[ids[-1]]} == {"m0"}


def test_edges_to_models_that_are_not_there_are_left_out():
    models = [Licensed("a", "a", ("mit",))]
    assert bound(models, [Descent("a", "z", "merge"), Descent("z", "a", "merge")], TABLE) == bound(
        models, [], TABLE
    )


def test_what_we_made_adds_nothing_by_silence_or_by_other():
    assert own_rules(Licensed("m", "m", (), ours=True), TABLE) == ()
    assert own_rules(Licensed("m", "m", ("other",), ours=True), TABLE) == ()
    assert [r.atom for r in own_rules(Licensed("m", "m", ("mit",), ours=True), TABLE)] == ["notice"]
