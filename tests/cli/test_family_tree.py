"""The graph as a tree."""

from cli.family_tree import SEEN, tree_lines
from registry.lineage import Edge, Lineage, Node


def _edge(child, parent, relation="finetune", **facts):
    defaults = {"role": "parent", "status": "declared", "coefficient": None, "confidence": 1.0}
    return Edge(child=child, parent=parent, relation=relation, **defaults | facts)


def _lineage(*edges, alone=()):
    names = {e.child for e in edges} | {e.parent for e in edges} | set(alone)
    return Lineage([Node(n, n, "latent" if n == "ghost" else "full") for n in sorted(names)], edges)


def test_children_stand_below_their_parents_by_name():
    lines = list(
        tree_lines(_lineage(_edge("b", "base"), _edge("a", "base", confidence=0.9), alone=["x"]))
    )
    assert lines == [
        (0, "base", ""),
        (1, "a", "finetune, declared 0.90"),
        (1, "b", "finetune, declared"),
        (0, "x", ""),
    ]


def test_a_merge_is_printed_once_and_referred_to_afterwards():
    merge = [_edge("m", p, "merge", role="model", status="recorded", coefficient=0.5) for p in "ab"]
    graph = _lineage(_edge("a", "base"), _edge("b", "base"), *merge, _edge("m2", "m"))
    assert list(tree_lines(graph)) == [
        (0, "base", ""),
        (1, "a", "finetune, declared"),
        (2, "m", "merge 0.5, recorded"),
        (3, "m2", "finetune, declared"),
        (1, "b", "finetune, declared"),
        (2, "m", f"merge 0.5, recorded; {SEEN}"),
    ]


def test_edges_that_say_the_same_are_one_phrase_strongest_first():
    graph = _lineage(
        _edge("m", "base", "merge", role="base", confidence=0.9),
        _edge("m", "base", "merge", role="base", status="recorded"),
        _edge("m", "base", "cast", status="measured"),
    )
    assert list(tree_lines(graph))[1] == (
        1, "m", "merge base, recorded + declared 0.90; cast, measured"
    )  # fmt: skip


def test_latent_models_say_so_and_cycles_end():
    graph = _lineage(_edge("a", "ghost"), _edge("b", "a"), _edge("a", "b"))
    lines = list(tree_lines(graph))
    assert lines[0] == (0, "ghost", "latent")
    assert lines[-1] == (3, "a", f"finetune, declared; {SEEN}")


def test_long_chains_need_no_recursion():
    graph = _lineage(*(_edge(f"m{i + 1:05}", f"m{i:05}") for i in range(3000)))
    assert [depth for depth, _, _ in tree_lines(graph)] == list(range(3001))
