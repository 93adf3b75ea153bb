"""What a tensor's name says: the layer it belongs to and the part it plays.

Covers the names that transformers writes for decoders, encoders and their older relatives, and those of GGUF; a name that fits
nothing has no layer and is called "other". Lineage never depends on these two words, only reports do.
"""

import re
from functools import lru_cache

_NAMES = 1 << 16
"""Names of which the answers are kept: models of one family have the same ones, again and again."""

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?|blk|encoder|decoder)\.([0-9]{1,9})(?:\.|$)")

_MODULES = (
    ("norm", r"norm|layer_?norm|(?:^|\.)ln_[f\d]"),
    ("lm_head", r"(?:^|\.)(?:lm_head|embed_out|score|classifier)\.|^output\.weight$"),
    ("embedding", r"embed|token_embd|(?:^|\.)wte\.|(?:^|\.)wpe\."),
    ("attention_qkv", r"qkv|c_attn|query_key_value"),
    ("attention_q", r"(?:q_proj|query|\.wq|attn_q)(?:\.|$)"),
    ("attention_k", r"(?:k_proj|key|\.wk|attn_k)(?:\.|$)"),
    ("attention_v", r"(?:v_proj|value|\.wv|attn_v)(?:\.|$)"),
    (
        "attention_o",
        r"(?:o_proj|out_proj|\.wo)(?:\.|$)|attention\.output\.dense|attn\.c_proj|attn_output",
    ),
    ("mlp_gate", r"gate_proj|ffn_gate|\.w1(?:\.|$)|block_sparse_moe\.gate"),
    ("mlp_up", r"up_proj|ffn_up|\.w3(?:\.|$)|intermediate\.dense|mlp\.c_fc|fc1"),
    ("mlp_down", r"down_proj|ffn_down|\.w2(?:\.|$)|output\.dense|mlp\.c_proj|fc2"),
    ("pooler", r"pooler"),
)
_PATTERNS = tuple((module, re.compile(pattern, re.IGNORECASE)) for module, pattern in _MODULES)

EMBEDDING = re.compile(
    r"(?:^|\.)(?:embed_tokens|word_embeddings|wte|tok_embeddings|embed_in|shared)(?:\.weight)?$"
)
"""Names of input embeddings: matrices of shape (vocabulary, hidden)."""

HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out)(?:\.weight)?$")
"""Names of output heads: matrices of shape (vocabulary, hidden)."""

CONV1D_MODELS = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
"""Model types whose projections are stored (in, out)."""

_HEAD_BIAS = re.compile(r"(?:^|\.)lm_head\.bias$")


@lru_cache(maxsize=_NAMES)
def layer_of(name: str) -> int | None:
    """The number of the layer (0-based) that tensor ``name`` belongs to; None outside of layers."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def split_layer(name: str) -> tuple[str, int, str] | None:
    """What stands before the number of the layer, the number, and what stands behind it; None outside of layers.

    Law: joining the three gives the name back.
    """
    found = _LAYER.search(name)
    if found is None or str(int(found[1])) != found[1]:
        return None
    return name[: found.start(1)], int(found[1]), name[found.end(1) :]


@lru_cache(maxsize=_NAMES)
def module_of(name: str) -> str:
    """The part tensor ``name`` plays: embedding, attention_q, mlp_down, norm, …, or other."""
    return next((module for module, pattern in _PATTERNS if pattern.search(name)), "other")


@lru_cache(maxsize=_NAMES)
def has_vocabulary(name: str) -> bool:
    """Tell whether dim 0 of tensor ``name`` counts tokens."""
    return any(pattern.search(name) for pattern in (EMBEDDING, HEAD, _HEAD_BIAS))
