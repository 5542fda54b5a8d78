"""Selection of events by an expression over the columns of EVENTS."""

import numpy as np
import pytest
from astropy.io import fits

from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import ReadOptions, read_observation, require_columns
from cubeflow.errors import MistakeError
from cubeflow.observation import RunRefused
from cubeflow.simulate.store import SimulationOptions, simulate_store


@pytest.fixture
def run(tmp_path):
    """Run whose list has hadron-like events, and the entry of it."""
    simulate_store(tmp_path, SimulationOptions(n_runs=1, duration_s=300.0, tiny=True))
    path = tmp_path / "obs_100001.fits.gz"
    with fits.open(path) as hdus:
        n = len(hdus["EVENTS"].data)
        rng = np.random.default_rng(1)
        score = rng.random(n)
        score[:3] = np.nan
        columns = [
            fits.Column("GAMMANESS", "E", array=score),
            fits.Column("EVENT_TYPE", "J", array=rng.integers(1, 5, n)),
            fits.Column("IS_GAMMA", "L", array=score > 0.4),
            fits.Column("NOTE", "4A", array=["abcd"] * n),
        ]
        table = fits.BinTableHDU.from_columns(hdus["EVENTS"].columns + fits.ColDefs(columns), hdus["EVENTS"].header)
        made = fits.HDUList([each.copy() if each.name != "EVENTS" else table for each in hdus])
        for hdu in made:
            hdu.add_checksum()
        made.writeto(path, overwrite=True)
    (entry,) = open_store(tmp_path).runs
    return entry, fits.getdata(path, "EVENTS")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("GAMMANESS > 0.8 and EVENT_TYPE >= 3", lambda e: (e["GAMMANESS"] > 0.8) & (e["EVENT_TYPE"] >= 3)),
        ("IS_GAMMA", lambda e: e["IS_GAMMA"]),
        ("not IS_GAMMA or ENERGY > 2", lambda e: ~e["IS_GAMMA"] | (e["ENERGY"] > 2)),
        ("0.2 < GAMMANESS <= 0.4", lambda e: (e["GAMMANESS"] > 0.2) & (e["GAMMANESS"] <= 0.4)),
        ("GAMMANESS != 3", lambda e: np.isfinite(e["GAMMANESS"])),
        ("EVENT_TYPE * 2 - 1 == 5", lambda e: e["EVENT_TYPE"] == 3),
        ("1 < 2", lambda e: np.ones(len(e), bool)),
    ],
)
def test_only_events_for_which_it_holds_are_read(run, where, expected):
    entry, events = run
    found = read_observation(entry, ReadOptions(where=(("events.where", where),)))
    wanted = expected(events)
    assert np.array_equal(found.events.energy_tev, events["ENERGY"][wanted].astype(float))
    assert found.repairs.get("events_not_selected", 0) == np.count_nonzero(~wanted)


def test_a_list_with_hadrons_and_no_selection_is_refused_with_the_line_to_add(run):
    entry, events = run
    count = f"{np.count_nonzero(~events['IS_GAMMA'])} of {len(events)}"
    with pytest.raises(
        RunRefused, match=rf"^run 100001: .*: IS_GAMMA is not true of {count} events; .*where: IS_GAMMA"
    ):
        read_observation(entry)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("GAMMANES > 0.5", r"event_types\.2\.where: EVENTS has no column 'GAMMANES' .*did you mean 'GAMMANESS'\?"),
        ("NOTE > 3", r"event_types\.2\.where: 'NOTE > 3' cannot be evaluated"),
    ],
)
def test_a_condition_that_does_not_fit_the_columns_refuses_the_run(run, where, message):
    with pytest.raises(RunRefused, match=message):
        read_observation(run[0], ReadOptions(where=(("event_types.2.where", where),)))


def test_all_conditions_hold_together(run):
    entry, events = run
    where = (("events.where", "GAMMANESS > 0.3 or IS_GAMMA"), ("event_types.2.where", "EVENT_TYPE == 2"))
    wanted = ((events["GAMMANESS"] > 0.3) | events["IS_GAMMA"]) & (events["EVENT_TYPE"] == 2)
    found = read_observation(entry, ReadOptions(where=where)).events.energy_tev
    assert np.array_equal(found, events["ENERGY"][wanted].astype(float))


def test_conditions_are_mistaken_only_if_they_fit_no_run_that_can_be_read(run, tmp_path):
    """Of three runs one has the column, and one is damaged."""
    (tmp_path / "more").mkdir()
    simulate_store(tmp_path / "more", SimulationOptions(n_runs=2, first_obs_id=200001, duration_s=300.0, tiny=True))
    plain, damaged = open_store(tmp_path / "more").runs
    path = damaged.hdus[0].path
    path.write_bytes(path.read_bytes()[:-200])
    where = (("events.where", "GAMMANESS > 0.5"),)
    require_columns([plain, damaged, run[0]], where)
    require_columns([damaged], where)  # of which nobody can say it
    with pytest.raises(MistakeError, match=r"^events\.where: EVENTS has no column 'GAMMANESS'"):
        require_columns([damaged, plain], where)
    with pytest.raises(MistakeError, match=r"^events\.where: 'NOTE > 3' cannot be evaluated"):
        require_columns([run[0]], (("events.where", "NOTE > 3"),))
