import subprocess
import sys
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from tinygrad_gru.data import ArrayBatches, Standardizer, Table, split_by_time, windows


@pytest.fixture
def table():
    return Table(
        {
            "day": np.arange("2024-01-01", "2024-01-05", dtype="datetime64[D]"),
            "load": [1.5, np.nan, 2.5, 4.0],
            "city": ["Rome", "Paris", None, "Rome"],
            "open": [True, False, True, True],
        }
    )


def test_columns_rows_and_parts(table):
    assert len(table) == 4 and table.columns == list(table) == ["day", "load", "city", "open"]
    assert "load" in table and "price" not in table
    assert table["open"].tolist() == [True, False, True, True]
    assert table[["load", "day"]].columns == ["load", "day"]
    assert table[1:3]["city"].tolist() == ["Paris", None]
    assert table[table["open"]]["load"].tolist() == [1.5, 2.5, 4]
    assert table[[3, 0]]["load"].tolist() == [4, 1.5]
    assert Table({**table, "hour": np.arange(4)}).columns == [*table.columns, "hour"]


def test_the_report_has_types_missing_values_ranges_and_categories(table):
    assert repr(table).splitlines() == [
        "4 rows, 4 columns",
        "column  type      missing  values",
        "day     date            0  2024-01-01 to 2024-01-04",
        "load    number          1  1.5 to 4, mean 2.66667",
        "city    category        1  2: Rome (2), Paris (1)",
        "open    boolean         0  0 to 1, mean 0.75",
    ]
    many = Table({"name": [f"a long name with the number {k}" for k in range(9)], "none": [np.nan] * 9})
    assert "9: a long name with the nu… (1), " in many.report() and many.report().endswith("no values")
    assert many.report().splitlines()[2].endswith(", …")
    wide = Table({f"c{k}": [1.0] for k in range(50)})
    assert len(wide.report().splitlines()) == 43 and wide.report().endswith("10 more columns")


def test_numbers_booleans_and_dates_are_an_array(table):
    array = table.array(["load", "open", "day"])
    assert array.dtype == float and array.shape == (4, 3)
    assert array[:, 1].tolist() == [1, 0, 1, 1]
    assert array[0, 2] == datetime(2024, 1, 1, tzinfo=timezone.utc).timestamp()
    assert array[1, 2] - array[0, 2] == 86400
    assert np.isnan(array[:, 0]).tolist() == [False, True, False, False]
    assert table.array("load").shape == (4, 1)
    assert np.asarray(table[["load", "open"]], dtype=np.float32).dtype == np.float32
    with pytest.raises(TypeError, match=r"column 'city' holds categories.*one_hot\('city'\).*codes\('city'\)"):
        table.array()


def test_categories_are_ids_or_columns_of_0_and_1(table):
    assert table.categories("city") == ["Paris", "Rome"]
    hot = table.one_hot("city")
    assert hot.columns == ["day", "load", "city=Paris", "city=Rome", "open"]
    assert np.array_equal(hot["city=Rome"], [1, 0, np.nan, 1], equal_nan=True)
    present = table[~table.missing("city")]
    assert present.codes("city").tolist() == [1, 0, 1]
    assert present.codes("city", ["Rome", "Oslo", "Paris"]).tolist() == [0, 2, 0]
    assert present[:1].one_hot("city", ["Oslo", "Rome"]).array(["city=Oslo", "city=Rome"]).tolist() == [[0, 1]]
    assert Table({"n": [3, 1, 3]}).codes("n").tolist() == [1, 0, 1]
    days = np.array(["2024-01-02", "0000-01-01", "NaT"], "datetime64[D]")
    assert Table({"day": days[:2]}).codes("day").tolist() == [1, 0]
    assert Table({"day": days}).categories("day") == [days[1], days[0]]
    with pytest.raises(ValueError, match="column 'city' has 1 missing values, which have no id"):
        table.codes("city")
    with pytest.raises(ValueError, match=r"column 'city' has 'Paris', which is not among the categories \['Rome'\]"):
        table.one_hot("city", ["Rome"])


