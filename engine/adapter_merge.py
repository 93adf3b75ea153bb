"""Adapters merged with each other: several LoRAs of one base become one, by any merge method.

What is merged are the adapters' task vectors s·BA (`engine.adapter_delta`); where an adapter leaves a tensor alone,
its task vector is 0. A share of a method, such as a density, is one of the tensors that any adapter changes. A
weighted sum of products is a product again, of the factors side by side: such merges are exact. Others give matrices,
of which the best product of the wished rank is kept (Eckart & Young, 1936).
"""

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import sqrt

import torch

from engine.adapter import Adapted
from engine.adapter_delta import Target, TaskVectors, Zeros, task_vectors
from engine.arithmetic import merged
from engine.decomposition import svd
from engine.extract import Change
from engine.lora_writer import NewAdapter, Pair
from engine.low_rank import one_thread, residual_sq, truncated
from engine.parent import Parent
from engine.pinned import PinnedRecipe
from engine.plan import MEMORY_BYTES, Plan, TensorStep
from engine.planner import make_plan
from engine.provenance import public_name
from engine.reader import DTYPES, Reader
from engine.source import load
from engine.survey import survey
from engine.threads import in_order
from registry.errors import BadParameter, BadRecipe, NonFinite, NotMergeable
from registry.progress import SILENT, Progress

WEIGHTED_SUMS = ("expo", "linear", "passthrough", "task_arithmetic")
"""Methods whose result is Σ c_i δ_i, with c_i that depend on nothing but the recipe and the tensor's name."""

RELATIVE_ERROR = "relative error of the merged change"
"""Beginning of the note that says what a merge lost by its rank."""

SPECTRAL = ("iso_c", "iso_cts", "tsv_merge")
"""Methods that give weak directions strength, and turn with the matrices they merge.

A product of factors has no directions beyond its rank but those of its rounding, which must not be made strong: such
a method gets the task vectors in the directions that the adapters have, where its count of directions, which divides
the mean singular value of Iso-C, is theirs."""


@dataclass(frozen=True)
class _Part:
    """What the new adapter holds of one tensor: factors, or the tensor whole."""

    change: Change
    pair: Pair | None = None
    whole: torch.Tensor | None = None


