"""Positions as people write them against astropy; known names against the objects of a real store."""

import pytest
from astropy.coordinates import SkyCoord

from cubeflow.dl3.index import open_store
from cubeflow.errors import MistakeError
from cubeflow.maps.sphere import Position, angular_distance_deg
from cubeflow.tools.init import objects_of
from cubeflow.tools.targets import ALIASES, KNOWN, Place, parse_target, plain_name


def separation_deg(first: Place, second: Place) -> float:
    return float(angular_distance_deg(first.position.icrs_deg, second.position.icrs_deg))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("83.633 22.014", SkyCoord(83.633, 22.014, unit="deg")),
        ("83.633, +22.014", SkyCoord(83.633, 22.014, unit="deg")),
        ("83.633d 22.014d", SkyCoord(83.633, 22.014, unit="deg")),
        ("83.633deg 22.014deg", SkyCoord(83.633, 22.014, unit="deg")),
        ("05h34m31.94s, -0d0m52.2s", SkyCoord("05h34m31.94s -00d00m52.2s")),
        ("-30 -0.5", SkyCoord(330.0, -0.5, unit="deg")),
        ("05h34m31.94s +22d00m52.2s", SkyCoord("05h34m31.94s +22d00m52.2s")),
        ("05:34:31.94 +22:00:52.2", SkyCoord("05h34m31.94s +22d00m52.2s")),
        ("05 34 31.94 -00 00 52.2", SkyCoord("05h34m31.94s -00d00m52.2s")),
        ("13h02m47s-63d50m08s", SkyCoord("13h02m47s -63d50m08s")),
        ("galactic 184.56 -5.78", SkyCoord(184.56, -5.78, unit="deg", frame="galactic")),
        ("gal 359.9, 0.2", SkyCoord(359.9, 0.2, unit="deg", frame="galactic")),
        ("l=347.3 b=-0.5", SkyCoord(347.3, -0.5, unit="deg", frame="galactic")),
    ],
)
def test_positions(text, expected):
    place = parse_target(text)
    assert place.position.frame == expected.frame.name
    found = SkyCoord(*place.position.icrs_deg, unit="deg")
    assert found.separation(expected.icrs).arcsec < 0.01


@pytest.mark.parametrize(
    ("text", "name", "slug"),
    [
        ("83.65 22.01", "Crab", "crab"),
        ("10 -0.51", "j0040-0031", "j0040-0031"),
        ("galactic 23.5 -1", "g23.50-1.00", "g23.50-1.00"),
        ("rxj1713", "RX J1713.7-3946", "rx-j1713.7-3946"),
        ("LS I +61 303", "LS I +61 303", "ls-i-+61-303"),
        ("mrk 421", "Markarian 421", "markarian-421"),
    ],
)
def test_names_of_targets(text, name, slug):
    place = parse_target(text)
    assert (place.name, place.slug) == (name, slug)


def test_a_position_stays_as_given_beside_a_known_source():
    assert parse_target("83.65 22.01").position.lon_deg == 83.65
    assert parse_target("83.65 22.01").radius_deg == parse_target("Crab").radius_deg


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("Crb", "did you mean 'Crab'"),
        ("10 20 30", "expected a position"),
        ("83.6 92", "latitude of -90 to 90"),
        ("400 2", "longitude up to 360 deg"),
        ("M 86", "known name, got 'M 86'"),
        ("05h74m00s +22d00m00s", "below 60"),
        ("", "expected a position"),
    ],
)
def test_what_is_no_target(text, match):
    with pytest.raises(MistakeError, match=match):
        parse_target(text)


def test_objects_of_the_store_are_names():
    kepler = Place("Kepler SNR", Position(lon_deg=262.67, lat_deg=-21.4864))
    assert parse_target("kepler-snr", [kepler]) == kepler
    with pytest.raises(MistakeError, match="did you mean 'Kepler SNR'"):
        parse_target("Keppler SNR", [kepler])


def test_names_are_spelled_one_way_and_apart():
    names = [plain_name(place.name) for place in KNOWN]
    assert len(set(names)) == len(names)
    assert len(KNOWN) == 33
    assert {alias: ALIASES[alias].name for alias in ("m1", "sgra*")} == {"m1": "Crab", "sgra*": "Galactic Centre"}
    assert not set(ALIASES) & set(names)
    assert all(alias == plain_name(alias) for alias in ALIASES)
    for k, place in enumerate(KNOWN):
        assert min(separation_deg(place, other) for other in KNOWN[k + 1 :] + KNOWN[:k]) > 0.2


@pytest.mark.real_data
def test_known_positions_are_those_of_the_hess_index(hess_store):
    found = {plain_name(place.name): place for place, _ in objects_of(open_store(hess_store))}
    # The H.E.S.S. position of MSH 15-52 is that of the pulsar, ours that of the nebula.
    pairs = [("Crab Nebula", "Crab", 0.01), ("PKS 2155-304", "PKS 2155-304", 0.01), ("NGC 253", "NGC 253", 0.01)]
    pairs += [("Cen A", "Centaurus A", 0.01), ("SN 1006", "SN 1006", 0.05), ("MSH 15-5-02", "MSH 15-52", 0.15)]
    pairs += [("RXJ 1713.7-3946", "RX J1713.7-3946", 0.01)]
    for theirs, ours, limit in pairs:
        assert separation_deg(found[plain_name(theirs)], parse_target(ours)) < limit, theirs


@pytest.mark.parametrize(
    "text", [" " * 100_000, "l" + " " * 100_000, "gal" + " " * 100_000 + "x", "9" * 100_000 + " 9"]
)
def test_text_of_any_length_ends_in_one_short_line(text):
    """A pattern that takes the square of the length would need minutes here."""
    with pytest.raises(MistakeError, match="--target: ") as caught:
        parse_target(text)
    assert len(str(caught.value)) < 400


def test_blanks_say_nothing():
    assert parse_target("  galactic   184.56" + " " * 100_000 + "-5.78 ") == parse_target("galactic 184.56 -5.78")
