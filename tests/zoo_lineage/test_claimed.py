"""False claims: what counts."""

import pytest
from zoo_lineage.claimed import false_claims


def edge(child, parent, told=True):
    return {"child": child, "parent": parent, "direction_identifiable": told}


def claim(child, *said, true):
    return {"child": child, "base_model": list(said), "true": true}


EDGES = [edge("a", "base"), edge("b", "a"), edge("c", "base"), edge("copy", "a", told=False)]
CLAIMS = [
    claim("a", "base", true=True), claim("b", "c", true=False), claim("c", "b", true=False),
    claim("copy", "c", true=False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("flagged", "precision", "recall"),
    [
        ([("b", "c"), ("c", "b"), ("copy", "c")], 1.0, 1.0),
        ([("b", "c"), ("a", "base")], 0.5, 1 / 3),
        ([("b", "c"), ("z", "y")], 1.0, 1 / 3),
        ([], 0.0, 0.0),
    ],
)
def test_precision_and_recall_of_what_was_called_wrong(flagged, precision, recall):
    found = false_claims({"edges": EDGES, "claims": CLAIMS}, flagged)
    assert found["n_claims"] == 4
    assert found["false_claims"]["precision"] == pytest.approx(precision)
    assert found["false_claims"]["recall"] == pytest.approx(recall)


@pytest.mark.parametrize("said", ["base", "copy", "a"])
def test_a_wrong_claim_that_weights_cannot_tell_does_not_count(said):
    claims = [claim("b", said, true=False)]
    assert false_claims({"edges": EDGES, "claims": claims}, [])["n_claims"] == 0
