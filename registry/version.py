"""The version of this program, as its installer knows it."""

from importlib.metadata import version

VERSION = version("homolog")
"""Version of the distribution."""
