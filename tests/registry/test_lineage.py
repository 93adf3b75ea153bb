"""The graph: ancestors, descendants, the common base, families, roots, and how it is drawn."""

import io
import itertools
import json
import random
import re

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.lineage import Edge, Lineage, Node

NAMES = "abcdefgh"


def edge(child, parent, relation="finetune", status="declared", coefficient=None, role="parent"):
    return Edge(child, parent, relation, role, status, coefficient, 0.9)


def graph(*arrows, names="", **more):
    """A graph from arrows "parent>child"; every letter is a model of that name."""
    pairs = [arrow.split(">") for arrow in arrows]
    ids = sorted({name for pair in pairs for name in pair} | set(names))
    return Lineage(
        [Node(id_, id_, "full") for id_ in ids],
        [edge(child, parent, **more) for parent, child in pairs],
    )


# --- By hand


def test_ancestors_and_descendants_come_nearest_first():
    tree = graph("a>b", "b>c", "c>d", "a>x", "x>d")
    assert tree.ancestors("d") == ["c", "x", "a", "b"]
    assert tree.descendants("a") == ["b", "x", "c", "d"]
    assert tree.ancestors("a") == []
    assert tree.descendants("d") == []


def test_parents_are_edges_and_children_are_models():
    tree = graph("a>b", "a>c")
    assert [e.parent for e in tree.parents("b")] == ["a"]
    assert tree.children("a") == ["b", "c"]


def test_models_in_two_bases_are_told_apart_by_what_the_weights_show_and_not_by_claims():
    shown = [
        edge("a", "base", status="inferred"), edge("b", "base", status="inferred"),
        edge("turned", "a", "permuted", "inferred"), edge("child", "turned", status="inferred"),
        edge("turned", "base"),  # claimed
    ]  # fmt: skip
    names = ["base", "a", "b", "turned", "child", "stranger"]
    tree = Lineage([Node(name, name, "full") for name in names], shown)
    assert tree.turned(["a", "b", "base"]) == []
    assert tree.turned(["a", "turned"]) == [("a", "turned")]
    assert tree.turned(["b", "child", "base"]) == [("b", "child"), ("child", "base")]
    assert tree.turned(["turned", "child"]) == []
    assert tree.turned(["a", "stranger"]) == []


@pytest.mark.parametrize(
    ("arrows", "models", "base"),
    [
        (("a>b", "a>c"), "bc", "a"),
        (("a>b", "b>c", "b>d"), "cd", "b"),
        (("a>b", "b>c"), "bc", "a"),  # one is the other's ancestor: what both come from
        (("b>c",), "bc", "b"),  # nothing above: the ancestor itself
        (("a>b", "b>c", "a>d"), "cd", "a"),
        (("a>m", "b>m", "a>x", "b>x"), "mx", "a"),  # two equally near: the first by name
        (("a>b", "x>y"), "by", None),
        (("a>b",), "b", "a"),
        (("a>b",), "a", "a"),
        (("a>b", "a>c", "a>d", "b>e", "c>e"), "ed", "a"),
        (("a>b", "b>a"), "ab", "a"),  # claims in a circle
        (("a>b", "b>c", "c>a", "a>x", "b>y"), "xy", "a"),
        (("a>b", "b>c", "c>a", "a>x", "c>y"), "xy", "c"),
    ],
)
def test_the_common_base_is_the_nearest_that_all_descend_from(arrows, models, base):
    assert graph(*arrows).common_base(list(models)) == base


def test_a_merge_and_its_parents_have_the_base_of_both():
    tree = graph("a>b", "a>c", "b>m", "c>m")
    assert tree.common_base(["m", "b"]) == "a"
    assert tree.common_base(["b", "c", "m"]) == "a"


def test_roots_have_no_parents_and_a_circle_has_one():
    assert graph("a>b", "c>d", names="z").roots() == ["a", "c", "z"]
    assert graph("b>c", "c>b", "c>d").roots() == ["b"]


def test_families_hang_together_and_the_largest_comes_first():
    tree = graph("x>y", "y>z", "a>b", names="m")
    assert tree.families() == [["x", "y", "z"], ["a", "b"], ["m"]]


def test_edges_to_models_that_are_not_there_are_left_out():
    tree = Lineage([Node("a", "a", "full")], [edge("a", "gone"), edge("gone", "a")])
    assert tree.edges == ()
    assert tree.ancestors("a") == []


def test_the_part_around_some_models_has_their_edges_only():
    part = graph("a>b", "b>c", "a>c").around(["a", "c"])
    assert list(part.nodes) == ["a", "c"]
    assert [(e.parent, e.child) for e in part.edges] == [("a", "c")]


def test_names_decide_the_order_and_ids_between_equals():
    nodes = [Node("1", "same", "full"), Node("0", "same", "full"), Node("2", "first", "full")]
    assert list(Lineage(nodes, []).nodes) == ["2", "0", "1"]


# --- Against brute force


