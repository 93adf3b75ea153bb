"""Models between two others: averages of a kind that no sum proves, for their base is absent or their weights vary.

Seen from a mean of two models, these lie on opposite sides: their differences to it are each other's negatives as far as
the mean goes, in every direction, and what is their own besides is unrelated. Seen from a model that a run passed through,
what came after lies opposite of what came before too, when the run kept its course; but then it does so opposite of all
that came before, whereas a mean lies between its two parents and no others.
"""

from dataclasses import dataclass

import numpy as np

from engine.descent.bucket import Bucket, searched
from engine.descent.likeness import likeness
from engine.descent.tree import relative

_NEAREST = 8
_OPPOSITE = -0.3  # cosine of two differences as they are, that likeness is asked for
_BETWEEN = -0.15
_ALONE = 1 / 3  # of the likeness of the two, that either has with a third at most


@dataclass(frozen=True)
class Between:
    """A model between two others.

    Attributes:
        child: its place in the bucket.
        parents: the two, in order.
        likeness: of the two seen from it, below 0; see `engine.descent.likeness`.
    """

    child: int
    parents: tuple[int, int]
    likeness: float

    @property
    def base(self) -> None:
        """None is told of."""
        return


@searched(_NEAREST)
def between(bucket: Bucket, child: int, near: list[int]) -> Between | None:
    """The two models that one lies between, and no others; None where there are none.

    Args:
        bucket: all models.
        child: place of the one.
        near: places of those it may lie between; the nearest of some.
    """
    products = relative(bucket.gram, child, near)
    sizes = np.sqrt(np.maximum(np.diag(products), 0.0))
    cosines = np.divide(
        products,
        np.outer(sizes, sizes),
        out=np.zeros_like(products),
        where=np.outer(sizes, sizes) > 0,
    )
    if len(near) < 3 or cosines.min() > _OPPOSITE:  # noqa: PLR2004 - of two alone none tells which way a run went
        return None
    a, b = (near[int(i)] for i in np.unravel_index(int(np.argmin(cosines)), cosines.shape))
    own = likeness(bucket, child, a, b)
    if own > _BETWEEN:
        return None
    for other in near:
        if (
            other not in (a, b)
            and min(likeness(bucket, child, one, other) for one in (a, b)) < _ALONE * own
        ):
            return None
    return Between(child, (min(a, b), max(a, b)), own)
