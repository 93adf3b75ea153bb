"""What `reg plan` and `reg merge` share: a recipe as a file, or as options."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import homolog
from cli.size import Size

if TYPE_CHECKING:
    from engine.options import Options
    from engine.recipe import AdapterSize, Recipe

_T = TypeVar("_T")

_OPTIONS = (
    click.argument("models", metavar="RECIPE | MODEL...", nargs=-1, required=True),
    click.option("--method", metavar="NAME", help="Merge method; reg methods lists them."),
    click.option("--base", metavar="MODEL", help="Base of the task vectors. Default: the nearest common one."),
    click.option(
        "--weight", "weights", metavar="MODEL=W", multiple=True,
        help="Weight of one of the models; may be given for each.",
    ),
    click.option(
        "--set", "settings", metavar="NAME=VALUE", multiple=True,
        help="A parameter of the method, for all models.",
    ),
    click.option("--dtype", metavar="DTYPE", help="Dtype of the result. Default: the base's own."),
    click.option(
        "--compat", metavar="TOOL", help="Take the defaults of another tool, such as mergekit, not the papers'."
    ),
    click.option(
        "--round", "rounding", type=click.Choice(["nearest", "stochastic"]),
        help="How weights are rounded to the dtype. Default: nearest.",
    ),
    click.option("--rank", type=click.IntRange(min=1), help="Most rank of an adapter merged from adapters."),
    click.option(
        "--energy", type=click.FloatRange(0, 1, min_open=True),
        help="Share of each change that an adapter merged from adapters keeps.",
    ),
    click.option("--seed", type=int, help="Seed of random masks. Default: 0."),
    click.option(
        "--memory", "memory_bytes", type=Size(), metavar="SIZE", help="Memory for tensors. Default: 512MiB."
    ),
    click.option(
        "--jobs", type=click.IntRange(min=1), help="Threads; changes no byte. Default: one per core."
    ),
    click.option(
        "--device", metavar="DEVICE", default="cpu",
        help="Where the arithmetic is done: cpu, cuda or cuda:N; changes no byte. Default: cpu.",
    ),
    click.option("--allow-unrelated", is_flag=True, help="Merge although no common base is known."),
    click.option(
        "--allow-license-conflict", metavar="REASON",
        help="Merge although no licence satisfies all models; the reason is recorded.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What was typed.

    Attributes:
        models: names, paths or ids; or the path of one recipe.
        method: of the merge; None: a recipe says it.
        base: of the task vectors.
        weights: MODEL=W texts.
        settings: NAME=VALUE texts.
        dtype: of the result, as recipes spell it.
        compat: the tool whose defaults are taken.
        rounding: of the result.
        rank: of an adapter that is merged from adapters.
        energy: share of each change that it keeps.
        seed: of random masks.
        memory_bytes: for tensors; None: the engine's own limit.
        jobs: threads; None: one per core.
        device: does the arithmetic.
        allow_unrelated: merge although no common base is known.
        allow_license_conflict: why to merge although no licence satisfies all models.
    """

    models: tuple[str, ...]
    method: str | None
    base: str | None
    weights: tuple[str, ...]
    settings: tuple[str, ...]
    dtype: str | None
    compat: str | None
    rounding: str | None
    rank: int | None
    energy: float | None
    seed: int | None
    memory_bytes: int | None
    jobs: int | None
    device: str
    allow_unrelated: bool
    allow_license_conflict: str | None

    def options(self, shard_bytes: int | None = None, *, resume: bool = False) -> "Options":
        """How the run is carried out."""
        sizes = {"memory_bytes": self.memory_bytes, "shard_bytes": shard_bytes}
        given = {name: size for name, size in sizes.items() if size is not None}
        return homolog.Options(
            jobs=self.jobs,
            allow_unrelated=self.allow_unrelated,
            allow_license_conflict=self.allow_license_conflict,
            resume=resume,
            device=self.device,
            **given,
        )

    def recipe(self) -> "Recipe":
        """The recipe that was typed, or the one in the file.

        Raises:
            click.UsageError: neither or both were given, or an option cannot be read.
            BadRecipe: the file cannot be understood.
        """
        if self.method is None:
            return self._from_file()
        weights = self._weights()
        parts = tuple(
            homolog.Part(m, {"weight": weights[m]} if m in weights else {}) for m in self.models
        )
        return homolog.Recipe(
            method=self.method,
            models=parts,
            base=self.base,
            parameters=dict(_pair(text, "--set", _value) for text in self.settings),
            out_dtype=homolog.out_dtype(self.dtype),
            seed=self.seed or 0,
            compat=self.compat,
            rounding=homolog.parse_rounding(self.rounding, "--round"),
            adapter=self._size(),
        )

    def _from_file(self) -> "Recipe":
        """Read the recipe file."""
        if len(self.models) != 1 or Path(self.models[0]).suffix not in (".yml", ".yaml"):
            message = "give a RECIPE (a .yaml file), or --method NAME and its models"
            raise click.UsageError(message)
        given = {
            "--base": self.base, "--weight": self.weights, "--set": self.settings, "--dtype": self.dtype,
            "--seed": self.seed, "--round": self.rounding, "--rank": self.rank, "--energy": self.energy,
        }  # fmt: skip
        extra = [option for option, value in given.items() if value not in (None, ())]
        if extra:
            message = f"{', '.join(extra)}: a recipe file says this itself"
            raise click.UsageError(message)
        recipe = homolog.read_recipe(Path(self.models[0]))
        return recipe if self.compat is None else recipe.like(self.compat)

    def _size(self) -> "AdapterSize | None":
        """How large an adapter may be; None where nothing is said."""
        if self.rank is None and self.energy is None:
            return None
        return homolog.AdapterSize(self.rank or 0, self.energy or 0.0)

    def _weights(self) -> dict[str, float]:
        """Model, as it was typed → weight."""
        found: dict[str, float] = {}
        for text in self.weights:
            model, weight = _pair(text, "--weight", float)
            if self.models.count(model) != 1 or model in found:
                message = (
                    f"{text!r}: {model!r} must be one of the models, spelled alike, and only once"
                )
                raise click.BadParameter(message, param_hint="--weight")
            found[model] = weight
        return found


def recipe_options(command: Callable[..., _T]) -> Callable[..., _T]:
    """Give a command the argument and options of a recipe; it receives them as ``asked``."""

    @wraps(command)
    def called(*args: Any, **values: Any) -> _T:
        asked = Asked(**{field.name: values.pop(field.name) for field in fields(Asked)})
        return command(*args, asked=asked, **values)

    for option in reversed(_OPTIONS):
        called = option(called)
    return called


def _pair(text: str, option: str, read: Callable[[str], Any]) -> tuple[str, Any]:
    """Name and value of NAME=VALUE; the name may hold a = itself."""
    name, equals, value = text.rpartition("=")
    if not equals or not name:
        message = f"{text!r} is not NAME=VALUE"
        raise click.BadParameter(message, param_hint=option)
    try:
        return name, read(value)
    except ValueError as error:
        message = f"{text!r}: {value!r} is not a number"
        raise click.BadParameter(message, param_hint=option) from error


def _value(text: str) -> float | bool | str:
    """A parameter's value: true, false, a number, else a word."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text