@dataclass(frozen=True)
class _Work:
    """What the threads share."""

    plan: Plan
    targets: Mapping[str, Target]
    reader: Reader
    found: object
    rank: int
    energy: float

    def merge(self, step: TensorStep) -> _Part:
        """Merge one tensor."""
        method = self.plan.recipe.method.name
        plain = all(isinstance(source, Adapted | Zeros) for source in step.sources)
        if plain and not self.targets[step.name].whole:
            if method in WEIGHTED_SUMS:
                return self._side_by_side(step)
            if method in SPECTRAL and len(step.shape) == 2:  # noqa: PLR2004
                return self._rotated(step)
        return self._from_matrix(step)

    def _factors(self, step: TensorStep) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Each adapter's sB (out, r) and A (r, in · …), float64; r is 0 where it leaves the tensor alone."""
        target, found = self.targets[step.name], []
        n_out = step.shape[1 if target.transposed else 0]
        for source in step.sources:
            if isinstance(source, Adapted):
                a, b = (load(self.reader, ref).double() for ref in source.sources[1:])
                found.append((b.reshape(len(b), -1) * source.scale, a.reshape(len(a), -1)))
            else:
                n_in = math.prod(step.shape) // n_out
                found.append((torch.zeros(n_out, 0).double(), torch.zeros(0, n_in).double()))
        return found

    def _side_by_side(self, step: TensorStep) -> _Part:
        """The factors of all adapters as one pair, shortened if it is asked for."""
        factors = self._factors(step)
        weights = coefficients(self.plan, step)
        b = torch.cat([c * left for c, (left, _) in zip(weights, factors, strict=True)], 1)
        a = torch.cat([right for _, right in factors])
        most = min(self.rank or len(a), len(a), len(b), a.shape[1])
        if most == len(a) and not self.energy:
            return self._paired(step, (b, a), (b, a))
        left, right = torch.linalg.qr(b), torch.linalg.qr(a.T)
        return self._shortened(step, left.Q, left.R @ right.R.T, right.Q.T)

    def _rotated(self, step: TensorStep) -> _Part:
        """A merge in the directions that the adapters have: of Uᵀ δ_i V, with U and V bases of all B and all Aᵀ."""
        factors = self._factors(step)
        u, _, _ = svd(torch.cat([b for b, _ in factors], 1))
        _, _, vh = svd(torch.cat([a for _, a in factors]))
        if not u.shape[1] or not len(vh):
            return self._from_matrix(step)
        turned = self.targets[step.name].transposed
        # in float64, where the method can tell a direction that one adapter lacks from a weak one
        cores = [(u.T @ b) @ (a @ vh.T) for b, a in factors]
        cores = [core.T.contiguous() if turned else core for core in cores]
        inputs = iter([torch.zeros_like(cores[0])] * (step.base is not None) + cores)
        _, flat = merged(self.plan, step, lambda _: next(inputs), start=0, whole=self.found)
        core = _finite(step, flat).reshape(cores[0].shape)
        return self._shortened(step, u, core.T if turned else core, vh)

    def _shortened(
        self, step: TensorStep, u: torch.Tensor, core: torch.Tensor, vh: torch.Tensor
    ) -> _Part:
        """The best factors of U C Vᵀ, with orthonormal U (out, k) and Vᵀ (l, in · …) in float64."""
        low = truncated(core, rank=self.rank, energy=self.energy)
        new = u @ low.b.double(), low.a.double() @ vh
        return self._paired(step, (u @ core.double(), vh), new)

    def _from_matrix(self, step: TensorStep) -> _Part:
        """The merged task vector computed in full, and what is kept of it."""
        target = self.targets[step.name]
        _, flat = merged(self.plan, step, lambda s: load(self.reader, s), start=0, whole=self.found)
        delta = _finite(step, flat).reshape(step.shape)
        if target.whole:
            norm = float(torch.linalg.vector_norm(delta, dtype=torch.float64))
            dtype = self.plan.recipe.out_dtype or target.base.dtype
            tensor = _finite(step, delta.add_(load(self.reader, target.base)).to(DTYPES[dtype]))
            return _Part(Change(step.name, "whole", 0, norm, 0.0), whole=tensor)
        stored = delta.reshape(len(delta), -1)
        matrix = stored.T if target.transposed else stored
        most = self.rank or (0 if self.energy else target.rank)
        low = truncated(matrix, rank=most, energy=self.energy)
        b, a = self._cast(step, low.b), self._cast(step, low.a)
        error_sq = low.error_sq if b.dtype == torch.float32 else residual_sq(matrix, b, a)
        return self._part(step, b, a, low.norm_sq, error_sq)

    def _cast(self, step: TensorStep, factor: torch.Tensor) -> torch.Tensor:
        """A factor in the dtype it is stored in."""
        return _finite(step, factor.to(DTYPES[step.dtype])).contiguous()

    def _paired(
        self,
        step: TensorStep,
        exact: tuple[torch.Tensor, torch.Tensor],
        kept: tuple[torch.Tensor, torch.Tensor],
    ) -> _Part:
        """The factors that are kept of a product of others, B (out, r) and A (r, in · …), all float64."""
        b, a = (self._cast(step, factor) for factor in kept)
        rest = torch.cat((exact[0], -b.double()), 1), torch.cat((exact[1], a.double()))
        return self._part(step, b, a, _norm_sq(*exact), _norm_sq(*rest))

    def _part(
        self, step: TensorStep, b: torch.Tensor, a: torch.Tensor, norm_sq: float, error_sq: float
    ) -> _Part:
        """Factors in the module's shape, and what they cost; none of a change that is 0."""
        target = self.targets[step.name]
        if not norm_sq:
            return _Part(Change(step.name, "left_out", 0, 0.0, 0.0))
        if not target.transposed:
            inner, ones = step.shape[1:], [1] * (len(step.shape) - 2)
            a, b = a.reshape(len(a), *inner), b.reshape(*b.shape, *ones)
        pair = Pair(target.called.removesuffix(".weight"), a, b, embedding=target.embedding)
        error = min(1.0, sqrt(error_sq / norm_sq))
        return _Part(Change(step.name, "low_rank", pair.rank, sqrt(norm_sq), error), pair=pair)