def graphs(acyclic):
    pairs = list(itertools.combinations(range(len(NAMES)), 2))
    chosen = st.lists(st.sampled_from(pairs), max_size=14)
    if acyclic:
        return chosen
    return st.lists(st.tuples(*[st.integers(0, len(NAMES) - 1)] * 2), max_size=14)


def made(pairs):
    return graph(*(f"{NAMES[p]}>{NAMES[c]}" for p, c in pairs), names=NAMES)


def above(pairs, model):
    """Distance of every ancestor by walking edges, one step at a time."""
    found, frontier, steps = {}, {model}, 0
    while frontier:
        steps += 1
        frontier = {p for p, c in pairs if c in frontier and p != c} - found.keys() - {model}
        found |= dict.fromkeys(frontier, steps)
    return found


@settings(max_examples=60)
@given(st.one_of(graphs(acyclic=True), graphs(acyclic=False)))
def test_law_ancestors_and_descendants_are_what_walking_finds(pairs):
    tree = made(pairs)
    upward = {i: above(pairs, i) for i in range(len(NAMES))}
    for i, name in enumerate(NAMES):
        expected = sorted(upward[i], key=lambda a: (upward[i][a], a))
        assert tree.ancestors(name) == [NAMES[a] for a in expected]
        below = above([(c, p) for p, c in pairs], i)
        assert tree.descendants(name) == [
            NAMES[d] for d in sorted(below, key=lambda d: (below[d], d))
        ]
        for other in tree.ancestors(name):
            assert name in tree.descendants(other)


@settings(max_examples=60)
@given(
    st.one_of(graphs(acyclic=True), graphs(acyclic=False)),
    st.lists(st.integers(0, len(NAMES) - 1), min_size=1, max_size=3),
)
def test_law_the_common_base_is_shared_and_none_is_nearer(pairs, models):
    found = made(pairs).common_base([NAMES[m] for m in models])
    upward = [above(pairs, m) for m in models]
    shared = set.intersection(*map(set, upward))
    if not shared:
        shared = set.intersection(*({m, *u} for m, u in zip(models, upward, strict=True)))
    distance = {
        b: sum(0 if b == m else u[b] for m, u in zip(models, upward, strict=True)) for b in shared
    }
    best = min(shared, key=lambda b: (distance[b], b), default=None)
    assert found == (None if best is None else NAMES[best])


@settings(max_examples=60)
@given(st.one_of(graphs(acyclic=True), graphs(acyclic=False)))
def test_law_roots_reach_everything_and_families_are_a_partition(pairs):
    tree = made(pairs)
    roots = tree.roots()
    assert {m for root in roots for m in (root, *tree.descendants(root))} == set(NAMES)
    assert len(set(roots)) == len(roots)
    families = tree.families()
    assert sorted(m for family in families for m in family) == sorted(NAMES)
    member = {m: i for i, family in enumerate(families) for m in family}
    assert all(member[NAMES[p]] == member[NAMES[c]] for p, c in pairs)
    assert [len(f) for f in families] == sorted((len(f) for f in families), reverse=True)


# --- From the catalog


@pytest.fixture(scope="module")
def stored(tmp_path_factory, _empty_catalog):
    """A catalog of 40 models with names, addresses and edges at random, a circle among them."""
    from registry.catalog import Catalog  # noqa: PLC0415 - only for these tests

    catalog = Catalog(tmp_path_factory.mktemp("graph") / "c.duckdb")
    catalog.path.write_bytes(_empty_catalog)
    chance = random.Random(7)
    ids = [f"{i:064x}" for i in range(40)]
    edges = {(ids[i], ids[chance.randrange(i)]) for i in range(1, 40) for _ in range(2)}
    edges |= {(ids[0], ids[5]), (ids[3], ids[3])}
    with catalog.write() as transaction:
        for i, id_ in enumerate(ids):
            transaction.execute(
                "insert into store.model (id, kind, status, digest_name, signature, dtype, n_params, n_bytes, n_tensors, created_at) "
                "values (?, 'model', ?, 'd', null, null, null, null, null, now())",
                [id_, "latent" if i % 5 == 4 else "full"],
            )
            if i % 5 != 4:
                transaction.execute(
                    "insert into store.address (uri, root, model_id, source, layout, name, architecture, family, "
                    "tokenizer, license, config, known_since, seen_at) values (?, ?, ?, 'local', 'folder', ?, null, null, "
                    "null, null, '{}', now(), now())",
                    [f"/m/{i}", f"/m/{i}", id_, f"m{i}"],
                )
        for child, parent in sorted(edges):
            transaction.execute(
                "insert into store.edge values (?, ?, 'finetune', 'parent', 'declared', null, 0.9, "
                "null, now(), null, null)",
                [child, parent],
            )
    return catalog


