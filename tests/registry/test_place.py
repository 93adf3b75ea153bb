"""A place is found by path, name, id."""

import pytest

from registry.catalog import Catalog
from registry.errors import CatalogMissing, UnknownModel
from registry.place import place
from registry.scan import scan


def test_a_folder_needs_no_catalog(family, tmp_path):
    assert place(Catalog(tmp_path / "none.duckdb"), str(family.chat)) == (family.chat, None)


def test_a_known_one_is_found_by_path_name_and_beginning_of_its_id(family, catalog):
    scan(catalog, [str(family.chat)])
    id_ = catalog.find("chat")
    for target in (str(family.chat), "chat", id_[:10]):
        assert place(catalog, target) == (family.chat, id_)


def test_what_is_nowhere_is_unknown(catalog, tmp_path):
    with pytest.raises(UnknownModel, match="nowhere"):
        place(catalog, "nowhere")
    with pytest.raises((UnknownModel, CatalogMissing)):
        place(Catalog(tmp_path / "none.duckdb"), "nowhere")
