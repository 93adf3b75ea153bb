"""Replay: the recipe of a merge that kept some entries of each parent's change, tried until it makes the child again.

What such a merge shows of itself leaves few recipes: TIES trims by size, tensor by tensor or over the whole model,
Breadcrumbs leaves out both ends, DARE draws. Each is carried out by the engine on the parents that were found, first on a
few tensors, then on all, and held against the child's bytes. Masks that were drawn are made again only where the seed and
the generator are ours; of others it is told how many entries are what a drawn mask could leave.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from engine import pin
from engine.descent.bucket import rounding_energy
from engine.descent.kind import Kind
from engine.descent.slab import Shared
from engine.descent.trace import Trace, trace
from engine.descent.weighting import beyond_chance, counted, sums_of
from engine.lookup import load_parent
from engine.parent import Parent
from engine.plan import Plan, TensorStep
from engine.planner import make_plan
from engine.reader import DTYPES, Reader
from engine.recipe import Part, Recipe
from engine.run import results
from registry.catalog import Catalog
from registry.errors import BadParameter, BadRecipe, NotMergeable
from registry.header import TensorRef

_BY_SIZE = 0.6  # of `Trace.by_size`, from which on entries were chosen by their sizes
_BY_CHANCE = 0.3  # up to which they were drawn
_MADE = 0.95  # share of the entries that a recipe makes, at least: tools treat equal sizes at the threshold differently
_ROUNDER = 0.005  # of the entries, that a rounder number may make less
_GLANCE = 6  # tensors that a recipe is tried on
_ALIKE = 0.03  # of a number, that others are the same
_SEEDS = (0, 42)
_TOLERANCE = 1 + 1e-3  # times an ulp
_EXACT = 2e-3  # of a change, that its scale may be off
_CLEAR = 10.0  # times rounding


@dataclass(frozen=True)
class Merge:
    """A merge whose recipe is looked for.

    Attributes:
        child, base: ids.
        parents: ids.
        scales: about, by what each one's change is multiplied.
    """

    child: str
    base: str
    parents: tuple[str, ...]
    scales: tuple[float, ...]


def replayed(
    catalog: Catalog, reader: Reader, tensors: Sequence[Shared], merge: Merge, kind: Kind
) -> Kind | None:
    """The recipe that makes a child again, or that it was drawn; None where neither is found.

    Args:
        catalog: knows the models.
        reader: of their files.
        tensors: of the child, the base and the parents.
        merge: of what.
        kind: what sketches suggest.

    Raises:
        BadAddress, FileChanged, RunFailed: files are gone, or others.
    """
    seen = trace(reader, tensors, merge.scales)
    if seen is None:
        return None
    found = _Replay(catalog, reader, tensors, merge)
    tried = [(recipe, found.match(recipe, n_tensors=_GLANCE)) for recipe in recipes(merge, seen)]
    most = max((share for _, share in tried), default=0.0)
    for recipe, glanced in tried:
        if glanced >= max(_MADE, most - _ROUNDER) and (share := found.match(recipe)) >= _MADE:
            names = [catalog.name(parent) for parent in merge.parents]
            return _made(kind, recipe, names, share, sum(t.size for t in tensors))
    return _drawn(reader, tensors, seen, kind) if seen.by_size <= _BY_CHANCE else None


def recipes(merge: Merge, seen: Trace) -> Iterator[Recipe]:
    """The recipes that a trace leaves, of alike ones the rounder first."""
    if seen.by_size >= _BY_SIZE:
        yield from _by_size(merge, seen)
    elif seen.by_size <= _BY_CHANCE:
        yield from _by_chance(merge, seen)


def _by_size(merge: Merge, seen: Trace) -> Iterator[Recipe]:
    """Those that keep entries by their sizes."""
    weights, scale, is_mean = _weights(seen)
    scaled = [_rounded(s) for s in seen.scales.tolist()]
    densities = seen.densities
    if float(np.ptp(densities)) <= _EVEN:  # one for all is what most recipes say
        densities = np.full(len(densities), densities.mean())
    if not seen.outer:
        for kept in _near(densities.tolist()):
            for scope in ("tensor", "model"):
                given = {"scope": scope, "normalize": is_mean, "lambda": scale}
                yield _recipe("ties", merge, weights, given, kept)
    if seen.outer or seen.by_size < _CLEANLY:
        gammas = [share for (share,) in _near([seen.outer])] if seen.outer else _GAMMAS
        for gamma in gammas:
            for kept in _near((densities - (0.0 if seen.outer else gamma)).tolist()):
                yield _recipe("breadcrumbs", merge, scaled, {"gamma": gamma}, kept)
                given = {"gamma": gamma, "normalize": is_mean, "lambda": scale}
                yield _recipe("breadcrumbs_ties", merge, weights, given, kept)


def _by_chance(merge: Merge, seen: Trace) -> Iterator[Recipe]:
    """Those that draw, as our engine does."""
    drawn = [_rounded(p) for p in seen.chances.tolist()]
    weights = [_rounded(s * p) for s, p in zip(seen.scales.tolist(), drawn, strict=True)]
    scales = seen.scales.tolist()
    rescaled = [
        _rounded(1 / s) for s in scales if s >= 1
    ]  # of DARE-TIES, whose mean has weights that sum to 1
    for seed in _SEEDS:
        yield _recipe("dare_linear", merge, weights, {}, drawn, seed=seed)
        if len(rescaled) == len(scales):
            yield _recipe("dare_ties", merge, (1.0,) * len(weights), {}, rescaled, seed=seed)


def _weights(seen: Trace) -> tuple[tuple[float, ...], float, bool]:
    """The parents' weights, the scale of their sum, and whether it is divided by the weights of those that agree."""
    scales = seen.scales
    mean = float(scales.mean())
    if float(np.abs(scales - mean).max()) > _ALIKE * abs(mean):
        return tuple(_rounded(s) for s in scales.tolist()), 1.0, False
    if seen.shares is not None and seen.shares.sum() / mean > (1 + len(scales)) / 2:
        return tuple(_rounded(s) for s in scales.tolist()), 1.0, False
    if seen.shares is None:
        return (1.0,) * len(scales), _rounded(mean), True
    shares = seen.shares / seen.shares.sum()
    equal = float(np.abs(shares - 1 / len(shares)).max()) <= _ALIKE
    weights = (1.0,) * len(shares) if equal else tuple(_rounded(w) for w in shares.tolist())
    return weights, _rounded(mean), True


