"""Small networks of many architectures, with random weights, as transformers makes and saves them."""

import torch
import transformers as tf

_DECODER = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_ENCODER = {
    "vocab_size": 40, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 3, "max_position_embeddings": 16,
}  # fmt: skip

NETWORKS = {
    "llama": lambda: tf.LlamaForCausalLM(
        tf.LlamaConfig(**_DECODER, attention_bias=True, mlp_bias=True)
    ),
    "llama-tied": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**_DECODER, tie_word_embeddings=True)),
    "qwen2": lambda: tf.Qwen2ForCausalLM(tf.Qwen2Config(**_DECODER)),
    "qwen3": lambda: tf.Qwen3ForCausalLM(tf.Qwen3Config(**_DECODER, head_dim=12)),
    "olmo2": lambda: tf.Olmo2ForCausalLM(tf.Olmo2Config(**_DECODER)),
    "phi3": lambda: tf.Phi3ForCausalLM(tf.Phi3Config(**_DECODER)),
    "mixtral": lambda: tf.MixtralForCausalLM(
        tf.MixtralConfig(**_DECODER, num_local_experts=2, num_experts_per_tok=1)
    ),
    "gpt2": lambda: tf.GPT2LMHeadModel(
        tf.GPT2Config(vocab_size=40, n_embd=24, n_layer=2, n_head=3, n_positions=16)
    ),
    "opt": lambda: tf.OPTForCausalLM(
        tf.OPTConfig(
            vocab_size=40, hidden_size=24, ffn_dim=40, num_hidden_layers=2, num_attention_heads=3,
            max_position_embeddings=16, word_embed_proj_dim=24,
        )
    ),
    "neox": lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**_ENCODER)),
    "bert": lambda: tf.BertForMaskedLM(tf.BertConfig(**_ENCODER)),
    "bert-classifier": lambda: tf.BertForSequenceClassification(tf.BertConfig(**_ENCODER)),
    "distilbert": lambda: tf.DistilBertForSequenceClassification(
        tf.DistilBertConfig(
            vocab_size=40, dim=24, hidden_dim=40, n_layers=2, n_heads=3, max_position_embeddings=16
        )
    ),
    "vit": lambda: tf.ViTForImageClassification(
        tf.ViTConfig(
            hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
            image_size=8, patch_size=4,
        )
    ),
}  # fmt: skip
"""Name → how it is made."""


def network(name, seed=0):
    """A network in which every parameter differs from its neutral value."""
    torch.manual_seed(seed)
    made = NETWORKS[name]().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


@torch.no_grad()
def outputs(made):
    """What a network computes of a fixed input."""
    generator = torch.Generator().manual_seed(1)
    if made.config.model_type == "vit":
        return made(torch.randn(2, 3, 8, 8, generator=generator)).logits
    return made(torch.randint(3, 40, (2, 9), generator=generator)).logits


def shuffled(tensors, groups, seed=0):
    """Tensors with every group's units, and the units within, in a random order."""
    generator = torch.Generator().manual_seed(seed)
    made = dict(tensors)

    def order(n):
        return torch.randperm(n, generator=generator)

    for group in groups:
        places = order(group.n)
        within = [
            [torch.arange(span.block).repeat(1, 1)[0] for span in group.spans]
            for _ in range(group.n)
        ]
        for unit in within:
            for inner in group.inner:
                own = order(inner.n)
                for number, start, block in inner.places:
                    part = slice(start, start + inner.n * block)
                    unit[number][part] = unit[number][part].reshape(inner.n, block)[own].reshape(-1)
        for number, span in enumerate(group.spans):
            whole = torch.arange(made[span.tensor].shape[span.axis])
            part = slice(span.start, span.start + group.n * span.block)
            units = whole[part].reshape(group.n, span.block)
            whole[part] = torch.cat([units[j][within[j][number]] for j in places.tolist()])
            made[span.tensor] = made[span.tensor].index_select(span.axis, whole).contiguous()
    return made
