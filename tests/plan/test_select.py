"""Selection of runs by an expression over the observation index."""

import tracemalloc

import numpy as np
import pytest
from astropy.table import Table

from cubeflow.config.sections import Match, Observations
from cubeflow.dl3.entries import RunEntry, Store, direction_of
from cubeflow.dl3.index import open_store
from cubeflow.dl3.tables import parse_where
from cubeflow.errors import MistakeError
from cubeflow.maps.sphere import angular_distance_deg
from cubeflow.plan.select import match_runs, select_runs
from cubeflow.simulate.array import SimulationOptions
from cubeflow.simulate.store import simulate_store

RUN = {"ZEN_PNT": 45.0, "OBJECT": "Crab Nebula", "N_TELS": 4, "MUONEFF": 0.9}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("ZEN_PNT < 60", True),
        ("ZEN_PNT < 60 and N_TELS == 3", False),
        ("OBJECT == 'Crab Nebula' or N_TELS == 3", True),
        ("not (ZEN_PNT >= 45)", False),
        ("30 <= ZEN_PNT <= 45", True),
        ("MUONEFF * 2 - 1 > -ZEN_PNT / 9", True),
    ],
)
def test_expressions(expression, expected):
    assert parse_where(expression)(RUN) is expected


@pytest.mark.parametrize(
    "expression",
    ["__import__('os')", "ZEN_PNT.real < 3", "(lambda: 1)()", "[1][0]", "ZEN_PNT <", "OBJECT ** 9", "a if b else c"],
)
def test_nothing_else_is_evaluated(expression):
    with pytest.raises(MistakeError, match="where"):
        parse_where(expression)


def test_an_unknown_column_is_named():
    with pytest.raises(MistakeError, match="no column 'ZENITH'"):
        parse_where("ZENITH < 60")(RUN)


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ("ZENPNT < 60", "did you mean 'ZEN_PNT'?"),
        ("zen_pnt < 60", "did you mean 'ZEN_PNT'?"),
        ("OBJECT == PKS", "it has MUONEFF, N_TELS, OBJECT, TELAPSE, ZEN_PNT"),
    ],
)
def test_the_column_that_is_meant_is_named(expression, hint):
    with pytest.raises(MistakeError) as raised:
        parse_where(expression)({**RUN, "TELAPSE": 0.0})
    assert str(raised.value).endswith(f"; {hint}")


@pytest.mark.parametrize("expression", ["OBJECT < 3", "OBJECT == 3", "'nan' != ZEN_PNT", "1 < NAN", "not (NAN > 1)"])
def test_text_against_number_is_an_error_not_a_silent_no(expression):
    with pytest.raises(MistakeError, match="cannot be evaluated"):
        parse_where(expression)({**RUN, "NAN": float("nan")})


def test_numbers_may_be_written_as_text():
    test = parse_where("N_TELS == 4 and 3 < N_TELS <= 4.5")
    assert test({"N_TELS": " 4 "})
    assert not test({"N_TELS": "5"})
    assert parse_where("OBS_ID != 9007199254740992")({"OBS_ID": 9007199254740993})  # not the same as float64


@pytest.mark.parametrize(
    "expression",
    [
        "not " * 100_000 + "1",
        "-" * 5_000 + "1",
        "(" * 3_000 + "1" + ")" * 3_000,
        "1" + " + 1" * 20_000,
        "ZEN_PNT < 60" + " < 60 == (0" * 60 + ")" * 60,
        "9" * 5_000 + " > 1",
        "'a' * 10000000000 == 'a'",
        "OBJECT + OBJECT == 'a'",
        "9" * 400 + " * 1.5 > 1",
        "1 / 0 > 1",
        "b'a' == 1",
        "1j == 1",
        "None == 1",
        "x" * 100_000 + " < 1",
    ],
)
def test_an_expression_that_is_too_much_ends_in_one_short_line(expression):
    with pytest.raises(MistakeError, match=r"^observations.where: ") as caught:
        parse_where(expression)(RUN)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_many_conditions_are_not_too_deep():
    test = parse_where(" or ".join(f"OBS_ID == {number}" for number in range(2_000)))
    assert test({"OBS_ID": 1_999})
    assert not test({"OBS_ID": 2_000})


