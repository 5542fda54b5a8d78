"""Tables written directly, read back by astropy."""

import io
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeflow.steps.cells import BLOCK_ROWS, Cells
from cubeflow.steps.table_files import NO_NUMBER, TableColumn, csv_parts, ecsv_parts, fits_parts

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=9)
KINDS = {
    "int64": st.integers(-(2**53), 2**53),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
    "string": st.lists(TEXT, min_size=1, max_size=4).map(" ".join).filter(lambda text: text not in ("nan", "--")),
    "bool": st.booleans(),
}


@st.composite
def tables(draw) -> list[TableColumn]:
    n_rows = draw(st.integers(1, 5))
    columns = []
    for number, kind in enumerate(draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=5))):
        values = draw(st.lists(st.none() | KINDS[kind], min_size=n_rows, max_size=n_rows))
        values[0] = draw(KINDS[kind])
        unit = draw(st.sampled_from([None, "deg", "TeV", "s-1 sr-1"]))
        columns.append(TableColumn(f"c_{number}", tuple(values), unit, draw(st.just("") | TEXT)))
    return columns


def ecsv_text(columns, meta) -> str:
    return b"".join(ecsv_parts(columns, meta)).decode()


def csv_text(columns) -> str:
    return b"".join(csv_parts(columns)).decode()


def fits_bytes(columns, name) -> bytes:
    return b"".join(fits_parts(columns, name))


def plain(column) -> list:
    return [None if value is np.ma.masked else value for value in column.tolist()]


@settings(deadline=None, max_examples=150)
@given(tables())
def test_ecsv_is_read_back_by_astropy(columns):
    read = Table.read(ecsv_text(columns, {"labels": ["a b", "c"], "key": "0" * 16}), format="ascii.ecsv")
    assert dict(read.meta) == {"labels": ["a b", "c"], "key": "0" * 16}
    assert read.colnames == [column.name for column in columns]
    for column in columns:
        found = read[column.name]
        assert plain(found) == list(column.values)
        assert found.dtype.kind == {"int64": "i", "float64": "f", "string": "U", "bool": "b"}[column.datatype]
        assert (None if found.unit is None else found.unit.to_string("fits")) == _fits_unit(column.unit)
        assert (found.description or "") == column.description


def _fits_unit(unit: str | None) -> str | None:
    from astropy.units import Unit

    return None if unit is None else Unit(unit).to_string("fits")


@settings(deadline=None, max_examples=100)
@given(tables())
def test_fits_is_read_back_by_astropy(columns):
    with fits.open(io.BytesIO(fits_bytes(columns, "RUNS")), checksum=True) as hdus:
        hdus.verify("exception")
        data = hdus["RUNS"].data
        for column in columns:
            for value, found in zip(column.values, data[column.name], strict=True):
                _check_fits_cell(column.datatype, value, found)


def _check_fits_cell(datatype, value, found):
    if datatype == "string":
        assert found == (value or "").encode("ascii", "replace").decode()
    elif value is None:
        assert np.isnan(found) if datatype == "float64" else found == NO_NUMBER
    else:
        assert found == value


def test_fits_table_has_masked_cells_where_there_is_no_value():
    columns = [TableColumn("n", (1, None)), TableColumn("x", (None, 2.5)), TableColumn("t", ("a", None))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = Table.read(io.BytesIO(fits_bytes(columns, "RUNS")), format="fits")
    assert plain(read["n"]) == [1, None]
    assert plain(read["x"]) == [None, 2.5]


def test_csv_is_what_the_library_reads():
    import csv

    columns = [
        TableColumn("n", (1, None)),
        TableColumn("t", ('say "no", or\nyes', "")),
        TableColumn("x", (0.1, 1e-300)),
    ]
    rows = list(csv.DictReader(io.StringIO(csv_text(columns))))
    assert rows == [{"n": "1", "t": 'say "no", or yes', "x": "0.1"}, {"n": "", "t": "", "x": "1e-300"}]


@pytest.mark.parametrize(
    ("values", "datatype"),
    [
        ((1, 2.5), "float64"),
        ((None, None), "string"),
        ((True, None), "bool"),
        ((True, 2), "int64"),
        ((1, "a"), "string"),
    ],
)
def test_type_is_the_widest_of_the_values(values, datatype):
    assert TableColumn("x", values).datatype == datatype


def test_truth_values_among_numbers_are_numbers():
    columns = [TableColumn("n", (True, 2, None)), TableColumn("x", (False, 2.5, 1)), TableColumn("t", (True, "a", "b"))]
    read = Table.read(ecsv_text(columns, {"key": ""}), format="ascii.ecsv")
    assert [plain(read[name]) for name in ("n", "x", "t")] == [[1, 2, None], [0.0, 2.5, 1.0], ["True", "a", "b"]]
    assert csv_text(columns).splitlines()[1] == "1,0,True"


def test_many_rows_are_those_of_few():
    """Some hundred rows are written at a time."""
    n = 2 * BLOCK_ROWS + 3
    texts = tuple(f"run {row}, ä" if row % 7 else None for row in range(n))
    numbers, cells = tuple(0.1 * row if row % 5 else None for row in range(n)), Cells()
    cells.extend(numbers)
    columns = [TableColumn("t", texts), TableColumn("x", cells), TableColumn("n", tuple(range(n)))]
    for form, written in (("ascii.ecsv", ecsv_text(columns, {"key": ""})), ("ascii.csv", csv_text(columns))):
        read = Table.read(written, format=form)
        assert plain(read["n"]) == list(range(n))
        assert plain(read["x"]) == list(numbers)
    with fits.open(io.BytesIO(fits_bytes(columns, "RUNS")), checksum=True) as hdus:
        data = hdus["RUNS"].data
        assert data["n"].tolist() == list(range(n))
        assert data["t"].tolist() == [(text or "").replace("ä", "?") for text in texts]
        np.testing.assert_array_equal(data["x"], [np.nan if value is None else value for value in numbers])


def test_table_without_rows():
    columns = [TableColumn("n", ()), TableColumn("t", ())]
    assert csv_text(columns) == "n,t\n"
    with fits.open(io.BytesIO(fits_bytes(columns, "RUNS")), checksum=True) as hdus:
        assert len(hdus["RUNS"].data) == 0


def test_more_columns_than_fits_allows_are_an_error():
    columns = [TableColumn(f"c{number}", (number,)) for number in range(1000)]
    with pytest.raises(ValueError, match="table RUNS: expected at most 999 columns, got 1000"):
        fits_bytes(columns, "RUNS")
    with fits.open(io.BytesIO(fits_bytes(columns[:999], "RUNS"))) as hdus:
        assert hdus["RUNS"].data["c998"][0] == 998
