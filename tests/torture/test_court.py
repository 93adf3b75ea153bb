"""The judge of the torture's inputs sees what it is there to see."""

import click
import pytest
from torture.attempts import KINDS, kind_of
from torture.chance import Chance, Steered
from torture.court import Court

import cli.main
from cli.command import Command
from registry.errors import BadDocument


@pytest.fixture
def typed(monkeypatch):
    """Type a command that does what it is given to do."""

    def type_it(action, *words):
        command = Command("odd", help="Odd.\n\nExamples:\n  reg odd", callback=action)
        monkeypatch.setattr(cli.main.Reg, "get_command", lambda *_: command)
        court = Court(most_seconds=0.2)
        court.types("odd", *words)
        return [finding.what for finding in court.findings]

    return type_it


def _fails(error):
    raise error


def _works():
    sum(i * i for i in range(10_000_000))


def test_ends_with_a_name_are_no_findings(typed):
    assert typed(lambda: click.echo("fine")) == []
    assert typed(lambda: _fails(BadDocument("x: is none"))) == []
    assert typed(lambda: False) == []
    assert typed(lambda: None, "--no-such-option") == []


@pytest.mark.parametrize(
    ("action", "words", "what"),
    [
        (lambda: _fails(ZeroDivisionError("x")), (), "ZeroDivisionError from"),
        (lambda: _fails(click.exceptions.Exit(7)), (), "exit code 7"),
        (lambda: click.echo("\x1b[2J"), (), "a terminal would obey it"),
        (lambda: click.echo("NaN"), ("--json",), "--json is no JSON"),
        (_works, (), "too slow"),
    ],
)
def test_ends_without_a_name_are(typed, action, words, what):
    assert any(found.startswith(what) for found in typed(action, *words))


def test_readers_may_refuse_and_may_not_break():
    court = Court()
    assert court.reads("x", lambda: 7) == 7
    assert court.reads("x", lambda: _fails(BadDocument("x"))) is None
    assert (court.findings, court.n_refused, court.n_calls) == ([], 1, 2)
    court.reads("x", lambda: _fails(KeyError("x")))
    assert [f.what for f in court.findings] == ["KeyError from ?"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_tries(kind):
    assert kind_of(kind).WHAT


def test_the_same_stream_makes_the_same_input():
    value = {"a": [1, {"b": "c"}], "d": None}
    made = [
        [Chance(f"1/x/{i}").damaged(value) for i in range(20)],
        [Chance(f"1/x/{i}").damaged(value) for i in range(20)],
    ]
    assert repr(made[0]) == repr(made[1])
    assert len({repr(found) for found in made[0]}) > 10
    assert value == {"a": [1, {"b": "c"}], "d": None}
    steered = [Steered(b"\x5a" * n) for n in (0, 64)]
    assert [s.damaged(value, 1) for s in steered]
