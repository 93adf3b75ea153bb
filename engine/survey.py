"""Surveys: what a method must know of the whole model before it merges the first tensor."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from engine.arithmetic import seen
from engine.method import Seen
from engine.plan import Plan, TensorStep
from engine.reader import Reader
from engine.source import load
from engine.threads import in_order

T = TypeVar("T")


def survey(plan: Plan, reader: Reader, *, jobs: int, memory_bytes: int) -> Any:
    """What the method's survey of a plan's tensors finds; None for methods that need none.

    Laws: depends on nothing but the plan; tensors that are copied are not looked at.
    """
    method = plan.recipe.method
    steps = [step for step in plan.steps if step.action == "merge"]
    if method.survey is None or not steps or method.scope_with(steps[0].values) != "model":
        return None

    def look(measure: Callable[[Seen], T], /) -> Iterator[tuple[str, T]]:
        def work(step: TensorStep) -> tuple[str, T]:
            return step.name, measure(seen(plan, step, lambda source: load(reader, source)))

        return in_order(
            work, iter(steps), jobs=jobs, needs=plan.unit_bytes, memory_bytes=memory_bytes
        )

    values = steps[0].values
    keywords = {p.keyword: values[p.name] for p in method.parameters if p.name in method.surveyed}
    return method.survey(
        look, **{k: list(v) if isinstance(v, tuple) else v for k, v in keywords.items()}
    )
