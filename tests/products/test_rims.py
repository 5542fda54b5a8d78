"""Excess just outside exclusions: against sums by hand, on sources of known width, and on empty sky."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from scipy.stats import norm, poisson

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.products.exclusion import (
    RIM_SIGMA,
    Areas,
    Disc,
    Exclusion,
    ExclusionMasks,
    Image,
    Polygon,
    Rim,
    find_rims,
)
from cubeflow.products.ring_background import RingOptions, make_map_ring_background

ENERGY = energy_axis([1.0, 3.0, 10.0])
GEOM = make_geometry("galactic", "CAR", 184.6, -5.8, (4.2, 3.4), 0.05)
CENTRE = SkyCoord(184.6, -5.8, unit="deg", frame="galactic").icrs
SOURCE = float(CENTRE.ra.deg), float(CENTRE.dec.deg)
WIDTH, DISC = 0.08, 0.1  # of the source (sigma) and of the disc, deg
RATES = np.array([3.0, 0.8])[:, None, None]  # events per pixel
RING = RingOptions(0.8, 0.3, per_energy=True)
METHODS = ["fov", "ring"]


def separation(ra=SOURCE[0], dec=SOURCE[1]):
    """Of each pixel centre from a position, deg, by astropy."""
    wcs: WCS = GEOM.wcs()
    y, x = np.indices(GEOM.shape)
    lon, lat = wcs.wcs_pix2world(x, y, 0)
    return SkyCoord(lon, lat, unit="deg", frame="galactic").separation(SkyCoord(ra, dec, unit="deg")).deg


def off_centre(longitude, latitude):
    """Position at offsets from the centre of the map in deg, ICRS."""
    place = SkyCoord(184.6 + longitude, -5.8 + latitude, unit="deg", frame="galactic").icrs
    return float(place.ra.deg), float(place.dec.deg)


def field(seed, events=0.0, at=SOURCE, scale=1.0):
    """Counts of an empty field, or with a Gaussian source, and the acceptance, which falls to one side."""
    rng = np.random.default_rng(seed)
    acceptance = scale * RATES * (1.0 + 0.2 * np.indices(GEOM.shape)[1] / GEOM.nx)
    shape = np.exp(-0.5 * (separation(*at) / WIDTH) ** 2)
    return rng.poisson(acceptance + 0.5 * events * shape / shape.sum()), acceptance


def maps_of(counts, acceptance, excluded, method):
    """Maps of a final cube; for rings the OFF counts are those outside the exclusion, as in a run."""
    made = {"mask_safe": Cube(np.ones(counts.shape, bool), "", GEOM, (ENERGY,))}
    made["counts"], accepted = (Cube(each, "", GEOM, (ENERGY,)) for each in (counts, acceptance))
    if method == "fov":
        return made | {"background": accepted}
    ring = make_map_ring_background(accepted, made["counts"], excluded, RING, made["mask_safe"].data)
    return made | {"background": ring.background, "counts_off": ring.counts_off}


def rims(counts, acceptance, exclusions, method):
    excluded = ExclusionMasks(exclusions).mask(GEOM)
    return find_rims(maps_of(counts, acceptance, excluded, method), exclusions, excluded, DISC)


def circles(*discs):
    return [Exclusion("some.reg", Areas(tuple(Disc(*disc) for disc in discs)))]


@pytest.mark.parametrize("method", METHODS)
def test_a_source_that_sticks_out_is_told_with_the_radius_that_would_do(method):
    counts, acceptance = field(1, events=2500.0)
    (rim,) = rims(counts, acceptance, circles((*SOURCE, 0.15)), method)
    assert (rim.ra_deg, rim.dec_deg, rim.radius_deg) == (*SOURCE, 0.15)
    assert rim.significance > 10.0
    # Outside 3.5 widths the source has 5 of its events, and a rim 200 of background.
    assert 0.2 <= 0.15 + rim.grow_deg <= 3.5 * WIDTH
    assert not rims(counts, acceptance, circles((*SOURCE, 0.15 + rim.grow_deg)), method)
    assert rims(counts, acceptance, circles((*SOURCE, 0.1 + rim.grow_deg)), method)


@pytest.mark.parametrize("method", METHODS)
def test_a_source_that_is_excluded_and_one_that_is_not_there_are_not_told(method):
    wide = circles((*SOURCE, 4 * WIDTH))
    assert rims(*field(2, events=2500.0), wide, method) == []
    assert rims(*field(2), circles((*SOURCE, 0.1)), method) == []
    assert rims(*field(2), [], method) == []


def test_significance_is_that_of_the_pixels_by_astropy():
    counts, acceptance = field(3, events=800.0)
    rim, *_ = rims(counts, acceptance, circles((*SOURCE, 0.12), (*off_centre(0.3, 0.0), 0.15)), "fov")
    near = (separation() >= 0.12) & (separation() < 0.12 + DISC) & (separation(*off_centre(0.3, 0.0)) >= 0.15)
    n, mu = counts[:, near].sum(), acceptance[:, near].sum()
    assert rim.significance == pytest.approx(np.sqrt(2 * (n * np.log(n / mu) - n + mu)), rel=1e-9)


def test_off_counts_are_the_mean_of_the_pixels():
    counts, acceptance = field(4, events=2500.0)
    exclusions = circles((*SOURCE, 0.15))
    maps = maps_of(counts, acceptance, ExclusionMasks(exclusions).mask(GEOM), "ring")
    (rim,) = find_rims(maps, exclusions, ExclusionMasks(exclusions).mask(GEOM), DISC)
    near = (separation() >= 0.15) & (separation() < 0.15 + DISC)
    n, mu = counts[:, near].sum(), maps["background"].data[:, near].sum()
    off = maps["counts_off"].data[:, near].sum() / near.sum()
    alpha = mu / off
    log = n * np.log((1 + alpha) / alpha * n / (n + off)) + off * np.log((1 + alpha) * off / (n + off))
    assert rim.significance == pytest.approx(np.sqrt(2 * log), rel=1e-9)


def test_what_cannot_be_used_does_not_count():
    counts, acceptance = field(5, events=2500.0)
    exclusions = circles((*SOURCE, 0.15))
    excluded = ExclusionMasks(exclusions).mask(GEOM)
    maps = maps_of(counts, acceptance, excluded, "fov")
    assert find_rims(maps, exclusions, excluded, DISC)
    unsafe = maps["mask_safe"].data & (separation() >= 0.5)
    assert not find_rims({**maps, "mask_safe": replace(maps["mask_safe"], data=unsafe)}, exclusions, excluded, DISC)
    del maps["background"]
    assert find_rims(maps, exclusions, excluded, DISC) == []


def test_areas_of_any_shape_are_told_where_they_are():
    """A square of an image about one source is too small; a polygon about another is not, nor a circle beside it."""
    first, second = off_centre(-1.0, 0.4), off_centre(0.8, -0.5)
    counts = field(6, 2500.0, first)[0] + field(7, 2500.0, second)[0]
    acceptance = 2 * field(8)[1]
    square = np.zeros((1, *GEOM.shape), bool)
    ix, iy = GEOM.pixel_index(*first)
    square[0, iy - 2 : iy + 3, ix - 2 : ix + 3] = True  # 0.25 deg wide
    corners = tuple(off_centre(0.8 + x, -0.5 + y) for x, y in ((-0.4, -0.4), (0.4, -0.4), (0.4, 0.4), (-0.4, 0.4)))
    exclusions = [Exclusion("mask.fits", Image(square, GEOM.wcs())), Exclusion("s.reg", Areas((Polygon(corners),)))]
    exclusions += circles((*off_centre(1.25, -0.5), 0.2))
    (rim,) = rims(counts, acceptance, exclusions, "fov")
    assert rim.radius_deg is None
    assert (rim.ra_deg, rim.dec_deg) == pytest.approx(first, abs=0.04)
    assert rim.significance > 5.0
    wider = np.zeros(square.shape, bool)
    y, x = np.indices(GEOM.shape)
    reach = np.hypot(*(np.maximum(np.abs(each - at) - 2, 0) for each, at in ((x, ix), (y, iy)))) - 0.5
    wider[0] = reach * GEOM.pixel_deg < rim.grow_deg
    assert not rims(
        counts, acceptance, [replace(exclusions[0], content=Image(wider, GEOM.wcs())), *exclusions[1:]], "fov"
    )


def test_each_area_is_a_trial():
    """3.3 sigma at the rim of one circle; of twelve, 3.7 may be chance."""
    counts = np.rint(np.full((2, *GEOM.shape), 2.0)).astype(int)
    acceptance = np.full(counts.shape, 2.0)
    near = np.flatnonzero((separation() >= 0.2) & (separation() < 0.2 + DISC))
    mu = 4.0 * near.size
    extra = next(n for n in range(1000) if 2 * ((mu + n) * np.log(1 + n / mu) - n) > 3.3**2)
    counts[0].flat[near[:extra]] += 1
    others = [(*off_centre(x, y), 0.15) for x in (-1.6, -0.8, 0.8, 1.6) for y in (-1.0, 0.0, 1.0)][:11]
    (rim,) = rims(counts, acceptance, circles((*SOURCE, 0.2)), "fov")
    assert RIM_SIGMA + 0.2 < rim.significance < RIM_SIGMA + 0.5
    assert rims(counts, acceptance, circles((*SOURCE, 0.2), *others), "fov") == []
    assert -norm.ppf(norm.sf(3.0) / 12) > rim.significance


EMPTY = [
    (*SOURCE, 0.3),
    (*off_centre(-1.3, 0.9), 0.1),
    (*off_centre(1.2, 0.8), 0.5),
    (*off_centre(-1.2, -0.9), 0.2),
]


@pytest.mark.parametrize("scale", [1.0, 0.004])
@pytest.mark.parametrize("method", METHODS)
def test_empty_fields_are_clean(method, scale, record_property):
    """At most 1 % of the areas of 100 fields without a source are told, with many events and with hardly any."""
    told = sum(len(rims(*field(1000 + seed, scale=scale), circles(*EMPTY), method)) for seed in range(100))
    record_property("told", told)
    assert told <= 0.01 * 100 * len(EMPTY)


@pytest.mark.parametrize("method", METHODS)
def test_a_sigma_is_a_sigma(method, monkeypatch):
    """From one sigma on there is 16 % of the rims of empty sky; of rings not more, for some of OFF is not counted."""
    monkeypatch.setattr("cubeflow.products.exclusion.RIM_SIGMA", 1.0)
    told = 0
    for seed in range(100):
        made = field(2000 + seed)
        told += sum(len(rims(*made, circles(disc), method)) for disc in EMPTY)
    share = norm.sf(1.0)
    low, high = (poisson.ppf(level, 400 * share) for level in (0.001, 0.999))
    assert (low if method == "fov" else 0.5 * low) <= told <= high


def test_what_is_told():
    rim = Rim(83.63308, 22.0145, 0.3, 5.26, 0.12)
    assert (
        rim.text
        == "5.3 sigma just outside what is excluded about RA 83.633 deg, Dec +22.015 deg: a radius of 0.42 deg would do"
    )
    assert replace(rim, radius_deg=None).text.endswith(": more by 0.12 deg would do")
    assert replace(rim, grow_deg=None).text.endswith(": nothing wider would do")
