"""Exclusion files at planning: what they hold goes to the jobs, and what has no effect is said."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.table import Table

from cubeflow.config import load_config
from cubeflow.dl3.files import InputChanged
from cubeflow.errors import MistakeError
from cubeflow.maps import make_geometry
from cubeflow.pipeline.tasks import Target
from cubeflow.plan.digests import DigestCache
from cubeflow.plan.exclusions import excluded_shares
from cubeflow.plan.make import make_target
from cubeflow.store.keys import from_plain, to_plain

RA, DEC = 83.633, 22.014
CIRCLE = f"icrs\ncircle({RA},{DEC},0.4)\n"
SHAPES = f"icrs\nellipse({RA},{DEC},0.4,0.3,20)\npolygon(82,21,83,21,83,22)\n-box({RA},{DEC},0.2,0.1,5)\n"


@pytest.fixture
def plan_of(tmp_path):
    """Target (with other keys of it), shares and what is said for exclusions: text by file name, and energy limits."""

    def plan(files, *, also=None, **changed):
        listed = []
        for name, content in files.items():
            text, limits = content if isinstance(content, tuple) else (content, {})
            if isinstance(text, str):
                (tmp_path / name).write_text(text)
            listed.append({"path": str(tmp_path / name), **limits})
        geometry = {"width": "3 deg", "pixel": "0.02 deg"}
        target = {"position": {"lon": f"{RA} deg", "lat": f"{DEC} deg"}, "geometry": geometry, **changed}
        config = {
            "data": {"store": str(tmp_path)},
            "results": str(tmp_path / "results"),
            "targets": {"t": target, **(also or {})},
            "energy": {"min": "1 TeV", "max": "10 TeV", "bins": 4},
            "energy_true": {"min": "0.3 TeV", "max": "30 TeV", "bins": 8},
            "exclusion": listed,
        }
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
        loaded, cache, said = load_config([tmp_path / "c.yaml"]), DigestCache(tmp_path / "digests.json"), []
        targets = {name: make_target(loaded, name, cache) for name in loaded.targets}
        shares = excluded_shares(targets, cache, said.append)
        return targets["t"], {Path(path).name: share for path, share in shares["t"].items()}, said

    return plan


def share_of(target, radius_deg):
    """Share of the field, 2 deg around the map, within a radius about the target, by counting coarse pixels."""
    grid = target.reduce.irf_geometry
    n = round(2.0 / grid.pixel_deg)
    field = grid.cutout(-n, -n, grid.nx + 2 * n, grid.ny + 2 * n)
    return float(np.mean(field.offset_deg(RA, DEC) < radius_deg))


def test_the_share_of_the_field_is_told_by_file(plan_of):
    target, shares, said = plan_of({"a.reg": CIRCLE, "b.reg": (CIRCLE.replace("0.4", "1.1"), {"energy_min": "3 TeV"})})
    assert shares["a.reg"] == pytest.approx(share_of(target, 0.4))
    # Above 3 TeV are two of four bins, and the one that holds 3 TeV (1.8 to 3.2) is touched.
    assert shares["b.reg"] == pytest.approx(share_of(target, 1.1) * 3 / 4)
    assert said == []


@pytest.mark.parametrize(
    "content",
    [
        CIRCLE.replace("icrs", "galactic"),
        f"icrs\ncircle({DEC},{RA},0.4)\n",
        (CIRCLE, {"energy_min": "20 TeV"}),
        (CIRCLE, {"energy_max": "0.5 TeV"}),
    ],
    ids=["frame", "swapped", "above", "below"],
)
def test_what_excludes_nothing_is_said(plan_of, content):
    _, shares, said = plan_of({"a.reg": content, "b.reg": CIRCLE})
    assert shares["a.reg"] == 0.0 < shares["b.reg"]
    (line,) = said
    assert "a.reg: excludes nothing of the field of t" in line


def test_a_table_and_an_image_without_effect_are_said(plan_of, tmp_path):
    table = Table({"RA": [RA + 40.0], "DEC": [DEC], "RADIUS": [0.3]}, units={"RADIUS": "deg"})
    table.write(tmp_path / "stars.ecsv")
    geom = make_geometry("icrs", "TAN", 200.0, DEC, (2.0, 2.0), 0.1)
    fits.PrimaryHDU(np.zeros(geom.shape, "u1"), geom.wcs().to_header()).writeto(tmp_path / "mask.fits")
    _, shares, said = plan_of({"stars.ecsv": None, "mask.fits": None})
    assert shares == {"stars.ecsv": 0.0, "mask.fits": 0.0}
    assert len(said) == 2


def test_an_area_smaller_than_the_pixels_that_are_counted_is_found(plan_of):
    _, shares, said = plan_of({"a.reg": f"icrs\ncircle({RA + 0.09},{DEC + 0.09},0.02)\n"})
    assert 0.0 < shares["a.reg"] < 1e-3
    assert said == []


def test_a_file_that_serves_one_target_of_two_is_in_use(plan_of):
    other = {"position": {"lon": "10 deg", "lat": "-30 deg"}, "geometry": {"width": "3 deg", "pixel": "0.1 deg"}}
    _, shares, said = plan_of({"a.reg": "icrs\ncircle(10,-30,0.4)\n"}, also={"other": other})
    assert shares == {"a.reg": 0.0}
    assert said == []


def test_an_exclusion_that_leaves_next_to_nothing_is_refused(plan_of):
    wide = f"icrs\ncircle({RA},{DEC},60)\n"
    with pytest.raises(MistakeError, match=r"targets\.t\.exclusion: .*a\.reg, .*b\.reg: 0\.0% of the field is left"):
        plan_of({"a.reg": CIRCLE, "b.reg": wide})
    # At one energy alone it leaves the others.
    plan_of({"a.reg": (wide, {"energy_min": "3 TeV", "energy_max": "3.1 TeV"})})
    with pytest.raises(MistakeError, match=r"targets\.t\.exclusion: .*absent: expected a regular file"):
        plan_of({"absent": None})


def test_the_field_of_whole_runs_reaches_beyond_the_map(plan_of):
    around = f"icrs\ncircle({RA},{DEC},2.2)\n"
    target, _, _ = plan_of({"a.reg": around}, backgrounds={"fov": {"method": "fov"}})
    assert target.exclusion_masks().mask(target.reduce.irf_geometry).all()


@pytest.mark.parametrize("text", [CIRCLE, SHAPES])
def test_jobs_are_given_the_areas_that_were_planned_with(plan_of, text, tmp_path):
    target, _, _ = plan_of({"a.reg": text})
    planned = target.exclusion_masks().mask(target.reduce.geometry)
    (tmp_path / "a.reg").write_text("icrs\ncircle(83,22,0.1)\n")
    given = from_plain(Target, to_plain(target))
    np.testing.assert_array_equal(given.exclusion_masks().mask(target.reduce.geometry), planned)
    assert planned.any()


def test_what_is_known_of_a_file_is_known_by_its_content(plan_of, tmp_path, monkeypatch):
    target, _, _ = plan_of({"a.reg": CIRCLE})
    cache = DigestCache(tmp_path / "digests.json")
    again = make_target(load_config([tmp_path / "c.yaml"]), "t", cache)
    assert again == target
    cache.save()
    config = load_config([tmp_path / "c.yaml"])
    monkeypatch.setattr("cubeflow.plan.exclusions.read_exclusion", None)  # nothing is read again
    assert make_target(config, "t", DigestCache.load(tmp_path / "digests.json")) == target
    monkeypatch.undo()
    (tmp_path / "a.reg").write_text(CIRCLE.replace("0.4", "0.5"))
    changed = make_target(config, "t", DigestCache.load(tmp_path / "digests.json"))
    assert changed.exclusions[0].areas.areas[0].radius_deg == pytest.approx(0.5)


def test_an_image_must_be_the_one_that_was_planned_with(plan_of, tmp_path):
    geom = make_geometry("icrs", "TAN", RA, DEC, (2.0, 2.0), 0.1)
    keep = geom.offset_deg(RA, DEC) > 0.4
    path = tmp_path / "mask.fits.gz"
    fits.PrimaryHDU(keep.astype("u1"), geom.wcs().to_header()).writeto(path)
    target, _, _ = plan_of({"mask.fits.gz": None})
    assert target.exclusion_masks().mask(geom).sum() == np.count_nonzero(~keep)
    fits.PrimaryHDU(np.ones(geom.shape, "u1"), geom.wcs().to_header()).writeto(path, overwrite=True)
    with pytest.raises(InputChanged, match=r"mask\.fits\.gz: changed since the plan was made; start again"):
        target.exclusion_masks()
    path.unlink()
    with pytest.raises(InputChanged, match=r"mask\.fits\.gz: No such file"):
        target.exclusion_masks()
