"""Files -> cells: every layout reads as the standard library's slow reader has it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costmodels.tables.reading import read_table
from costmodels.tables.spec import FileFormat
from profiler.errors import FileFormatError, InputFileError


def read(folder: Path, text: str | bytes, name: str = "t.csv", **layout: object):  # type: ignore[no-untyped-def]
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, FileFormat(**layout))  # type: ignore[arg-type]


def rows(table) -> list[list[str]]:  # type: ignore[no-untyped-def]
    return [list(row) for row in table.frame.itertuples(index=False)]


# What a bare carriage return means differs between readers; text within a cell never ends in one.
cell = st.text(st.sampled_from('ab1.5 ,;\n"é|-'), max_size=6)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(2, 4).flatmap(
        lambda width: st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1)
    ),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_csv_writer_wrote_comes_back(
    tmp_path: Path, cells: list[list[str]], separator: str, end: str
) -> None:
    stream = io.StringIO()
    # Every cell in quotes: a row of blanks would else be an empty line.
    writer = csv.writer(stream, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    names = [f"c{number}" for number in range(len(cells[0]))]
    writer.writerows([names, *cells])
    table = read(tmp_path, stream.getvalue(), separator=separator)
    assert list(table.frame.columns) == names
    assert rows(table) == cells
    assert not table.findings
    first = stream.getvalue().split(end, 1)
    assert table.lines[0] == 2
    assert first


@pytest.mark.parametrize(
    ("separator", "text"),
    [
        (",", "a b,c d\n1,2\n3,4\n"),
        (";", "a;b\n1,5;2,5\n"),
        ("\t", "a\tb\n1 x\t2\n"),
        ("|", "a|b\n1|2\n"),
        ("space", "data  power\n1,2,3 4\n5,6,7  8\n"),
    ],
)
def test_the_separator_is_found(tmp_path: Path, separator: str, text: str) -> None:
    assert rows(read(tmp_path, text)) == rows(read(tmp_path, text, separator=separator))
    assert len(read(tmp_path, text).frame.columns) == 2


def test_comments_blank_lines_marks_and_line_ends(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf# by hand\r\na,b\r\n\r\n1,2\r\n# pause\r\n   \r\n3,4"
    table = read(tmp_path, text, comment="#")
    assert rows(table) == [["1", "2"], ["3", "4"]]
    assert list(table.lines) == [4, 7]
    assert not table.findings


def test_columns_of_a_file_without_header(tmp_path: Path) -> None:
    table = read(tmp_path, "1 2\n3 4\n", names=["x", "y"])
    assert list(table.frame.columns) == ["x", "y"]
    assert list(table.lines) == [1, 2]


def test_a_line_break_within_quotes_counts_as_a_line_of_the_file(tmp_path: Path) -> None:
    table = read(tmp_path, 'a,b\n"x\ny",1\nz,2\n')
    assert rows(table) == [["x\ny", "1"], ["z", "2"]]
    assert list(table.lines) == [2, 4]


def test_ragged_lines_are_counted_by_sort_with_their_lines(tmp_path: Path) -> None:
    table = read(tmp_path, "a,b,c\n1,2,3\n1,2\n1,2,3,4\n4,5,6\n7,8\n9,9,9\n5,5,5\n0,1,2,3,4\n")
    assert rows(table) == [["1", "2", "3"], ["4", "5", "6"], ["9", "9", "9"], ["5", "5", "5"]]
    assert [(f.rows, f.examples, f.action) for f in table.findings] == [
        (1, (4,), "dropped"), (2, (3, 6), "dropped"), (1, (9,), "dropped"),
    ]  # fmt: skip
    assert "more fields" in table.findings[0].what
    assert "fewer fields" in table.findings[1].what
    assert "footer" in table.findings[2].what
    assert list(table.gaps) == [0, 2, 3, 3]


def test_json_lines(tmp_path: Path) -> None:
    lines = [json.dumps({"a": 1, "l": [1, 2]}), "", "{broken", "[1]", json.dumps({"a": 2.5})]
    table = read(tmp_path, "\n".join(lines), name="t.jsonl")
    assert list(table.frame["a"]) == [1, 2.5]
    assert list(table.lines) == [1, 5]
    assert [(f.rows, f.examples) for f in table.findings] == [(2, (3, 4))]
    assert list(table.gaps) == [0, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("a,b\n", "a header and no rows"),
        ("a,a\n1,2\n", "more than one column called 'a'"),
        ('a,b\n"1,2\n', "never closed"),
        (b"a,b\n\xff,1\n", "not text in UTF-8 (byte 4)"),
        ("a,b\n1,2,3\n4,5,6\n7,8\n9\n", "3 of 4 lines of"),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(FileFormatError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)
    assert "t.csv" in str(caught.value)


def test_other_faults(tmp_path: Path) -> None:
    with pytest.raises(InputFileError):
        read_table(tmp_path / "absent.csv", FileFormat())
    with pytest.raises(FileFormatError, match="one character"):
        read(tmp_path, "a::b\n1::2\n", separator="::")
    with pytest.raises(FileFormatError, match="no line but comments"):
        read(tmp_path, "# a\n", comment="#")
    with pytest.raises(FileFormatError, match="no JSON object"):
        read(tmp_path, "a\n", format="jsonl")


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    one, two = read(tmp_path, "a,b\n1,2\n"), read(tmp_path, "a,b\n1,3\n")
    assert len(one.sha256) == 64
    assert one.sha256 != two.sha256
