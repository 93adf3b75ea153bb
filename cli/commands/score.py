"""`reg score`: benchmark results, claimed and measured."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import homolog
from cli.block import Column, Row, Table
from cli.command import Group
from cli.session import Session
from registry.errors import BadParameter, UnknownModel

if TYPE_CHECKING:
    from registry.scores import Score

_MOST = 2**63 - 1
"""Of whole numbers in the catalog."""

_COLUMNS = (
    Column("model"),
    Column("task"),
    Column("metric"),
    Column("value", kind="number"),
    Column("stderr", kind="number"),
    Column("n", kind="count"),
    Column("shots", kind="count"),
    Column("origin"),
    Column("harness"),
    Column("source"),
)


@click.group(cls=Group)
def command() -> None:
    """Add, import and measure benchmark scores.

    A score belongs to a digest of weights. Claimed scores are what somebody says; measured ones were measured here.
    """


@command.command()
@click.argument("model")
@click.option("--task", required=True, help="Benchmark.")
@click.option("--metric", required=True, help="For example acc.")
@click.option("--value", required=True, type=float, help="In the unit its source uses.")
@click.option(
    "--stderr", type=click.FloatRange(min=0), help="Standard error, in the unit of the value."
)
@click.option("--n", type=click.IntRange(1, _MOST), help="Number of examples.")
@click.option("--harness", help="Program that measured.")
@click.option("--harness-version", help="Its version.")
@click.option("--shots", type=click.IntRange(0, _MOST), help="Examples shown in the prompt.")
@click.option(
    "--source", default="command line", show_default=True, help="Where the number comes from."
)
@click.pass_obj
def add(
    session: Session, *, model: str, task: str, metric: str, value: float, stderr: float | None,
    n: int | None, harness: str | None, harness_version: str | None, shots: int | None, source: str,
) -> None:  # fmt: skip
    """Add one claimed score.

    The same task, metric, harness, shots and source again replace the old value.

    Examples:
      reg score add chat --task arithmetic --metric exact_match --value 0.62 --n 500
      reg score add math --task gsm8k --metric acc --value 41.2 --stderr 1.3 --shots 5 --source https://example.org
    """
    for name, number in (("value", value), ("stderr", stderr)):
        if number is not None and not math.isfinite(number):
            message = f"--{name} is {number}; it must be a finite number"
            raise BadParameter(message)
    score = homolog.Score(
        task=task, metric=metric, value=value, stderr=stderr, n=n, harness=harness,
        harness_version=harness_version, shots=shots, origin="claimed", source=source,
        date=datetime.now(UTC).isoformat(timespec="seconds"), raw="",
    )  # fmt: skip
    _store(session, [(session.model(model), score)])


@command.command("import")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--model", help="Whose scores these are. Default: the model that the file names.")
@click.pass_obj
def import_(session: Session, files: tuple[Path, ...], model: str | None) -> None:
    """Import claimed scores from result files of lm-evaluation-harness.

    Entries that are no numbers are left out and told.

    Examples:
      reg score import results.json --model chat
    """
    found = []
    problems: list[str] = []
    for file in files:
        named, scores, wrong = homolog.read_harness(file)
        if not (model or named):
            message = f"{file} does not say which model it measured"
            raise UnknownModel(message, hint=f"reg score import {file} --model MODEL")
        id_ = session.model(model or named)
        found += [(id_, score) for score in scores]
        problems += [f"{file}: {problem.detail}" for problem in wrong]
    _store(session, found)
    for problem in problems:
        session.out.warning(problem)


@command.command()
@click.argument("targets", metavar="MODEL... SUITE...", nargs=-1, required=True)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first questions of each suite.")
@click.pass_obj
def run(session: Session, targets: tuple[str, ...], limit: int | None) -> None:
    """Measure models on suites: greedy decoding, exact match.

    A SUITE is a .jsonl file whose lines have prompt and answer. Every model is measured on every suite; the scores
    are stored as measured, with the digest of the suite.

    Examples:
      reg score run chat suite.jsonl
      reg score run chat math suite.jsonl --limit 2 --json
    """
    suites = [Path(target) for target in targets if target.endswith(".jsonl")]
    models = [
        session.model(target, fetch=True) for target in targets if not target.endswith(".jsonl")
    ]
    if not suites or not models:
        message = "give at least one MODEL and one SUITE (a .jsonl file)"
        raise click.UsageError(message)
    with session.progress("questions") as progress:
        found = [
            (
                model,
                homolog.run_suite(
                    session.catalog, model, suite, limit=limit, progress=progress
                ).score,
            )
            for model in models
            for suite in suites
        ]
    _store(session, found, side_by_side=True)


def _store(
    session: Session, scores: Iterable[tuple[str, "Score"]], *, side_by_side: bool = False
) -> None:
    """Write scores of models, in place of older ones of the same subject, and answer with them as stored.

    People see a row per score or, ``side_by_side``, a row per model and a column per suite.
    """
    catalog = session.catalog
    rows = [homolog.score_row(model, score) for model, score in scores]
    columns = homolog.Columns()
    columns.add(rows)
    with catalog.write() as transaction:
        columns.insert(transaction, "replace")
    stored = [
        {
            "model": catalog.name(row.model_id), "model_id": row.model_id, "task": row.task, "metric": row.metric,
            "value": row.value, "n": row.n, "stderr": row.stderr, "harness": row.harness,
            "harness_version": row.harness_version, "shots": row.shots, "origin": row.origin, "source": row.source,
        }
        for row in rows
    ]  # fmt: skip
    table = _by_suite(stored) if side_by_side else Table(stored, _COLUMNS, empty="no scores")
    ids = list(dict.fromkeys(row.model_id for row in rows))
    session.out.answer(stored, table, ids=ids)
    for edit in catalog.rows(_EDITS, [ids]):
        session.out.note(
            f"{edit['child_name']} is {edit['parent_name']} edited by {edit['method']}: {edit['class']} on {edit['task']}"
            f" ({edit['difference']:+.3f} ± {edit['difference_stderr']:.3f})"
        )


_EDITS = """
select * from edits where (child in (select store.each($1)) or parent in (select store.each($1))) and class is not null
order by child_name, task, metric
"""
"""What the scores of some models, and of those they were edited from, say of the edits."""


def _by_suite(scores: Sequence[Row]) -> Table:
    """One row per model in the order given, one column per suite: value ± standard error."""
    lines: dict[str, dict[str, Any]] = {}
    for score in scores:
        line = lines.setdefault(score["model_id"], {"model": score["model"]})
        line[score["task"]] = f"{score['value']:.3f} ± {score['stderr']:.3f}"
    suites = dict.fromkeys(score["task"] for score in scores)
    n = ", ".join(str(count) for count in dict.fromkeys(score["n"] for score in scores))
    columns = (Column("model"), *(Column(suite) for suite in suites))
    return Table(list(lines.values()), columns, title=f"exact match, n = {n}")