def merge_adapters(
    recipe: PinnedRecipe,
    adapters: Sequence[Parent],
    base: Parent | None,
    *,
    rank: int = 0,
    energy: float = 0.0,
    jobs: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress = SILENT,
) -> tuple[NewAdapter, list[Change], list[str]]:
    """Merge LoRAs into one, what became of each tensor, and notes.

    Laws: a weighted sum without ``rank`` and ``energy`` is exact but for the rounding of the factors to their dtype;
    nothing depends on ``jobs``; a base that is not needed changes nothing but the name of the base.

    Args:
        recipe: pinned; its models are the adapters. Where the method needs a base, any id, such as
            `engine.pinned.ZERO`, stands for it.
        adapters: in the recipe's order.
        base: the model they belong to, for DoRA, biases and tensors that are stored whole; None: it is not at hand.
        rank: most rank of a module; 0: the adapters' ranks of it, added up, or as ``energy`` asks.
        energy: share of each ‖δ‖² that is kept at least, in (0, 1], as far as ``rank`` allows; 0: as ``rank`` asks.
        jobs: threads; None: one per core.
        memory_bytes: for tensors while they are merged; the new adapter itself is held beside that.
        progress: told of every byte read.

    Returns:
        The adapter, float32 or the recipe's dtype; per tensor, by name, what is kept of its change; notes in words.

    Raises:
        BadParameter: rank or energy out of range.
        BadRecipe: something in the recipe that adapters do not have, or a method that looks at the base's weights.
        NotMergeable, ShapeMismatch, MissingTensor, UnsupportedDtype: as `engine.adapter_delta.task_vectors`.
        NotMergeable: nothing is left of the change of any module.
        NonFinite: NaN or infinity in a factor or in the result.
    """
    _check(recipe, rank, energy)
    vectors, plan = _planned(recipe, adapters, base)
    jobs = jobs or os.cpu_count() or 1
    progress.start("merge", plan.read_bytes)
    with one_thread(), Reader() as reader:
        found = survey(plan, reader, jobs=jobs, memory_bytes=memory_bytes)
        work = _Work(plan, vectors.targets, reader, found, rank, energy)

        def do(step: TensorStep) -> _Part:
            part = work.merge(step)
            progress.advance(step.read_bytes)
            return part

        units = in_order(
            do, plan.steps, jobs=jobs, needs=plan.unit_bytes, memory_bytes=memory_bytes
        )
        with closing(units) as results:
            parts = list(results)
    notes = [*plan.notes, *_notes(vectors, [part.change for part in parts])]
    return _assembled(adapters, base, vectors, parts), [part.change for part in parts], notes


def plan_adapters(recipe: PinnedRecipe, adapters: Sequence[Parent], base: Parent | None) -> Plan:
    """The merge of the adapters' task vectors, as matrices: what `merge_adapters` computes before it keeps factors.

    Raises:
        RegError: as `merge_adapters`.
    """
    _check(recipe, 0, 0.0)
    return _planned(recipe, adapters, base)[1]


def _planned(
    recipe: PinnedRecipe, adapters: Sequence[Parent], base: Parent | None
) -> tuple[TaskVectors, Plan]:
    """Task vectors and their merge."""
    vectors = task_vectors(adapters, base)
    base = vectors.zero if recipe.base else None
    return vectors, make_plan(recipe, base, vectors.models, notes=[_PLANNED])


_PLANNED = "the models are adapters: what they add to their base is merged, and becomes an adapter"


def coefficients(plan: Plan, step: TensorStep) -> list[float]:
    """What each model's task vector is multiplied with, by a method of `WEIGHTED_SUMS`: float32 numbers.

    It is merged what only one model has: of n unit vectors the sum is the vector of the coefficients.
    """
    n = len(step.sources)
    inputs = [torch.zeros(n)] if step.base is not None else []
    in_turn = iter([*inputs, *torch.eye(n)])  # `merged` reads the inputs in their order, each once
    _, found = merged(plan, step, lambda _: next(in_turn), start=0, whole=None)
    return [float(c) for c in found]


