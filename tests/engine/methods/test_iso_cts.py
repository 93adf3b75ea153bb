"""Iso-CTS: how many directions are whose, and one strength for all."""

import torch

from engine.methods.iso_c import iso_c
from engine.methods.iso_cts import iso_cts

UP, EMBED = "model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"


def matrix(seed, shape=(6, 4)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_where_no_task_has_a_direction_of_its_own_it_is_iso_c():
    models = [matrix(0, (4, 4)), matrix(1, (4, 4))]  # round((4 - int(3.2)) / 2) = round(0.5) = 0
    torch.testing.assert_close(
        iso_cts(models, tensor=UP), iso_c(models, tensor=UP), rtol=1e-4, atol=1e-5
    )


def test_all_directions_have_one_strength():
    found = torch.linalg.svdvals(
        iso_cts([matrix(0, (9, 8)), matrix(1, (9, 8))], tensor=UP, common=0.5)
    )
    torch.testing.assert_close(found, found[0].expand(8), rtol=1e-4, atol=1e-4)


def test_common_directions_alone_are_those_of_the_sum():
    models = [matrix(0), matrix(1)]
    torch.testing.assert_close(
        iso_cts(models, tensor=UP, common=1.0), iso_c(models, tensor=UP), rtol=1e-4, atol=1e-5
    )