def test_a_part_of_the_graph_answers_as_the_whole_does(stored):
    whole = Lineage.load(stored)
    assert len(whole.nodes) == 40
    for models in (list(whole.nodes)[:1], list(whole.nodes)[7:9], list(whole.nodes)[30:33]):
        part = Lineage.load(stored, models)
        assert part.common_base(models) == whole.common_base(models)
        both = Lineage.load(stored, models, descendants=True)
        for model in models:
            assert part.ancestors(model) == whole.ancestors(model)
            assert both.ancestors(model) == whole.ancestors(model)
            assert both.descendants(model) == whole.descendants(model)
        assert all(whole.nodes[m] == node for m, node in both.nodes.items())
        assert set(part.nodes) <= set(both.nodes)


def test_names_of_nodes_are_those_of_the_view(stored):
    whole = Lineage.load(stored)
    rows = stored.rows("select id, name, status from models")
    assert {r["id"]: (r["name"], r["status"]) for r in rows} == {
        node.id: (node.name, node.status) for node in whole.nodes.values()
    }


def test_a_model_that_is_not_there_is_not_in_the_graph(stored):
    assert not Lineage.load(stored, ["f" * 64]).nodes
    assert not Lineage.load(stored, []).nodes


# --- Drawn

HOSTILE = [
    'say "hi"', "back\\slash", "line\nbreak", "<script>alert(1)</script>", "a|b", "x]-->y",
    "#quot; &amp;", "\x1b[31mred", "ünï ☃", "end\\", '"];evil->me;["', "\ufffe", "",
]  # fmt: skip


@pytest.fixture(scope="module")
def hostile():
    nodes = [Node(f"{i:064x}"[::-1], name, "full") for i, name in enumerate(HOSTILE)]
    ids = [node.id for node in nodes]
    edges = [
        edge(ids[1], ids[0], coefficient=0.5, relation="merge"),
        edge(ids[2], ids[0], status="measured"),
        edge(ids[3], ids[0], relation='"|<b>\\'),
        edge(ids[1], ids[0], status="recorded", relation="merge"),
    ]
    return Lineage(nodes, edges)


def test_dot_can_be_read_back(hostile):
    text = r'"((?:[^"\\]|\\.)*)"'
    node = re.compile(rf"  {text} \[label={text}\];")
    arrow = re.compile(rf"  {text} -> {text} \[label={text}(, style=dashed)?\];")
    first, *lines, last = hostile.as_dot().split("\n")
    assert (first, last) == ("digraph lineage {", "}")
    assert all(
        node.fullmatch(line) or arrow.fullmatch(line)
        for line in lines
        if line not in ("  rankdir=LR;", "  node [shape=box];")
    )
    labels = {m[1]: m[2] for line in lines if (m := node.fullmatch(line))}
    assert len(labels) == len(HOSTILE)
    plain = {re.sub(r"\\(.)", r"\1", label) for label in labels.values()}
    assert {name for name in HOSTILE if name.isprintable()} <= plain
    assert all(label.isprintable() for label in labels.values())
    arrows = [m.groups() for line in lines if (m := arrow.fullmatch(line))]
    assert len(arrows) == 4
    assert {a[2] for a in arrows} >= {"merge 0.5", "finetune"}
    assert sum(a[3] is not None for a in arrows) == 2


def test_mermaid_can_be_read_back(hostile):
    node = re.compile(r'  m([0-9a-f]{12})\["([^"]*)"\]')
    arrow = re.compile(r'  m([0-9a-f]{12}) (-->|-\.->)\|"([^"]*)"\| m([0-9a-f]{12})')
    first, *lines = hostile.as_mermaid().split("\n")
    assert first == "flowchart LR"
    assert all(node.fullmatch(line) or arrow.fullmatch(line) for line in lines)
    labels = [m[2] for line in lines if (m := node.fullmatch(line))]
    assert len(labels) == len(HOSTILE)
    assert not set("<>&|[]\\") & set("".join(labels))
    plain = {re.sub(r"#(\d+);", lambda m: chr(int(m[1])), label) for label in labels}
    assert {name for name in HOSTILE if name.isprintable()} <= plain


def test_graphml_can_be_read_back(hostile):
    read = nx.read_graphml(io.BytesIO(hostile.as_graphml().encode()), force_multigraph=True)
    assert set(read.nodes) == set(hostile.nodes)
    assert {d["name"] for _, d in read.nodes(data=True)} >= {n for n in HOSTILE if n.isprintable()}
    assert read.number_of_edges() == 4
    facts = [d for _, _, d in read.edges(data=True)]
    assert sorted(d["status"] for d in facts) == ["declared", "declared", "measured", "recorded"]
    assert [d["coefficient"] for d in facts if "coefficient" in d] == [0.5]
    assert {d["confidence"] for d in facts} == {0.9}


def test_json_holds_every_model_and_edge(hostile):
    read = json.loads(json.dumps(hostile.as_json()))
    assert [m["id"] for m in read["models"]] == list(hostile.nodes)
    assert len(read["edges"]) == 4
    assert set(read["edges"][0]) == {
        "child", "parent", "relation", "role", "status", "coefficient", "confidence",
    }  # fmt: skip