def test_missing_values_are_filled_by_the_word_of_the_caller_alone(table):
    assert table.missing("load").tolist() == [False, True, False, False]
    assert table.fill_missing("load", value=0)["load"].tolist() == [1.5, 0, 2.5, 4]
    assert table.fill_missing("load", method="forward")["load"].tolist() == [1.5, 1.5, 2.5, 4]
    assert table.fill_missing("load", method="interpolate")["load"].tolist() == [1.5, 2, 2.5, 4]
    assert table.fill_missing(["city"], value="Oslo")["city"].tolist() == ["Rome", "Paris", "Oslo", "Rome"]
    assert table.fill_missing("city", method="forward")["city"].tolist() == ["Rome", "Paris", "Paris", "Rome"]
    dates = Table({"day": np.array(["2024-01-01", "NaT"], "datetime64[D]")})
    assert str(dates.fill_missing("day", value="2024-01-09")["day"][1]) == "2024-01-09"
    assert str(dates.fill_missing("day", value="2024-01-09T12:30")["day"][1]) == "2024-01-09T12:30:00"
    assert np.isnan(table["load"][1])


@pytest.mark.parametrize("method", ["forward", "interpolate"])
def test_what_nothing_is_known_of_stays_missing(method):
    column = Table({"a": [np.nan, 1, np.nan, 3]}).fill_missing("a", method=method)["a"]
    assert np.isnan(column[0]) and not np.isnan(column[1:]).any()
    assert np.isnan(Table({"a": [np.nan] * 2}).fill_missing("a", method=method)["a"]).all()


def test_whatever_takes_arrays_takes_a_table_of_numbers():
    table = Table({"a": [1, 2, 3, 4, 5], "b": [5.0, 4, 3, 2, 1]})
    assert ArrayBatches(table, table["a"], 2).next_batch().inputs.tolist() == [[1, 5], [2, 4]]
    training, test = split_by_time(table, 0.6)
    assert isinstance(test, Table) and test["a"].tolist() == [4, 5]
    assert Standardizer().fit(training).transform(test).shape == (2, 2)
    assert windows(table, 2, targets=table["b"])[0].shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t["laod"], KeyError, r"no column 'laod' \(did you mean 'load'"),
        (lambda t: t["price"], KeyError, "no column 'price', there are day, load, city, open"),
        (lambda t: t[["load", "x"]], KeyError, "no column 'x'"),
        (lambda t: t[0], TypeError, "the name of a column, a list of names, or a slice or array of rows, got 0"),
        (lambda t: t["load", "day"], TypeError, "name of a column"),
        (lambda t: t.fill_missing("load"), ValueError, "give a value, or method="),
        (lambda t: t.fill_missing("load", method="mean"), ValueError, "give a value, or method="),
        (lambda t: t.fill_missing("load", value=0, method="forward"), ValueError, "give a value, or method="),
        (lambda t: t.fill_missing("city", method="interpolate"), TypeError, "column 'city' holds a category"),
        (lambda t: Table({"a": [1, 2], "b": [1]}), ValueError, "the same length, got {'a': 2, 'b': 1}"),
        (lambda t: Table({"a": [[1, 2]]}), ValueError, r"column 'a' must have one value a row, \(N,\)"),
        (lambda t: Table({"a": ["x", 1.5, None]}), TypeError, "column 'a' .* got values of type float, str"),
        (lambda t: Table({"a": [1j]}), TypeError, "column 'a' must hold numbers.* got complex128"),
        (lambda t: Table({"a": [2**53 + 1, None]}), ValueError, "column 'a' has missing .* integers beyond 9007"),
        (lambda t: Table({"a": np.ma.array([1, 2], mask=[True, False])}), TypeError, "a is a masked array"),
        (lambda t: Table({**t, "city=Rome": t["load"]}).one_hot("city"), ValueError, "a column 'city=Rome' already"),
        (lambda t: t.one_hot("city", {"Rome", "Paris"}), TypeError, "categories must be a list, whose order"),
        (lambda t: t.codes("city", ["Rome", "Paris", "Rome"]), ValueError, "the categories must differ"),
        (lambda t: Table({"a": [2**64]}), ValueError, "column 'a' has integers beyond int64"),
        (lambda t: Table({1: [1], "1": [2]}), ValueError, "names of columns must differ"),
        (lambda t: t.array([]), ValueError, "no columns"),
        (lambda t: Table.from_frame([1]), TypeError, "expected a frame, with columns, got a list"),
        (lambda t: t.fillna(0), AttributeError, "a Table has no attribute 'fillna'; here it is table.fill_missing"),
        (lambda t: t.load, AttributeError, r"a Table has no attribute 'load'; here it is table\['load'\]"),
        (lambda t: t.nothing, AttributeError, "a Table has no attribute 'nothing'$"),
    ],
)
def test_errors_name_the_column(table, call, error, message):
    with pytest.raises(error, match=message):
        call(table)


