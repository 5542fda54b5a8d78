"""The registry of quirks: one place, and conditions that hold for what they name."""

import re
from pathlib import Path

import pytest

from cubeflow.dl3 import quirks
from cubeflow.dl3.quirks import QUIRKS, REPAIRS, Facts, Notes, header_quirks
from cubeflow.products import acceptance_model
from cubeflow.products.acceptance_model import BEYOND, UNMATCHED

SOURCE = Path(quirks.__file__).parent
MODEL = Path(acceptance_model.__file__)  # which notes a quirk beside the readers


def test_every_name_that_the_readers_note_is_registered():
    noted = set()
    for path in SOURCE.glob("*.py"):
        noted |= set(re.findall(r"(?:notes\.quirk\(|quirks\.append\(|quirks\[)\"([\w-]+)\"", path.read_text()))
        noted |= set(re.findall(r"notes\.repair\(\"\w+\", .*, \"([\w-]+)\"\)", path.read_text()))
    assert len(noted) > 17
    noted |= {BEYOND, UNMATCHED}
    assert noted <= QUIRKS.keys()
    assert QUIRKS[BEYOND].is_suspect
    assert not REPAIRS["events_not_selected"][1]


def test_every_repair_that_the_readers_count_has_words():
    counted = set()
    for path in SOURCE.glob("*.py"):
        counted |= set(re.findall(r"(?:notes\.repair\(|clip_negative\(\w+, )\"(\w+)\"", path.read_text()))
    assert counted | {"edisp_negative", "psf_negative"} == REPAIRS.keys()


def test_every_quirk_is_described_once_and_met_somewhere():
    source = " ".join(path.read_text() for path in (*SOURCE.glob("*.py"), MODEL) if path.name != "quirks.py")
    for name, quirk in QUIRKS.items():
        assert quirk.description
        assert quirk.applies is not None or f'"{name}"' in source


@pytest.mark.parametrize(
    ("kind", "header", "columns", "expected"),
    [
        ("events", {"TIMESYS": "utc", "HDUCLAS1": "EVENTS"}, {}, ["timesys-lower-case"]),
        ("gti", {"MJDREFI": 53402.0, "HDUCLAS1": "GTI"}, {"START": "s", "STOP": "s"}, ["float-mjdrefi"]),
        ("gti", {"HDUCLAS1": "GTI"}, {"START": "", "STOP": ""}, ["gti-without-unit"]),
        ("events", {"HDUCLAS1": "EVENTS", "ALTITUDE": 2.15, "ALT_PNT": 90}, {}, ["altitude-in-km", "alt-pnt-90"]),
        ("events", {"TELAPSE": 0, "OBS_MODE": "WOBBLE", "RADECSYS": "FK5", "HDUCLAS1": "EVENTS"}, {}, None),
        (
            "edisp",
            {"HDUCLASS": "OGIP", "HDUCLAS1": "RESPONSE", "HDUCLAS4": "2D"},
            {},
            ["ogip-hduclass", "hduclas4-cut"],
        ),
        ("bkg", {"HDUCLAS1": "RESPONSE"}, {"BGD": "1/s/MeV/sr", "DETX_LO": "deg"}, None),
        ("aeff", {"HDUCLAS1": "RESPONSE", "LO_THRES": 0.3}, {"EFFAREA": "m2"}, []),
    ],
)
def test_conditions(kind, header, columns, expected):
    found = header_quirks(Facts(kind, header, columns))
    if expected is None:
        expected = (
            ["telapse-zero", "radecsys-key", "fk5-as-icrs", "obs-mode-wobble"]
            if kind == "events"
            else ["unit-not-fits", "bkg-column-bgd", "fovalign-missing"]
        )
    assert found == expected


CTOBSSIM = {"HDUCLAS1": "EVENTS", "NMCIDS": 1, "MID00001": 1, "MMN00001": "Background model"}


@pytest.mark.parametrize("creator", ["ctobssim (1.4.0)", "GammaLib", "ctselect", None])
def test_ctobssim_is_known_by_the_models_that_it_lists(creator):
    header = CTOBSSIM if creator is None else {**CTOBSSIM, "CREATOR": creator}
    assert header_quirks(Facts("events", header, {})) == ["ctobssim-background-per-livetime"]
    for key in ("NMCIDS", "MID00001", "MMN00001"):
        assert header_quirks(Facts("events", {k: v for k, v in header.items() if k != key}, {})) == []


def test_events_that_gammapy_simulated_keep_the_rate_of_the_background():
    """They list their models as ctobssim does, and their background is drawn for the ontime."""
    header = {**CTOBSSIM, "CREATOR": "Gammapy 2.1"}
    assert header_quirks(Facts("events", header, {})) == []


def test_notes_keep_order_add_up_and_refuse_unknown_names():
    notes = Notes()
    notes.repair("a", 2)
    notes.repair("b", 0)
    notes.add(Notes({"theta-nodes": None}, {"a": 3}))
    assert (list(notes.quirks), notes.repairs) == (["theta-nodes"], {"a": 5})
    with pytest.raises(KeyError):
        notes.quirk("no-such-quirk")
