"""One step's arithmetic: what a method gets, and what becomes of what it returns.

The engine does here what no method needs to: upcast, subtract the base, seed, call, add the base, round once.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

from engine.draws import Draws
from engine.method import CONTEXT, Seen
from engine.plan import Plan, TensorStep
from engine.reader import DTYPES, Reader
from engine.slices import Slices
from engine.source import Source, stored
from registry.fingerprint import digest_text

Read = Callable[[Source], torch.Tensor]
"""Gives one input of a step in float32, as much of it as the unit of work needs."""

_ROUNDING = digest_text("rounding")


def seen(plan: Plan, step: TensorStep, read: Read) -> Seen:
    """A whole tensor as a survey gets it."""
    base, models, statistics = _inputs(plan, step, read)
    return Seen(step.name, models, base, _draws(plan, step, 0), statistics, shape=step.shape)


def seen_slice(plan: Plan, step: TensorStep, reader: Reader, start: int, stop: int) -> Seen:
    """Elements [start, stop) of a sliceable step, as a method or a survey gets them.

    Of the base, a method that ends in a sum gets the shape alone: kernels read it themselves.
    """
    method = plan.recipe.method
    shape = torch.Size((stop - start,))
    if method.rows_with(step.values) and len(step.shape) > 1:
        shape = torch.Size(((stop - start) // math.prod(step.shape[1:]), *step.shape[1:]))
    refs = [stored(source) for source in step.sources]
    regions = [reader.region(ref, start, stop) for ref in refs]
    base, origin = None, None
    if step.base is not None:
        ref = stored(step.base)
        origin = (ref, reader.region(ref, start, stop))
        if "base" in method.context and method.ends_in_sum:
            base = torch.empty(shape, device="meta")
        elif "base" in method.context:
            base = Slices([ref], [origin[1]], shape)[0]
    models = Slices(refs, regions, shape, origin, deltas=method.space == "delta")
    return Seen(step.name, models, base, _draws(plan, step, start), None, start, step.shape)


def applied(plan: Plan, step: TensorStep, inputs: Seen, whole: Any) -> torch.Tensor:
    """What the method makes of its inputs: weights or a task vector, of their shape."""
    method = plan.recipe.method
    given = (inputs.base, step.name, inputs.draws, whole, inputs.statistics, inputs.start)
    context = dict(zip(CONTEXT, given, strict=True))
    keywords = {p.keyword: _value(step.values[p.name]) for p in method.parameters}
    return method.function(inputs.models, **keywords, **{n: context[n] for n in method.context})


def merged(
    plan: Plan, step: TensorStep, read: Read, *, start: int, whole: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge one tensor, or its elements from flat index ``start`` on; return (reference, result).

    Args:
        plan: of which it is a step.
        step: what to merge.
        read: gives each input, the same elements of each.
        start: 0 for whole tensors.
        whole: what the method's survey found.

    Returns:
        Two flat float32 tensors: the base, or else the first model, and the merged weights.
    """
    method = plan.recipe.method
    base, models, statistics = _inputs(plan, step, read)
    reference = models[0] if base is None else base
    inputs = Seen(step.name, models, base, _draws(plan, step, start), statistics, start)
    result = applied(plan, step, inputs, whole)
    if method.space == "delta":
        result.add_(reference)
    return reference.reshape(-1), result.reshape(-1)


def rounded(plan: Plan, step: TensorStep, values: torch.Tensor, start: int) -> torch.Tensor:
    """Flat float32 values, from flat index ``start`` on, in the output's dtype, rounded as the recipe says.

    Stochastic rounding takes the upper neighbour with the probability that keeps the mean; values that the dtype
    holds stay as they are.
    """
    dtype = DTYPES[step.dtype]
    near = values.to(dtype)
    if plan.recipe.rounding == "nearest" or dtype.itemsize >= values.dtype.itemsize:
        return near
    error = values - near.float()
    towards = torch.where(error > 0, torch.inf, -torch.inf).to(dtype)
    other = torch.nextafter(near, towards)
    gap = other.float() - near.float()
    draws = Draws(plan.recipe.seed, step.name, (_ROUNDING,), start)
    takes_other = draws.uniform(0, values.shape) * gap.abs() < error.abs()
    return torch.where(takes_other & (error != 0) & other.isfinite(), other, near)


def _inputs(
    plan: Plan, step: TensorStep, read: Read
) -> tuple[torch.Tensor | None, list[torch.Tensor], list[torch.Tensor] | None]:
    """Base, models (task vectors for the methods that work on them) and statistics, read in the order of `TensorStep.inputs`."""
    base = None if step.base is None else read(step.base)
    models = [read(source) for source in step.sources]
    if base is not None and plan.recipe.method.space == "delta":
        models = [model.sub_(base) for model in models]
    statistics = None if step.statistics is None else [read(s) for s in step.statistics]
    return base, models, statistics


def _draws(plan: Plan, step: TensorStep, start: int) -> Draws:
    """The random numbers of a step."""
    return Draws(plan.recipe.seed, step.name, step.keys, start)


def _value(value: Any) -> Any:
    """A parameter as methods take it."""
    return list(value) if isinstance(value, tuple) else value
