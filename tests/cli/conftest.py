"""A folder to type `reg` in."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import reg


class Place:
    """A folder with models and a catalog; commands run as if typed there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str, code: int = 0, stdin: str | None = None) -> Result:
        """Run one command; anything but our own errors is raised."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            result = CliRunner().invoke(
                reg, words, input=stdin, prog_name="reg", catch_exceptions=False
            )
        assert result.exit_code == code, result.output
        return result

    def json(self, *words: str, code: int = 0) -> Any:
        """The document a command prints with --json: all of stdout, and strictly JSON."""
        return json.loads(self.run(*words, "--json", code=code).stdout, parse_constant=_refuse)


def _refuse(constant: str) -> Any:
    raise AssertionError(constant)


@pytest.fixture(scope="session")
def place_at() -> Callable[[Path], Place]:
    """Make a place of a folder."""
    return Place


@pytest.fixture(scope="session")
def make_place(
    family: Any, _empty_catalog: bytes, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Place]:
    """Make a place with copies of base, chat and math below `models`, and a catalog that knows nothing."""

    def make() -> Place:
        folder = tmp_path_factory.mktemp("place")
        (folder / ".reg").mkdir()
        (folder / ".reg" / "catalog.duckdb").write_bytes(_empty_catalog)
        for model in (family.base, family.chat, family.math):
            shutil.copytree(model, folder / "models" / model.name)
        return Place(folder)

    return make


@pytest.fixture
def place(make_place: Callable[[], Place]) -> Place:
    """A place of one's own, nothing scanned."""
    return make_place()


@pytest.fixture(scope="session")
def copy_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Place], Place]:
    """Make a place of one's own whose catalog knows what another place knows; the models stay there, to be read."""

    def copy(place: Place) -> Place:
        folder = tmp_path_factory.mktemp("copy")
        shutil.copytree(place.folder / ".reg", folder / ".reg")
        return Place(folder)

    return copy


@pytest.fixture(scope="session")
def _scanned(make_place: Callable[[], Place]) -> Place:
    """A place that has scanned base, chat and math."""
    place = make_place()
    place.run("scan", "models")
    return place


@pytest.fixture
def scanned(_scanned: Place, copy_of: Callable[[Place], Place]) -> Place:
    """A place of one's own that knows base, chat and math, which lie elsewhere."""
    return copy_of(_scanned)


@pytest.fixture(scope="session")
def known(make_place: Callable[[], Place]) -> Place:
    """A place with everything scanned, measured, merged and scored; only for reading."""
    place = make_place()
    place.run("scan", "models")
    place.run("stats", "--all")
    merge = ("merge", "--method", "task_arithmetic", "--weight", "chat=0.6", "chat", "math")
    place.run(*merge, "-o", "merged")
    place.run("score", "add", "chat", "--task", "gsm8k", "--metric", "acc", "--value", "0.5")
    return place


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 60 columns that understands colours."""
    for name, value in (("COLUMNS", "60"), ("LINES", "40"), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()
