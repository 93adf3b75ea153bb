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
from registry.names import is_there, typed_path

if TYPE_CHECKING:
    from engine.options import Options
    from engine.plan import Plan

_STEPS = (
    Column("tensors"), Column("n", kind="count"), Column("action"), Column("shape"), Column("dtype"), Column("parameters"), Column("why")
)  # fmt: skip
_ROWS = (
    Column("model", "model"), Column("token"), Column("row", kind="count"), Column("what"), Column("from"),
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
    options = asked.options()
    with session.progress() as progress:
        plan = homolog.plan(
            session.catalog,
            asked.recipe(),
            allow_unrelated=asked.allow_unrelated,
            progress=progress,
        )
    license_ = homolog.license_of_plan(session.catalog, plan)
    document = _document(plan, options, output) | {
        "license": {
            "suggested": license_.suggested,
            "why": license_.why,
            "obligations": [o.text for o in license_.obligations],
            "findings": [{"kind": f.kind, "detail": f.detail} for f in license_.findings],
        }
    }
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
            ("device", document["device"], "text"),
            ("free disk", document["free_bytes"], "bytes"),
            ("licence", f"{license_.suggested or 'no single one'} ({license_.why})", "text"),
        )),
        Table(document["models"], _MODELS, title="models"),
        Table(_grouped(document["steps"]), _STEPS, title=f"steps ({len(plan.steps):,})"),
        *([Table(document["rows"], _ROWS, title=f"rows of tokens ({len(document['rows']):,})")] if document["rows"] else []),
        *(Line(f"asked: {o.text}") for o in license_.obligations),
        *(Line(f"{f.kind}: {f.detail}", "bad") for f in license_.conflicts),
        *(Line(f"note: {note}", "open") for note in document["notes"]),
        ids=[plan.recipe.digest],
    )  # fmt: skip
    if license_.conflicts and asked.allow_license_conflict is None:
        session.out.hint("reg merge refuses this without --allow-license-conflict REASON")


def _document(plan: "Plan", options: "Options", output: Path) -> dict[str, Any]:
    """A plan as plain values."""
    jobs, given = options.jobs or os.cpu_count() or 1, options.memory_bytes
    room = plan.unit_room(given)
    place = typed_path(output)
    while not is_there(place):
        place = place.parent
    models = zip(plan.models, plan.recipe.coefficients, strict=True)
    base = plan.base
    return {
        "recipe": plan.recipe.digest,
        "method": plan.recipe.method.name,
        "base": {"name": base.name, "id": base.id, "address": base.address} if base else None,
        "models": [
            {"name": m.name, "id": m.id, "coefficient": c, "address": m.address} for m, c in models
        ],
        "parameters": plan.recipe.parameters,
        "steps": [
            {
                "name": s.name, "action": s.action, "dtype": s.dtype, "shape": s.shape, "why": s.why,
                "read_bytes": s.read_bytes, "write_bytes": s.write_bytes, "parameters": s.values,
            }
            for s in plan.steps
        ],
        "rows": [
            {
                "model": c.model, "token": c.token, "row": c.id, "what": c.what, "from": ", ".join(c.sources),
            }
            for c in (plan.vocabulary.changes if plan.vocabulary else ())
        ],
        "chat_template": plan.chat_template,
        "read_bytes": plan.read_bytes,
        "write_bytes": plan.write_bytes,
        # The writer's buffers, and units of work, of which one may always run, however small the limit.
        "peak_bytes": given - room + min(plan.peak_bytes(jobs, given), max(room, plan.peak_bytes(1, given))),
        "free_bytes": shutil.disk_usage(place).free,
        "device": options.device,
        "notes": [*plan.notes, *plan.remarks(given, options.device)],
    }  # fmt: skip


def _grouped(steps: list[Row]) -> list[Row]:
    """Steps that differ in the number of their layer or expert only, as one row.

    Parameters are shown where they are not the same for all; then layers that have other ones have their own row.
    """
    merged = [step["parameters"] for step in steps if step["action"] == "merge"]
    varying = {name for values in merged for name in values if values[name] != merged[0].get(name)}
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for step in steps:
        name = re.sub(r"(?<=\.)\d+(?=\.)", "*", step["name"])
        shown = {k: v for k, v in step["parameters"].items() if k in varying}
        kind = (
            step["action"],
            str(list(step["shape"])),
            step["dtype"],
            _spelled(shown),
            step["why"],
        )
        groups[name, *kind].append(step["name"])
    keys = ("tensors", "action", "shape", "dtype", "parameters", "why")
    rows = [dict(zip(keys, group, strict=True)) | {"n": len(n)} for group, n in groups.items()]
    alone = [names[0] if len(names) == 1 else "" for names in groups.values()]
    return [
        row | ({"tensors": name} if name else {}) for row, name in zip(rows, alone, strict=True)
    ]


def _spelled(parameters: dict[str, Any]) -> str:
    """Parameters in one line."""
    return ", ".join(f"{name} {_value(value)}" for name, value in parameters.items())


def _value(value: Any) -> str:
    """A value, a gradient or filters, or one of them per model, as text."""
    if isinstance(value, dict):
        return f"{value.get('filter', 'else')} {_value(value['value'])}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(each) for each in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
