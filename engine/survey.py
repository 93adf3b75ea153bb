"""Surveys: what a method must know of the whole model, or of a whole tensor, before it merges the first slice."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from engine.arithmetic import seen, seen_slice
from engine.method import Look, Seen
from engine.plan import Plan, TensorStep
from engine.reader import Reader
from engine.source import load
from engine.threads import in_order

T = TypeVar("T")


def survey(
    plan: Plan, reader: Reader, *, jobs: int, memory_bytes: int, chunk: int | None = None
) -> Any:
    """What the method's survey of a plan's tensors finds; None for methods that need none.

    Laws: depends on nothing but the plan; tensors that are copied are not looked at.
    """
    steps = [step for step in plan.steps if step.action == "merge"]
    if not steps or plan.surveys(steps[0]) != "model":
        return None
    places = [(step, *ends) for step in steps for ends in plan.slices(step, chunk)]

    def look(measure: Callable[[Seen], T], /, *, every: int = 1) -> Iterator[tuple[str, T]]:
        def work(place: tuple[TensorStep, int, int]) -> tuple[str, T]:
            step, start, stop = place
            return step.name, measure(_seen(plan, step, reader, start, stop))

        return in_order(
            work, iter(places[::every]), jobs=jobs, needs=lambda place: plan.unit_bytes(place[0], chunk),
            memory_bytes=memory_bytes, ahead=2 * jobs,  # results may be tables
        )  # fmt: skip

    return _found(plan, steps[0], look)


def survey_tensor(plan: Plan, step: TensorStep, reader: Reader, chunk: int | None) -> Any:
    """What the method's survey finds of one tensor, slice by slice in this thread; laws as those of `survey`."""

    def look(measure: Callable[[Seen], T], /, *, every: int = 1) -> Iterator[tuple[str, T]]:
        for start, stop in plan.slices(step, chunk)[::every]:
            yield step.name, measure(_seen(plan, step, reader, start, stop))

    return _found(plan, step, look)


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