def _rounded(value: float) -> float:
    """A number as people write it: to a tenth where that is near, else to the nearer of a hundredth and a third."""
    tenth = round(value, 1)
    if abs(value - tenth) <= _ALIKE / 2 * abs(value):
        return tenth
    return min(round(value, 2), round(3 * value) / 3, key=lambda near: abs(near - value))


def _near(shares: Sequence[float]) -> list[tuple[float, ...]]:
    """Shares near some that were measured, the roundest first."""
    near = dict.fromkeys(tuple(round(s * n) / n for s in shares) for n in (20, 100, 1000))
    return [
        some for some in near
        if all(0 < s <= 1 and abs(s - own) <= _OFF for s, own in zip(some, shares, strict=True))
    ]  # fmt: skip


_OFF = 0.02
_EVEN = 0.03
_CLEANLY = 0.9  # of `Trace.by_size`, below which the largest entries may have been dropped, though few show it
_GAMMAS = (0.01, 0.02, 0.05)


def _recipe(
    method: str, merge: Merge, weights: Sequence[float], values: Mapping[str, float | str],
    densities: Sequence[float], *, seed: int = 0,
) -> Recipe:  # fmt: skip
    """A recipe of these models."""
    own = [{"density": p, "weight": w} for p, w in zip(densities, weights, strict=True)]
    parts = tuple(Part(p, given) for p, given in zip(merge.parents, own, strict=True))
    return Recipe(method, parts, merge.base, values, seed=seed)


