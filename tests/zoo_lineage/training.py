"""How the zoo's models are trained: all weights, some of them, a low-rank adapter, or after a teacher."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from zoo_lineage.lessons import Batch, Draw, look, read
from zoo_lineage.network import Shape, State, disk_name, logits, loss, model_of, state_of

Parameters = list[torch.Tensor]


@dataclass(frozen=True)
class Course:
    """One training.

    Attributes:
        task: what is learned.
        steps: how many batches.
        lr: the peak learning rate of AdamW; other optimisers scale it to their own.
        optimiser: "adamw-0.01" with its weight decay, "sgd" or "lion".
        size: examples per batch.
        seed: of the batches.
        steady: the learning rate stays, so that a shorter course is the beginning of a longer one.
    """

    task: str
    steps: int
    lr: float
    optimiser: str = "adamw-0.01"
    size: int = 16
    seed: int = 0
    steady: bool = False


class Lion(torch.optim.Optimizer):
    """The sign of an interpolated momentum (Chen et al. 2023, algorithm 2)."""

    def __init__(self, parameters: Iterable[torch.Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Move every parameter by the learning rate; betas .9 and .99, decay 0.1."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                direction = (0.9 * momentum + 0.1 * p.grad).sign() + 0.1 * p
                p.add_(direction, alpha=-group["lr"])
                momentum.mul_(0.99).add_(p.grad, alpha=0.01)


_SGD_MOST = 0.05
"""A larger learning rate loses the smaller networks."""


def new_optimiser(name: str, learned: Parameters, lr: float) -> torch.optim.Optimizer:
    """The optimiser of a course; ``lr`` is meant for AdamW."""
    if name == "sgd":
        return torch.optim.SGD(learned, lr=min(60 * lr, _SGD_MOST), momentum=0.9)
    if name == "lion":
        return Lion(learned, lr=0.3 * lr)
    decay = float(name.removeprefix("adamw-"))
    return torch.optim.AdamW(learned, lr=lr, weight_decay=decay, betas=(0.9, 0.98), fused=True)


def lessons(shape: Shape, task: str) -> Draw:
    """The batches of a task for an architecture."""
    return read(task) if shape.architecture == "llama" else look(task)


def train(shape: Shape, state: State, course: Course, *, frozen: tuple[str, ...] = ()) -> State:
    """Train all weights but those whose names contain one of ``frozen``."""
    model = model_of(shape, state)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(part in disk_name(name) for part in frozen))
    learned = [p for p in model.parameters() if p.requires_grad]
    _descend(shape, course, learned, lambda batch: loss(logits(model, shape, batch), batch))
    return state_of(model)


def train_adapter(shape: Shape, state: State, course: Course, rank: int) -> State:
    """Learn W + 2 B A with B (out, rank), A (rank, in) for each matrix of the layers, and merge it."""
    model = model_of(shape, state)
    model.requires_grad_(requires_grad=False)
    generator = torch.Generator().manual_seed(course.seed)
    low: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and ".layers." in f".{name}":
            out, into = parameter.shape
            a = torch.randn(rank, into, generator=generator) / math.sqrt(into)
            low[name] = (torch.zeros(out, rank).requires_grad_(), a.requires_grad_())
    weights = dict(model.named_parameters())

    def merged() -> dict[str, torch.Tensor]:
        return {name: weights[name] + 2.0 * b @ a for name, (b, a) in low.items()}

    def forward(batch: Batch) -> torch.Tensor:
        patched = partial(_call, model, merged())
        return loss(logits(patched, shape, batch), batch)

    _descend(shape, course, [p for pair in low.values() for p in pair], forward)
    return state | {disk_name(name): t.detach() for name, t in merged().items()}


def _call(model: nn.Module, weights: State, *args: torch.Tensor, **kwargs: object) -> object:
    """The model's answer with other weights."""
    return functional_call(model, weights, args, kwargs)


def distil(shape: Shape, state: State, course: Course, teacher: State) -> State:
    """Train ``state`` to say what the teacher says: outputs are passed on, weights are not."""
    model, told = model_of(shape, state), model_of(shape, teacher).eval()

    def forward(batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            target = logits(told, shape, batch).softmax(-1)
        return functional.cross_entropy(
            logits(model, shape, batch).flatten(0, -2), target.flatten(0, -2)
        )

    _descend(shape, course, list(model.parameters()), forward)
    return state_of(model)


def _descend(
    shape: Shape, course: Course, learned: Parameters, forward: Callable[[Batch], torch.Tensor]
) -> None:
    """The loop: a short warm-up and a cosine down to zero, unless the course is steady; gradients clipped to norm 1."""
    draw = lessons(shape, course.task)
    generator = torch.Generator().manual_seed(course.seed)
    optimiser = new_optimiser(course.optimiser, learned, course.lr)
    peaks = [group["lr"] for group in optimiser.param_groups]
    for step in range(course.steps):
        scale = min(1.0, (step + 1) / 8)
        if not course.steady:
            scale *= 0.5 + 0.5 * math.cos(math.pi * step / course.steps)
        for group, peak in zip(optimiser.param_groups, peaks, strict=True):
            group["lr"] = peak * scale
        optimiser.zero_grad()
        forward(draw(generator, course.size)).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
