"""Times of runs against gammapy's, for stores that count from different zeros on different scales."""

import numpy as np
import pytest
from astropy.table import Table

from cubeflow.config import parse_config
from cubeflow.plan.run import run_whole

pytestmark = pytest.mark.real_data

CONFIG = """
data: {{store: {root}/{index}, roots: [{root}]}}
results: {results}
observations: {{ids: {ids}}}
targets: {{field: {{position: {position}, geometry: {{width: 2 deg, pixel: 0.2 deg}}}}}}
energy: {{min: 1 TeV, max: 10 TeV, bins: 1}}
energy_true: {{min: 0.5 TeV, max: 20 TeV, bins: 2}}
safe_mask: {{methods: [offset-max]}}
backgrounds: {{maps: {{method: none}}}}
"""
STORES = {
    # folder: index below it, direction, two runs. They count from 51910.00074 (TT), 51544.5 (TT) and 52706 (UTC).
    "hess-dl3-dr1": ("", "{lon: 83.63 deg, lat: 22.01 deg}", [23523, 23526]),
    "cta-1dc": ("index/gps", "{lon: 265.1 deg, lat: -28.2 deg}", [111140, 111159]),
    "magic": ("data", "{lon: 83.63 deg, lat: 22.01 deg}", [5029747, 5029748]),
}


@pytest.mark.parametrize("name", STORES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::astropy.units.UnitsWarning")
def test_times_of_table_and_dataset_are_gammapys(data_root, tmp_path, name):
    from gammapy.data import DataStore
    from gammapy.datasets import MapDataset

    index, position, ids = STORES[name]
    root = data_root / name
    if not root.is_dir():
        pytest.skip(f"no {name} in {data_root}")
    run_whole(parse_config(CONFIG.format(root=root, index=index, results=tmp_path, ids=ids, position=position)), print)
    store = DataStore.from_dir(root / index)
    gtis = [store.obs(obs_id, required_irf=[]).gti for obs_id in ids]
    table = Table.read(tmp_path / "field" / "runs.ecsv")
    assert table["obs_id"].tolist() == ids
    for row, gti in zip(table, gtis, strict=True):
        assert row["tstart"] == pytest.approx(gti.time_start.tt.mjd.min(), abs=1e-9)
        assert row["tstop"] == pytest.approx(gti.time_stop.tt.mjd.max(), abs=1e-9)
    exported = MapDataset.read(tmp_path / "field" / "maps" / "dataset.fits.gz").gti
    for side in ("time_start", "time_stop"):
        expected = np.sort(np.concatenate([getattr(gti, side).tt.mjd for gti in gtis]))
        np.testing.assert_allclose(getattr(exported, side).tt.mjd, expected, rtol=0, atol=1e-9)
