"""Unit strings against astropy.units."""

import subprocess
import sys

import pytest
from astropy import units as u

from cubeflow.dl3.units import UnitError, factor, is_standard

RATE = "s-1 TeV-1 sr-1"


@pytest.mark.parametrize(
    ("text", "target", "same_as"),
    [
        ("TeV", "TeV", "TeV"),
        ("GeV", "TeV", "GeV"),
        ("MeV", "TeV", "MeV"),
        ("erg", "TeV", "erg"),
        ("J", "TeV", "J"),
        ("deg", "deg", "deg"),
        ("rad", "deg", "rad"),
        ("arcmin", "deg", "arcmin"),
        ("h", "s", "h"),
        ("m2", "m2", "m2"),
        ("m**2", "m2", "m2"),
        ("cm^2", "m2", "cm2"),
        ("km2", "m2", "km2"),
        ("sr^-1", "sr-1", "sr-1"),
        ("sr^(-1)", "sr-1", "sr-1"),
        ("sr**(-1)", "sr-1", "sr-1"),
        ("1/deg2", "sr-1", "deg-2"),
        ("MeV-1 s-1 sr-1", RATE, "MeV-1 s-1 sr-1"),
        ("1/s/MeV/sr", RATE, "MeV-1 s-1 sr-1"),
        ("s^-1.GeV^-1.sr^-1", RATE, "GeV-1 s-1 sr-1"),
        ("1 / (MeV s sr)", RATE, "MeV-1 s-1 sr-1"),
        ("", "", ""),
    ],
)
def test_factor(text, target, same_as):
    assert factor(text, target) == pytest.approx(u.Unit(same_as).to(u.Unit(target)), rel=1e-12)


@pytest.mark.parametrize(("text", "target"), [("deg", "TeV"), ("K", "s"), ("parrots", "m"), ("TeV", ""), ("m", "m2")])
def test_wrong_kind(text, target):
    with pytest.raises(UnitError, match=f"unit '{text}', expected one like '{target}'"):
        factor(text, target)


def test_usual_units_do_not_load_astropy():
    load = f"import sys; from cubeflow.dl3.units import factor; factor('1/s/MeV/sr', '{RATE}')"
    code = f"{load}; assert 'astropy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_standard_form():
    assert [is_standard(t) for t in ("MeV-1 s-1 sr-1", "sr^-1", "m2", "1/s/MeV/sr", "m**2", "sr^(-1)")] == [
        *(True, True, True),
        *(False, False, False),
    ]
