"""`reg plan`: a merge decided and not done."""

import os
import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import homolog
from cli.block import Column, Facts, Line, Row, Table
from cli.command import Command
from cli.recipe_options import Asked, recipe_options
from cli.session import Session

if TYPE_CHECKING:
    from engine.merge import Options
    from engine.plan import Plan

_STEPS = (
    Column("tensors"), Column("n", kind="count"), Column("action"), Column("shape"), Column("dtype"), Column("why")
)  # fmt: skip
_MODELS = (Column("name", "model"), Column("coefficient", kind="number"), Column("id", kind="id"))


@click.command(cls=Command)
@recipe_options
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    default=".",
    type=click.Path(path_type=Path),
    help="Where the result would go. Default: here.",
)
@click.pass_obj
def command(session: Session, asked: Asked, output: Path) -> None:
    """Print every decision of a merge and its cost, and do nothing.

    Takes what reg merge takes. The plan is what would be carried out, tensor by tensor: merged or copied, from what,
    to which dtype and shape; bytes to read and write, memory, free disk.

    Examples:
      reg plan recipe.yaml -o merged
      reg plan --method ties --set density=0.4 chat math -o merged
      reg plan recipe.yaml -o merged --json
    """
    with session.progress() as progress:
        plan = homolog.plan(
            session.catalog,
            asked.recipe(),
            allow_unrelated=asked.allow_unrelated,
            progress=progress,
        )
    document = _document(plan, asked.options(), output)
    session.out.answer(
        document,
        Facts((
            ("method", plan.recipe.method.name, "text"),
            ("base", plan.base.name if plan.base else None, "text"),
            ("parameters", _spelled(document["parameters"]), "text"),
            ("recipe", plan.recipe.digest, "id"),
            ("reads", plan.read_bytes, "bytes"),
            ("writes", plan.write_bytes, "bytes"),
            ("peak memory", document["peak_bytes"], "bytes"),
            ("free disk", document["free_bytes"], "bytes"),
        )),
        Table(document["models"], _MODELS, title="models"),
        Table(_grouped(document["steps"]), _STEPS, title=f"steps ({len(plan.steps):,})"),
        *(Line(f"note: {note}", "open") for note in plan.notes),
        ids=[plan.recipe.digest],
    )  # fmt: skip


def _document(plan: "Plan", options: "Options", output: Path) -> dict[str, Any]:
    """A plan as plain values."""
    jobs = options.jobs or os.cpu_count() or 1
    place = output.expanduser().absolute()
    while not place.exists():
        place = place.parent
    models = zip(plan.models, plan.recipe.coefficients, strict=True)
    return {
        "recipe": plan.recipe.digest,
        "method": plan.recipe.method.name,
        "base": {"name": plan.base.name, "id": plan.base.id} if plan.base else None,
        "models": [{"name": m.name, "id": m.id, "coefficient": c} for m, c in models],
        "parameters": plan.recipe.values,
        "steps": [
            {
                "name": s.name, "action": s.action, "dtype": s.dtype, "shape": s.shape, "why": s.why,
                "read_bytes": s.read_bytes, "write_bytes": s.write_bytes,
            }
            for s in plan.steps
        ],
        "read_bytes": plan.read_bytes,
        "write_bytes": plan.write_bytes,
        # One unit of work may always run, however small the limit.
        "peak_bytes": min(plan.peak_bytes(jobs), max(options.memory_bytes, plan.peak_bytes(1))),
        "free_bytes": shutil.disk_usage(place).free,
        "notes": plan.notes,
    }  # fmt: skip


def _grouped(steps: list[Row]) -> list[Row]:
    """Steps that differ in the number of their layer or expert only, as one row."""
    groups: dict[tuple[str, ...], int] = defaultdict(int)
    for step in steps:
        name = re.sub(r"(?<=\.)\d+(?=\.)", "*", step["name"])
        groups[name, step["action"], str(list(step["shape"])), step["dtype"], step["why"]] += 1
    keys = ("tensors", "action", "shape", "dtype", "why")
    return [dict(zip(keys, group, strict=True)) | {"n": n} for group, n in groups.items()]


def _spelled(parameters: dict[str, Any]) -> str:
    """Parameters in one line."""
    return ", ".join(
        f"{k} {' '.join(f'{x:g}' for x in v) if isinstance(v, tuple) else v}"
        for k, v in parameters.items()
    )
