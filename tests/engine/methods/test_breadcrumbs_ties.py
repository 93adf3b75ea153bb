"""Model Breadcrumbs with elected signs."""

import torch

from engine.methods.breadcrumbs import breadcrumbs
from engine.methods.breadcrumbs_ties import breadcrumbs_ties

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
D2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])
ROWS = {"density": 0.5, "gamma": 0.25, "per": "row"}


def test_of_two_signs_the_stronger_one_wins():
    assert breadcrumbs_ties([D1, D2], **ROWS).tolist() == [[2, -2, 3, 0], [0, 10, -7, 5]]
    assert breadcrumbs_ties([D1, D2], **ROWS, normalize=True).tolist() == [
        [2, -2, 3, 0],
        [0, 5, -7, 5],
    ]


def test_ties_are_positive_or_dropped():
    models = [torch.tensor([4.0, 1]), torch.tensor([-4.0, 1])]
    assert breadcrumbs_ties(models, density=1.0).tolist() == [4, 2]
    assert breadcrumbs_ties(models, density=1.0, tie="drop").tolist() == [0, 2]


def test_one_model_is_that_of_breadcrumbs():
    assert torch.equal(breadcrumbs_ties([D1], **ROWS), breadcrumbs([D1], **ROWS))
