"""Sizes as people type them."""

import click
import pytest

from cli.size import Size


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("1", 1), ("512MiB", 512 << 20), ("512 mib", 512 << 20), ("5GB", 5 * 10**9), ("2G", 2 << 30),
        ("1.5k", 1536), ("0.5 TB", 5 * 10**11), ("100B", 100),
    ],
)  # fmt: skip
def test_sizes_are_numbers_of_bytes(text, n_bytes):
    assert Size().convert(text, None, None) == n_bytes


@pytest.mark.parametrize("text", ["", "0", "-1", "5XB", "GB", "1e9", "nan", "0.1", "1" * 40])
def test_what_is_no_size_is_wrong_usage(text):
    with pytest.raises(click.BadParameter, match="512MiB"):
        Size().convert(text, None, None)
