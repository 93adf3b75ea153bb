"""`reg` itself: help without loading anything, errors in words, exit codes."""

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

from cli.command import Command, Group
from cli.main import MODULES, SUMMARIES, reg

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "sqlmodel", "networkx", "rich", "numpy", "duckdb")
LEAVES = [
    (name, *sub)
    for name in SUMMARIES
    for command in [import_module(f"cli.commands.{MODULES.get(name, name)}").command]
    for sub in ([(s,) for s in command.commands] if isinstance(command, Group) else [()])
]


def _python(code, folder, *words, **options):
    """Run Python code in a process of its own, with `reg`'s words as its arguments."""
    environment = {k: v for k, v in os.environ.items() if k != "REG_CATALOG"} | {
        "PYTHONPATH": str(ROOT)
    }
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, env=environment, text=True,
        capture_output=True, check=False, **options,
    )  # fmt: skip


def _loaded(folder, *words):
    """The heavy modules that one call of `reg` loads."""
    code = (
        "import sys; from cli.main import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        f"print('LOADED', *[m for m in {HEAVY!r} if m in sys.modules])"
    )
    result = _python(code, folder, *words)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1].split()[1:]


def test_the_table_of_commands_is_the_folder_of_commands():
    files = {f.stem for f in (ROOT / "cli" / "commands").glob("*.py")} - {"__init__"}
    assert {MODULES.get(name, name) for name in SUMMARIES} == files


@pytest.mark.parametrize("name", SUMMARIES)
def test_a_command_is_summed_up_by_the_first_sentence_of_its_help(name):
    command = import_module(f"cli.commands.{MODULES.get(name, name)}").command
    assert command.help.split("\n")[0] == SUMMARIES[name]
    assert isinstance(command, Command | Group)


def test_help_lists_every_command_and_loads_none(place):
    out = place.run("--help").stdout
    for name, summary in SUMMARIES.items():
        assert f"  {name} " in out
        assert summary in out
    assert _loaded(place.folder, "--help") == []


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_help_of_every_command_ends_in_examples(words, place):
    out = place.run(*words, "--help").stdout
    examples = out.partition("\nExamples:\n")[2].splitlines()
    assert examples
    assert all(line.startswith(f"  reg {' '.join(words)}") for line in examples)
    assert out.index("Options of every command:") < out.index("Examples:")


def test_help_of_commands_loads_nothing_heavy(place):
    code = (
        "import sys; from cli.main import reg\n"
        f"for words in {LEAVES!r}: reg([*words, '--help'], standalone_mode=False)\n"
        f"print('LOADED', *[m for m in {HEAVY!r} if m in sys.modules])"
    )
    result = _python(code, place.folder)
    assert result.stdout.splitlines()[-1] == "LOADED", result.stdout + result.stderr


@pytest.mark.parametrize(
    "words",
    [("ls",), ("ls", "--json"), ("show", "chat"), ("sql", "from models"), ("sql", "from edges", "--csv"),
     ("ls", "--where", "n_params > 1", "-q")],
    ids=" ".join,
)  # fmt: skip
def test_asking_the_catalog_never_loads_torch_or_sqlmodel(words, known):
    assert not {"torch", "sqlmodel", "networkx", "transformers"} & set(
        _loaded(known.folder, *words)
    )


@pytest.mark.parametrize(
    "words",
    [("lineage",), ("mergeable", "chat", "math"), ("candidates", "chat"), ("scan", "models")],
    ids=" ".join,
)
def test_what_needs_no_arithmetic_never_loads_torch(words, known):
    assert "torch" not in _loaded(known.folder, *words)


def test_options_of_every_command_stand_before_or_after_it(known):
    after = known.run("ls", "--json").stdout
    assert known.run("--json", "ls").stdout == after
    assert known.run("-q", "ls").stdout == known.run("ls", "--quiet").stdout
    elsewhere = known.run("--catalog", ".reg/catalog.duckdb", "sql", "select 1", "-q").stdout
    assert (
        elsewhere == known.run("sql", "select 1", "-q", "--catalog", ".reg/catalog.duckdb").stdout
    )


def test_the_catalog_named_last_is_taken(known, monkeypatch):
    monkeypatch.setenv("REG_CATALOG", "/nowhere/catalog.duckdb")
    assert "/nowhere" in known.run("ls", code=1).stderr
    known.run("--catalog", ".reg/catalog.duckdb", "ls")
    known.run("--catalog", "/other/catalog.duckdb", "ls", "--catalog", ".reg/catalog.duckdb")


