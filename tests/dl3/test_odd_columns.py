"""Every column of every table and of both indexes as every kind of column: read as the numbers are, or refused."""

import hashlib
import io
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from astropy.io import fits

from cubeflow.dl3.entries import direction_of
from cubeflow.dl3.index import StoreError, open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.observation import RunRefused
from cubeflow.store.keys import canonical_json


def letter(values: np.ndarray, code: str) -> str:
    """TFORM of an array, rows first, of one type."""
    return f"{int(np.prod(values.shape[1:], dtype=int))}{code}"


def as_type(code: str, dtype: str) -> Callable:
    """The numbers, as another type."""

    def change(name, values, unit):
        dim = "(" + ",".join(map(str, values.shape[:0:-1])) + ")" if values.ndim > 2 else None
        with np.errstate(all="ignore"):
            return fits.Column(name, letter(values, code), unit, dim=dim, array=values.astype(dtype))

    return change


def as_text(name, values, unit):
    """Each number as text; of an array all of them in one text."""
    cells = [" ".join(f"{number:.9g}" for number in np.atleast_1d(row).ravel()) for row in values]
    return fits.Column(name, f"{max(map(len, cells))}A", unit, array=np.array(cells))


def as_variable_length(code: str) -> Callable:
    """The numbers of a row as an array of variable length."""

    def change(name, values, unit):
        rows = np.empty(len(values), dtype=object)
        rows[:] = [np.atleast_1d(row).ravel().astype("f8") for row in values]
        return fits.Column(name, f"{code}D()", unit, array=rows)

    return change


def with_repeat(repeat: int) -> Callable:
    """Another number of values in each row than belongs there."""

    def change(name, values, unit):
        array = np.resize(values.astype("f8"), (len(values), repeat)) if repeat else None
        return fits.Column(name, f"{repeat}D", unit, array=array)

    return change


def masked(name, values, unit):
    """Whole numbers of which the first is masked."""
    numbers = values.astype("i4")
    numbers.reshape(len(values), -1)[0, 0] = -99
    return fits.Column(name, letter(values, "J"), unit, null=-99, array=numbers)


def scaled(name, values, unit):
    """The numbers times 1024, less 7, in another column's clothes."""
    dim = "(" + ",".join(map(str, values.shape[:0:-1])) + ")" if values.ndim > 2 else None
    column = fits.Column(name, letter(values, "D"), unit, dim=dim, array=values.astype("f8") * 1024.0 - 7.0)
    column.edits = {"TSCAL": 1 / 1024, "TZERO": 7 / 1024}
    return column


KINDS: dict[str, Callable] = {
    "text": as_text,
    "words": lambda name, values, unit: fits.Column(name, "5A", unit, array=np.array(["word"] * len(values))),
    "logical": as_type("L", "?"),
    "bits": lambda name, values, unit: fits.Column(name, "8X", unit, array=np.ones((len(values), 8), bool)),
    "complex": as_type("C", "c8"),
    "double complex": as_type("M", "c16"),
    "variable length": as_variable_length("P"),
    "long variable length": as_variable_length("Q"),
    "no values": with_repeat(0),
    "one value": with_repeat(1),
    "two values": with_repeat(2),
    "seven values": with_repeat(7),
    "masked": masked,
    "bytes": as_type("B", "u1"),
    "short": as_type("I", "i2"),
    "long": as_type("K", "i8"),
    "single": as_type("E", "f4"),
    "double": as_type("D", "f8"),
    "nan": lambda name, values, unit: as_type("D", "f8")(name, np.full(values.shape, np.nan), unit),
    "infinite": lambda name, values, unit: as_type("D", "f8")(name, np.full(values.shape, np.inf), unit),
    "huge": lambda name, values, unit: as_type("D", "f8")(name, np.full(values.shape, 1e308), unit),
    "scaled": scaled,
}
EDITS = {  # keys of the column in the header
    "scale 0": {"TSCAL": 0.0},
    "scale huge": {"TSCAL": 1e308, "TZERO": -1e308},
    "scale text": {"TSCAL": "two"},
    "zero text": {"TZERO": "x"},
    "zero unsigned": {"TZERO": 2**31},
    "null of a float": {"TNULL": 3},
    "null text": {"TNULL": "x"},
    "unit unknown": {"TUNIT": "furlong"},
    "unit number": {"TUNIT": 3},
    "unit wrong": {"TUNIT": "kg"},
    "dim wrong": {"TDIM": "(2,3)"},
    "dim number": {"TDIM": 7},
    "dim negative": {"TDIM": "(-1,-5)"},
    "dim huge": {"TDIM": "(99999999,99999999)"},
    "form absent": {"TFORM": None},
    "form huge": {"TFORM": "2147483648D"},
    "form unknown": {"TFORM": "3Z"},
    "form number": {"TFORM": 5},
    "name absent": {"TTYPE": None},
    "name number": {"TTYPE": 5},
    "name twice": {"TTYPE": "OTHER"},
}