GOOD = {"RA_PNT": 83.6, "DEC_PNT": 22.5, "N_TELS": 4, "OBJECT": "Crab"}
ODD = {
    "RA_PNT missing": ({"DEC_PNT": 22.5}, {"within_deg": 3.0}),
    "RA_PNT empty": ({**GOOD, "RA_PNT": ""}, {"within_deg": 3.0}),
    "RA_PNT text": ({**GOOD, "RA_PNT": "none"}, {"within_deg": 3.0}),
    "RA_PNT nan": ({**GOOD, "RA_PNT": float("nan")}, {"within_deg": 3.0}),
    "DEC_PNT beyond the pole": ({**GOOD, "DEC_PNT": 382.5}, {"within_deg": 3.0}),
    "N_TELS missing": ({"OBJECT": "Crab"}, {"where": "N_TELS >= 3"}),
    "N_TELS text": ({"N_TELS": "unknown"}, {"where": "N_TELS >= 3"}),
    "N_TELS nan": ({"N_TELS": float("nan")}, {"where": "not N_TELS < 3"}),
    "N_TELS zero": ({"N_TELS": 0}, {"where": "12 / N_TELS <= 4"}),
}


@pytest.mark.parametrize("case", ODD)
def test_one_odd_run_is_refused_and_the_others_go_on(case):
    info, asked = ODD[case]
    runs = tuple(RunEntry(obs_id, (), GOOD if obs_id != 8 else info) for obs_id in (7, 8, 9))
    chosen, refused, unselected = select_runs(Store("store", runs), Observations(**asked), (83.6, 22.0))
    assert [entry.obs_id for entry in chosen] == [7, 9]
    assert [refusal.obs_id for refusal in refused] == [8]
    assert refused[0].reason.startswith(f"observations.{next(iter(asked)).split('_')[0]}: ")
    assert unselected == 0
    with pytest.raises(MistakeError, match=refused[0].reason[:20]):
        select_runs(Store("store", runs[1:2]), Observations(**asked), (83.6, 22.0))


def test_runs_that_other_conditions_leave_out_are_not_asked_further():
    far = RunEntry(8, (), {"RA_PNT": 10.0, "DEC_PNT": 22.5})
    store = Store("store", (RunEntry(7, (), GOOD), far, RunEntry(9, (), {})))
    asked = Observations(within_deg=3.0, where="N_TELS >= 3", exclude=(9,))
    chosen, refused, unselected = select_runs(store, asked, (83.6, 22.0))
    assert ([entry.obs_id for entry in chosen], refused, unselected) == ([7], [], 2)


def test_a_column_that_no_run_near_the_target_has_is_a_mistake(tmp_path):
    """Not a refusal of each of them: runs elsewhere are not asked, and say nothing for it."""
    simulate_store(tmp_path, SimulationOptions(tiny=True, n_runs=2, duration_s=60.0))
    near = open_store(tmp_path).runs
    store = Store("store", (*near, RunEntry(8, (), {"RA_PNT": 10.0, "DEC_PNT": 22.5})))
    with pytest.raises(MistakeError, match=r"^observations\.where: .* no column 'ZEN_PT' .* did you mean 'ZEN_PNT'\?$"):
        select_runs(store, Observations(within_deg=3.0, where="ZEN_PT < 60"), (83.633, 22.014))
    lacking = Store("store", (*near, RunEntry(9, (), {"RA_PNT": 83.6, "DEC_PNT": 22.5})))
    chosen, refused, _ = select_runs(lacking, Observations(within_deg=3.0, where="ZEN_PNT < 90"), (83.633, 22.014))
    assert ([entry.obs_id for entry in chosen], [each.obs_id for each in refused]) == ([100001, 100002], [9])


@pytest.mark.parametrize("where", ["", " "])
def test_an_empty_condition_is_a_mistake(where):
    store = Store("store", (RunEntry(7, (), GOOD),))
    with pytest.raises(MistakeError, match=f"observations.where: expected an expression .* got '{where}'"):
        select_runs(store, Observations(where=where), (83.6, 22.0))


