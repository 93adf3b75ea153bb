"""Stages: the result of one recipe as a model of the next, computed while it is read, never written.

A recipe file may hold several recipes. The tensors of an earlier one are `Made` sources: whoever reads one reads its
parents, merges them and rounds to the dtype the stage's output would have had, so that the bytes are those of doing
the merges one after the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import torch

from engine.arithmetic import merged, rounded
from engine.output_config import effective_config
from engine.parent import Parent
from engine.plan import Plan, TensorStep
from engine.reader import Reader
from engine.source import Made, Source
from engine.survey import survey


class _Surveyed:
    """A stage's plan, and what its method's survey finds, looked for once and when it is first needed."""

    def __init__(self, plan: Plan, memory_bytes: int) -> None:
        self.plan = plan
        self._memory_bytes = memory_bytes
        self._lock = Lock()
        self._found: list[Any] = []

    @property
    def whole(self) -> Any:
        """What the survey found."""
        with self._lock:
            if not self._found:
                with Reader() as reader:
                    found = survey(self.plan, reader, jobs=1, memory_bytes=self._memory_bytes)
                self._found.append(found)
            return self._found[0]


@dataclass(frozen=True)
class Result(Made):
    """A tensor of a stage's result.

    Attributes:
        step: how it is made.
        stage: the plan it belongs to.
    """

    step: TensorStep = field(compare=False)
    stage: _Surveyed = field(compare=False)

    def compute(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Merge the stage's parents and round as if the result had been written."""
        step, plan = self.step, self.stage.plan
        in_turn = iter(parts)  # `merged` reads the inputs in their order, each once
        _, result = merged(plan, step, lambda _: next(in_turn), start=0, whole=self.stage.whole)
        return rounded(plan, step, result, 0).float().reshape(self.shape)


def result_of(plan: Plan, id_: str, memory_bytes: int) -> Parent:
    """The result of a plan as a parent of another merge."""
    stage = _Surveyed(plan, memory_bytes)
    made: Mapping[str, Source] = {
        step.name: step.sources[0]
        if step.action == "copy"
        else Result(step.name, step.dtype, step.shape, step.inputs, step, stage)
        for step in plan.steps
    }
    checkpoint = replace(plan.reference.checkpoint, tensors=(), config=effective_config(plan))
    name = f"{plan.recipe.method.name} of " + ", ".join(m.name for m in plan.models)
    return Parent(id_, name, checkpoint, {}, made=made, parents=plan.parents)
