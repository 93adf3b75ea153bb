"""Nodes that are known by name alone: their identity is the name, until somebody shows the weights.

`latent` ones are named by claims, `listed` ones by a listing as well; either becomes the other in its place, so that
edges to it stay. A model whose weights are known and that bears the name takes the place of both.
"""

from registry.catalog import now
from registry.database import Row
from registry.fingerprint import digest_text
from registry.hub_cache import repository_name

NAME_DIGEST = "blake3-name-1"
"""Over what `plain` leaves of a name."""


def plain(name: str) -> str:
    """What stays of a name when case, revision, scheme and the place of a cache are left out.

    Law: ``plain(plain(name)) == plain(name)`` for names of repositories.
    """
    name = (
        name.strip().removeprefix("hf://").split("@", 1)[0].replace("\\", "/").rstrip("/").lower()
    )
    if "models--" not in name:  # nearly all names
        return name
    repositories = [repository_name(part) for part in name.split("/")]
    return next((repository for repository in repositories if repository), name)


def node(name: str) -> str:
    """The id (`NAME_DIGEST`) of the node that a name stands for."""
    return digest_text(f"latent\0{plain(name)}")


def latent_row(model_id: str) -> Row:
    """The row of a model that is only known by what others call it."""
    unknown = dict.fromkeys(("signature", "dtype", "n_params", "n_bytes", "n_tensors"))
    return {
        "id": model_id, "kind": "model", "status": "latent", "digest_name": NAME_DIGEST,
        **unknown, "created_at": now(),
    }  # fmt: skip
