"""Sizes as people type them."""

import re

import click

_UNITS = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]*)\s*")


class Size(click.ParamType[int]):
    """A number of bytes: 512MiB, 5GB, 2G; kB, MB, GB are powers of 1000, KiB, MiB, GiB and K, M, G of 1024."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The number of bytes, at least 1."""
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value))
        unit = _UNITS.get(found[2].upper()) if found else None
        n_bytes = round(float(found[1]) * unit) if found and unit else 0
        if n_bytes < 1:
            self.fail(f"{value!r} is not a size such as 512MiB or 5GB", param, ctx)
        return n_bytes
