"""The config of the output: dtype, tying and layers follow the plan."""

import torch

from engine.output_config import effective_config

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def state(seed=0, **more):
    generator = torch.Generator().manual_seed(seed)
    made = {
        EMBED: torch.randn((6, 4), generator=generator),
        "w": torch.randn(5, generator=generator),
    }
    return {**made, **{name.replace("__", "."): tensor for name, tensor in more.items()}}


def steps(plan):
    return {step.name: step for step in plan.steps}


def test_the_configs_dtype_is_that_of_most_weights(make_parent, planned):
    mixed = state() | {"w": torch.ones(5).bfloat16(), EMBED: torch.ones(6, 4).half()}
    config = {
        "dtype": "bfloat16",
        "text_config": {"dtype": "bfloat16", "_name_or_path": "/home/me"},
    }
    one = make_parent("one", mixed, config=config | {"_name_or_path": "/home/me", "hidden": 4})
    plan = planned("linear", [one, one])
    assert effective_config(plan) == {
        "dtype": "float16",
        "text_config": {"dtype": "float16"},
        "hidden": 4,
    }
    bare = make_parent("bare", mixed, config={"hidden": 4})
    assert effective_config(planned("linear", [bare, bare])) == {"hidden": 4}
