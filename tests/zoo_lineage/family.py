"""Raising a family: every node's weights from its parents' as they lie on disk."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from zoo_lineage import axes, editing, merging
from zoo_lineage.lessons import DIGIT_TASKS, TEXT_TASKS
from zoo_lineage.network import Shape, State, new_model, state_of
from zoo_lineage.plan import Family, Node
from zoo_lineage.training import Course, distil, train, train_adapter

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


@dataclass(frozen=True)
class Model:
    """A node with its weights: float32 tensors of the values that are on disk."""

    node: Node
    shape: Shape
    state: State
    lossy: bool
    """Whether storing it, a cast, lost anything of its parent."""


Made = Mapping[str, Model]
Result = tuple[Shape, State]


@dataclass(frozen=True)
class Pace:
    """How many steps each training takes, and how its learning rate compares with the family's."""

    base: int = 240
    tune: int = 36
    continued: int = 120
    adapter: int = 36
    rate: float = 1.0


PACES = {
    "llama": Pace(base=360),
    "vit": Pace(300, 30, 100, 30),
    "mlp": Pace(500, 40, 250, 40, 0.5),
}


def raise_family(family: Family, pace: Pace | None = None) -> dict[str, Model]:
    """All models of a family, the missing base included; in the order of its nodes, on one thread."""
    made: dict[str, Model] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for node in family.nodes:
        craft = Craft(family, node, made, pace or PACES[family.shape.architecture])
        shape, raw = ACTS[node.act](craft)
        state = {name: w.to(DTYPES[node.dtype]).float() for name, w in raw.items()}
        lossy = any(not torch.equal(state[name], w) for name, w in raw.items())
        made[node.name] = Model(node, shape, state, lossy)
    torch.set_num_threads(threads)
    return made


@dataclass(frozen=True)
class Craft:
    """What an act may use."""

    family: Family
    node: Node
    made: Made
    pace: Pace

    @property
    def parent(self) -> Model:
        """The first parent."""
        return self.made[self.node.parents[0]]

    @property
    def states(self) -> list[State]:
        """The parents' weights."""
        return [self.made[name].state for name in self.node.parents]

    @property
    def base(self) -> State:
        """The weights of the base."""
        return self.made["base"].state

    @property
    def seed(self) -> int:
        """A number of the family's seed and the node's name."""
        return number(f"{self.family.seed}/{self.node.name}")

    def course(self, task: int, steps: int, lr: float) -> Course:
        """A training on the family's ``task``-th task."""
        tasks = TEXT_TASKS[:-1] if self.family.shape.architecture == "llama" else DIGIT_TASKS
        name = tasks[(task + self.family.order) % len(tasks)]
        size = 16 if self.family.shape.architecture == "llama" else 32
        return Course(
            name,
            steps,
            self.pace.rate * lr * self.family.lr,
            self.family.optimiser,
            size,
            self.seed,
        )


