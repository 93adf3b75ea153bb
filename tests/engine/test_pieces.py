"""Readers of pieces: what was fetched is given, what was not is refused, and nothing is made up."""

from pathlib import Path

import pytest
import torch

from engine.pieces import Pieces, Wanted
from registry.errors import NotFetched
from registry.header import TensorRef
from registry.ranges import Range

FILE = Path("model.safetensors")
REF = TensorRef("w", "F32", (4,), FILE, 8, 16)
VALUES = torch.tensor([1.0, 2.0, 3.0, 4.0])
BYTES = bytes(8) + VALUES.numpy().tobytes()


def test_what_is_wanted_is_noted_in_bytes_of_the_file():
    with Wanted() as reader:
        assert reader.flat(REF, 1, 3).tolist() == [0.0, 0.0]
        reader.flat(REF, 0, 0)
    assert reader.ranges == [Range(FILE, 12, 20)]


def test_pieces_give_their_bytes():
    with Pieces([(Range(FILE, 16, 24), BYTES[16:]), (Range(FILE, 8, 16), BYTES[8:16])]) as reader:
        assert reader.flat(REF, 0, 2).tolist() == [1.0, 2.0]
        assert reader.flat(REF, 3, 4).tolist() == [4.0]
        assert reader.flat(REF, 2, 2).tolist() == []


@pytest.mark.parametrize(
    "piece", [Range(FILE, 8, 12), Range(FILE, 20, 24), Range(Path("other"), 0, 24)]
)
def test_bytes_that_were_not_fetched_are_refused_and_never_zeros(piece):
    with (
        Pieces([(piece, bytes(piece.size))]) as reader,
        pytest.raises(NotFetched, match="bytes of tensor w are asked for that were not fetched"),
    ):
        reader.flat(REF, 0, 4)


def test_there_is_no_file_to_open():
    for reader in (Pieces([]), Wanted()):
        with reader, pytest.raises(NotFetched):
            reader.region(REF, 0, 4)