def odd_table(table, name: str, change) -> bytes:
    """A table as a file, with one column written in another way, or with other keys."""
    columns, number = list(table.columns), table.columns.names.index(name)
    edits = change
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if callable(change):
            columns[number] = change(name, table.data[name], table.columns[number].unit)
            edits = getattr(columns[number], "edits", {})
        made = fits.BinTableHDU.from_columns(columns, name=table.name)
        made.header.extend(table.header.cards, unique=True)
        content = to_bytes(made)
        for key, value in edits.items():
            content = with_card(content, f"{key}{number + 1}", value)
    return content


def to_bytes(hdu) -> bytes:
    """File of one table."""
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(stream, output_verify="ignore")
    return stream.getvalue()


def with_card(content: bytes, key: str, value) -> bytes:
    """The file with a key of the header of its table changed, added, or removed."""
    with fits.open(io.BytesIO(content)) as hdus:
        start, end = hdus[1].fileinfo()["hdrLoc"], hdus[1].fileinfo()["datLoc"]
    cards = [content[place : place + 80] for place in range(start, end, 80)]
    cards = [card for card in cards if card[:8].strip().decode() != key and card.strip() and card[:8] != b"END     "]
    if value is not None:
        text = f"'{value:8}'" if isinstance(value, str) else f"{value:>20}"
        cards.append(f"{key:8}= {text}".ljust(80).encode())
    cards.append(b"END".ljust(80))
    header = b"".join(cards)
    header += b" " * (-len(header) % 2880)
    return content[:start] + header + content[end:]


@pytest.fixture(scope="module")
def tables(stores):
    """Tables of a run with the optional columns, by HDU type."""
    run = stores.make_run(7)
    events = run["events"].columns
    events["MC_ID"] = (np.arange(len(events["TIME"][0]), dtype="i4"), "")
    return {name: stores.to_hdu(table) for name, table in run.items()}


PLACES = [
    *(("events", name) for name in ("EVENT_ID", "TIME", "RA", "DEC", "ENERGY", "MC_ID")),
    *(("gti", name) for name in ("START", "STOP")),
    *(("aeff", name) for name in ("ENERG_LO", "ENERG_HI", "THETA_LO", "THETA_HI", "EFFAREA")),
    *(("edisp", name) for name in ("ENERG_LO", "ENERG_HI", "MIGRA_LO", "MIGRA_HI", "THETA_LO", "THETA_HI", "MATRIX")),
    *(("psf", name) for name in ("ENERG_LO", "ENERG_HI", "THETA_LO", "THETA_HI", "RAD_LO", "RAD_HI", "RPSF")),
    *(("bkg", name) for name in ("ENERG_LO", "ENERG_HI", "DETX_LO", "DETX_HI", "DETY_LO", "DETY_HI", "BKG")),
]
NO_NUMBERS = ("text", "words", "logical", "bits", "complex", "double complex", "variable length")
NO_NUMBERS += ("long variable length", "scale text", "zero text", "form absent", "form huge", "form unknown")
NO_NUMBERS += ("form number", "name absent", "name number")
SAME = ("double", "scaled", "null of a float", "null text")


def values_of(observation) -> dict[str, np.ndarray]:
    """All numbers that were read of a run."""
    background = observation.background
    axes = observation.aeff.energy_true.values, observation.psf.rad.values, observation.edisp.offset.values
    return {
        "time": observation.events.time_s,
        "ra": observation.events.ra_deg,
        "dec": observation.events.dec_deg,
        "energy": observation.events.energy_tev,
        "mc_id": observation.events.mc_id,
        "gti": np.stack([observation.gti.start_s, observation.gti.stop_s]),
        "aeff": observation.aeff.area_m2,
        "edisp": observation.edisp.density,
        "psf": observation.psf.density_sr,
        "bkg": background.rate,
        "axes": np.concatenate(
            [*axes, background.energy_edges_tev, background.lon_edges_deg, background.lat_edges_deg]
        ),
    }


