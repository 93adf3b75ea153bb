"""Settings: what a recipe says of one parameter: a value, a gradient over layers, or values by tensor name.

Who makes one: `engine.pinned`, from a recipe. Who asks it: `engine.plan`, once for each tensor. The three forms and
their meaning are mergekit's: a list is a gradient, a list of ``{filter, value}`` chooses by a part of the name.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from registry.errors import BadRecipe

Scalar = float | bool | str
"""One value: a number, a flag, or a choice."""


@dataclass(frozen=True)
class Gradient:
    """Values at evenly spaced depths of the model.

    Attributes:
        values: at least one; the first is that of the first layer, the last that of the last.
    """

    values: tuple[Scalar, ...]

    def at(self, depth: float) -> Scalar:
        """The value at ``depth`` in [0, 1]: interpolated for numbers, that of the step below for others."""
        place = depth * (len(self.values) - 1)
        below = min(int(place), len(self.values) - 1)
        low, high = self.values[below], self.values[min(below + 1, len(self.values) - 1)]
        if isinstance(low, bool | str) or isinstance(high, bool | str):
            return low
        part = place - below
        return low if part == 0 or low == high else (1 - part) * low + part * high


@dataclass(frozen=True)
class Filtered:
    """Values for tensors of certain names.

    Attributes:
        cases: (part of the name, value), the first that fits counts; "" fits all.
    """

    cases: tuple[tuple[str, "Scalar | Gradient"], ...]


Setting = Scalar | Gradient | Filtered


def parse(value: Any, where: str) -> Setting:
    """Make a setting of what a recipe holds.

    Raises:
        BadRecipe: it is none; ``where`` names the parameter.
    """
    if isinstance(value, Gradient | Filtered):
        return value
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list | tuple) and any(isinstance(case, dict) for case in value):
        return Filtered(tuple(_case(case, where) for case in value))
    return _plain(value, where)


def resolve(setting: Setting, tensor: str, depth: float) -> Scalar | None:
    """The value for ``tensor`` of a layer at ``depth`` in [0, 1]; None where no filter fits."""
    if isinstance(setting, Filtered):
        fits = (value for part, value in setting.cases if part in tensor)
        found = next(fits, None)
        return found.at(depth) if isinstance(found, Gradient) else found
    return setting.at(depth) if isinstance(setting, Gradient) else setting


def scalars(setting: Setting) -> Iterator[Scalar]:
    """Every value that a setting can take at the ends of its gradients."""
    if isinstance(setting, Filtered):
        for _, value in setting.cases:
            yield from scalars(value)
    elif isinstance(setting, Gradient):
        yield from setting.values
    else:
        yield setting


def checked(setting: Setting, check: Callable[[Any], Scalar]) -> Setting:
    """The same setting with every value as ``check`` returns it."""
    if isinstance(setting, Filtered):
        return Filtered(tuple((part, _each(value, check)) for part, value in setting.cases))
    return _each(setting, check)


def plain(setting: Setting) -> Any:
    """A setting as JSON or YAML holds it; `parse` reads it back."""
    if isinstance(setting, Filtered):
        cases = ((part, plain(value)) for part, value in setting.cases)
        return [{"filter": p, "value": v} if p else {"value": v} for p, v in cases]
    return list(setting.values) if isinstance(setting, Gradient) else setting


def varies(setting: Setting) -> bool:
    """Tell whether tensors can have different values."""
    return isinstance(setting, Gradient | Filtered) and len(set(scalars(setting))) > 1


def _each(value: Scalar | Gradient, check: Callable[[Any], Scalar]) -> Scalar | Gradient:
    if isinstance(value, Gradient):
        return Gradient(tuple(check(each) for each in value.values))
    return check(value)


def _case(case: Any, where: str) -> tuple[str, Scalar | Gradient]:
    """One entry of a list of filters."""
    known = isinstance(case, dict) and "value" in case and set(case) <= {"filter", "value"}
    part = case.get("filter") if known else None
    if not known or not (part is None or isinstance(part, str)):
        message = (
            f"{where} has the case {case!r:.200}; it must be {{filter: part of a name, value: …}}"
        )
        raise BadRecipe(message)
    return "" if part in (None, "*") else part, _plain(case["value"], where)


def _plain(value: Any, where: str) -> Scalar | Gradient:
    """A value or a gradient."""
    if isinstance(value, list | tuple):
        if value and all(isinstance(each, bool | int | float | str) for each in value):
            return Gradient(tuple(value))
    elif isinstance(value, bool | int | float | str):
        return value
    message = (
        f"{where} is {value!r:.200}; it must be a value, a list of values (a gradient over layers), "
        "or a list of {filter, value}"
    )
    raise BadRecipe(message)


def first_of(*settings: Setting | None) -> Setting | None:
    """The setting that asks each in turn until one has a value for the tensor; None where none may have one.

    Law: for every tensor it resolves as the first of ``settings`` that resolves to a value.
    """
    cases: list[tuple[str, Scalar | Gradient]] = []
    for setting in settings:
        if setting is None:
            continue
        cases += setting.cases if isinstance(setting, Filtered) else [("", setting)]
        if any(not part for part, _ in cases):
            break
    end = next((i for i, (part, _) in enumerate(cases) if not part), None)
    if end is None:
        return None
    return Filtered(tuple(cases[: end + 1])) if end else cases[0][1]
