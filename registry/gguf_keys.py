"""What the keys of a GGUF file say: of the model, as a config does, and of its descent, as a card does.

Converters fill in `general.*` from the card of the model that they convert. So `general.base_model.*` mostly is the base of that
model, and `general.source.*` the model itself; only where a base bears the file's own name was it quantised from that.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from registry.dtypes import QUANTS
from registry.gguf import BIG_ENDIAN, Scalar
from registry.header import TensorRef

_MAX_FACT = 4_000  # characters; templates of chats are no facts
_BASE = re.compile(r"general\.base_model\.([0-9]{1,4})\.(name|organization|repo_url)")
_SOURCE = ("general.source.repo_url", "general.source.huggingface.repository", "general.source.url")
_LICENSE = ("general.license", "general.license.name", "general.license.link")
_QUANTISED = ("general.name", "general.file_type", "general.quantized_by")
_SITE = re.compile(
    r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?!datasets/|spaces/|papers/|collections/|docs/|blog/)"
    r"([\w.-]+/[\w.-]+)(?:[/?#].*)?",
    re.ASCII,
)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Statement:
    """One thing that the keys say, in the words of `registry.claims.Claim`.

    Attributes:
        predicate: what is said.
        value: of whom or what.
        raw: the keys that say it.
        relation: to a base that is the model itself; None for any other.
    """

    predicate: Literal["base_model", "relation", "license"]
    value: Scalar
    raw: dict[str, Scalar]
    relation: str | None = None


def facts(keys: Mapping[str, Scalar], lengths: Mapping[str, int]) -> dict[str, Any]:
    """What a config would hold: the architecture as `model_type`, the size of the vocabulary, and all short keys as they are."""
    found: dict[str, Any] = {}
    if isinstance(family := keys.get("general.architecture"), str):
        found["model_type"] = family
    if (n_tokens := lengths.get("tokenizer.ggml.tokens")) is not None:
        found["vocab_size"] = n_tokens
    for name, value in keys.items():
        is_long = isinstance(value, str) and len(value) > _MAX_FACT
        if not is_long and not (isinstance(value, float) and not math.isfinite(value)):
            found[name] = value
    return found


def statements(keys: Mapping[str, Scalar], conversion: str) -> Iterator[Statement]:
    """What the keys say of descent and licence.

    Args:
        keys: of the file.
        conversion: how the file relates to the model that it was made from.
    """
    if conversion == "quantized":
        raw = {key: keys[key] for key in _QUANTISED if key in keys}
        yield Statement("relation", conversion, raw)
    for key in _SOURCE:
        name = repository(keys.get(key), bare=key.endswith("repository"))
        if name:
            yield Statement("base_model", name, {key: keys[key]}, conversion)
    own = _squashed(keys.get("general.name"))
    for base in _bases(keys).values():
        name = repository(base.get("repo_url"), bare=False) or _named(base)
        if name:
            same = own and own in (_squashed(base.get("name")), _squashed(name.partition("/")[2]))
            yield Statement("base_model", name, base, conversion if same else None)
    license_, own_license = keys.get("general.license"), keys.get("general.license.name")
    raw = {key: keys[key] for key in _LICENSE if key in keys}
    value = own_license if own_license and license_ in (None, "", "other") else license_
    if value is not None:
        yield Statement("license", value, raw)


def conversion(tensors: Iterable[TensorRef]) -> str:
    """How a file relates to the model that it was made from; most are quantised, so also where nobody looked."""
    dtypes = {tensor.dtype.removesuffix(BIG_ENDIAN) for tensor in tensors}
    return "cast" if dtypes and not dtypes & QUANTS else "quantized"


def repository(value: Scalar | None, *, bare: bool) -> str | None:
    """The "org/name" of a repository of the Hub: from its URL or, where names may stand ``bare``, its name; else None."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    if bare and _REPOSITORY.fullmatch(text):
        return text
    found = _SITE.fullmatch(text)
    return found[1] if found else None


def _bases(keys: Mapping[str, Scalar]) -> dict[int, dict[str, Scalar]]:
    """The keys of each base, by its number."""
    found: dict[int, dict[str, Scalar]] = {}
    for key, value in keys.items():
        if match := _BASE.fullmatch(key):
            found.setdefault(int(match[1]), {})[match[2]] = value
    return dict(sorted(found.items()))


def _named(base: Mapping[str, Scalar]) -> str | None:
    """A base as the Hub would call it: converters write its name with blanks for hyphens."""
    words = [str(base[part]).strip() for part in ("organization", "name") if base.get(part)]
    return "/".join(re.sub(r"\s+", "-", word) for word in words) if base.get("name") else None


def _squashed(value: Scalar | None) -> str:
    """A name without what its writers differ in."""
    return re.sub(r"[\W_]+", "", str(value)).lower() if value is not None else ""
