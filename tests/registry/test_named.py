"""Nodes that are known by name alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.named import NAME_DIGEST, latent_row, node, plain


@pytest.mark.parametrize(
    "name",
    ["lab/base", "Lab/BASE", " hf://lab/base ", "lab/base@main", "lab/base/", "lab\\base", "/x/models--lab--base/snapshots/1"],
)  # fmt: skip
def test_one_name_is_one_node_however_it_is_written(name):
    assert plain(name) == "lab/base"
    assert node(name) == node("lab/base")


@given(st.from_regex(r"[A-Za-z0-9_.-]{1,20}/[A-Za-z0-9_.-]{1,20}", fullmatch=True))
def test_what_is_plain_stays_plain(name):
    assert plain(plain(name)) == plain(name)


def test_the_row_of_a_latent_model_says_how_its_id_was_made():
    row = latent_row(node("lab/base"))
    assert (row["status"], row["digest_name"], row["n_params"]) == ("latent", NAME_DIGEST, None)
