"""What is typed: every command, every option, in any order and with any value."""

import shlex

import click
from torture.chance import TEXTS, Chance
from torture.court import Court
from torture.ground import Ground

from cli.command import Command
from cli.main import SUMMARIES, reg

WHAT = "command lines"

_NAMES = ("base", "chat", "math", "merged", "adapter", "chat+adapter", "org/name", "hf://org/name", "./x", "models/base", "recipe.yaml", "suite.jsonl", "ties", "0", "-", "a=b")  # fmt: skip
_VALUES = ("0", "1", "-1", "2", "1.5", "0.5", "nan", "inf", "-inf", "1e400", "9" * 20, "9" * 5000, "true", "512MiB", "1B", "0B", "999999999TB", "float32", "bfloat16", "int8",
    "cpu", "cuda", "cuda:99", "cpu:1", "meta", "mergekit", "nearest", "tree", "json", "dot", "csv", "out", "weight=0.5", "chat=0.5", "chat=nan", "density=2", "t=inf", "density=", "=", "name desc",
    "n_params > 0", "1; select 2", "read_text('/etc/passwd')", "x'", "suite=org/data:task", "=org/data", "s=a", "from models", "select 1/0", "select 'a' || chr(27)",
    "select range(10)", "select {'a': [1, null]}", "from edges", "select 1::hugeint", "select interval 1 year", "select 'nan'::double", "select unnest(range(100))",
    "explain select 1", "describe models", "show tables", "attach ':memory:'", "copy models to 'x'", 'select * from range(5) t("a\x1b")', "select getenv('HOME')", "(" * 300, "select " + "(" * 2000)  # fmt: skip
_SLOW = {"demo"}


def attempt(chance: Chance, court: Court, ground: Ground) -> None:
    """Type one command."""
    folder = ground.clear()
    ground.catalog()
    (folder / "recipe.yaml").write_text("merge_method: linear\nmodels: [chat, math]\n")
    (folder / "suite.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    words = _words(chance)
    if chance.now_and_then(0.2):
        words.insert(chance.randrange(len(words) + 1), chance.text())
    if chance.now_and_then(0.1):
        chance.shuffle(words)
    if any(word in {"--catalog", "--keep", "--version"} or ".." in word or word.startswith(("/", "~")) for word in words):  # fmt: skip
        return  # what is not ours is left alone
    given = [word.replace("\0", "").encode(errors="surrogatepass").decode(errors="surrogateescape") for word in words]  # fmt: skip
    court.types(*given, stdin=chance.text(), data="--csv" in given)


def _words(chance: Chance) -> list[str]:
    """A command with options drawn at random, or one of its examples with a few of its words changed."""
    words = [chance.one(sorted(set(SUMMARIES) - _SLOW))]
    command = reg.get_command(click.Context(reg), words[0])
    if isinstance(command, click.Group):
        words.append(chance.one(sorted(command.commands)))
        command = command.commands[words[1]]
    assert isinstance(command, Command)
    if chance.now_and_then(0.4):
        words = shlex.split(chance.one([e for e in command.examples if e.startswith("reg ")]))[1:]
        for _ in range(chance.randrange(4) if len(words) > 1 else 0):
            words[chance.randrange(1, len(words))] = _value(chance)
        return words
    for parameter in command.params:
        words += _given(chance, parameter)
    return words


def _given(chance: Chance, parameter: click.Parameter) -> list[str]:
    """What is typed for one parameter, or nothing."""
    if isinstance(parameter, click.Argument):
        n = chance.one((1, 1, 1, 2, 3)) if parameter.nargs != 1 else 1
        return [_value(chance) for _ in range(n)]
    assert isinstance(parameter, click.Option)
    if not chance.now_and_then(0.9 if parameter.required else 0.2):
        return []
    option = chance.one(parameter.opts)
    if parameter.is_flag:
        return [option]
    if isinstance(parameter.type, click.Choice) and chance.now_and_then(0.7):
        return [option, str(chance.one(list(parameter.type.choices)))]
    return [option, _value(chance)]


def _value(chance: Chance) -> str:
    """A name, a value or any text."""
    return chance.one((chance.one(_NAMES), chance.one(_NAMES), chance.one(_VALUES), chance.one(_VALUES), chance.one(TEXTS)))  # fmt: skip
