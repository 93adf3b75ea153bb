"""A model that is read whole while somebody works with what its headers told has another id then; nothing is written of the old one."""

from contextlib import nullcontext

import pytest
from scanned import orphans

import engine.descent.infer
import engine.descent.shelf
import engine.stats
from engine.descent.infer import infer
from engine.stats import measure
from registry.catalog import Catalog
from registry.errors import CatalogChanged
from registry.scan import scan


@pytest.fixture
def headers(catalog, family):
    """A catalog that knows a base whole, and of its child the headers."""
    scan(catalog, [str(family.base), str(family.math)])
    scan(catalog, [str(family.chat)], headers_only=True)
    return catalog


def read_whole_after(monkeypatch, module, name, catalog, folder):
    """Let somebody read a folder whole, once, right after a step."""
    real = getattr(module, name)

    def step(*args, **kwargs):
        done = real(*args, **kwargs)
        monkeypatch.setattr(module, name, real)
        scan(Catalog(catalog.path), [str(folder)])
        return done

    monkeypatch.setattr(module, name, step)


def test_what_was_measured_of_it_is_refused_and_measured_again(headers, family, monkeypatch):
    child, base = headers.find("chat"), headers.find("base")
    read_whole_after(monkeypatch, engine.stats, "refuse_change", headers, family.chat)
    with pytest.raises(CatalogChanged, match=f"model {child[:12]} was scanned whole") as caught:
        measure(headers, child, base)
    assert "again" in caught.value.hint
    assert not orphans(headers)
    assert not headers.rows("select * from store.pair")
    assert not measure(headers, headers.find("chat"), base).reused


@pytest.mark.parametrize(
    ("module", "name"), [(engine.descent.infer, "forest"), (engine.descent.shelf, "take")]
)
def test_what_was_inferred_of_it_is_not_written(headers, family, monkeypatch, module, name):
    child, first = headers.find("chat"), headers.rows("select min(id) as id from store.model")[0]
    is_sketched = name == "forest" or child == first["id"]  # one that is gone before, is not
    read_whole_after(monkeypatch, module, name, headers, family.chat)
    with pytest.raises(CatalogChanged) if is_sketched else nullcontext():
        infer(headers)
    assert not orphans(headers)
    infer(headers)
    assert not orphans(headers)
    edges = headers.rows("select child, parent from store.edge where status = 'inferred'")
    assert headers.find("chat") in {end for edge in edges for end in edge.values()}
