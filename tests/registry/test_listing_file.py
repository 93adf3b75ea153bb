"""Files of listings: formats, bounds, and rows that cannot be read."""

import gzip

import pytest

from registry.errors import BadListing, Unreadable
from registry.listing_file import MAX_LINE_BYTES, read_rows
from registry.progress import SILENT


def rows(tmp_path, content, form=None):
    file = tmp_path / "list"
    file.write_bytes(content)
    return [
        (r.line, r.values if r.values is not None else r.wrong)
        for r in read_rows(file, form, SILENT)
    ]


def test_lines_of_json_and_what_is_none(tmp_path):
    found = rows(
        tmp_path,
        b'\xef\xbb\xbf{"id": "a/b"}\n\n[1]\n{"id": "a/c"\n\xff{}\n{"id": NaN}\r\n'
        + b"[" * 200_000
        + b'\n{"id": "z"}',
    )
    assert found == [
        (1, {"id": "a/b"}),
        (3, "is a list, it must be an object"),
        (4, "is no JSON: Expecting ',' delimiter"),
        (5, "is no JSON: Expecting value"),
        (6, pytest.approx({"id": float("nan")}, nan_ok=True)),
        (7, "is no JSON: RecursionError"),
        (8, {"id": "z"}),
    ]  # fmt: skip


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_values_between_commas_semicolons_tabs_or_bars(tmp_path, separator):
    text = f'id{separator}tags\na/b{separator}"x{separator}\ny"\n\na/c\na/d{separator}z{separator}z\na/e{separator}""\n'
    assert rows(tmp_path, text.encode()) == [
        (2, {"id": "a/b", "tags": f"x{separator}\ny"}),
        (5, "has 1 values, the header 2"),
        (6, "has 3 values, the header 2"),
        (7, {"id": "a/e", "tags": ""}),
    ]


def test_a_quote_that_is_never_closed_costs_rows_and_not_the_file(tmp_path):
    lines = ["id,tags", 'a/b,"open', *(f"a/m{i},{'x' * 90}" for i in range(4000))]
    found = rows(tmp_path, "\n".join(lines).encode())
    bad = [(line, why) for line, why in found if isinstance(why, str)]
    good = [value["id"] for _, value in found if isinstance(value, dict)]
    assert bad[0][0] == 2
    assert "field larger than field limit" in bad[0][1]
    assert good[-1] == "a/m3999"
    assert len(good) > 2000


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_line_that_is_too_long_is_one_bad_row(tmp_path, form):
    long = b"x" * (3 * MAX_LINE_BYTES)
    content = (
        b'{"id": "a/b"}\n' + long + b'\n{"id": "a/c"}\n'
        if form == "jsonl"
        else b"id,x\na/b,1\n" + long + b"\na/c,2"
    )
    found = rows(tmp_path, content, form)
    assert [line for line, _ in sorted(found, key=lambda row: row[0])] == (
        [1, 2, 3] if form == "jsonl" else [2, 3, 4]
    )
    assert sum(isinstance(value, dict) for _, value in found) == 2
    assert any(
        isinstance(value, str) and "longer than 1,048,576 bytes" in value for _, value in found
    )


def test_gzip_is_unpacked_and_one_that_is_cut_off_is_refused(tmp_path):
    packed = gzip.compress(b'{"id": "a/b"}\n' * 100_000)
    assert len(rows(tmp_path, packed)) == 100_000
    with pytest.raises(BadListing, match="cannot be read beyond line"):
        rows(tmp_path, packed[:-20])
    with pytest.raises(BadListing, match="cannot be read beyond line"):
        rows(tmp_path, packed[:60] + b"\0" * 10 + packed[70:])


def test_a_header_without_names_is_refused_with_its_columns(tmp_path):
    with pytest.raises(BadListing, match=r"its columns are title, x\\x1b\[0m, likes"):
        rows(tmp_path, b"title,x\x1b[0m,likes\n1,2,3\n")
    with pytest.raises(BadListing, match="its columns are none"):
        rows(tmp_path, b"")


@pytest.mark.parametrize(
    ("content", "what"), [(b"PAR1\0\0", "Parquet"), (b' [{"id": "a"}]', "one JSON array")]
)
def test_other_formats_are_named(tmp_path, content, what):
    with pytest.raises(BadListing, match=what):
        rows(tmp_path, content)


def test_a_folder_and_nothing_are_unreadable(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(Unreadable):
            list(read_rows(path, None, SILENT))
