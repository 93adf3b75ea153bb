"""Catalogs of nothing but edges."""

from registry.catalog import now


def graph(catalog, edges):
    """A catalog that holds these (child, parent) edges."""
    names = sorted({end for edge in edges for end in edge})
    with catalog.write() as transaction:
        transaction.execute("delete from store.edge")
        transaction.execute("delete from store.model")
        n = len(names)
        transaction.insert("model", {
            "id": names, "kind": ["model"] * n, "status": ["listed"] * n, "digest_name": ["d"] * n, "created_at": [now()] * n,
        })  # fmt: skip
        n = len(edges)
        transaction.insert("edge", {
            "child": [c for c, _ in edges], "parent": [p for _, p in edges], "relation": ["finetune"] * n,
            "role": ["parent"] * n, "status": ["declared"] * n, "confidence": [1.0] * n, "created_at": [now()] * n,
        })  # fmt: skip


CHAIN = [("b", "a"), ("c", "b"), ("d", "c"), ("x", "a"), ("d", "x")]
