"""What a scan left to do is remembered until it is done."""

from scanned import tiny

from registry.catalog import Catalog
from registry.pending import Pending, leave, pending, settle
from registry.scan import scan


def test_nothing_is_left_where_there_is_nothing(tmp_path):
    assert pending(Catalog(tmp_path / "c.duckdb")) == Pending((), ())


def test_what_was_noted_stays_until_it_is_settled_and_what_came_meanwhile_longer(catalog):
    with catalog.write() as transaction:
        leave(transaction, ["b", "a"])
        leave(transaction, ["a", "b"])
        leave(transaction, [])
    seen = pending(catalog)
    assert seen.models == ("a", "b")
    assert len(seen.notes) == 1
    with catalog.write() as transaction:
        leave(transaction, ["c"])
        settle(transaction, seen.notes)
    assert pending(catalog).models == ("c",)


def test_a_scan_leaves_models_with_digests(catalog, tmp_path):
    scan(catalog, [str(tiny(tmp_path / "a", 1.0))], headers_only=True)
    assert not pending(catalog).models
    report = scan(catalog, [str(tiny(tmp_path / "b", 2.0))])
    assert pending(catalog).models == tuple(model.id for model in report.models)
