"""Recall: what was found of components comes back bit for bit, and only what is asked for is kept."""

from engine.descent.component import Component, Descent
from engine.descent.kind import Kind
from engine.descent.recall import recalled, remember

KIND = Kind("merge", "match", 0.1 + 0.2, "a third, “rounded”")
FOUND = Component(
    (
        Descent("c", "p", KIND, 1 / 3, "model", 0.99, -1e-17),
        Descent("d", "latent:c:4", KIND, None, "parent", 0.5),
    ),
    ("latent:c:4",),
    "p",
    ("0a1b", "2c3d"),
)
EMPTY = Component((), (), "x")


def keep(catalog, spec, parts, known=()):
    with catalog.write() as transaction:
        remember(transaction, spec, parts, known)


def test_components_come_back_bit_for_bit(catalog):
    assert recalled(catalog, "s/1") == {}
    keep(catalog, "s/1", {"k": FOUND, "l": EMPTY})
    assert recalled(catalog, "s/1") == {"k": FOUND, "l": EMPTY}
    assert recalled(catalog, "s/2") == {}


def test_what_is_there_no_more_is_forgotten_and_what_is_known_is_not_written_again(catalog):
    keep(catalog, "s/1", {"k": FOUND, "l": EMPTY})
    keep(catalog, "s/2", {"m": EMPTY})
    before = catalog.rows("select inferred_at from store.component where id = 'k'")
    keep(catalog, "s/1", {"k": FOUND, "n": EMPTY}, recalled(catalog, "s/1"))
    assert recalled(catalog, "s/1") == {"k": FOUND, "n": EMPTY}
    assert recalled(catalog, "s/2") == {"m": EMPTY}
    assert catalog.rows("select inferred_at from store.component where id = 'k'") == before


def test_nothing_is_kept_of_nothing(catalog):
    keep(catalog, "s/1", {})
    assert recalled(catalog, "s/1") == {}
