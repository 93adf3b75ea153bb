"""What a LoRA of a model can hold: which matrices as factors, and by which modules and biases the other tensors.

Everything here is decided by names, shapes and digests; no weight is read.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engine.parent import Parent, family
from engine.reader import FLOATS
from engine.source import Source
from registry.errors import MissingTensor, ShapeMismatch, UnsupportedDtype
from registry.tensor_name import CONV1D_MODELS, has_vocabulary, module_of

_WHOLE_KINDS = ("embedding", "lm_head", "norm")
_NO_LINEAR = re.compile(r"(?:relative_attention_bias|(?:^|\.)(?:gate|router))\.weight$")
_CONV1D = re.compile(r"\.(?:c_attn|c_proj|c_fc|q_attn)\.weight$")


def changed(
    child: Parent, base: Parent, *, projections_only: bool
) -> list[tuple[str, Source, Source | None]]:
    """(name, the child's tensor, the base's or None) of all that may have changed, by name.

    Args:
        child: a whole model.
        base: a whole model.
        projections_only: pass over other tensors that the base lacks or has in another shape.

    Raises:
        MissingTensor: the child lacks a tensor of the base.
        ShapeMismatch: one tensor name, two shapes.
        UnsupportedDtype: a changed tensor holds codes.
    """
    new, old = family((child, base)).tables
    found = []
    for name in sorted({**new, **old}):
        mine, other = new.get(name), old.get(name)
        if mine is None:
            message = f"tensor {name} is in {base.name} but not in {child.name}"
            raise MissingTensor(message, hint="an adapter can take nothing away")
        if projections_only and not is_projection(mine):
            shapes_differ = other is None or other.shape != mine.shape
            if shapes_differ:
                continue
        digest = child.digest(mine)
        if other is not None and digest is not None and digest == base.digest(other):
            continue
        if other is not None and other.shape != mine.shape:
            message = (
                f"tensor {name} has shape {list(mine.shape)} in {mine.file} and "
                f"{list(other.shape)} in {other.file}"
            )
            hint = "give the base the child's vocabulary first, or --projections-only"
            raise ShapeMismatch(message, hint=hint)
        if mine.dtype not in FLOATS or (other is not None and other.dtype not in FLOATS):
            message = f"tensor {name} of {mine.file} has dtype {mine.dtype} and changed; codes have no delta"
            raise UnsupportedDtype(message, hint="extract from the model before quantisation")
        found.append((name, mine, other))
    return found


def is_projection(source: Source) -> bool:
    """Tell whether a tensor is the matrix of a linear layer that an adapter can change."""
    name = source.name
    return (
        len(source.shape) == 2  # noqa: PLR2004
        and name.endswith(".weight")
        and min(source.shape) > 0
        and not has_vocabulary(name)
        and module_of(name) not in _WHOLE_KINDS
        and not _NO_LINEAR.search(name)
    )


def is_transposed(base: Parent, name: str) -> bool:
    """Tell whether a matrix is stored (in, out)."""
    kind = base.checkpoint.config.get("model_type")
    return kind in CONV1D_MODELS and bool(_CONV1D.search(name))


@dataclass(frozen=True)
class Homes:
    """By what an adapter takes whole tensors along.

    Attributes:
        modules: paths of modules that are saved whole, sorted.
        biases: tensor names of biases of other modules.
        homeless: tensor names that nothing in an adapter can carry.
    """

    modules: tuple[str, ...]
    biases: tuple[str, ...]
    homeless: tuple[str, ...]

    def hold(self, name: str) -> bool:
        """Tell whether PEFT takes a tensor for part of a saved module: it compares the ends of paths."""
        path = name.rpartition(".")[0]
        return any(path.endswith(module) for module in self.modules)


def homes(whole: Iterable[str], tables: Mapping[str, Source]) -> Homes:
    """By what each tensor in ``whole`` is taken along.

    A module that holds other modules is never saved, so that no more is replaced than what changed.

    Args:
        whole: tensor names.
        tables: name → tensor of the whole model.
    """
    modules, biases, homeless = set(), [], []
    for name in sorted(whole):
        path, _, part = name.rpartition(".")
        weight = tables.get(f"{path}.weight")
        inner = any(n.startswith(f"{path}.") and "." in n[len(path) + 1 :] for n in tables)
        if part == "bias" and (is_projection(weight) if weight is not None else inner):
            biases.append(name)
        elif not path or inner:
            homeless.append(name)
        else:
            modules.add(path)
    return Homes(tuple(sorted(modules)), tuple(biases), tuple(homeless))
