"""Types of events: each has its own events and responses, its own products, and all are fitted together."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import cubeflow
from cubeflow.config import load_config
from cubeflow.plan.make import make_plan
from cubeflow.plan.run import run_whole
from cubeflow.simulate.store import SimulationOptions, simulate_store
from cubeflow.store.artifact import read_artifact

OPTIONS = SimulationOptions(seed=6, n_runs=3, duration_s=600.0, tiny=True, shared_irf=True)
SHARES = {"1": 0.25, "2": 0.75}  # of the events, and so of the area and the background, of each type
SIGMAS = {"1": 0.5, "2": 2.0}  # widths of the PSF over that of all
RESPONSES = {"EFFECTIVE AREA": "aeff", "ENERGY DISPERSION": "edisp", "POINT SPREAD FUNCTION": "psf", "BACKGROUND": "bkg"}
TYPES = {name: {"where": f"EVENT_TYPE == {name}"} for name in SHARES}
CONFIG = {
    "targets": {
        "crab": {
            "position": {"lon": "83.633 deg", "lat": "22.014 deg"},
            "geometry": {"width": ["3 deg", "2.4 deg"], "pixel": "0.1 deg"},
        }
    },
    "energy": {"min": "1.2 TeV", "max": "20 TeV", "bins": 3},
    "energy_true": {"min": "0.4 TeV", "max": "50 TeV", "bins": 8},
    "irf_grid": {"pixel": "0.5 deg", "rad_bins": 20},
    "backgrounds": {"fov": {"method": "fov"}, "ring": {"method": "ring", "r_in": "0.5 deg", "width": "0.3 deg"}},
}


def rewrite(path: Path, hdus: fits.HDUList) -> None:
    for hdu in hdus:
        for key in ("CHECKSUM", "DATASUM"):
            hdu.header.pop(key, None)
    hdus.writeto(path, overwrite=True)


def typed(values: np.ndarray) -> np.ndarray:
    """Type of each event, whose number decides."""
    return np.where(values % 4 == 0, 1, 2)


def responses_of(hdus: fits.HDUList, kind: str, suffix: str = "") -> list[fits.BinTableHDU]:
    """Responses of a type: its share of the area and background, and its PSF; named with a suffix."""
    made = []
    for hdu in hdus[1:]:
        new = hdu.copy()
        new.name = f"{hdu.name}{suffix}"
        for column in {"EFFAREA", "BKG"} & set(new.columns.names):
            new.data[column] *= SHARES[kind]
        for column in {"SIGMA_1", "SIGMA_2", "SIGMA_3"} & set(new.columns.names):
            new.data[column] *= SIGMAS[kind]
        if "SCALE" in new.columns.names:
            new.data["SCALE"] /= SIGMAS[kind] ** 2
        made.append(new)
    return made


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, Path]:
    """Store without types (``all``), with both (``typed``), and one of the events and responses of each alone."""
    folder = tmp_path_factory.mktemp("types")
    simulate_store(folder / "all", OPTIONS)
    for name in ("typed", *SHARES):
        shutil.copytree(folder / "all", folder / name)
        for path in (folder / name).glob("obs_*"):
            with fits.open(path) as hdus:
                kinds = typed(hdus["EVENTS"].data["EVENT_ID"])
                columns = hdus["EVENTS"].columns + fits.ColDefs([fits.Column("EVENT_TYPE", "J", array=kinds)])
                events = fits.BinTableHDU.from_columns(columns, hdus["EVENTS"].header)
                events.data = events.data[kinds == int(name)] if name in SHARES else events.data
                rewrite(path, fits.HDUList([hdus[0], events, hdus["GTI"]]))
        with fits.open(folder / name / "irf.fits.gz") as hdus:
            if name in SHARES:
                new = responses_of(hdus, name)
            else:
                new = [each for kind in SHARES for each in responses_of(hdus, kind, f" {kind}")]
            rewrite(folder / name / "irf.fits.gz", fits.HDUList([fits.PrimaryHDU(), *new]))
    rows = Table.read(folder / "all" / "hdu-index.fits.gz").to_pandas()
    index = []
    for row in rows.to_dict("records"):
        row = {key: value.decode() if isinstance(value, bytes) else value for key, value in row.items()}
        if row["HDU_TYPE"] in ("events", "gti"):
            index.append({**row, "EVENT_TYPE": ""})
        else:
            index += [{**row, "HDU_NAME": f"{row['HDU_NAME']} {kind}", "EVENT_TYPE": kind} for kind in SHARES]
    Table(index).write(folder / "typed" / "hdu-index.fits.gz", overwrite=True)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def configure(stores, tmp_path_factory):
    """``configure(store, **changes)``: configuration, with results in a folder of its own or one that is given."""

    def make(name: str, results: Path | None = None, **changes):
        folder = tmp_path_factory.mktemp(name)
        data = {"data": {"store": str(stores[name])}, "results": str(results or folder / "results")}
        (folder / "types.yaml").write_text(json.dumps(CONFIG | data | changes))
        return load_config(folder / "types.yaml")

    return make


@pytest.fixture(scope="module")
def results(configure) -> Path:
    """Results of all types."""
    config = configure("typed", event_types=TYPES)
    run_whole(config, lambda line: None)
    return config.results


def maps_of(results: Path, target: str, label: str = "fov"):
    return read_artifact(results / target / label / "cube.h5").maps


@pytest.fixture(scope="module")
def untyped(configure) -> Path:
    config = configure("all")
    run_whole(config, lambda line: None)
    return config.results


def test_counts_of_all_types_are_the_counts_without_types(results, untyped):
    total = sum(maps_of(results, f"crab-{kind}")["counts"].data.astype(int) for kind in SHARES)
    np.testing.assert_array_equal(total, maps_of(untyped, "crab")["counts"].data)
    assert total.sum() > 500
