"""Surveys: what a method must know of the whole model, or of a whole tensor, before it merges the first slice."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from engine.arithmetic import seen, seen_slice
from engine.method import Look, Seen
from engine.plan import Plan, TensorStep
from engine.reader import Reader
from engine.source import load
from engine.spread import Informed
from engine.threads import in_order

T = TypeVar("T")

_Place = tuple[TensorStep, int, int]
"""Elements [start, stop) of a step."""

_PIECES = 2048
"""At most so many pieces make a sample."""


def survey(
    plan: Plan, reader: Reader, *, jobs: int, memory_bytes: int, chunk: int | None = None
) -> Any:
    """What the method's survey of a plan's tensors finds; None for methods that need none.

    Laws: depends on nothing but the plan; tensors that are copied are not looked at.
    """
    steps = [step for step in plan.steps if step.action == "merge"]
    if not steps or plan.surveys(steps[0]) != "model":
        return None
    chunk = chunk or plan.chunk_within(memory_bytes, jobs)
    places = [(step, *ends) for step in steps for ends in plan.slices(step, chunk)]

    def look(measure: Callable[[Seen], T], /, *, sample: int = 0) -> Iterator[tuple[str, T]]:
        def work(place: tuple[TensorStep, int, int]) -> tuple[str, T]:
            step, start, stop = place
            return step.name, measure(_seen(plan, step, reader, start, stop))

        return in_order(
            work, iter(_pieces(plan, places, sample)), jobs=jobs, needs=lambda place: plan.unit_bytes(place[0], chunk),
            memory_bytes=memory_bytes, ahead=2 * jobs,  # results may be tables
        )  # fmt: skip

    return _found(plan, steps[0], Informed(look, plan.spreads) if plan.spreads else look)


def survey_tensor(plan: Plan, step: TensorStep, reader: Reader, chunk: int | None) -> Any:
    """What the method's survey finds of one tensor, slice by slice in this thread; laws as those of `survey`."""
    places = [(step, *ends) for ends in plan.slices(step, chunk)]

    def look(measure: Callable[[Seen], T], /, *, sample: int = 0) -> Iterator[tuple[str, T]]:
        for _, start, stop in _pieces(plan, places, sample):
            yield step.name, measure(_seen(plan, step, reader, start, stop))

    return _found(plan, step, look)


def _pieces(plan: Plan, places: Sequence[_Place], sample: int) -> Sequence[_Place]:
    """Beginnings of some of the slices, evenly spread, of about so many entries together; 0: all slices as they are."""
    if not sample or not places:
        return places
    chosen = places[:: -(-len(places) // _PIECES)]
    share = sample / sum(stop - start for _, start, stop in chosen)
    pieces = []
    for step, start, stop in chosen:
        by_row = plan.recipe.method.rows_with(step.values) and len(step.shape) > 1
        columns = math.prod(step.shape[1:]) if by_row else 1
        length = max(1, round(share * (stop - start) / columns)) * columns
        pieces.append((step, start, min(stop, start + length)))
    return pieces


def _seen(plan: Plan, step: TensorStep, reader: Reader, start: int, stop: int) -> Seen:
    """A slice, or a tensor that has none."""
    if plan.is_whole(step):
        return seen(plan, step, lambda source: load(reader, source))
    return seen_slice(plan, step, reader, start, stop)


def _found(plan: Plan, step: TensorStep, look: Look) -> Any:
    """What a look shows the method's survey."""
    method = plan.recipe.method
    keywords = {
        p.keyword: step.values[p.name] for p in method.parameters if p.name in method.surveyed
    }
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in keywords.items()}
    return method.survey(look, **values) if method.survey else None
