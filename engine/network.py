"""Networks: models that run, loaded by transformers as users load them. The door to transformers and peft."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from registry.catalog import Catalog
from registry.errors import MissingExtra, UnknownModel, Unreadable


def load_network(catalog: Catalog, model: str) -> tuple[Any, Any]:
    """Tokenizer and network of a model, in float32, ready to decode.

    Raises:
        MissingExtra: transformers (for adapters also peft) is not installed.
        Unreadable: transformers cannot load it.
        UnknownModel: an adapter whose base nobody has shown.
    """
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - an extra, slow to load
        from transformers.utils import logging  # noqa: PLC0415 - as above
    except ImportError as error:
        message = "running a model needs transformers"
        raise MissingExtra(message, hint="pip install 'homolog[score]'") from error
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it reports on every file, in colours; what is wrong we say ourselves
    checkpoint = catalog.checkpoint(model)
    root, adapter = checkpoint.root, None
    if checkpoint.kind == "adapter":
        root, adapter = catalog.checkpoint(_base_of_adapter(catalog, model)).root, root
    try:
        network, loaded = AutoModelForCausalLM.from_pretrained(
            root, dtype=torch.float32, local_files_only=True, use_safetensors=True,
            output_loading_info=True,
        )  # fmt: skip
        _refuse_missing(loaded["missing_keys"])
        tokenizer = AutoTokenizer.from_pretrained(root, padding_side="left", local_files_only=True)
        if adapter is not None:
            network = _adapted(network, adapter)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        text = str(error).strip().split("\n", 1)[0]
        message = (
            f"transformers cannot load {catalog.name(model)} as a causal language model: {text}"
        )
        raise Unreadable(
            message, hint="a suite is answered by decoders with a tokenizer"
        ) from error
    if tokenizer.pad_token_id is None:  # any token will do: what is padded is masked
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer, network.eval()


def _refuse_missing(names: Collection[str]) -> None:
    """Refuse a network of which transformers found no weights for some tensors: it would put random numbers there.

    Raises:
        ValueError: with one of the names.
    """
    if names:
        message = f"it has no weights for {len(names)} tensors, among them {min(names)}"
        raise ValueError(message)


def _adapted(network: Any, adapter: Path) -> Any:
    """A network with an adapter on top."""
    try:
        from peft import PeftModel  # noqa: PLC0415 - an extra, slow to load
    except ImportError as error:
        message = "running an adapter needs peft"
        raise MissingExtra(message, hint="pip install peft") from error
    return PeftModel.from_pretrained(network, adapter)


def _base_of_adapter(catalog: Catalog, adapter: str) -> str:
    """The shown model an adapter belongs to."""
    rows = catalog.rows(
        "select parent from store.edge e join store.model m on m.id = e.parent "
        "where child = ? and relation = 'adapter' and m.status = 'full' order by confidence desc, parent",
        [adapter],
    )
    if not rows:
        message = f"the base of adapter {catalog.name(adapter)} is not in the catalog"
        raise UnknownModel(message, hint="reg scan the folder of its base")
    return str(rows[0]["parent"])