def test_python_objects_are_columns():
    zone = timezone(timedelta(hours=2))
    table = Table(
        {
            "when": [datetime(2024, 1, 1, 2, tzinfo=zone), None],
            "flag": [None, True],
            "n": np.array([1, 2], dtype=object),
            "x": np.array([1, None], dtype=object),
        }
    )
    assert str(table["when"][0]) == "2024-01-01" and np.isnat(table["when"][1])
    assert np.array_equal(table["flag"], [np.nan, 1], equal_nan=True)
    assert table["n"].dtype.kind == "i" and np.isnan(table["x"][1])


@pytest.fixture(params=["pandas", "pandas, nullable", "polars"])
def frame(request):
    library = request.param.partition(",")[0]
    package = pytest.importorskip(library, reason=f"needs {library}: pip install {library}")
    values = {
        "n": [1, 2, 3],
        "gap": [1, None, 3],
        "x": [0.5, None, 1.5],
        "flag": [True, False, True],
        "city": ["Rome", None, "Oslo"],
        "day": [datetime(2024, 1, 1), datetime(2024, 1, 2), None],
    }
    frame = package.DataFrame(values)
    return frame.convert_dtypes().astype({"city": "category"}) if "nullable" in request.param else frame


def test_frames_are_taken_where_they_come(frame):
    table = Table.from_frame(frame)
    assert [line.split()[:3] for line in repr(table).splitlines()[2:]] == [
        ["n", "number", "0"],
        ["gap", "number", "1"],
        ["x", "number", "1"],
        ["flag", "boolean", "0"],
        ["city", "category", "1"],
        ["day", "date", "1"],
    ]
    assert table["city"].tolist() == ["Rome", None, "Oslo"]
    assert str(table["day"][1])[:10] == "2024-01-02"
    batch = ArrayBatches(frame[["n", "x", "flag"]], frame["n"], 3).next_batch()
    assert np.array_equal(batch.inputs, [[1, 0.5, 1], [2, np.nan, 0], [3, 1.5, 1]], equal_nan=True)
    assert batch.targets.tolist() == [1, 2, 3]
    assert ArrayBatches(frame["gap"]).next_batch().inputs[2] == 3
    assert windows(frame[["n", "x"]], 1, nan="keep")[0].shape == (2, 1, 2)
    with pytest.raises(TypeError, match="column 'city' holds categories"):
        ArrayBatches(frame)
    training, test = split_by_time(frame, 0.67)
    assert len(training) == 2 and len(test) == 1


def test_nothing_is_imported_that_is_not_used():
    code = "import sys, tinygrad_gru.data; print({'pandas', 'polars', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
