"""`reg demo`: the whole story on a small family of really trained models."""

import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cli.command import Command
from cli.main import run
from cli.session import Session
from cli.story import STORY
from registry.errors import OutputExists, RunFailed
from registry.names import typed_path
from registry.resources import data_folder


@click.command(cls=Command)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Work in this new folder and leave it; otherwise a temporary one that goes.",
)
@click.pass_obj
def command(session: Session, keep: Path | None) -> None:
    """Run the whole story on a small family of really trained models.

    Scan, lineage from cards and from weights, delta statistics, verdicts, merges by several methods, measured scores, verification and
    reproduction: each command is printed before its output, and you can type it yourself.

    Examples:
      reg demo
      reg demo --keep playground
    """
    started = time.monotonic()
    with _workspace(keep) as folder, _inside(folder):
        for name in ("suites", "models", "finds"):
            _copy_zoo(name, folder / name)
        for step in STORY:
            click.secho(f"\n# {step.why}", dim=True)
            click.secho(f"$ reg {shlex.join(step.command)}", bold=True)
            code = run(step.command)
            if code != step.exit_code:
                message = f"reg {step.command[0]} ended with {code}; {step.exit_code} was expected"
                raise RunFailed(message)
    session.out.note(f"the whole story took {time.monotonic() - started:.0f} seconds")
    if keep:
        session.out.hint(f"cd {keep} && reg ls")


@contextmanager
def _workspace(keep: Path | None) -> Iterator[Path]:
    """An empty folder, which goes at the end unless the user named it."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="homolog-demo-") as folder:
            yield Path(folder).resolve()
        return
    place = Path(os.path.realpath(typed_path(keep)))
    try:
        place.mkdir(parents=True, exist_ok=True)
        is_taken = any(place.iterdir())
    except OSError as error:
        message = f"cannot work in {place}: {error.strerror}"
        raise RunFailed(message, hint="choose another folder for --keep") from error
    if is_taken:
        message = f"{keep} exists and is not empty"
        raise OutputExists(message, hint="choose another folder for --keep")
    yield place


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in ``folder`` with a catalog of its own."""
    before, named = Path.cwd(), os.environ.pop("REG_CATALOG", None)
    (folder / ".reg").mkdir()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        if named is not None:
            os.environ["REG_CATALOG"] = named


def _copy_zoo(name: str, target: Path) -> None:
    """Copy the suites or the models of the family that ships with Homolog, or those of unknown descent."""
    zoo = data_folder() / "zoo"
    if name == "finds":
        shutil.copytree(data_folder() / "finds", target)
        return
    if name == "suites":
        shutil.copytree(zoo / "suites", target)
        return
    target.mkdir()
    for model in sorted(zoo.iterdir()):
        if model.is_dir() and model.name != "suites":
            shutil.copytree(model, target / model.name)
