import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_gru.data import read_csv


def read(text, **settings):
    return read_csv(io.StringIO(text), **settings)


def test_columns_have_names_and_types():
    table = read("day,load,count,open,city\n2024-01-01,1.5,3,true,Rome\n2024-01-02,-2e3,4,False,New York\n")
    assert table.columns == ["day", "load", "count", "open", "city"]
    assert table["day"].dtype == "datetime64[D]" and str(table["day"][1]) == "2024-01-02"
    assert table["load"].tolist() == [1.5, -2000]
    assert table["count"].dtype == np.int64 and table["count"].tolist() == [3, 4]
    assert table["open"].tolist() == [True, False]
    assert table["city"].tolist() == ["Rome", "New York"]


@pytest.mark.parametrize("text", ["", "NA", "N/A", "NaN", "nan", "NULL", "None", " ", '""', "-999"])
def test_missing_values_are_reported_and_filled_with_nothing(text):
    row = f"{text},{text},{text},{text}"
    table = read(f"day,load,city,open\n2024-01-01,1,Rome,true\n{row}\n2024-01-03,3,Rome,false\n", missing=["-999"])
    assert np.isnat(table["day"]).tolist() == [False, True, False]
    assert np.isnan(table["load"]).tolist() == [False, True, False]
    assert table["city"].tolist() == ["Rome", None, "Rome"]
    assert np.isnan(table["open"]).tolist() == [False, True, False]
    assert [re.split(r"  +", line)[2] for line in repr(table).splitlines()[2:]] == ["1"] * 4


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_cuts_all_rows_alike(delimiter):
    text = "a,b;c\n1,2,3;4\n5,6,7;8\n".replace(",", " ").replace(";", delimiter)
    assert read(text).columns == ["a b", "c"]


def test_semicolons_come_before_commas():
    table = read("a;b\n1,5;2,5\n3,5;4,5\n", decimal=",")
    assert table.array().tolist() == [[1.5, 2.5], [3.5, 4.5]]
    assert read("x, y;b\nu, v;w\n").columns == ["x, y", "b"]


def test_one_column_needs_no_delimiter():
    assert read("load\n1\n2\n")["load"].tolist() == [1, 2]
    assert read("load\n1,5\n2,5\n", decimal=",")["load"].tolist() == [1.5, 2.5]


def test_signs_between_thousands():
    table = read("a;b\n1.234,5;1.234.567\n7;0,25\n", decimal=",", thousands=".")
    assert table.array().tolist() == [[1234.5, 1234567], [7, 0.25]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a;b\nx;1,5\ny;2,25\n", "decimal=',', thousands=''"),
        ('a,b\nx,"1,234.5"\ny,"2,000,000"\n', "decimal='.', thousands=','"),
        ("a;b\nx;1.234,5\ny;2\n", "decimal=',', thousands='.'"),
        ("a;b\nx;1,500\ny;2,500\n", "decimal=',', thousands='', or with decimal='.', thousands=','"),
    ],
)
def test_numbers_in_another_format_are_no_categories(text, words):
    with pytest.raises(ValueError, match=rf"line 2, column 'b': .* are numbers with {re.escape(words)}: give these"):
        read(text)
    assert read(text, types={"b": "category"})["b"].dtype.kind == "U"


def test_one_text_among_numbers_in_another_format_makes_no_categories():
    text = "a;b\nx;-\ny;1.234,5\nz;7\nw;2.000,25\n"
    with pytest.raises(ValueError, match=r"line 2, .* 3 of 4 values are numbers with decimal=',', thousands='\.'"):
        read(text)
    with pytest.raises(ValueError, match=r"'-' is no number, but 3 of 4 .* missing=\['-'\] \(--missing\)"):
        read(text, decimal=",", thousands=".")
    assert read(text, decimal=",", thousands=".", missing="-")["b"].tolist()[1:] == [1234.5, 7, 2000.25]
    assert read("a;b\nx;3,5\ny;left\n")["b"].tolist() == ["3,5", "left"]


def test_a_text_among_numbers_is_an_error_that_names_the_line():
    with pytest.raises(
        ValueError, match=r"^the CSV text, line 4, column 'b': 'n.a.' is no number, but 3 of 4 .* missing=\['n.a.'\]"
    ):
        read("a,b\nx,1\ny,2\nz,n.a.\nw,4\n")
    assert np.isnan(read("a,b\nx,1\ny,n.a.\n", missing=["n.a."])["b"][1])
    assert read("a,b\nx,1\ny,n.a.\n")["b"].tolist() == ["1", "n.a."]


