"""Types of events: each has its own events and responses, its own products, and all are fitted together."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from click.testing import CliRunner

from cubeflow.cli import main
from cubeflow.config import load_config
from cubeflow.errors import MistakeError
from cubeflow.plan.clean import clean_results, stale_files
from cubeflow.plan.make import make_plan
from cubeflow.plan.run import finish, run_whole
from cubeflow.plan.verify import verify_plan
from cubeflow.report.figures import make_figures, read_figures
from cubeflow.simulate.store import SimulationOptions, simulate_store
from cubeflow.store.artifact import read_artifact
from cubeflow.tools.check import check_runs, open_source

OPTIONS = SimulationOptions(seed=6, n_runs=3, duration_s=600.0, tiny=True, shared_irf=True)
SHARES = {"1": 0.25, "2": 0.75}  # of the events, and so of the area and the background, of each type
SIGMAS = {"1": 0.5, "2": 2.0}  # widths of the PSF over that of all
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
    index = []
    for row in Table.read(folder / "all" / "hdu-index.fits.gz"):
        row = {key: str(value) if isinstance(value, str) else int(value) for key, value in dict(row).items()}
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
        folder = results.parent if results else tmp_path_factory.mktemp(name)
        data = {"data": {"store": str(stores[name])}, "results": str(results or folder / "results")}
        (folder / "types.json").write_text(json.dumps(CONFIG | data | changes))
        return load_config(folder / "types.json")

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


@pytest.fixture(scope="module")
def alone(configure) -> dict[str, Path]:
    """Results of a store that holds one type and no other, which nobody calls so."""
    found = {}
    for kind in SHARES:
        config = configure(kind)
        run_whole(config, lambda line: None)
        found[kind] = config.results
    return found


def test_counts_of_all_types_are_the_counts_without_types(results, untyped):
    total = sum(maps_of(results, f"crab-{kind}")["counts"].data.astype(int) for kind in SHARES)
    np.testing.assert_array_equal(total, maps_of(untyped, "crab")["counts"].data)
    assert total.sum() > 500


@pytest.mark.parametrize("kind", SHARES)
def test_exposure_of_a_type_is_that_of_its_own_response(results, untyped, kind):
    whole = maps_of(untyped, "crab")
    for name in ("exposure", "acceptance"):
        expected = SHARES[kind] * whole[name].data
        np.testing.assert_allclose(maps_of(results, f"crab-{kind}")[name].data, expected, rtol=2e-6)
    assert whole["exposure"].data.max() > 0


@pytest.mark.parametrize("kind", SHARES)
@pytest.mark.parametrize("label", ["fov", "ring"])
def test_type_is_what_a_store_of_it_alone_gives(results, alone, kind, label):
    """Events, responses, background and significance: of a store without any types."""
    found, expected = maps_of(results, f"crab-{kind}", label), maps_of(alone[kind], "crab", label)
    assert set(found) == set(expected)
    for name, cube in expected.items():
        np.testing.assert_array_equal(found[name].data, cube.data, err_msg=name)
    assert not np.array_equal(found["psf"].data, maps_of(results, "crab-2" if kind == "1" else "crab-1")["psf"].data)


def test_run_tables_and_units_say_the_type(results, untyped):
    for kind in SHARES:
        table = Table.read(results / f"crab-{kind}" / "runs.ecsv")
        assert table.colnames[:2] == ["obs_id", "event_type"]
        assert list(table["event_type"]) == [kind] * 3
        assert np.isfinite(table["fov_significance"]).all()
        names = {path.name for path in (results / f"crab-{kind}" / "obs").iterdir()}
        assert names == {f"{obs_id}-{kind}" for obs_id in OPTIONS.obs_ids}
    assert "event_type" not in Table.read(untyped / "crab" / "runs.ecsv").colnames


@pytest.mark.parametrize("label", ["fov", "ring"])
def test_gammapy_reads_all_types_together(results, label):
    from gammapy.datasets import Datasets

    folder = results / "crab" / label
    datasets = Datasets.read(folder / "joint.yaml", folder / "joint-models.yaml", lazy=False)
    assert datasets.names == [f"crab-{kind}-{label}" for kind in SHARES]
    for kind, dataset in zip(SHARES, datasets, strict=True):
        maps = maps_of(results, f"crab-{kind}", label)
        assert dataset.counts.data.sum() == maps["counts"].data.sum()
        assert dataset.exposure.data.max() == pytest.approx(maps["exposure"].data.max(), rel=1e-6)


def test_exposure_and_counts_of_a_type_are_those_of_gammapy(stores, configure):
    """At the pixels about the target, which all runs see, from a store that holds this type alone."""
    from gammapy.data import DataStore
    from gammapy.datasets import MapDataset
    from gammapy.makers.utils import make_map_exposure_true_energy
    from gammapy.maps import Map

    kind, fine = "1", {"min": "0.4 TeV", "max": "50 TeV", "bins_per_decade": 10}  # no mean over bins of true energy
    config = configure("typed", event_types={kind: TYPES[kind]}, energy_true=fine)
    run_whole(config, lambda line: None)
    dataset = MapDataset.read(config.results / f"crab-{kind}" / "fov" / "dataset.fits.gz")
    geom, middle = dataset.exposure.geom, (slice(None), slice(9, 15), slice(12, 18))
    exposure, counts = 0.0, Map.from_geom(dataset.counts.geom)
    for obs in DataStore.from_dir(stores[kind]).get_observations():
        pointing, livetime = obs.pointing.fixed_icrs, obs.gti.time_sum * (1 - obs.observation_dead_time_fraction)
        exposure = exposure + make_map_exposure_true_energy(pointing, livetime, obs.aeff, geom).quantity
        counts.fill_events(obs.events)  # all of which are simulated in the good time
    found = dataset.exposure.quantity[middle].to_value("m2 s")
    np.testing.assert_allclose(found, exposure[middle].to_value("m2 s"), rtol=1e-5)
    safe = dataset.mask_safe.data[middle]
    np.testing.assert_array_equal(dataset.counts.data[middle][safe], counts.data[middle][safe])
    assert counts.data[middle][safe].sum() > 10


def test_all_types_fitted_together_say_more_than_each(results):
    """Errors of independent parts add in quadrature: 1 / error**2 of the joint fit is the sum of those of the types."""
    from gammapy.datasets import Datasets
    from gammapy.modeling import Fit
    from gammapy.modeling.models import Models, PointSpatialModel, PowerLawSpectralModel, SkyModel

    folder = results / "crab" / "fov"
    read = Datasets.read(folder / "joint.yaml", folder / "joint-models.yaml")

    backgrounds = list(read.models)
    for each in backgrounds:
        each.freeze()

    def amplitude(datasets: Datasets) -> tuple[float, float]:
        spectral = PowerLawSpectralModel(index=2.3, amplitude="3e-11 cm-2 s-1 TeV-1")
        spatial = PointSpatialModel(lon_0="83.633 deg", lat_0="22.014 deg")
        source = SkyModel(spectral, spatial, name="source")
        for parameter in (*spatial.parameters, spectral.index):
            parameter.frozen = True
        datasets.models = Models([source, *backgrounds])
        Fit().run(datasets)
        return spectral.amplitude.value, spectral.amplitude.error

    found = [amplitude(Datasets([each])) for each in read]
    joint, error = amplitude(read)
    weights = np.array([1 / each**2 for _, each in found])
    assert error == pytest.approx(weights.sum() ** -0.5, rel=0.03)
    assert joint == pytest.approx(np.average([value for value, _ in found], weights=weights), abs=0.2 * error)


def test_tiles_hold_each_type_by_itself_and_list_them_together(configure):
    """Types of a tile add up to the tile without types; the list of each tile names its own datasets."""
    pytest.importorskip("hpgeom")
    sky = {"sky": {"tiles": {"nside": 32, "overlap": "0.2 deg"}, "geometry": {"pixel": "0.1 deg"}}}
    options = {"targets": sky, "offset_max": "0.8 deg", "backgrounds": {"fov": {"method": "fov"}}}
    whole, typed = configure("all", **options), configure("typed", **options, event_types=TYPES)
    for config in (whole, typed):
        run_whole(config, lambda line: None)
    tiles = sorted(path.name for path in whole.results.glob("sky-*"))
    assert len(tiles) > 1
    ends = ("", *(f"-{kind}" for kind in SHARES))
    assert sorted(path.name for path in typed.results.glob("sky-*")) == sorted(
        f"{name}{end}" for name in tiles for end in ends
    )
    n_counts = 0
    for name in tiles:
        expected = maps_of(whole.results, name)
        of_types = [maps_of(typed.results, f"{name}-{kind}") for kind in SHARES]
        np.testing.assert_array_equal(sum(maps["counts"].data for maps in of_types), expected["counts"].data)
        for maps in of_types:
            np.testing.assert_array_equal(maps["mask_own"].data, expected["mask_own"].data)
        tables = [Table.read(typed.results / f"{name}-{kind}" / "runs.ecsv") for kind in SHARES]
        own = sum(int(table["counts_own"].sum()) for table in tables)
        assert own == int(Table.read(whole.results / name / "runs.ecsv")["counts_own"].sum())
        n_counts += own
        listed = re.findall(r"filename: (.*)", (typed.results / name / "fov" / "joint.yaml").read_text())
        assert listed == [f"../../{name}-{kind}/fov/dataset.fits.gz" for kind in SHARES]
    assert n_counts > 100
    assert not stale_files(make_plan(typed, lambda line: None))


def test_a_type_more_remakes_nothing_else(configure, tmp_path):
    first = configure("typed", tmp_path / "results", event_types={"2": TYPES["2"]})
    run_whole(first, lambda line: None)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results" / "crab-2").rglob("*.*")}
    joint = (tmp_path / "results" / "crab" / "fov" / "joint.yaml").read_text()
    plan = make_plan(configure("typed", tmp_path / "results", event_types=TYPES), lambda line: None)
    assert {task.kind for task in plan.needed if getattr(task, "target", "") == "crab-2"} <= {"series", "figures"}
    run_whole(configure("typed", tmp_path / "results", event_types=TYPES), lambda line: None)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (tmp_path / "results" / "crab" / "fov" / "joint.yaml").read_text() != joint
    assert len(list((tmp_path / "results" / "crab" / "fov").glob("series-*.json"))) == 1


def test_order_of_types_does_not_matter(configure, results):
    plan = make_plan(configure("typed", results, event_types=dict(reversed(TYPES.items()))), lambda line: None)
    assert {task.kind for task in plan.needed} <= {"series", "report", "figures"}


def test_types_cut_into_pieces_and_intervals(configure):
    changes = {"observations": {"split": "5 min"}, "stack": {"by": "run"}, "export": {"per": "interval"}}
    config = configure("typed", event_types=TYPES, **changes)
    run_whole(config, lambda line: None)
    names = {path.name for path in (config.results / "crab-1" / "obs").iterdir()}
    assert "100001-piece0-1" in names
    assert (config.results / "crab-1" / "fov" / "parts" / "run-100001-piece0-1" / "dataset.fits.gz").is_file()
    pieces = Table.read(config.results / "crab-2" / "runs.ecsv")
    assert {"piece", "event_type"} < set(pieces.colnames)
    assert (config.results / "crab-1" / "fov" / "joint.yaml").is_file()


def test_runs_without_a_choice_of_type_are_refused_with_the_line_to_add(configure, results):
    plan = make_plan(configure("typed"), lambda line: None)
    (reason,) = {refusal.reason.partition(": ")[2] for refusal in plan.tasks["crab"].refused}
    assert reason.startswith("HDU index: EVENT_TYPE is 1, 2: expected one of them")
    line = reason.partition("such as by ")[2].partition("; got none")[0]
    from ruamel.yaml import YAML

    added = YAML(typ="safe").load(line)["event_types"]
    changes = {str(name): about for name, about in added.items()}
    assert changes == TYPES
    assert not make_plan(configure("typed", event_types=changes), lambda line: None).tasks["crab-1"].refused


def test_type_that_the_index_does_not_have_is_refused(configure):
    plan = make_plan(configure("typed", event_types={"psf3": {"where": "EVENT_TYPE == 3"}}), lambda line: None)
    assert {refusal.obs_id for refusal in plan.tasks["crab-psf3"].refused} == set(OPTIONS.obs_ids)
    assert all("; got psf3" in refusal.reason for refusal in plan.tasks["crab-psf3"].refused)


def test_types_by_selection_alone_share_the_responses_of_the_run(configure, untyped):
    """An index without types: the responses are those of all events, as for `events.where`."""
    types = {"early": {"where": "EVENT_ID < 400"}, "late": {"where": "EVENT_ID >= 400"}}
    config = configure("all", event_types=types, events={"where": "ENERGY > 0"})
    run_whole(config, lambda line: None)
    whole, *parts = (maps_of(*at) for at in ((untyped, "crab"), *((config.results, f"crab-{kind}") for kind in types)))
    np.testing.assert_array_equal(sum(each["counts"].data.astype(int) for each in parts), whole["counts"].data)
    for each in parts:
        assert each["counts"].data.sum() > 0
        np.testing.assert_array_equal(each["exposure"].data, whole["exposure"].data)


def test_model_of_the_acceptance_is_made_for_each_type(configure):
    changes = {"acceptance": {"model": "self"}, "backgrounds": {"ring": CONFIG["backgrounds"]["ring"]}}
    config = configure("typed", event_types=TYPES, **changes)
    run_whole(config, lambda line: None)
    for kind in SHARES:
        assert len(list((config.results / "models" / f"self-crab-{kind}").glob("model-*.h5"))) == 1


@pytest.mark.parametrize("where", ["EVENT_TYPE ==", "exp(1)"])
def test_condition_that_cannot_be_read_is_told_with_its_place(configure, where):
    config = configure("typed", event_types={"1": TYPES["1"], "2": {"where": where}})
    with pytest.raises(MistakeError, match=r"types.json:1:targets.crab-2.event_types.2.where: .*" + re.escape(where)):
        make_plan(config, lambda line: None)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"event_types": {"1": TYPES["1"], "2": {"where": "EVNT_TYPE == 2"}}}, "crab-2.event_types.2.where"),
        ({"event_types": TYPES, "events": {"where": "EVNT_TYPE > 0"}}, "crab-1.events.where"),
    ],
)
def test_column_that_no_run_has_is_a_mistake_told_with_its_key(configure, tmp_path, changes, key):
    config = configure("typed", tmp_path / "results", **changes)
    told = rf"types\.json:1:targets\.{key}: EVENTS has no column 'EVNT_TYPE' .*; did you mean 'EVENT_TYPE'\?$"
    with pytest.raises(MistakeError, match=told):
        make_plan(config, lambda line: None)
    path = next(iter(config.written.source.split(":")))
    for verb in ("run", "plan"):
        done = CliRunner().invoke(main, [verb, path])
        assert done.exit_code == 2
        assert key in done.output
    assert not (tmp_path / "results" / "crab-1").exists()


def test_run_without_the_column_that_others_have_is_refused_with_key_and_file(configure, stores, tmp_path):
    shutil.copytree(stores["typed"], tmp_path / "store")
    path = tmp_path / "store" / "obs_100002.fits.gz"
    with fits.open(path) as hdus:
        hdus["EVENTS"].columns.change_name("EVENT_TYPE", "KIND")
        rewrite(path, fits.HDUList([each.copy() for each in hdus]))
    config = configure("typed", tmp_path / "results", event_types=TYPES, data={"store": str(tmp_path / "store")})
    said: list[str] = []
    finish(run_whole(config, said.append), said.append)
    told = r"run 100002: refused: obs_100002\.fits\.gz\[EVENTS\]: event_types\.2\.where: EVENTS has no column 'EVENT"
    assert any(re.match(f"crab-2: {told}", line) for line in said)
    assert any(re.match(told.replace("100002:", "100002-2:", 1), line) for line in said)  # of the job
    kept = Table.read(tmp_path / "results" / "crab-2" / "runs.ecsv")
    assert list(kept["status"]) == ["ok", "refused", "ok"]
    assert kept["reason"][1].startswith("file of events, gti[EVENTS]: event_types.2.where: ")  # whatever its name is


def test_check_reads_every_type(stores):
    found = {run.obs_id: run for run in check_runs(*open_source(str(stores["typed"])))}
    assert [run.reason for run in found.values()] == [""] * 3
    with fits.open(stores["typed"] / "obs_100001.fits.gz") as hdus:
        assert found[100001].n_events == len(hdus["EVENTS"].data)


def test_index_for_other_programs_is_of_one_type(configure, tmp_path):
    changes = {"acceptance": {"model": "self"}, "backgrounds": {"ring": CONFIG["backgrounds"]["ring"]}}
    config = configure("typed", tmp_path / "results", event_types=TYPES, **changes)
    run_whole(config, lambda line: None)
    text = CONFIG | changes | {"data": {"store": str(config.data.store)}, "results": str(config.results)}
    (tmp_path / "c.json").write_text(json.dumps(text | {"event_types": TYPES}))
    arguments = ["index", str(tmp_path / "c.json"), "-o", str(tmp_path / "index"), "-t", "crab-2"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    rows = Table.read(tmp_path / "index" / "hdu-index.fits.gz")
    names = {str(row["HDU_NAME"]) for row in rows if str(row["HDU_TYPE"]) == "aeff"}
    assert names == {"EFFECTIVE AREA 2"}
    assert len(rows) == 6 * OPTIONS.n_runs


def test_report_says_the_type(results):
    plan = make_plan(load_config(results.parent / "types.json"), lambda line: None)
    for kind in SHARES:
        (task,) = (each for each in plan.tasks[f"crab-{kind}"].figures if each.label == "fov")
        make_figures(results, plan.targets[f"crab-{kind}"], task)
        answers = dict(read_figures(results, f"crab-{kind}", "fov", task.key).answers)
        assert f", event type {kind};" in answers["Data"]


def test_clean_leaves_what_the_types_need(configure, tmp_path):
    config = configure("typed", tmp_path / "results", event_types=TYPES)
    run_whole(config, lambda line: None)
    plan = make_plan(config, lambda line: None)
    assert not stale_files(plan)
    assert not verify_plan(plan, sets_aside=False).damaged
    (tmp_path / "results" / "crab" / "fov" / "joint.yaml").write_text("datasets: []")
    again = make_plan(config, lambda line: None)
    assert [task.kind for task in again.needed if task.kind == "series"] == ["series"]


def test_first_configuration_of_a_store_with_types_chooses_them(stores, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["init", str(stores["typed"]), "-t", "83.633 22.014", "-o", "mine.yaml", "--no-exclusion"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0
    (hint,) = re.findall(r"All types are fitted together by Datasets\.read\('(.*)', '(.*)'\)", done.output)
    config = load_config("mine.yaml")
    wheres = [where for target in config.targets.values() for _, where in target.events_where]
    assert wheres == ["EVENT_TYPE == 1", "EVENT_TYPE == 2"]
    assert "# 3 of the runs were read" in Path("mine.yaml").read_text()
    plan = make_plan(config, lambda line: None)
    assert all(found.reduce and not found.refused for found in plan.tasks.values())
    joint = [task for found in plan.tasks.values() for task in found.series if task.family]
    files = {str(plan.results / file) for task in joint for file in plan.files(task)}
    assert hint[0].endswith("joint.yaml")
    assert set(hint) <= files


def test_clean_knows_the_folder_of_all_types(configure, tmp_path):
    """What the target left before it had types, and the lists of a label that is gone."""
    before = configure("typed", tmp_path / "results", event_types={"1": TYPES["1"]})
    run_whole(before, lambda line: None)
    only = {"backgrounds": {"ring": CONFIG["backgrounds"]["ring"]}}
    plan = make_plan(configure("typed", tmp_path / "results", event_types=TYPES, **only), lambda line: None)
    stale = {str(path.relative_to(tmp_path / "results")) for path in stale_files(plan)}
    assert {"crab/fov/joint.yaml", "crab/fov/joint-models.yaml", "crab-1/fov/cube.h5"} <= stale
    ring = {Path(path).name.partition("-")[0] for path in stale if path.startswith(("crab/ring", "crab-1/ring"))}
    assert ring == {"series"}  # the list that a type more makes another
    (tmp_path / "results" / "crab" / "mine.txt").write_text("kept")
    plan = make_plan(configure("typed", tmp_path / "results", event_types=TYPES, **only), lambda line: None)
    _, others, _ = clean_results(plan, is_serious=True)
    assert {path.name for path in others} == {"mine.txt"}
    assert not (tmp_path / "results" / "crab" / "fov").exists()
