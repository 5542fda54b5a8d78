"""What is compared: the same runs, geometries, axes and backgrounds for cubeflow and for gammapy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

CRAB = (23523, 23526, 23559, 23592)
SAME_FIELD_DEG = 2.0  # runs whose pointings are closer are of one field


@dataclass(frozen=True)
class Field:
    """One map: where it lies and which runs go in."""

    name: str
    runs: tuple[int, ...]
    lon_deg: float
    lat_deg: float
    width_deg: tuple[float, float]
    frame: str = "icrs"
    projection: str = "TAN"


@dataclass(frozen=True)
class Case:
    """Fields that are reduced in one way.

    `exclusion` is a list of circles (ra, dec, radius) in deg; `ring` is (inner radius, width) in deg or None.
    """

    store: str
    fields: tuple[Field, ...]
    energy: tuple[float, float, int]
    energy_true: tuple[float, float, int]
    pixel_deg: float
    offset_max_deg: float
    exclusion: tuple[tuple[float, float, float], ...]
    ring: tuple[float, float] | None = None
    thresholds: bool = True

    def to_plain(self) -> dict[str, Any]:
        """Plain numbers, for another process."""
        return asdict(self)


def write_config(case: Case, folder: Path) -> Path:
    """Write the configuration of a case and its exclusion regions into `folder`, for results there."""
    circles = "".join(f"circle({ra}, {dec}, {radius})\n" for ra, dec, radius in case.exclusion)
    (folder / "exclusion.reg").write_text(f"icrs\n{circles}")
    config: dict[str, Any] = {
        "data": {"store": case.store, **_roots(case)},
        "results": str(folder / "results"),
        "targets": {field.name: target(field, case.pixel_deg) for field in case.fields},
        "energy": _axis(case.energy),
        "energy_true": _axis(case.energy_true),
        "offset_max": f"{case.offset_max_deg} deg",
        "safe_mask": {"methods": ["offset-max", "aeff-default"] if case.thresholds else ["offset-max"]},
        "irf_grid": {"pixel": "0.2 deg", "rad_max": "0.66 deg", "rad_bins": 66},
        "backgrounds": {"fov": {"method": "fov", "on_failure": "keep"}},
        "stack": {"batch": 64},
    }
    if case.exclusion:
        config["exclusion"] = str(folder / "exclusion.reg")
    if case.ring:
        ring = {"method": "ring", "r_in": f"{case.ring[0]} deg", "width": f"{case.ring[1]} deg"}
        config["backgrounds"]["ring"] = ring
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def target(field: Field, pixel_deg: float) -> dict[str, Any]:
    """Section of the configuration."""
    return {
        "observations": {"ids": list(field.runs)},
        "position": {"frame": field.frame, "lon": f"{field.lon_deg} deg", "lat": f"{field.lat_deg} deg"},
        "geometry": {
            "frame": field.frame,
            "projection": field.projection,
            "width": [f"{side} deg" for side in field.width_deg],
            "pixel": f"{pixel_deg} deg",
        },
    }


def _axis(axis: tuple[float, float, int]) -> dict[str, Any]:
    return {"min": f"{axis[0]} TeV", "max": f"{axis[1]} TeV", "bins": axis[2]}


def _roots(case: Case) -> dict[str, Any]:
    """Folder to which the CTA-1DC index refers, beside its own."""
    return {"roots": [case.store.split("/index/")[0]]} if "/index/" in case.store else {}


def one_run(data: Path) -> Case:
    """One run, 250 x 250 pixels, 17 reconstructed and 24 true energies."""
    field = Field("crab", CRAB[:1], 83.633, 22.014, (5.0, 5.0))
    return _hess(data, (field,), (0.5, 50.0, 17), (0.3, 80.0, 24), 2.5)


def sixteen_runs(data: Path) -> Case:
    """Sixteen runs of one field on the same axes."""
    pks = next(field for field in all_fields(data) if 33787 in field.runs or len(field.runs) == 21)
    field = Field("pks2155", pks.runs[:16], 329.7169, -30.2256, (7.0, 7.0))
    return _hess(data, (field,), (0.5, 50.0, 17), (0.3, 80.0, 24), 2.5)


def crab(data: Path, n_runs: int = 4) -> Case:
    """Four Crab runs, normalised in the field of view and with rings."""
    field = Field("crab", CRAB[:n_runs], 83.633, 22.014, (7.0, 7.0))
    return _hess(data, (field,), (1.0, 20.0, 8), (0.3, 40.0, 20), 2.0, ring=(0.5, 0.3))


def every_run(data: Path, n_fields: int | None = None, without_last: bool = False) -> Case:
    """All runs, each field on a map of its own; the last run of the largest field may be left out."""
    fields = sorted(all_fields(data), key=lambda field: -len(field.runs))[:n_fields]
    if without_last:
        first = fields[0]
        fields[0] = Field(first.name, first.runs[:-1], first.lon_deg, first.lat_deg, first.width_deg)
    return _hess(data, tuple(fields), (0.6, 20.0, 8), (0.2, 40.0, 20), 2.0)


def survey(data: Path) -> Case:
    """Runs on RX J1713.7-3946 on a map of 20 x 10 deg along the Galactic plane."""
    runs = next(field.runs for field in all_fields(data) if len(field.runs) == 15)
    field = Field("plane", runs, 347.0, 0.0, (20.0, 10.0), "galactic", "CAR")
    return _hess(data, (field,), (0.5, 50.0, 24), (0.3, 80.0, 24), 2.5)


def cta(data: Path) -> Case:
    """Two runs of the Galactic plane survey of CTA-1DC."""
    field = Field("plane", (111140, 111159), 0.0, 0.0, (14.0, 12.0), "galactic", "CAR")
    store = str(data / "cta-1dc" / "index" / "gps")
    center = ((266.4168, -29.0078, 1.0),)
    return Case(store, (field,), (0.1, 100.0, 15), (0.05, 150.0, 24), 0.04, 4.0, center, thresholds=False)


def all_fields(data: Path, name: str | None = None) -> list[Field]:
    """Fields of the H.E.S.S. store, or of the runs on targets of a name.

    Runs are added to the first field whose first pointing is close.
    """
    from cubeflow.dl3.index import open_store
    from cubeflow.maps import sphere

    found: list[tuple[Any, float, float, list[int]]] = []
    for run in open_store(data / "hess-dl3-dr1").runs:
        ra_deg, dec_deg = (run.obs_info[column] for column in ("RA_PNT", "DEC_PNT"))
        if name not in (None, run.obs_info["TARGET_NAME"].strip()):
            continue
        here = sphere.unit_vectors(ra_deg, dec_deg)
        near = (runs for first, _, _, runs in found if sphere.separation_deg(first, here) < SAME_FIELD_DEG)
        runs = next(near, None)
        if runs is None:
            found.append((here, ra_deg, dec_deg, runs := []))
        runs.append(run.obs_id)
    return [
        Field(f"field{number:02d}", tuple(runs), round(ra_deg, 2), round(dec_deg, 2), (6.0, 6.0))
        for number, (_, ra_deg, dec_deg, runs) in enumerate(found)
    ]


def _hess(
    data: Path,
    fields: tuple[Field, ...],
    energy: tuple[float, float, int],
    energy_true: tuple[float, float, int],
    offset_max_deg: float,
    ring: tuple[float, float] | None = None,
) -> Case:
    """Case of H.E.S.S. runs; the brightest sources are excluded."""
    sources = ((83.633, 22.014, 0.35), (329.717, -30.2256, 0.35), (228.529, -59.157, 0.6), (258.35, -39.77, 0.9))
    store = str(data / "hess-dl3-dr1")
    return Case(store, fields, energy, energy_true, 0.02, offset_max_deg, sources, ring)