@pytest.mark.parametrize(("within_deg", "expected"), [(0.75, [100001, 100002]), (0.65, [100002])])
def test_what_the_index_lacks_is_taken_from_the_events(tmp_path, within_deg, expected):
    """A run whose pointing the index does not know is selected by its own, which is then known to all that follows."""
    centre = (83.633, 22.014)
    simulate_store(tmp_path, SimulationOptions(tiny=True, n_runs=2, duration_s=60.0, centre=centre))
    table = Table.read(tmp_path / "obs-index.fits.gz", hdu=1)
    pointings = [(float(row["RA_PNT"]), float(row["DEC_PNT"])) for row in table]
    offsets = [float(angular_distance_deg(pointing, centre)) for pointing in pointings]
    assert offsets == pytest.approx([0.7, 0.5], abs=1e-3)
    table["RA_PNT"][0] = np.nan
    table.write(tmp_path / "obs-index.fits.gz", overwrite=True)
    chosen, refused, _ = select_runs(open_store(tmp_path), Observations(within_deg=within_deg), centre)
    assert ([entry.obs_id for entry in chosen], refused) == (expected, [])
    assert all(direction_of(each.obs_info) == pytest.approx(pointings[each.obs_id - 100001]) for each in chosen)


HERE = {"ALT_PNT": 60.0, "AZ_PNT": 10.0, "NSBLEVEL": 1.0, "TSTART": 1e8, "TELLIST": "1,2,3,4"}
ONLY = {"airmass": None, "azimuth_deg": None, "nsb": None, "time_s": None, "telescopes": False}


def matched(here: dict, others: list[dict], **limits) -> tuple[tuple[int, ...], list[str]]:
    said: list[str] = []
    runs = [RunEntry(number, (), info) for number, info in enumerate(others, 1)]
    found = match_runs("models.off.match", [RunEntry(9, (), here)], runs, Match(**limits), "run", said.append)
    return found[9], said


@pytest.mark.parametrize(
    ("column", "key", "near", "far"),
    [
        ("ALT_PNT", "airmass", (60.0, 51.0, 80.0), (45.0, 0.0, -5.0)),  # 1 / sin: 1.155, 1.287, 1.015; 1.414
        ("AZ_PNT", "azimuth_deg", (10.0, 340.0, 54.0), (60.0, 190.0, 320.0)),
        ("AZ_PNT", "azimuth_deg", (-350.0, -20.0, 414.0), (-170.0, -40.0, 730.0 + 180.0)),
        ("NSBLEVEL", "nsb", (1.0, 0.5, 1.6), (0.2, 1.8, float("nan"))),
        ("TSTART", "time_s", (1e8, 1e8 - 10 * 86400, 1e8 + 170 * 86400), (1e8 + 190 * 86400, 0.0, None)),
    ],
)
def test_runs_match_within_limits_the_nearest_first(column, key, near, far):
    default = getattr(Match(), key)
    ids, said = matched(HERE, [{column: value} for value in (*far, *near[::-1])], **{**ONLY, key: default})
    assert ids == (6, 5, 4)
    assert said == []  # of columns that nobody asks for
    assert matched(HERE, [{column: value} for value in (*far, *near)], **ONLY)[0] == (1, 2, 3, 4, 5, 6)


def test_the_distance_is_that_of_all_columns():
    others = [HERE | {"ALT_PNT": 55.0, "AZ_PNT": 40.0}, HERE | {"AZ_PNT": 25.0}, HERE | {"TELLIST": "1,2,4"}, HERE]
    assert matched(HERE, others) == ((4, 2, 1), [])
    assert matched(HERE, others, telescopes=False)[0] == (3, 4, 2, 1)
    some = [RunEntry(number, (), info) for number, info in enumerate((HERE, HERE | {"AZ_PNT": None}))]
    assert match_runs("", some, some[:1], Match(), "run", print) == {0: (0,), 1: ()}  # it lacks what others have