def test_json_wins_over_quiet(known):
    json.loads(known.run("ls", "--json", "--quiet").stdout)
    json.loads(known.run("-q", "ls", "--json").stdout)


@pytest.mark.parametrize("words", [("--version",), ("ls", "--version"), ("score", "--version")])
def test_the_version_is_the_installed_one(words, place):
    assert place.run(*words).stdout == f"reg {version('homolog')}\n"


def test_an_error_is_words_and_a_hint_on_stderr(known):
    result = known.run("show", "chatt", code=1)
    assert not result.stdout
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: no model in catalog")
    assert "'chatt'" in error
    assert hint == "hint: did you mean chat?"


@pytest.mark.parametrize("words", [("--json", "show", "chatt"), ("show", "chatt", "--json")])
def test_an_error_for_programs_is_an_object_on_stderr(words, known):
    result = known.run(*words, code=1)
    assert not result.stdout
    error = json.loads(result.stderr)
    assert error["error"] == "UnknownModel"
    assert error["hint"] == "did you mean chat?"
    assert "chatt" in error["message"]


def test_an_error_carries_no_terminal_escapes(known):
    assert "\x1b" not in known.run("show", "a\x1b[2Jb", code=1).stderr
    assert "\x1b" not in known.run("sql", 'select * from "a\x1b[2Jb"', code=1).stderr


@pytest.mark.parametrize("words", [("shwo",), ("ls", "--nope"), ("show",), ("merge",), ("stats",)])
def test_wrong_usage_is_two(words, place):
    result = place.run(*words, code=2)
    assert not result.stdout
    assert "Error:" in result.stderr


def test_without_a_catalog_the_next_command_is_named(place):
    (place.folder / ".reg" / "catalog.duckdb").unlink()
    result = place.run("ls", code=1)
    assert "there is no catalog at" in result.stderr
    assert "hint: reg scan" in result.stderr


def test_a_bug_of_ours_shows_its_traceback(place):
    code = (
        "import sys; import cli.commands.methods as m, click\n"
        "m.command.callback = lambda **_: 1 / 0\n"
        "from cli.main import main; main()"
    )
    result = _python(code, place.folder, "methods")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError" in result.stderr


def test_an_interrupt_is_one_line_and_130(known):
    code = (
        "import os, signal, sys, time\n"
        "class Keyboard:\n"
        "    def read(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(30)\n"
        "    buffer = property(lambda self: self)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.stdin = Keyboard()\n"
        "from cli.main import main; main()"
    )
    result = _python(code, known.folder, "sql", "-")
    assert result.returncode == 130
    assert result.stderr.split() == ["interrupted"]


def test_an_interrupt_in_the_middle_of_a_statement_is_one_line_and_130(known):
    code = (
        "import os, signal, threading\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "from cli.main import main; main()"
    )
    result = _python(
        code, known.folder, "sql", "select count(*) from range(1000000000000)", timeout=60
    )
    assert result.returncode == 130
    assert result.stderr.split() == ["interrupted"]


def test_a_reader_that_goes_away_is_no_error(known):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "cli", "sql", "from range(200000)"]
    with subprocess.Popen(
        command, cwd=known.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert not process.stderr.read()
        assert process.wait(30) == 141


def test_any_text_can_be_printed_to_any_terminal(known):
    result = _python(
        "from cli.main import main; main()", known.folder, "sql", "select 'δ模' as x",
    )  # fmt: skip
    assert "δ模" in result.stdout
    code = "import sys; sys.stdout.reconfigure(encoding='ascii', errors='strict'); from cli.main import main; main()"
    assert "\\u03b4" in _python(code, known.folder, "sql", "select 'δ模' as x").stdout


def test_commands_are_documented_functions_of_a_group():
    assert reg.help
    assert "MODEL is a name" in reg.help


def test_a_working_folder_that_was_removed_is_told_of(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    code = "import os; os.rmdir(os.getcwd()); from cli.main import main; main()"
    done = _python(code, folder, "ls")
    assert done.returncode == 1
    assert "error: the working folder cannot be read" in done.stderr
    assert "hint: cd to a folder" in done.stderr


@pytest.mark.parametrize("voice", ["--json", "--quiet", None])
def test_an_answer_that_does_not_fit_is_told_of(tmp_path, voice):
    with Path("/dev/full").open("w") as full:
        words = ["methods", *([voice] if voice else [])]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", "cli", *words], cwd=tmp_path, env=environment, text=True,
            stdout=full, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "the answer cannot be written: No space left" in done.stderr
    assert "Traceback" not in done.stderr
