"""Sources: stored tensors, and those that are computed from others when they are read."""

from dataclasses import dataclass

import pytest
import torch

from engine.reader import Reader
from engine.source import Made, load, refs
from registry.errors import NonFinite


@dataclass(frozen=True)
class Sum(Made):
    """The sum of its sources."""

    def compute(self, parts):
        return sum(parts)


@pytest.fixture
def stored(make_parent):
    first = make_parent("a", {"w": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)})
    second = make_parent("b", {"w": torch.full((2, 3), 0.5)})
    return [parent.tensors["w"] for parent in (first, second)]


def test_a_computed_source_reads_what_it_is_made_of(stored):
    both = Sum("w", "F32", (2, 3), tuple(stored))
    nested = Sum("w", "F32", (2, 3), (both, stored[0]))
    with Reader() as reader:
        found = load(reader, nested)
    assert found.dtype == torch.float32
    assert found.tolist() == [[0.5, 2.5, 4.5], [6.5, 8.5, 10.5]]
    assert refs(nested) == [*stored, stored[0]]
    assert nested.n_params == 6
    assert nested.n_bytes == 12 + 24 + 12
    assert nested.file == stored[0].file


def test_a_number_that_is_none_is_named_wherever_it_is_read(make_parent):
    broken = make_parent("broken", {"w": torch.tensor([1.0, torch.inf])}).tensors["w"]
    with (
        Reader() as reader,
        pytest.raises(NonFinite, match=r"tensor w of .*broken.* holds NaN or infinity"),
    ):
        load(reader, Sum("w", "F32", (2,), (broken,)))
