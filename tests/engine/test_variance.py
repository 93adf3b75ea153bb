"""What varies among models, looked at whole and in slices."""

import torch

from engine.method import Seen, alone
from engine.variance import masked, weighed


def test_models_weigh_by_their_squares_where_entries_were_selected():
    deltas = [torch.tensor([1.0, 2, 0, 5]), torch.tensor([1.0, 0, 0, -5])]
    assert weighed(alone(Seen("w", deltas))).values == [30 / 56, 26 / 56]
    half = weighed(alone(Seen("w", deltas)), select_topk=0.5)
    assert half.values == [0.5, 0.5]
    assert [m.tolist() for m in masked(deltas, half.selected, "w", 0)] == [
        [0, 0, 0, 5],
        [0, 0, 0, -5],
    ]
    assert weighed(alone(Seen("w", deltas)), least=1e6).values == [0.5, 0.5]


def test_slices_find_what_the_tensor_does():
    generator = torch.Generator().manual_seed(0)
    deltas = [torch.randn(1000, generator=generator).round(decimals=1) for _ in range(3)]

    def look(measure, *, every=1):
        for start in range(0, 1000, 64 * every):
            part = [d[start : start + 64] for d in deltas]
            yield "w", measure(Seen("w", part, start=start))

    whole = weighed(alone(Seen("w", deltas)), select_topk=0.3)
    cut = weighed(look, select_topk=0.3)
    torch.testing.assert_close(cut.values, whole.values)
    parts = [
        masked([d[i : i + 64] for d in deltas], cut.selected, "w", i) for i in range(0, 1000, 64)
    ]
    for model, expected in enumerate(masked(deltas, whole.selected, "w", 0)):
        assert torch.equal(torch.cat([p[model] for p in parts]), expected)