def test_without_a_header_columns_have_numbers():
    assert read("1,2\n3,4\n").columns == ["column 0", "column 1"]
    assert len(read("1,2\n3,4\n")) == 2
    assert read("1,2\n3,4\n", header=True).columns == ["1", "2"]
    assert len(read("a,b\nc,d\n", header=False)) == 2
    assert read("1,2\n3,4\n", names=["x", "y"])["x"].tolist() == [1, 3]
    assert read("a,b\n3,4\n", names=["x", "y"])["x"].tolist() == [3]


def test_a_first_row_that_may_be_a_header_or_not_is_for_the_caller_to_say():
    for text in ("Rome,3\nParis,4\n", "country,1960\nItaly,2\n", "2024-01-01,Rome\n"):
        with pytest.raises(ValueError, match=r"line 1: some fields are numbers .*header=True or header=False"):
            read(text)
    assert read("country,1960\nItaly,2\n", header=True).columns == ["country", "1960"]


def test_a_column_without_a_name_gets_its_number():
    assert read(",a\n0,1\n").columns == ["column 0", "a"]


def test_dates_with_times_and_zones():
    table = read("a,b,c\n2024-03-01 12:30,2024-03-01T12:30:00+02:00,2024-03\n2024-03-02,2024-03-01T12:30Z,2024-04\n")
    assert table["a"].dtype == "datetime64[s]" and str(table["a"][0]) == "2024-03-01T12:30:00"
    assert [str(date) for date in table["b"]] == ["2024-03-01T10:30:00", "2024-03-01T12:30:00"]
    assert [str(date) for date in table["c"]] == ["2024-03-01", "2024-04-01"]
    assert str(read("a\n2024/03/01\n2024/12/24\n")["a"][1]) == "2024-12-24"
    assert read("a\n2024/03-01\n2024/12\n")["a"].dtype.kind == "U"
    fine = read("a\n2024-03-01 00:00:00.25\n2024-03-01 23:59:59-03:30\n")["a"]
    assert [str(date) for date in fine] == ["2024-03-01T00:00:00.250000", "2024-03-02T03:29:59.000000"]


def test_dates_in_other_formats():
    table = read("day;load\n31.12.2023;1\n;2\n", dates={"day": "%d.%m.%Y"})
    assert table["day"].dtype == "datetime64[D]" and [str(date) for date in table["day"]] == ["2023-12-31", "NaT"]
    assert str(read("day,x\n19580329,1\n", dates={"day": "%Y%m%d"})["day"][0]) == "1958-03-29"


def test_types_can_be_given():
    table = read("zip,x,day\n00123,1,2024-01-01\n04567,2,\n", types={"zip": "category", "day": "category"})
    assert table["zip"].tolist() == ["00123", "04567"] and table["day"].tolist() == ["2024-01-01", None]
    with pytest.raises(ValueError, match="line 3, column 'a': 'x' is no number"):
        read("a\n1\nx\n", types={"a": "number"})
    with pytest.raises(ValueError, match="line 2, column 'a': '--5' is no number"):
        read("a\n--5\n", types={"a": "number"})
    with pytest.raises(ValueError, match="line 2, column 'a': 'x' is no date"):
        read("a\nx\n2024-01-01\n", types={"a": "date"})
    with pytest.raises(ValueError, match="line 2, column 'a': 'x' is no boolean"):
        read("a\nx\ntrue\n", types={"a": "boolean"})


def test_integers_that_are_too_long_for_numbers_are_categories():
    long = ["18446744073709551616", "9" * 5000, str(2**63)]
    for text in long:
        assert read(f"id,x\n{text},1\n5,2\n")["id"].tolist() == [text, "5"]
    exact = 2**53 + 1
    assert read(f"id,x\n{exact},1\n5,2\n")["id"].tolist() == [exact, 5]
    assert read(f"id,x\n{exact},1\n,2\n")["id"].tolist() == [str(exact), None]


@pytest.mark.parametrize("text", ["1_000", "١٢", "0x10", "1e", "--1", "1.2.3", "infinite", "½"])
def test_what_is_no_number_in_a_csv_file_is_none_here(text):
    assert read(f"a\n{text}\n{text}\n")["a"].dtype.kind == "U"


def test_quoted_fields_have_delimiters_newlines_and_quotes():
    table = read('name,x\n"a, ""b""\nc",1\nplain,2\n')
    assert table["name"].tolist() == ['a, "b"\nc', "plain"]


