"""The merge methods: the folder is the registry, a file's name is its method's name."""

import importlib
import pkgutil
from difflib import get_close_matches
from functools import cache

from engine.method import Method
from registry.errors import UnknownMethod

ALSO_CALLED = {"ramplus_tl": "ramplus"}
"""Names that other tools have for methods → ours."""


@cache
def all_methods() -> dict[str, Method]:
    """Every method of this folder, by name, sorted."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    return {name: getattr(m, name).declared for name, m in zip(names, modules, strict=True)}


def get(name: str) -> Method:
    """The method called ``name``.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    methods = all_methods()
    name = ALSO_CALLED.get(name, name)
    if name in methods:
        return methods[name]
    near = get_close_matches(name, methods, n=1)
    message = f"there is no merge method {name!r}; there are " + ", ".join(methods)
    raise UnknownMethod(message, hint=f"did you mean {near[0]}?" if near else "reg methods")
