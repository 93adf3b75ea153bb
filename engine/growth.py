"""Growth: adapters that were trained with more tokens than their base has.

PEFT saves embedding and head whole then, with the rows of the new tokens; people save the tokenizer beside them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.parent import Parent
from engine.source import Source
from registry.errors import ShapeMismatch
from registry.header import TensorRef
from registry.tensor_name import has_vocabulary


def is_grown(old: Source, new: TensorRef) -> bool:
    """Tell whether an adapter brings an embedding or a head with more tokens."""
    more = new.shape[:1] > old.shape[:1]
    return has_vocabulary(old.name) and more and new.shape[1:] == old.shape[1:]


def rows_after(base: Parent, adapter: Parent, made: Mapping[str, Source]) -> int:
    """Rows of embedding and head where an adapter brings more of them; 0 where it brings none.

    Raises:
        ShapeMismatch: it brings more to one of them only.
    """
    before = base.tensors
    tables = {n: s for n, s in {**before, **made}.items() if has_vocabulary(n)}
    grown = {n for n, s in made.items() if n in before and s.shape != before[n].shape}
    sizes = {source.shape[0] for source in tables.values()}
    if not grown & tables.keys():
        return 0
    if len(sizes) > 1:
        each = ", ".join(f"{name} {source.shape[0]}" for name, source in sorted(tables.items()))
        message = f"adapter {adapter.name} ({adapter.checkpoint.root}) brings more tokens to some tables only: {each}"
        raise ShapeMismatch(message, hint="save it again with save_embedding_layers=True")
    return sizes.pop()


def tokenizer_of(adapter: Parent) -> Path | None:
    """The folder of an adapter that has a tokenizer; None where it has none."""
    known = {file.path for file in adapter.checkpoint.files}
    return adapter.checkpoint.root if "tokenizer.json" in known else None


def with_rows(config: Mapping[str, Any], n_tokens: int) -> dict[str, Any]:
    """A config for so many tokens."""
    sized = {**config, "vocab_size": n_tokens} if "vocab_size" in config else dict(config)
    inner = config.get("text_config")
    if isinstance(inner, dict) and "vocab_size" in inner:
        sized["text_config"] = {**inner, "vocab_size": n_tokens}
    return sized
