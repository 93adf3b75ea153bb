"""The kernel that drops by rank: the same bits as torch, whatever the rows hold."""

import pytest
import torch

from engine import kernels, rank_kernels
from engine.draws import Draws
from engine.pruning import chances, drop_by_chance

DRAWS = Draws(3, "w", ("a", "b"), 70_001)


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def bits(rows, columns, top):
    """Numbers whose bits are drawn, of all sizes."""
    drawn = torch.randint(0, top, (rows, columns), generator=torch.Generator().manual_seed(1))
    return drawn.int().view(torch.float32)


def outlier(value):
    values = random(9, 2048)
    values[:, ::3] = 0
    values[:, 7] = value
    return values


def child(rows, columns, scale, *, odd=0, tiny=0):
    """What a bfloat16 child has more than its base; of so many entries one has many bits, one is next to nothing."""
    base = random(rows, columns).bfloat16().float()
    change = torch.randn(rows, columns, generator=torch.Generator().manual_seed(2)) * scale
    found = (base + change).bfloat16().float() - base
    if odd:
        found[:, ::odd] *= 1 + 2**-14
        found[:, 1::odd] *= 1 + 2**-19
    if tiny:
        found[:, 2::tiny] = found[:, 3::tiny] * 2**-40 * (1 + 2**-20)
    return found


ROWS = {
    "continuous": random(20, 2048),
    "of a child in bfloat16": random(20, 2048).mul(1e-3).bfloat16().float() - 2**-9,
    "of children": torch.cat([child(9, 2048, scale) for scale in (1e-4, 1e-3, 1e-2, 1)]),
    "of an odd number of columns": child(9, 3001, 1e-2, odd=200, tiny=300),
    "of many kinds": torch.cat(
        [
            child(40, 512, 1e-3),
            child(3, 512, 1e-3, odd=9),
            random(11, 512),
            torch.zeros(2, 512),
            child(40, 512, 1e-7),
            child(3, 512, 1e-3, tiny=5),
            child(3, 512, 1e20),
        ]
    ),
    "odd": child(20, 2048, 1e-3, odd=100),
    "too odd": child(9, 2048, 1e-3, odd=40),
    "odd and far below": child(20, 2048, 1e-3, odd=150, tiny=200),
    "too many far below": child(9, 2048, 1e-3, tiny=20),
    "odd and equal": 1
    + (torch.arange(9 * 4096).reshape(9, 4096) % 64 == 7) * random(9, 4096).abs() * 2**-9,
    "odd and many": 1
    + (torch.arange(200_000).reshape(1, -1) % 64 == 7) * random(1, 200_000).abs() * 2**-9,
    "many equal": random(20, 1000).mul(4).round(),
    "zeros": torch.zeros(3, 700),
    "of both signs": torch.zeros(3, 700).neg(),
    "equal": torch.full((3, 701), -0.3),
    "sorted": random(5, 2048).sort(1).values,
    "falling": random(5, 999).abs().sort(1, descending=True).values,
    "far beyond": outlier(1e20),
    "next to nothing": outlier(1e-30),
    "the largest there are": outlier(-3.4e38),
    "all sizes": bits(9, 3001, 0x7F800000),
    "subnormal": bits(9, 2048, 50_000),
    "two sizes": bits(9, 2048, 2) + 1e-3,
    "one column": random(33, 1),
    "two columns": random(33, 2).round(),
    "three columns": random(33, 3).round(),
    "short": random(400, 23),
    "nothing": random(1, 0),
    "no rows": random(0, 5),
    "long": random(2, 200_001),
    "too long to correct quotients": random(1, (1 << 20) + 3).bfloat16().float(),
    "long with ties": random(1, 300_000).bfloat16().float(),
}
SPANS = [(0.7, 0.07), (1.0, 0.2), (0.05, 0.3), (0.5, 0.5), (0.0, 0.1)]


def dropped(rows, density, epsilon, *, by_chance):
    """What the kernel makes of rows; None where there is none."""
    window = min(epsilon, density, 1 - density)
    out = torch.full_like(rows, torch.nan)
    done = rank_kernels.drop_by_rank(
        rows, DRAWS.key(1), DRAWS.start, out, least=density - window, more=2 * window,
        by_chance=by_chance,
    )  # fmt: skip
    return out if done else None


@pytest.mark.parametrize("by_chance", [False, True])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_rows_lose_the_same_entries(*, rows, by_chance):
    for density, epsilon in SPANS[: 5 if rows.numel() < 100_000 else 1]:
        found = dropped(rows, density, epsilon, by_chance=by_chance)
        assert (found is not None) == kernels.ready([rows])
        stays = chances(rows, density, epsilon)
        expected = drop_by_chance(rows, stays, 1, DRAWS, by_chance=by_chance)
        made = expected if found is None else found
        assert torch.equal(made.view(torch.int32), expected.view(torch.int32))


def test_rows_that_no_kernel_takes_are_left_to_torch(monkeypatch):
    assert dropped(random(4, 4).double(), 0.5, 0.1, by_chance=False) is None
    assert dropped(random(4, 4).bfloat16(), 0.5, 0.1, by_chance=False) is None
    assert dropped(random(4, 4).T, 0.5, 0.1, by_chance=False) is None
    monkeypatch.setattr(rank_kernels, "_LONGEST", 4)
    assert dropped(random(4, 4), 0.5, 0.1, by_chance=False) is None


def test_a_row_for_whose_ranks_there_is_no_memory_is_refused(monkeypatch):
    class Full:
        """Kernels of a machine that has no memory left."""

        def __init__(self):
            self.drop_by_rank = lambda *_: 0

    monkeypatch.setattr(kernels, "library", Full)
    monkeypatch.setattr(rank_kernels, "library", Full)
    with pytest.raises(MemoryError, match="no memory for the ranks of 5 entries"):
        dropped(random(4, 5), 0.5, 0.1, by_chance=False)
