"""`reg methods`: the merge methods."""

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

import homolog
from cli.block import Block, Column, Facts, Table, Text
from cli.command import Command
from cli.session import Session

if TYPE_CHECKING:
    from engine.method import Method

_COLUMNS = (
    Column("name"),
    Column("space"),
    Column("scope"),
    Column("given", "parameters"),
    Column("paper"),
    Column("summary"),
)
_PARAMETERS = (
    Column("name"),
    Column("default"),
    Column("allowed"),
    Column("per_model", "per model"),
)


@click.command(cls=Command)
@click.argument("name", required=False)
@click.pass_obj
def command(session: Session, name: str | None) -> None:
    """List the merge methods and their parameters.

    Space delta: the method merges task vectors and needs a base; weight: it merges the weights themselves. Scope
    element: every weight by itself; tensor: a tensor at a time; model: it looks at the whole model first.

    Examples:
      reg methods
      reg methods ties
      reg methods --json
    """
    chosen = [homolog.method(name)] if name else list(homolog.methods().values())
    rows = [_row(method) for method in chosen]
    blocks: list[Block] = _one(chosen[0], rows[0]) if name else [Table(rows, _COLUMNS)]
    document = [{k: v for k, v in row.items() if k != "given"} for row in rows]
    session.out.answer(document, *blocks, ids=(row["name"] for row in rows))


def _row(method: "Method") -> dict[str, Any]:
    """A method as plain values."""
    parameters = [
        {
            "name": p.name,
            "default": p.default,
            "kind": p.kind,
            "allowed": p.allowed,
            "range": [p.range.low, p.range.high] if p.range else None,
            "choices": list(p.choices),
            "per_model": p.per_model,
        }
        for p in method.parameters
    ]
    given = (f"{p.name}={_spelled(p.default)}" for p in method.parameters)
    return {
        "name": method.name,
        "space": method.space,
        "scope": method.scope,
        "works_on": _works_on(method),
        "devices": _devices(method),
        "parameters": parameters,
        "given": " ".join(given),
        "n_models": list(method.n_models),
        "makes": method.makes,
        "base": method.base,
        "compat": {tool: dict(values) for tool, values in method.compat.items()},
        "paper": method.paper,
        "summary": method.summary,
    }


def _one(method: "Method", row: dict[str, Any]) -> list[Block]:
    """What people see of one method: its facts, its parameters, what its author says."""
    low, high = method.n_models
    facts = Facts((
        ("method", method.name, "text"),
        ("space", method.space, "text"),
        ("scope", method.scope, "text"),
        ("works on", _works_on(method), "text"),
        ("devices", ", ".join(_devices(method)), "text"),
        ("makes", method.makes, "text"),
        ("base", method.base, "text"),
        ("models", str(low) if low == high else f"{low} or more", "text"),
        ("paper", method.paper, "text"),
        *((f"as {tool}", _pairs(values), "text") for tool, values in method.compat.items()),
    ))  # fmt: skip
    parameters = [p | {"default": _spelled(p["default"])} for p in row["parameters"]]
    return [
        facts,
        Text(""),
        Text(inspect.getdoc(method.function) or ""),
        Table(parameters, _PARAMETERS, "parameters"),
    ]


def _works_on(method: "Method") -> str:
    """What must be in memory at once, by default."""
    values = {p.name: p.default for p in method.parameters}
    if method.needs_whole_with(values):
        return "whole tensors"
    return "whole rows" if method.rows_with(values) else "slices"


def _devices(method: "Method") -> list[str]:
    """What it can be merged on, by default."""
    values = {p.name: p.default for p in method.parameters}
    return ["cpu", "cuda"] if method.anywhere_with(values) else ["cpu"]


def _pairs(values: Mapping[str, float | bool | str]) -> str:
    """Parameters in one line."""
    return " ".join(f"{name}={_spelled(value)}" for name, value in values.items()) or "the defaults"


def _spelled(default: object) -> str:
    """A default as `--set` takes it; nothing for a parameter that must be given."""
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default is None else f"{default:g}" if isinstance(default, float) else str(default)
