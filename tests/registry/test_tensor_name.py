"""Names of tensors: layers, parts, vocabularies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.tensor_name import EMBEDDING, HEAD, has_vocabulary, layer_of, module_of

NAMES = {
    # Llama, Mistral, Qwen
    "model.embed_tokens.weight": (None, "embedding"),
    "model.layers.0.self_attn.q_proj.weight": (0, "attention_q"),
    "model.layers.11.self_attn.k_proj.bias": (11, "attention_k"),
    "model.layers.2.self_attn.v_proj.weight": (2, "attention_v"),
    "model.layers.2.self_attn.o_proj.weight": (2, "attention_o"),
    "model.layers.2.self_attn.q_norm.weight": (2, "norm"),
    "model.layers.2.mlp.gate_proj.weight": (2, "mlp_gate"),
    "model.layers.2.mlp.up_proj.weight": (2, "mlp_up"),
    "model.layers.2.mlp.down_proj.weight": (2, "mlp_down"),
    "model.layers.2.input_layernorm.weight": (2, "norm"),
    "model.norm.weight": (None, "norm"),
    "lm_head.weight": (None, "lm_head"),
    # GGUF
    "token_embd.weight": (None, "embedding"),
    "blk.7.attn_q.weight": (7, "attention_q"),
    "blk.7.attn_k_norm.weight": (7, "norm"),
    "blk.7.attn_output.weight": (7, "attention_o"),
    "blk.7.ffn_gate.weight": (7, "mlp_gate"),
    "blk.7.ffn_down.weight": (7, "mlp_down"),
    "output_norm.weight": (None, "norm"),
    "output.weight": (None, "lm_head"),
    # GPT-2
    "transformer.wte.weight": (None, "embedding"),
    "wpe.weight": (None, "embedding"),
    "h.5.attn.c_attn.weight": (5, "attention_qkv"),
    "h.5.attn.c_proj.weight": (5, "attention_o"),
    "h.5.mlp.c_fc.weight": (5, "mlp_up"),
    "h.5.mlp.c_proj.bias": (5, "mlp_down"),
    "h.5.ln_1.weight": (5, "norm"),
    "ln_f.bias": (None, "norm"),
    # GPT-NeoX
    "gpt_neox.embed_in.weight": (None, "embedding"),
    "gpt_neox.layers.3.attention.query_key_value.weight": (3, "attention_qkv"),
    "gpt_neox.layers.3.mlp.dense_4h_to_h.weight": (3, "other"),
    "embed_out.weight": (None, "lm_head"),
    # BERT
    "bert.embeddings.word_embeddings.weight": (None, "embedding"),
    "embeddings.LayerNorm.weight": (None, "norm"),
    "encoder.layer.4.attention.self.query.weight": (4, "attention_q"),
    "encoder.layer.4.attention.self.key.bias": (4, "attention_k"),
    "encoder.layer.4.attention.self.value.weight": (4, "attention_v"),
    "encoder.layer.4.attention.output.dense.weight": (4, "attention_o"),
    "encoder.layer.4.intermediate.dense.weight": (4, "mlp_up"),
    "encoder.layer.4.output.dense.weight": (4, "mlp_down"),
    "pooler.dense.weight": (None, "pooler"),
    "classifier.weight": (None, "lm_head"),
    # Mixtral, OPT, T5, Llama as Meta writes it
    "model.layers.1.block_sparse_moe.gate.weight": (1, "mlp_gate"),
    "model.layers.1.block_sparse_moe.experts.7.w2.weight": (1, "mlp_down"),
    "model.decoder.layers.9.fc1.weight": (9, "mlp_up"),
    "model.decoder.layers.9.self_attn.out_proj.weight": (9, "attention_o"),
    "encoder.block.6.layer.0.SelfAttention.q.weight": (6, "other"),
    "layers.8.attention.wq.weight": (8, "attention_q"),
    "tok_embeddings.weight": (None, "embedding"),
    # adapters, and what nobody knows
    "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight": (7, "attention_q"),
    "vision.patch": (None, "other"),
    "layers.12345678901.w": (None, "other"),
    "layers.x.w": (None, "other"),
    "": (None, "other"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_tells_layer_and_part(name):
    assert (layer_of(name), module_of(name)) == NAMES[name]


@pytest.mark.parametrize(
    ("name", "is_embedding", "is_head"),
    [
        ("model.embed_tokens.weight", True, False),
        ("wte.weight", True, False),
        ("bert.embeddings.word_embeddings.weight", True, False),
        ("tok_embeddings.weight", True, False),
        ("gpt_neox.embed_in.weight", True, False),
        ("shared.weight", True, False),
        ("lm_head.weight", False, True),
        ("embed_out.weight", False, True),
        ("position_embeddings.weight", False, False),
        ("not_lm_head.weight", False, False),
        ("embed_tokens.weight.lora_A", False, False),
        ("model.norm.weight", False, False),
    ],
)
def test_embeddings_and_heads_have_a_row_for_each_token(name, is_embedding, is_head):
    assert bool(EMBEDDING.search(name)) is is_embedding
    assert bool(HEAD.search(name)) is is_head
    assert has_vocabulary(name) is (is_embedding or is_head)


def test_the_bias_of_a_head_has_an_element_for_each_token():
    assert has_vocabulary("lm_head.bias")
    assert not HEAD.search("lm_head.bias")


@given(st.text())
def test_any_name_has_a_layer_that_a_database_takes_and_a_part(name):
    layer = layer_of(name)
    assert layer is None or 0 <= layer < 2**31
    assert module_of(name)