@dataclass(frozen=True)
class _Replay:
    """Where recipes are tried."""

    catalog: Catalog
    reader: Reader
    tensors: Sequence[Shared]
    merge: Merge

    def match(self, recipe: Recipe, n_tensors: int | None = None) -> float:
        """The share of entries that a recipe makes, but for one step of rounding; 0 where the engine refuses it."""
        try:
            return self._share(self._plan(recipe), n_tensors)
        except (
            BadParameter,
            BadRecipe,
            NotMergeable,
        ):  # such as a tensor that not all of them have, or a density of 0
            return 0.0

    def _share(self, plan: Plan, n_tensors: int | None) -> float:
        """The same of a plan."""
        children = {tensor.refs[1].name: tensor for tensor in self.tensors}
        steps = [s for s in plan.steps if s.action == "merge" and s.name in children]
        if n_tensors is not None:
            steps = _some([s for s in steps if len(s.shape) > 1] or steps, n_tensors)
        total = fit = 0
        for step, start, made in results(plan, self.reader, steps):
            fit += _fitting(self.reader, children[step.name].refs[0], start, made)
            total += len(made)
        return fit / max(1, total)

    def _plan(self, recipe: Recipe) -> Plan:
        """What the engine would do; the dtype of each tensor is the base's."""
        base, models = self._parents
        ids = [part.model for part in recipe.models]
        return make_plan(pin.pin(recipe, recipe.base, ids), base, models)

    @cached_property
    def _parents(self) -> tuple[Parent, list[Parent]]:
        """The base and the models."""
        merge = self.merge
        models = [load_parent(self.catalog, parent) for parent in merge.parents]
        return load_parent(self.catalog, merge.base), models


def _some(steps: Sequence[TensorStep], n: int) -> list[TensorStep]:
    """Some of the steps, evenly spread."""
    return list(steps[:: max(1, len(steps) // n)][:n])


def _fitting(reader: Reader, ref: TensorRef, start: int, made: torch.Tensor) -> int:
    """How many entries of a slice the child has, but for one step of rounding."""
    child = reader.flat(ref, start, start + len(made)).float().numpy()
    ulp = 2 * np.sqrt(3 * rounding_energy(child, ref.dtype))
    other = made.to(DTYPES[ref.dtype]).float().numpy().astype(np.float64)
    return int((np.abs(other - child) <= _TOLERANCE * ulp).sum())


def _made(kind: Kind, recipe: Recipe, names: Sequence[str], share: float, n: int) -> Kind:
    """A merge whose recipe is known; names are those of its models."""
    own = [part.parameters for part in recipe.models]
    each = {name: tuple(part[name] for part in own) for name in own[0]}
    values: dict[str, object] = {n: v[0] if len(set(v)) == 1 else v for n, v in each.items()}
    values |= recipe.parameters
    if recipe.method.startswith("dare"):
        values["seed"] = recipe.seed
    said = ", ".join(f"{name} {_text(value)}" for name, value in values.items())
    if any(len(set(value)) > 1 for value in each.values()):
        said += f" (of {', '.join(names)})"
    detail = f"{recipe.method} with {said}, done again, makes {share:.3%} of all {n:,} entries"
    return Kind(kind.name, "match", share, detail)


def _text(value: object) -> str:
    """A value as people read it."""
    if isinstance(value, tuple):
        return "/".join(f"{v:g}" for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _drawn(reader: Reader, tensors: Sequence[Shared], seen: Trace, kind: Kind) -> Kind | None:
    """How many of all entries that the parents changed are what a drawn mask leaves, beyond what chance explains."""
    total, own, chance = 0, 0, 0.0
    for tensor in tensors:
        for part in tensor.slabs(reader):
            noise = np.sqrt(rounding_energy(part[0], tensor.refs[0].dtype))
            base = part[1].astype(np.float64)
            scaled = seen.scales[:, None] * (part[2:] - base)
            some = (np.abs(scaled) > _CLEAR * noise).any(0)
            found = counted((part[0] - base)[some], sums_of(scaled[:, some]), noise[some], _EXACT)
            total += int(some.sum())
            own += found[0]
            chance += found[1]
    if not total:
        return None
    certain = beyond_chance(own, chance, total)
    kept = "/".join(f"{p:.0%}" for p in seen.chances)
    detail = (
        f"{certain:.1%} of all {total:,} entries that the parents changed are what masks drawn by chance leave, of each "
        f"parent {kept}, as DARE draws them; whose random numbers is not known"
    )
    return Kind(kind.name, "explained_share", certain, detail)
