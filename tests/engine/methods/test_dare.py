"""DARE on one model, by hand: which entries stay is drawn, what becomes of them is not."""

import pytest
import torch

from engine.draws import Draws
from engine.methods.dare import dare
from engine.methods.dare_linear import dare_linear

X = torch.tensor([0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8])
DRAWS = Draws(0, "w", ("a",))
KEPT = DRAWS.uniform(0, X.shape) < 0.5


def test_entries_stay_doubled_or_not_at_all_at_density_one_half():
    assert 0 < KEPT.sum() < 8
    assert torch.equal(dare([X], draws=DRAWS), 2 * X * KEPT)


def test_it_is_dare_as_it_merges_one_model():
    both = [method([X], draws=DRAWS, density=0.25) for method in (dare, dare_linear)]
    assert torch.equal(*both)


def test_rescaling_can_be_left_out():
    assert torch.equal(dare([X], draws=DRAWS, rescale=False), X * KEPT)


def test_dropped_entries_keep_a_share_of_k_and_the_others_make_up_for_it():
    edited = dare([X], draws=DRAWS, k=0.5)
    torch.testing.assert_close(edited, torch.where(KEPT, 1.5 * X, 0.5 * X))


def test_k_one_is_no_edit():
    torch.testing.assert_close(dare([X], draws=DRAWS, density=0.3, k=1.0), X)


def test_kept_entries_can_become_nothing():
    edited = dare([X], draws=DRAWS, k=2.0)  # k p = 1
    assert torch.equal(edited, torch.where(KEPT, 0.0, 2 * X))


@pytest.mark.parametrize("k", [-1.0, 0.0, 0.5, 1.5])
def test_expectation_is_the_model_for_every_k(k):
    ones = torch.ones(200_000)
    edited = dare([ones], draws=DRAWS, density=0.4, k=k).double()
    deviation = abs(1 - k) * (0.6 / 0.4 / ones.numel()) ** 0.5
    assert abs(float(edited.mean()) - 1) < 5 * deviation


@pytest.mark.parametrize("k", [0.0, 0.5])
def test_rescaling_by_the_l1_norm_keeps_the_norm_of_this_very_tensor(k):
    edited = dare([X], draws=DRAWS, rescale_by="l1", k=k)
    assert float(edited.abs().sum()) == pytest.approx(float(X.abs().sum()))
    assert not torch.equal(edited, dare([X], draws=DRAWS, k=k))


def test_norms_of_almost_nothing_rescale_nothing():
    tiny = X * 1e-9
    assert torch.equal(dare([tiny], draws=DRAWS, rescale_by="l1"), tiny * KEPT)


def test_only_the_l1_norm_needs_a_survey_and_nothing_the_whole_tensor():
    surveys = dare.declared.surveys_with
    assert not surveys({"rescale_by": "density"})
    assert surveys({"rescale_by": "l1"})
    assert not dare.declared.needs_whole_with({"rescale_by": "l1"})


def test_blocks_draw_on_where_the_last_one_ended():
    long = torch.ones(300_000)
    edited = dare([long], draws=DRAWS.at(5))
    whole = DRAWS.uniform(0, torch.Size([300_005]))
    assert torch.equal(edited, 2 * (whole[5:] < 0.5).float())


@pytest.mark.parametrize("by", ["density", "l1"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3)])
def test_odd_shapes_keep_their_shape(shape, by):
    edited = dare([torch.ones(shape)], draws=DRAWS, density=1.0, rescale_by=by)
    assert torch.equal(edited, torch.ones(shape))
