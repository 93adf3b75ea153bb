"""`reg`: the group of all commands, and the one place where errors become words and exit codes.

A command's module is loaded when it is called, so `reg --help` loads none. Exit codes: 0 done, 1 an error we have a
name for, 2 wrong usage, 3 the answer is no, 130 interrupted, 141 nobody reads any more. Anything that is not a
`RegError` is our own bug and shows its traceback.
"""

import errno
import gc
import io
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from cli.command import Group
from cli.output import lines
from cli.session import Session
from registry.errors import Interrupted, NotEnoughDisk, RegError, Unreadable

SUMMARIES = {
    "demo": "Run the whole story on a small family of really trained models.",
    "scan": "Index checkpoints on disk, in the cache and on the Hub.",
    "import": "Take in lists of a hub's models: CSV or JSON lines.",
    "ls": "List the models of the catalog.",
    "show": "Show everything that is known of one model.",
    "sql": "Ask the catalog anything, in SQL.",
    "stats": "Measure what training changed, tensor by tensor.",
    "infer": "Recover who descends from whom from the weights.",
    "lineage": "Draw who descends from whom, and how we know.",
    "licenses": "Show which licence models may carry, what is asked, and by whom.",
    "mergeable": "Judge whether models can be merged, with reasons.",
    "candidates": "Rank the models of the catalog to merge one with, best first.",
    "methods": "List the merge methods and their parameters.",
    "plan": "Print every decision of a merge and its cost, and do nothing.",
    "merge": "Merge models and register the result.",
    "verify": "Check that bytes, sidecar, metadata and catalog agree.",
    "sign": "Sign the files of a model with a key of your own.",
    "reproduce": "Run a merge's recorded recipe again and compare the bytes.",
    "push": "Push a model to the Hub, with a card that tells its lineage.",
    "extract": "Write what training changed as a LoRA of the base.",
    "collect": "Gather Fisher information or Gram matrices of a model on a suite.",
    "alias": "Give models names of your own, with a history.",
    "rm": "Forget models, with all that was measured of them.",
    "gc": "Remove what nothing refers to.",
    "export": "Write the whole catalog as Parquet files.",
    "doctor": "Check that the catalog is whole, and mend it.",
    "score": "Add, import and measure benchmark scores.",
}
"""Every command in the order of the story, with the first sentence of its help."""

MODULES = {"import": "import_"}
"""Modules of commands whose names are words of Python."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

NOBODY_READS = 141
"""Exit code after the reader of our pipe went away, as shells have it."""


class Reg(Group):
    """The group that loads a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the story."""
        del ctx
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the module of a command."""
        del ctx
        if cmd_name not in SUMMARIES:
            return None
        found: click.Command = import_module(
            f"cli.commands.{MODULES.get(cmd_name, cmd_name)}"
        ).command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without loading one."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read what stands before the name of the command."""
        with _told_safely():
            return super().make_context(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember what was typed."""
        ctx.ensure_object(Session).words = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn what stops it into words and an exit code."""
        session = ctx.ensure_object(Session)
        try:
            _refuse_no_folder()
            with _told_safely():
                answer = super().invoke(ctx)
            sys.stdout.flush()
        except RegError as error:
            session.out.error(error)
            ctx.exit(1)
        except (KeyboardInterrupt, RuntimeError) as error:
            # the database, stopped in the middle of a statement, raises an error of its own from it
            stopped = error if isinstance(error, KeyboardInterrupt) else error.__cause__
            if not isinstance(stopped, KeyboardInterrupt):
                raise
            click.echo("\ninterrupted", err=True)
            if isinstance(stopped, Interrupted):
                session.out.note(str(stopped))
                session.out.hint(_going_on(ctx, session.words))
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            _discard_output()
            ctx.exit(NOBODY_READS)
        except OSError as error:  # of the file that the answer goes to
            if error.errno not in _FULL or error.filename:
                raise
            _discard_output()
            message = f"the answer cannot be written: {error.strerror}"
            session.out.error(NotEnoughDisk(message, hint="free some space, or write it elsewhere"))
            ctx.exit(1)
        return answer


@contextmanager
def _told_safely() -> Iterator[None]:
    """Wrong usage is told in words that no terminal obeys, whatever was typed."""
    try:
        yield
    except click.UsageError as error:
        text = error.format_message()
        if lines(text) == text:
            raise
        raise click.UsageError(lines(text), error.ctx) from error


def _refuse_no_folder() -> None:
    """Say that the working folder is gone: no relative path means anything then.

    Raises:
        Unreadable: it is.
    """
    try:
        os.getcwd()  # noqa: PTH109 - a question, not a path
    except OSError as error:
        message = f"the working folder cannot be read: {error.strerror}"
        raise Unreadable(message, hint="cd to a folder that exists") from error


def _going_on(ctx: click.Context, words: Sequence[str]) -> str:
    """What to type to go on with a run that was stopped; every command goes on by itself, one can insist."""
    insist = ctx.invoked_subcommand == "merge" and "--resume" not in words
    return shlex.join(["reg", *words, *(["--resume"] if insist else [])])


def _discard_output() -> None:
    """Let the interpreter's last flush go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


@click.group(cls=Reg, context_settings={"help_option_names": ["-h", "--help"]})
def reg() -> None:
    """A registry, lineage database and merge engine for model checkpoints.

    A MODEL is a name, a path, an id or its beginning, or an @alias. `reg COMMAND --help` ends in examples.
    """


def run(words: Sequence[str]) -> int:
    """Run one command in this process, as `reg demo` does; return its exit code."""
    answer = reg.main(list(words), prog_name="reg", standalone_mode=False)
    return answer if isinstance(answer, int) and not isinstance(answer, bool) else 0


def main() -> None:
    """The entry point: any text can be printed, to any terminal."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        reg(prog_name="reg")
    finally:
        gc.freeze()  # or Python, as it ends, looks for garbage among all that torch is, for a third of a second