def test_what_the_index_lacks_is_not_compared_and_said():
    here = {key: HERE[key] for key in ("ALT_PNT", "AZ_PNT", "TSTART")}
    others = [HERE | {"TSTART": None}, HERE | {"AZ_PNT": 90.0, "TSTART": None}]
    ids, said = matched(here, others)
    assert ids == (1,)
    assert said == [
        "models.off.match.nsb: not compared: no NSBLEVEL in the observation index of runs",
        "models.off.match.time: not compared: no TSTART in the observation index of OFF runs",
        "models.off.match.telescopes: not compared: no TELLIST in the observation index of runs",
    ]
    said = matched(here, [here])[1]
    assert said[0] == "models.off.match.nsb: not compared: no NSBLEVEL in the observation index"
    assert match_runs("", [], [RunEntry(1, (), {})], Match(), "run", said.append) == {}
    assert len(said) == 2, "of no run nothing is said"


def enough(run: RunEntry, near: list[RunEntry], leave_out: str, livetime_s: float) -> list[int]:
    """What a job takes of OFF runs, the nearest first: those that may model the run, until they have the livetime."""
    taken, sum_s = [], 0.0
    for other in near:
        is_kin = {
            "run": other.obs_id == run.obs_id,
            "night": other.obs_id == run.obs_id or int(other.obs_info["NIGHT"]) == int(run.obs_info["NIGHT"]),
            "target": other.obs_id == run.obs_id or other.obs_info["OBJECT"] == run.obs_info["OBJECT"],
        }
        if sum_s < livetime_s and not is_kin[leave_out]:
            taken.append(other.obs_id)
            sum_s += other.obs_info["LIVETIME"] or 0.0
    return taken


@pytest.mark.parametrize("leave_out", ["run", "night", "target"])
def test_no_more_runs_are_listed_than_may_be_of_use(leave_out):
    """A job takes of them what it takes of all, also where some turn out to be of no use; and most are not listed."""
    rng, livetime_s, runs = np.random.default_rng(3), 5000.0, []
    for number in range(400):
        night = 50 * rng.random()
        info = {"AZ_PNT": 360 * rng.random(), "TSTART": 86_400 * night, "NIGHT": night, "OBJECT": f"{number % 5}"}
        runs.append(RunEntry(number, (), info | {"LIVETIME": rng.choice([600.0, 1700.0, 0.0])}))
    limits = {**ONLY, "azimuth_deg": 170.0}
    whole, cut = (
        match_runs("", runs, runs, Match(**limits, livetime_s=limit_s), leave_out, print)
        for limit_s in (np.inf, livetime_s)
    )
    useless = set(rng.choice(400, 60, replace=False).tolist())
    for run in runs:
        assert cut[run.obs_id] == whole[run.obs_id][: len(cut[run.obs_id])]
        found = ([runs[k] for k in each[run.obs_id] if k not in useless] for each in (whole, cut))
        expected, listed = (enough(run, near, leave_out, livetime_s) for near in found)
        assert listed == expected
    n_listed = sum(map(len, cut.values()))
    assert n_listed < 0.1 * sum(map(len, whole.values()))
    unknown = [RunEntry(run.obs_id, (), {"AZ_PNT": run.obs_info["AZ_PNT"]}) for run in runs]
    assert match_runs("", runs, unknown, Match(**limits, livetime_s=1.0), leave_out, print) == whole


def test_a_limit_of_0_asks_for_the_same():
    assert matched(HERE, [HERE, HERE | {"AZ_PNT": 370.0}, HERE | {"AZ_PNT": 10.1}], azimuth_deg=0.0)[0] == (1, 2)


def test_an_array_is_compared_by_its_list_of_telescopes():
    others = [HERE, HERE | {"TELLIST": None}, HERE | {"TELLIST": "1,2,3"}, HERE | {"TELLIST": ""}]
    assert matched(HERE, others)[0] == (1,)
    runs = [RunEntry(number, (), info) for number, info in enumerate(others, 1)]
    assert match_runs("", runs, runs, Match(), "run", print) == {1: (1,), 2: (), 3: (3,), 4: ()}


def test_pairs_of_many_runs_are_not_in_memory_at_once():
    """One list of distances at a time, and no number for what is not like a run."""
    n_runs = 1500
    runs = [RunEntry(number, (), HERE | {"TSTART": 1e9 * number}) for number in range(n_runs)]
    tracemalloc.start()
    try:
        found = match_runs("", runs, runs, Match(), "run", print)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == {number: (number,) for number in range(n_runs)}
    assert peak < 8 * n_runs**2 / 4
