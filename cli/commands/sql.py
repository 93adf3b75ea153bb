"""`reg sql`: read-only SQL over the views."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

import homolog
from cli.block import Column, Csv, Table
from cli.command import Command
from cli.session import Session
from registry.documents import decoded


@click.command(cls=Command)
@click.argument("query")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values with a header.")
@click.option(
    "--parquet",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the rows to a Parquet file.",
)
@click.pass_obj
def command(session: Session, query: str, as_csv: bool, parquet: Path | None) -> None:
    """Ask the catalog anything, in SQL.

    QUERY is one SELECT (or FROM, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN) in DuckDB's dialect; - reads it from stdin. It
    can change nothing and reach nothing but the catalog. The views are models, tensors, files, edges, evidence,
    claims, conflicts, deltas, delta_summary, layers, scores, recipes, runs and problems.

    Examples:
      reg sql "show tables"
      reg sql "describe models"
      reg sql "select name, n_params, base from models order by n_params desc"
      reg sql "select module, avg(relative_l2) as moved from deltas group by all order by moved desc"
      reg sql "from edges" --csv
      reg sql "from tensors" --parquet tensors.parquet
    """
    if as_csv and parquet:
        message = "--csv and --parquet exclude each other"
        raise click.UsageError(message)
    if parquet and not parquet.absolute().parent.is_dir():
        message = f"there is no folder {parquet.absolute().parent}"
        raise click.BadParameter(message, param_hint="--parquet")
    if query == "-":
        query = decoded(sys.stdin.buffer.read(), where="stdin")
    result = homolog.query(session.catalog.database, query)
    names = _distinct([name for name, _ in result.columns])
    kinds = [kind for _, kind in result.columns]
    result = replace(result, columns=tuple(zip(names, kinds, strict=True)))
    if parquet:
        result.write_parquet(parquet)
        session.out.answer({"file": str(parquet), "n_rows": len(result.rows)}, ids=[parquet])
        session.out.note(f"{len(result.rows):,} rows written to {parquet}")
        return
    rows = list(result.records())
    columns = (
        Column(n, kind="number" if _is_number(k) else "text")
        for n, k in zip(names, kinds, strict=True)
    )
    block = (
        Csv(names, result.rows)
        if as_csv
        else Table(rows, tuple(columns), empty="no rows", rest="--csv shows all")
    )
    session.out.answer(rows, block, ids=(row[0] for row in result.rows))


def _distinct(names: Sequence[str]) -> list[str]:
    """The names of columns, a repeated one with a number, so that no column hides another."""
    seen: Counter[str] = Counter()
    found: list[str] = []
    for name in names:
        new = name
        while new in found or (new != name and new in names):
            seen[name] += 1
            new = f"{name}_{seen[name]}"
        found.append(new)
    return found


def _is_number(kind: str) -> bool:
    """Tell whether a DuckDB type is a number."""
    return (
        kind.startswith(("DECIMAL", "NUMBER"))
        or kind.endswith(("INT", "INTEGER"))
        or kind in ("DOUBLE", "FLOAT")
    )
