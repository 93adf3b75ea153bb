"""The three voices."""

import json
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.block import Line
from cli.output import Json, Quiet, as_json, lines, plain
from registry.errors import BadRecipe

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.decimals() | st.dates() | st.times() | st.timedeltas() | st.uuids(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=60)
@given(VALUES)
def test_json_is_always_valid_and_holds_nothing_a_terminal_obeys(value):
    text = as_json(value)
    json.loads(text, parse_constant=pytest.fail)
    assert all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), None), (float("inf"), None), ({"b", "a"}, ["a", "b"]), ((1, 2), [1, 2]),
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02T03:04:00+00:00"), (date(2026, 1, 2), "2026-01-02"),
        (timedelta(seconds=1.5), 1.5), (Decimal(2), 2), (Decimal("0.5"), 0.5), (Decimal("nan"), None),
        (b"\x01\xff", "01ff"), (UUID(int=1), "00000000-0000-0000-0000-000000000001"), ({1: "x"}, {"1": "x"}),
    ],
)  # fmt: skip
def test_values_json_does_not_know(value, shown):
    assert plain(value) == shown


def test_programs_read_the_document_and_errors_on_stderr(capsys):
    out = Json()
    out.answer({"a": 1}, Line("for people"), ids=["x"])
    out.error(BadRecipe("wrong", hint="right"))
    said = capsys.readouterr()
    assert json.loads(said.out) == {"a": 1}
    assert json.loads(said.err) == {"error": "BadRecipe", "message": "wrong", "hint": "right"}


def test_loops_read_ids_and_are_told_of_trouble_only(capsys):
    out = Quiet()
    out.answer({"a": 1}, Line("for people"), ids=["x", "\x1b[31my"])
    out.note("n")
    out.hint("h")
    out.warning("w")
    out.error(BadRecipe("wrong", hint="right"))
    said = capsys.readouterr()
    assert said.out == "x\n\\x1b[31my\n"
    assert said.err == "warning: w\nerror: wrong\nhint: right\n"


def test_messages_carry_no_terminal_escapes(capsys):
    Json().note("a\x1b]0;title\x07\nb")
    assert capsys.readouterr().err == "note: a\\x1b]0;title\\x07\nb\n"
    assert lines("a\u202eb") == "a\\u202eb"


def test_no_progress_is_drawn_where_nobody_watches(capsys):
    with Json().progress() as progress:
        progress.start("scan", 10)
        progress.advance(10)
    assert not capsys.readouterr().err


def test_progress_is_drawn_on_a_terminal_and_not_for_quiet(monkeypatch, terminal):
    monkeypatch.setattr(sys, "stderr", terminal)
    with Quiet().progress() as progress:
        progress.start("scan", 10)
    assert not terminal.getvalue()
    with Json().progress() as progress:
        progress.start("sc\x1ban", 1 << 20)
        progress.advance(1 << 20)
        progress.start("merge", 0)
    assert "sc\\x1ban" in terminal.getvalue()
    assert "1.0 MiB" in terminal.getvalue()