def number(text: str) -> int:
    """A number below 2**31 that follows from the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") // 2


def _pretrain(craft: Craft) -> Result:
    shape, state = _random(craft)
    task = "docs" if shape.architecture == "llama" else "digits"
    course = replace(craft.course(0, craft.pace.base, 6.0), task=task)
    return shape, train(shape, state, course)


def _random(craft: Craft) -> Result:
    torch.manual_seed(craft.seed)
    shape = craft.family.shape
    return shape, state_of(new_model(shape))


def _distil(craft: Craft) -> Result:
    shape, state = _random(craft)
    task = "docs" if shape.architecture == "llama" else "digits"
    course = replace(craft.course(0, craft.pace.base // 2, 6.0), task=task)
    return shape, distil(shape, state, course, craft.made[craft.node.teacher].state)


def _train(craft: Craft) -> Result:
    parent, options = craft.parent, craft.node.options
    course = craft.course(options["task"], craft.pace.tune, 1.0)
    frozen: tuple[str, ...] = ()
    if options.get("frozen"):
        layers = range(parent.shape.depth // 2)
        frozen = ("embed", *(parent.shape.layer.format(i) for i in layers))
    return parent.shape, train(parent.shape, parent.state, course, frozen=frozen)


def _checkpoint(craft: Craft) -> Result:
    """The run from the base again, up to this checkpoint: a longer steady run begins as a shorter one does."""
    options, base = craft.node.options, craft.made["base"]
    steps = options["part"] * craft.pace.tune * 2 // 3
    seed = number(f"{craft.family.seed}/run")
    course = replace(craft.course(options["task"], steps, 0.7), seed=seed, steady=True)
    return base.shape, train(base.shape, base.state, course)


def _continue(craft: Craft) -> Result:
    parent = craft.parent
    task = "source" if parent.shape.architecture == "llama" else "elsewhere"
    course = replace(craft.course(0, craft.pace.continued, 6.0), task=task)
    return parent.shape, train(parent.shape, parent.state, course)


def _adapter(craft: Craft) -> Result:
    parent, options = craft.parent, craft.node.options
    course = craft.course(options["task"], craft.pace.adapter, 2.5)
    if course.optimiser != "sgd":
        course = replace(course, optimiser="adamw-0")
    return parent.shape, train_adapter(parent.shape, parent.state, course, options["rank"])


def _linear(craft: Craft) -> Result:
    return craft.parent.shape, merging.linear(craft.states, craft.node.coefficients)


def _merge_trained(craft: Craft) -> Result:
    shape, state = _linear(craft)
    course = craft.course(craft.node.options["task"], craft.pace.tune, 1.0)
    return shape, train(shape, state, course)


def _on_base(merge: Callable[[Craft], State]) -> Callable[[Craft], Result]:
    return lambda craft: (craft.parent.shape, merge(craft))


def _edit(edit: Callable[[Shape, State], State]) -> Callable[[Craft], Result]:
    return lambda craft: (craft.parent.shape, edit(craft.parent.shape, craft.parent.state))


def _seeded(edit: Callable[[Shape, State, int], State]) -> Callable[[Craft], Result]:
    return lambda craft: (
        craft.parent.shape,
        edit(craft.parent.shape, craft.parent.state, craft.seed),
    )


def layer_map(craft: Craft) -> list[tuple[str, int]]:
    """Per layer of a stacked model, the parent and its layer that it comes from."""
    depth, named = craft.parent.shape.depth, craft.node.parents
    if craft.node.options["map"] == "halves":
        return [(named[0] if i < depth // 2 else named[1], i) for i in range(depth)]
    return [(named[0], i) for i in (*range(depth - 1), *range(1, depth))]


def _stack(craft: Craft) -> Result:
    sources = [(craft.made[name].state, layer) for name, layer in layer_map(craft)]
    return editing.stack(craft.parent.shape, sources)


ACTS: dict[str, Callable[[Craft], Result]] = {
    "pretrain": _pretrain,
    "random": _random,
    "distil": _distil,
    "train": _train,
    "checkpoint": _checkpoint,
    "continue": _continue,
    "adapter": _adapter,
    "keep": lambda c: (c.parent.shape, c.parent.state),
    "linear": _linear,
    "merge_trained": _merge_trained,
    "arithmetic": _on_base(
        lambda c: merging.task_arithmetic(c.base, c.states, c.node.coefficients)
    ),
    "slerp": _on_base(lambda c: merging.slerp(*c.states, **c.node.options)),
    "ties": _on_base(lambda c: merging.ties(c.base, c.states, **c.node.options)),
    "dare": _on_base(
        lambda c: merging.dare(c.base, c.states, c.node.coefficients, seed=c.seed, **c.node.options)
    ),
    "della": _on_base(lambda c: merging.della(c.base, c.states, seed=c.seed, **c.node.options)),
    "breadcrumbs": _on_base(
        lambda c: merging.breadcrumbs(c.base, c.states, c.node.coefficients, **c.node.options)
    ),
    "model_stock": _on_base(lambda c: merging.model_stock(c.base, c.states)),
    "stack": _stack,
    "int8": _edit(editing.int8),
    "int4": _edit(editing.int4),
    "half_pruned": _edit(editing.prune_half),
    "two_four": _edit(editing.prune_two_four),
    "negate": _on_base(lambda c: editing.negate(c.base, c.made[c.node.options["of"]].state)),
    "noise": _on_base(lambda c: editing.add_noise(c.parent.state, c.seed)),
    "ablate": _seeded(editing.abliterate),
    "extend": lambda c: editing.extend_vocabulary(c.parent.shape, c.parent.state, c.seed),
    "permuted": _seeded(axes.permute),
    "residual": _seeded(axes.permute_residual),
    "rotated": _seeded(axes.rotate),
}
