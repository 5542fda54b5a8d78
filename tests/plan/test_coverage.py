"""Pixels from the pointings against the cutouts that runs really get."""

from dataclasses import replace

import pytest

from cubeflow.dl3.index import RunEntry
from cubeflow.maps import NoOverlap, geometry_from_plain, make_cutout, make_geometry
from cubeflow.plan.coverage import coverage
from cubeflow.plan.model import BatchPlan, RunPlan, Selection, TargetSpec

POINTINGS = {1: (83.6, 21.5), 2: (83.6, 22.5), 3: (95.0, 22.3), 4: (70.1, 20.4), 5: (200.0, -60.0)}
BATCHES = tuple(
    BatchPlan(str(ids), tuple(RunPlan(obs_id, {}, "", {}) for obs_id in ids), {}) for ids in ((1, 2), (3, 4), (5,))
)


def spec_of(frame, projection, lon, lat, width, trim):
    def plain(pixel):
        geom = make_geometry(frame, projection, lon, lat, width, pixel)
        return {name: getattr(geom, name) for name in geom.__dataclass_fields__}

    reduce = {"geometry": plain(0.05), "irf_geometry": plain(0.5), "offset_max_deg": 1.7, "trim": trim}
    return TargetSpec("t", 83.6, 22.0, Selection(), reduce, {}, {}, {})


SPECS = {
    "plane": spec_of("icrs", "TAN", 83.6, 22.0, (5.0, 4.0), True),
    "whole cutouts": spec_of("icrs", "TAN", 83.6, 22.0, (5.0, 4.0), False),
    "wide": spec_of("icrs", "CAR", 83.6, 22.0, (40.0, 9.0), True),
    "galactic": spec_of("galactic", "CAR", 184.5, -5.8, (30.0, 30.0), False),
}


def entries(**changed):
    infos = {obs_id: {"RA_PNT": ra, "DEC_PNT": dec} for obs_id, (ra, dec) in POINTINGS.items()} | changed
    return {obs_id: RunEntry(obs_id, (), obs_info=info) for obs_id, info in infos.items()}


def cutouts(plain, ids, radius, trim):
    geom = geometry_from_plain(dict(plain))
    for obs_id in ids:
        try:
            yield make_cutout(geom, *POINTINGS[obs_id], radius, trim=trim)
        except NoOverlap:
            continue


def union(geoms):
    total = None
    for geom in geoms:
        total = geom if total is None else total.union(geom)
    return 0 if total is None else total.nx * total.ny


@pytest.mark.parametrize("name", SPECS)
def test_pixels_are_those_of_the_cutouts(name):
    spec = SPECS[name]
    found = coverage(spec, BATCHES, entries())
    for pixels, grid, margin in ((found.sky, "geometry", 0.0), (found.irf, "irf_geometry", 0.5**0.5)):
        plain = spec.reduce[grid]
        radius = spec.reduce["offset_max_deg"] + margin * plain["pixel_deg"]

        def made(ids, plain=plain, radius=radius):
            return list(cutouts(plain, ids, radius, spec.reduce["trim"]))

        everything = made(POINTINGS)
        assert pixels.total == plain["nx"] * plain["ny"]
        assert pixels.run == pytest.approx(max(geom.nx * geom.ny for geom in everything), rel=0.05, abs=8)
        assert pixels.batch == pytest.approx(max(union(made(ids)) for ids in ((1, 2), (3, 4), (5,))), rel=0.05, abs=8)
        assert pixels.stack == pytest.approx(union(everything), rel=0.05, abs=8)


@pytest.mark.parametrize("info", [{}, {"RA_PNT": None, "DEC_PNT": 3.0}, {"RA_PNT": float("nan"), "DEC_PNT": 3.0}])
def test_whole_map_where_a_pointing_is_not_known(info):
    found = coverage(SPECS["wide"], BATCHES, {**entries(), 2: RunEntry(2, (), obs_info=info)})
    assert (found.sky.batch, found.sky.stack) == (800 * 180,) * 2
    assert (found.sky, found.irf) == (coverage(SPECS["wide"]).sky, coverage(SPECS["wide"]).irf)
    assert found.runs == 5


def test_runs_that_miss_the_map_need_nothing():
    found = coverage(SPECS["plane"], BATCHES[2:], entries())
    assert (found.sky.run, found.sky.batch, found.sky.stack) == (0, 0, 0)


def test_small_map_bounds_the_cutout_unless_rings_need_more():
    small = replace(SPECS["plane"], reduce={**SPECS["plane"].reduce, "offset_max_deg": 9.0})
    assert coverage(small).sky.run == 100 * 80
    whole = replace(small, reduce={**small.reduce, "trim": False})
    assert coverage(whole).sky.run == 363**2
