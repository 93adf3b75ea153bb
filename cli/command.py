"""What all commands share: the options of every command, help that ends in examples, the exit code of a no.

A command is a module of `cli/commands/` that defines ``command``. Its function returns None, or whether the answer
is yes: a False becomes exit code 3.
"""

import inspect
from pathlib import Path
from typing import Any

import click

from cli.session import Session
from registry.names import typed_path

NO = 3
"""Exit code of "the answer is no"."""

_EXAMPLES = "\n\nExamples:\n"


def everywhere() -> list[click.Option]:
    """The options that may stand before and after the name of every command."""
    return [
        click.Option(
            ["--catalog"], type=click.Path(dir_okay=False, path_type=Path), metavar="PATH",
            expose_value=False, callback=_choose_catalog,
            help="The catalog's file. Default: $REG_CATALOG, else .reg/ here or above, else the user's own.",
        ),
        click.Option(
            ["--json"], is_flag=True, expose_value=False, callback=_choose_json,
            help="One JSON document on stdout.",
        ),
        click.Option(
            ["-q", "--quiet"], is_flag=True, expose_value=False, callback=_choose_quiet,
            help="Only ids, one a line.",
        ),
        click.Option(
            ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_tell_version,
            help="Print the version.",
        ),
    ]  # fmt: skip


class Command(click.Command):
    """A command with the options of every command.

    Attributes:
        examples: command lines of its docstring's ``Examples:``, the end of its help.
    """

    def __init__(self, name: str | None, *, help: str, **kwargs: Any) -> None:  # noqa: A002 - click's word
        text, _, examples = inspect.cleandoc(help).partition(_EXAMPLES)
        super().__init__(name, help=text, **kwargs)
        self.examples = inspect.cleandoc("\n" + examples).splitlines()
        self._everywhere = everywhere()
        self.params += self._everywhere

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options first, then those of every command."""
        own = [p for p in self.get_params(ctx) if p not in self._everywhere]
        for title, params in (("Options", own), ("Options of every command", self._everywhere)):
            records = [p.get_help_record(ctx) for p in params if isinstance(p, click.Option)]
            with formatter.section(title):
                formatter.write_dl([record for record in records if record])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are."""
        del ctx
        if self.examples:
            formatter.write("\nExamples:\n")
            formatter.write("".join(f"  {line}".rstrip() + "\n" for line in self.examples))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an answer of no becomes the exit code."""
        answer = super().invoke(ctx)
        if answer is False:
            ctx.exit(NO)
        return answer


class Group(click.Group):
    """A group of commands with the options of every command."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += everywhere()


def _choose_catalog(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    """Take the catalog that was named last."""
    del parameter
    if path is not None:
        ctx.ensure_object(Session).path = typed_path(path)


def _choose_json(ctx: click.Context, parameter: click.Parameter, chosen: bool) -> None:
    """Speak to programs."""
    del parameter
    if chosen:
        ctx.ensure_object(Session).voice = "json"


def _choose_quiet(ctx: click.Context, parameter: click.Parameter, chosen: bool) -> None:
    """Speak to loops, unless a program listens."""
    del parameter
    session = ctx.ensure_object(Session)
    if chosen and session.voice != "json":
        session.voice = "quiet"


def _tell_version(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    """Print the version and end."""
    del parameter
    if asked and not ctx.resilient_parsing:
        from registry.version import VERSION  # noqa: PLC0415 - reads the installed metadata

        click.echo(f"reg {VERSION}")
        ctx.exit()
