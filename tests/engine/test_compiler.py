"""Kernels are built once, and done without where they cannot be."""

import shutil
import subprocess
import sys

import pytest

from engine import compiler

HAS_COMPILER = bool(shutil.which("cc") or shutil.which("gcc"))
LITTLE = tuple(source for source in compiler.SOURCES if source.name in {"draws.c", "draws.h"})
"""What is built in a moment; that all of them can be is shown by every test that has them."""


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("REG_KERNELS", raising=False)
    monkeypatch.setattr(compiler, "SOURCES", LITTLE)
    compiler.library.cache_clear()
    yield
    compiler.library.cache_clear()


def test_they_are_built_once_and_found_again(tmp_path):
    assert (compiler.library() is not None) == HAS_COMPILER
    built = tmp_path
    if HAS_COMPILER:
        (built,) = (tmp_path / "cache" / "homolog").iterdir()
    before = built.stat()
    compiler.library.cache_clear()
    assert (compiler.library() is not None) == HAS_COMPILER
    assert built.stat() == before


@pytest.mark.parametrize(
    ("name", "value"), [("REG_KERNELS", "torch"), ("CC", "/bin/false"), ("CC", "/no/compiler")]
)
def test_without_them_there_are_none(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    assert compiler.library() is None


def test_a_place_that_cannot_be_written_does_without(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compiler.library() is None


def test_processes_that_build_at_once_do_not_disturb_each_other(tmp_path):
    code = (
        "from engine import compiler\n"
        f"compiler.SOURCES = [s for s in compiler.SOURCES if s.name in {[s.name for s in LITTLE]}]\n"
        f"assert bool(compiler.library()) is {HAS_COMPILER}"
    )
    begun = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [each.wait(timeout=120) for each in begun] == [0, 0, 0]
    assert len(list(tmp_path.glob("cache/homolog/*"))) == HAS_COMPILER


def test_keeping_memory_can_be_asked_for_twice():
    compiler.keep_memory()
    compiler.keep_memory()
