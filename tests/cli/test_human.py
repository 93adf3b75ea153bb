"""What people see."""

import sys
from datetime import UTC, datetime

import pytest

from cli.block import Column, Csv, Facts, Line, Table, Text, Tree
from cli.human import MOST_ROWS, Human, branches, cell

WIDE = Table(
    [
        {
            "name": "a-long-name-of-a-model-that-goes-on",
            "note": "x" * 80,
            "n": 5,
            "last": "end of the row",
        }
    ],
    (Column("name"), Column("n", kind="count"), Column("note"), Column("last", "the last")),
)


@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [
        (None, "number", ""), (True, "text", "yes"), (False, "count", "no"), (1234567, "count", "1,234,567"),
        (1234567, "params", "1.23 M"), (999, "params", "999"), (124_439_808, "params", "124 M"),
        (7_241_732_096, "params", "7.24 B"), (0, "bytes", "0 B"), (1536, "bytes", "1.5 KiB"),
        (3 << 40, "bytes", "3 TiB"), (0.0123456, "number", "0.01235"), (2.54, "seconds", "2.5 s"),
        (0.5, "text", "0.5"), (["a", None, "b"], "text", "a, , b"), ("0123456789abcdef", "id", "0123456789ab"),
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "text", "2026-01-02 03:04"), ("a\x1b[2Jb\n", "text", "a\\x1b[2Jb\\n"),
    ],
)  # fmt: skip
def test_values_as_people_read_them(value, kind, shown):
    assert cell(value, kind) == shown


def test_a_pipe_gets_everything_plain(capsys):
    Human().answer(None, WIDE)
    said = capsys.readouterr()
    assert said.out.splitlines()[0].split() == ["name", "n", "note", "the", "last"]
    assert "x" * 80 + "  end of the row" in said.out
    assert not said.err
    assert "\x1b" not in said.out


def test_a_terminal_gets_what_fits_and_is_told_what_was_cut(monkeypatch, terminal, capsys):
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "45")
    Human().answer(None, WIDE)
    rows = [line for line in terminal.getvalue().splitlines() if "a-long-name" in line]
    assert len(rows) == 1
    assert len(rows[0]) <= 45
    assert "…" in rows[0]
    told = capsys.readouterr().err
    assert "cut" in told
    assert "note" in told
    assert "the last" in told


def test_a_terminal_gets_colours_unless_told_otherwise(monkeypatch, terminal):
    monkeypatch.setattr(sys, "stdout", terminal)
    Human().answer(None, Line("no", "bad"), Facts((("base", "chat", "text"),)))
    assert terminal.getvalue() == "\x1b[31mno\x1b[0m\n\x1b[2mbase  \x1b[0mchat\n"
    terminal.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    Human().answer(None, Line("no", "bad"))
    assert "\x1b[3" not in terminal.getvalue()


def test_a_terminal_gets_a_thousand_rows_and_is_told_of_the_rest(monkeypatch, terminal):
    monkeypatch.setattr(sys, "stdout", terminal)
    table = Table(
        [{"i": i} for i in range(MOST_ROWS + 5)], (Column("i", kind="count"),), rest="ask for all"
    )
    Human().answer(None, table)
    assert "1,000 of 1,005 rows; ask for all" in terminal.getvalue()


def test_nothing_is_taken_for_markup_and_nothing_escapes(capsys):
    name = "[red]evil[/red]\x1b]8;;http://x\x07:smile:"
    Human().answer(
        None,
        Line(name), Text(name + "\n[b]"), Facts((("name", name, "text"),), "facts"),
        Tree([(0, name, name), (1, "child", "")]), Table([{"n": name}], (Column("n"),), "[b]table"),
    )  # fmt: skip
    out = capsys.readouterr().out
    assert out.count("[red]evil[/red]\\x1b]8;;http://x\\x07:smile:") == 6
    assert "\x1b" not in out
    assert "[b]table" in out


def test_a_tree_may_be_deeper_than_the_stack_and_have_many_roots(capsys):
    chain = [(depth, f"m{depth}", "finetune") for depth in range(1100)]
    Human().answer(None, Tree([*chain, (0, "alone", "")]))
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 1101
    assert shown[1].startswith("└── m1  finetune")
    assert shown[-1] == "alone"


def test_branches_join_siblings_and_leave_no_loose_ends():
    assert branches([0, 1, 2, 2, 1, 2, 0, 1]) == [
        "", "├── ", "│   ├── ", "│   └── ", "└── ", "    └── ", "", "└── "
    ]  # fmt: skip


def test_a_tree_is_cut_to_the_terminal(monkeypatch, terminal):
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    Human().answer(None, Tree([(0, "base", ""), (1, "x" * 100, "finetune")]))
    assert "x…" in terminal.getvalue().splitlines()[1]


def test_empty_tables_say_so_or_nothing(capsys):
    columns = (Column("a"),)
    Human().answer(
        None, Line("x"), Table([], columns, "title"), Table([], columns, empty="no rows")
    )
    assert capsys.readouterr().out == "x\nno rows\n"


def test_csv_is_data_in_a_pipe_and_harmless_on_a_terminal(monkeypatch, terminal, capsys):
    block = Csv(["a", "b"], [("x,y", None), ("\x1b[2J", 1.5)])
    Human().answer(None, block)
    assert capsys.readouterr().out == 'a,b\n"x,y",\n\x1b[2J,1.5\n'
    monkeypatch.setattr(sys, "stdout", terminal)
    Human().answer(None, block)
    assert "\x1b" not in terminal.getvalue()


def test_wide_characters_keep_columns_aligned(capsys):
    rows = [{"a": "模型", "b": 1}, {"a": "abcd", "b": 2}]
    Human().answer(None, Table(rows, (Column("a"), Column("b", kind="count"))))
    _, first, second = capsys.readouterr().out.splitlines()
    assert first == "模型  1"
    assert second == "abcd  2"