def test_lines_are_counted_over_blank_ones_and_those_in_quotes():
    with pytest.raises(ValueError, match="line 7: 3 fields, but 2 in line 1, with the delimiter ','"):
        read('a,b\n\n"x\ny",1\n   \nz,2\nw,3,4\n')


def test_a_file_with_another_encoding_names_the_line(tmp_path):
    path = tmp_path / "cities.csv"
    path.write_bytes("city,x\nRome,1\nZürich,2\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"cities.csv, line 3: byte 0xfc is not utf-8: .* encoding='cp1252'"):
        read_csv(path)
    assert read_csv(path, encoding="cp1252")["city"].tolist() == ["Rome", "Zürich"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path, encoding, newline):
    path = tmp_path / "a.csv"
    path.write_bytes(f"a,b{newline}1,2{newline}3,4".encode(encoding))
    table = read_csv(path, encoding=encoding.removesuffix("-sig"))
    assert table.columns == ["a", "b"] and table.array().tolist() == [[1, 2], [3, 4]]
    assert read("\ufeffa,b\n1,2\n").columns == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("", {}, "the CSV text is empty"),
        ("\n\n", {}, "the CSV text is empty"),
        ("a,b\n", {}, "has the names of 2 columns, but no rows"),
        ("a,b\n1,2\n3\n", {}, "line 3: 1 fields, but 2 in line 1"),
        ("a;b\n1;2\n3;4;5\n", {}, "line 3: 3 fields, but 2 in line 1, with the delimiter ';'"),
        ('a,b\n1,"2\n3,4\n', {}, "line 2: .*quotation mark that is not closed"),
        ('a,b\n"1"2,3\n', {}, "line 2: "),
        (f"a,b\n{'x' * 200_000},2\n", {}, "line 2: field larger than field limit"),
        ("a,a\n1,2\n", {}, "more than one column 'a': .*names="),
        ("a,b\n1,2\n", {"names": ["a"]}, "has 2 columns, but names has 1"),
        ("a,b\n1,2\n", {"names": ["a", "a"]}, "more than one column 'a'"),
        ("a,b\n1,2\n", {"types": {"c": "number"}}, "types has 'c', but the columns of the CSV text are a, b"),
        ("a,b\n1,2\n", {"types": {"a": "float"}}, "type of column 'a' must be one of number, boolean, date, category"),
        ("a,b\n1,2\n", {"dates": {"c": "%Y"}}, "dates has 'c'"),
        ("a,b\n1,2\n", {"dates": {"a": "%Y"}}, "line 2, column 'a': '1' is no date as '%Y'"),
        ("a\n2024-02-29\n2023-02-29\n", {}, "line 3, column 'a': '2023-02-29' is no date"),
        ("a\n1\n-1e999\n", {}, "line 3, column 'a': '-1e999' is no number"),
        ("a,b\n1,2\n", {"decimal": ",", "thousands": ","}, "two different signs"),
        ("a,b\n1,2\n", {"decimal": ""}, "two different signs"),
    ],
)
def test_errors_say_what_is_wrong_and_where(text, settings, message):
    with pytest.raises(ValueError, match=message):
        read(text, **settings)


def test_one_text_for_a_missing_value_is_that_text_and_not_its_characters():
    table = read("a,b\n-999,9\n1,2\n", missing="-999")
    assert table.missing("a").tolist() == [True, False] and table["b"].tolist() == [9, 2]
    with pytest.raises(TypeError, match=r"missing must be texts as they stand in the file.* got \[-999\]"):
        read("a,b\n-999,9\n1,2\n", missing=[-999])


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(OSError):
        read_csv(tmp_path)
    with pytest.raises(ValueError, match="/dev/zero is a device"):
        read_csv("/dev/zero")


@given(st.one_of(st.text(max_size=60), st.text(alphabet='ab1,;\t|"\n\r. -:T0', max_size=80)))
def test_any_text_is_a_table_or_a_value_error(text):
    try:
        table = read(text)
    except ValueError:
        return
    assert len(table) > 0 and repr(table)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_table_or_a_value_error(content):
    try:
        table = read_csv(io.BytesIO(content))
    except ValueError:
        return
    assert len(table) > 0 and repr(table)


@given(st.lists(st.tuples(st.floats(allow_nan=False), st.integers(-(2**63) + 1, 2**63 - 1)), min_size=1, max_size=20))
def test_numbers_come_back_exactly(rows):
    table = read("a,b\n" + "".join(f"{x!r},{n}\n" for x, n in rows))
    assert table["a"].tolist() == [x for x, _ in rows]
    assert table["b"].tolist() == [n for _, n in rows]