@pytest.mark.parametrize("place", PLACES, ids=" ".join)
def test_every_column_as_every_kind_is_read_or_refused(tables, tmp_path, place):
    """Never another error; what is no number is refused by the name of its column, equal numbers are read as such."""
    contents = {name: to_bytes(table) for name, table in tables.items()}
    primary = contents["events"][:2880]
    path, hdu_type, column = tmp_path / "run.fits", *place
    path.write_bytes(primary + b"".join(content[2880:] for content in contents.values()))
    expected = values_of(read_observation(open_store(path).runs[0]))
    for kind, change in {**KINDS, **EDITS}.items():
        odd = contents | {hdu_type: odd_table(tables[hdu_type], column, change)}
        path.write_bytes(primary + b"".join(content[2880:] for content in odd.values()))
        try:
            found = values_of(read_observation(open_store(path).runs[0]))
        except (RunRefused, StoreError) as refusal:
            reason, found = str(refusal), None
            assert "\n" not in reason
            assert "local variable" not in reason
        if kind in NO_NUMBERS:
            assert found is None, (kind, "was read")
            assert tables[hdu_type].name in reason, (kind, reason)
            assert any(word in reason for word in (column, "TTYPE", "TFORM", "TSCAL", "TZERO", "columns")), (
                kind,
                reason,
            )
        if kind in SAME and not (column == "MC_ID" and "null" in kind):  # whole numbers can be masked
            assert found is not None, (kind, reason)
            for name, values in found.items():
                atol = 1e-7 * np.abs(expected[name]).max()
                np.testing.assert_allclose(values, expected[name], rtol=2e-7, atol=atol, err_msg=f"{kind}: {name}")


INDEX_COLUMNS = {
    "hdu-index": ("OBS_ID", "HDU_TYPE", "HDU_CLASS", "FILE_DIR", "FILE_NAME", "HDU_NAME", "SIZE", "MD5"),
    "obs-index": ("OBS_ID", "RA_PNT", "DEC_PNT", "ZEN_PNT", "OBJECT"),
}


@pytest.mark.parametrize(("index", "column"), [(name, each) for name, all in INDEX_COLUMNS.items() for each in all])
def test_every_column_of_the_indexes_as_every_kind(stores, tmp_path, index, column):
    """A store, or one line on the file; runs are those of the index, whole numbers whatever their type."""
    path = stores.write_run(tmp_path, 7)
    rows = [
        row | {"SIZE": 3, "MD5": hashlib.md5(path.read_bytes()).hexdigest()} for row in stores.index_rows(7, path.name)
    ]
    stores.write_index(tmp_path, rows)
    file = tmp_path / f"{index}.fits"
    with fits.open(file) as hdus:
        table = hdus[1].copy()
    for kind, change in {**KINDS, **EDITS}.items():
        if table.data[column].dtype.kind in "SU" and kind not in ("words", *EDITS):
            continue
        file.write_bytes(odd_table(table, column, change))
        store, reason = None, f"{file.name}: "
        try:
            store = open_store(tmp_path)
        except StoreError as error:
            reason = str(error)
        assert file.name in reason, (kind, reason)
        assert "\n" not in reason
        runs = store.runs if store else ()
        for run in runs:  # all that a plan looks at
            assert type(run.obs_id) is int
            direction_of(run.obs_info)
            assert len(dict(run.obs_info)) > 1
            canonical_json([[ref.hdu_name, ref.size, ref.md5] for ref in run.hdus])
        if column == "OBS_ID" and kind in ("text", "double", "single", "short", "bytes", "scaled", "long"):
            assert [run.obs_id for run in runs] == [7], (kind, reason)


@pytest.mark.parametrize("values", [[b"7"] * 6 + [b"8x"], [7.0] * 6 + [8.5], [7.0] * 6 + [np.nan]])
def test_a_row_of_an_index_without_a_run_does_not_stop_the_others(stores, tmp_path, values):
    path = stores.write_run(tmp_path, 7)
    rows = stores.index_rows(7, path.name)
    rows.append(dict(rows[0]))
    table = stores.to_hdu(
        stores.TableSpec(
            "X",
            {key: (np.array([row[key].encode() for row in rows]), "") for key in list(rows[0])[1:]}
            | {"OBS_ID": (np.array(values), "")},
            {},
        )
    )
    (tmp_path / "hdu-index.fits").write_bytes(to_bytes(table))
    store = open_store(tmp_path)
    assert read_observation(store.runs[0]).obs_id == 7
    assert f"hdu-index.fits: OBS_ID = {values[-1]!r} in 1 rows, expected a whole number" in store.left_out[0]