def _check(recipe: PinnedRecipe, rank: int, energy: float) -> None:
    """Refuse what cannot be asked."""
    if rank < 0 or not 0 <= energy <= 1:
        message = f"rank is {rank} and energy {energy:g}; a rank is at least 0, an energy in [0, 1]"
        raise BadParameter(message, hint="0 and 0 keep the adapters' ranks, added up")
    method = recipe.method
    if method.base == "needed" and "base" in method.context:
        message = f"method {method.name} looks at the base's weights, which a merge of adapters does not have"
        raise BadRecipe(message, hint="merge MODEL+ADAPTER, and reg extract the result")
    layered = any(
        source.layers for m in recipe.modules for piece in m.slices for source in piece.sources
    )
    refused = {
        "layer_range": layered,
        "tokenizer": recipe.tokenizer is not None,
        "chat_template": recipe.chat_template is not None,
        "align": recipe.align is not None,
        "statistics": any(recipe.statistics),
        "round": recipe.rounding != "nearest",
    }
    for key, given in refused.items():
        if given:
            message = f"the recipe has {key}, which means nothing for adapters"
            raise BadRecipe(message, hint="merge MODEL+ADAPTER instead, or leave it out")


def _finite(step: TensorStep, values: torch.Tensor) -> torch.Tensor:
    """A result of finite numbers.

    Raises:
        NonFinite: naming the tensor.
    """
    if not bool(torch.isfinite(values).all()):
        message = f"the merged change of tensor {step.name} holds NaN or infinity"
        raise NonFinite(message, hint="smaller weights or lambda, or another out_dtype")
    return values


def _norm_sq(b: torch.Tensor, a: torch.Tensor) -> float:
    """‖B A‖²_F of B (out, r) and A (r, in), float64, without the product."""
    left, right = torch.linalg.qr(b, mode="r").R, torch.linalg.qr(a.T, mode="r").R
    return float((left @ right.T).square().sum())


def _notes(vectors: TaskVectors, changes: Sequence[Change]) -> list[str]:
    """What a person should know."""
    n = len(vectors.targets)
    notes = [
        f"{model.name} changes {mine} of {n} tensors; elsewhere its task vector is 0"
        for model, mine in zip(vectors.models, vectors.n_changed, strict=True)
        if mine < n
    ]
    norm_sq = sum(c.delta_l2**2 for c in changes)
    error_sq = sum((c.delta_l2 * c.relative_error) ** 2 for c in changes)
    total = sqrt(error_sq / norm_sq) if norm_sq else 0.0
    return [*notes, f"{RELATIVE_ERROR}: {total:.3g}"]


def _assembled(
    adapters: Sequence[Parent], base: Parent | None, vectors: TaskVectors, parts: Sequence[_Part]
) -> NewAdapter:
    """The adapter that holds all parts."""
    pairs = [part.pair for part in parts if part.pair is not None]
    if not pairs:
        names = ", ".join(adapter.name for adapter in adapters)
        message = f"no module that {names} adapt has a merged change other than 0: there is no LoRA to write"
        raise NotMergeable(message, hint="other weights or lambda, or a merge of MODEL+ADAPTER")
    whole = {
        vectors.targets[part.change.tensor].called: part.whole
        for part in parts
        if part.whole is not None
    }
    split = [(name, *name.rpartition(".")[::2]) for name in whole]
    biases = [n for n, path, end in split if end == "bias" and f"{path}.weight" not in whole]
    configs = [adapter.checkpoint.adapter_config for adapter in adapters]
    bases = [c.get("base_model_name_or_path") for c in configs]
    tasks = [c.get("task_type") for c in configs]
    return NewAdapter(
        pairs=pairs,
        base=public_name(base) if base else str(next(filter(None, bases), "")),
        task=tasks[0] if isinstance(tasks[0], str) and tasks == tasks[:1] * len(tasks) else None,
        transposed=any(t.transposed and not t.embedding for t in vectors.targets.values()),
        whole=whole,
        modules_to_save=sorted({path for name, path, _ in split if name not in biases}),
        biases=bool(biases),
    )
