"""Components: models that hang together, and what is found of them, which follows from them alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from engine import reader
from engine.descent.ancestry import ancestry
from engine.descent.blank import Blanks
from engine.descent.bucket import gather
from engine.descent.claims import Claims, placed
from engine.descent.kind import Kind
from engine.descent.link import Link
from engine.descent.sketch import Sketch
from registry import tensor_name
from registry.fingerprint import digest_text


@dataclass(frozen=True)
class Descent:
    """An edge between models.

    Attributes:
        child, parent: ids; of a latent parent, a name that begins with "latent:".
        kind: the relation and what it rests on.
        coefficient: in a merge.
        role: parent, model or base.
        confidence: that edge and direction are right, in [0, 1].
        direction: the statistic of `engine.descent.direction`; 0 where nothing was asked of it.
        scope: of the kind's statistic: sampled, or full, over all entries.
    """

    child: str
    parent: str
    kind: Kind
    coefficient: float | None
    role: str
    confidence: float
    direction: float = 0.0
    scope: str = "sampled"


@dataclass(frozen=True)
class Component:
    """What was found of models that hang together.

    Attributes:
        edges: among them and their latent parents.
        latent: parents that nobody has.
        root: the model that has no parent, or the first of these.
        blanks: searches that found nothing; see `engine.descent.blank`.
    """

    edges: tuple[Descent, ...]
    latent: tuple[str, ...]
    root: str
    blanks: tuple[str, ...] = ()


def key_of(members: Sequence[Sketch], claims: Claims = ()) -> str:
    """Hex digest of all that a component follows from: these rules, its models, whose sketches follow from them, claims.

    Args:
        members: in order.
        claims: pairs of a child and the parent it is said to have, both of them members.
    """
    said = sorted({f"{child}\0{parent}" for child, parent in claims})
    return digest_text("\n".join((rules(), *(s.line for s in members), "", *said)))


@cache
def rules() -> str:
    """Hex digest of this package's sources, and of those of what it asks about names and dtypes."""
    others = (Path(str(module.__file__)) for module in (tensor_name, reader))
    files = (*sorted(Path(__file__).parent.glob("*.py")), *others)
    return digest_text("\0".join(file.read_text(encoding="utf-8") for file in files))


def component_of(
    members: Sequence[Sketch], claims: Claims = (), blanks: frozenset[str] = frozenset()
) -> Component:
    """Infer within a component, on the scalars that its own models share.

    Args:
        members: in order.
        claims: as of `key_of`.
        blanks: searches that are known to find nothing, and their parts that do not.
    """
    # which tensor of a model is which follows from who gave it names, and he need not be among the members
    renamed = (s.line for s in members if s.own_names)
    bucket = gather(members, Blanks("\n".join((rules(), *renamed)), blanks))
    places = {model: i for i, model in enumerate(bucket.models)}
    made = ancestry(bucket, range(len(bucket)), placed(claims, places))
    prefix = f"latent:{bucket.models[0][:12]}"
    names = dict(enumerate(bucket.models)) | {v: f"{prefix}:{v}" for v in made.latent}
    children = {link.child for link in made.links}
    root = next((i for i in range(len(bucket)) if i not in children), 0)
    return Component(
        tuple(_named(link, names) for link in made.links),
        tuple(names[v] for v in made.latent), bucket.models[root], tuple(sorted(bucket.blanks.met)),
    )  # fmt: skip


def _named(link: Link, names: dict[int, str]) -> Descent:
    """A link between models."""
    return Descent(
        names[link.child], names[link.parent], link.kind, link.coefficient, link.role,
        link.confidence, link.direction,
    )  # fmt: skip
