"""The public Python API."""

import subprocess
import sys
from pathlib import Path

import pytest

import homolog
from engine.recipe import Recipe
from engine.stats import measure
from registry.catalog import Catalog


def test_importing_it_loads_nothing(tmp_path):
    code = (
        "import sys, homolog; assert 'merge' in dir(homolog)\n"
        "homolog.Catalog\n"
        "assert not {'torch', 'sqlmodel', 'networkx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(homolog.__file__).parent, check=True)


def test_names_are_those_of_the_rooms():
    assert homolog.Catalog is Catalog
    assert homolog.Recipe is Recipe
    assert homolog.stats is measure
    assert set(dir(homolog)) == set(homolog.__all__)
    assert len(set(homolog.__all__)) == len(homolog.__all__)


def test_other_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="merg"):
        homolog.merg  # noqa: B018
    with pytest.raises(ImportError):
        from homolog import nothing  # noqa: F401, PLC0415


def test_the_verbs_of_the_command_line_work_without_it(family, catalog, tmp_path):
    report = homolog.scan(catalog, [str(family.base), str(family.chat), str(family.math)])
    assert report.new == 3
    chat, math, base = (homolog.ensure(catalog, name) for name in ("chat", "math", "base"))
    assert (chat, base) in homolog.pairs(catalog, None)
    assert homolog.stats(catalog, chat, base).reused is False
    assert homolog.mergeable(catalog, [chat, math]).ok
    recipe = homolog.Recipe(method="linear", models=(homolog.Part("chat"), homolog.Part("math")))
    assert len(homolog.plan(catalog, recipe).steps) == 19
    merged = homolog.merge(catalog, recipe, tmp_path / "merged")
    assert homolog.verify(catalog, str(tmp_path / "merged")).ok
    expected, again = homolog.reproduce(catalog, merged.model, tmp_path / "again")
    assert expected == again.model == merged.model
    assert homolog.query(catalog.database, "select 1").rows == [(1,)]
    assert homolog.Lineage.load(catalog).common_base([chat, math]) == base
