"""Drafted configurations: limits against numbers put in, files against the loader, real stores."""

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.table import Table

from cubeflow.config import load_config
from cubeflow.dl3.exclusions import read_exclusion
from cubeflow.errors import MistakeError
from cubeflow.plan.make import Plan, make_plan, ranges_text
from cubeflow.plan.run import run_whole, target_lines
from cubeflow.products.exclusion import ExclusionFile, ExclusionMasks
from cubeflow.simulate.array import SimulationOptions
from cubeflow.simulate.store import SHARED_IRF_FILE, simulate_store, write_index
from cubeflow.tools.init import (
    Found,
    RunFacts,
    config_text,
    init_config,
    quoted,
    reach_deg,
    round_down,
    round_up,
    two_digits_up,
)
from cubeflow.tools.targets import parse_target

CRAB = parse_target("Crab")


def facts(obs_id: int = 1, **changes: object) -> RunFacts:
    values = {
        "lo_thres_tev": 0.7,
        "hi_thres_tev": 100.0,
        "area_threshold_tev": 0.5,
        "energy_true_tev": (0.01, 100.0),
        "background_tev": (0.2, 70.0),
        "offset_max_deg": 2.0,
        "has_one_offset": False,
        "energies_tev": np.concatenate([np.full(500, 1.0), np.full(8, 40.0), np.full(30, 18.0)]),
        "point_like": False,
        "quirks": ("theta-nodes",),
    }
    return RunFacts(obs_id, **{**values, **changes})


def found(*sample: RunFacts, offsets: dict[int, float] | None = None) -> Found:
    return Found("data/store", (), CRAB, 9, offsets or {1: 0.5, 2: 1.5}, sample or (facts(),), {})


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "demo"
    simulate_store(folder, SimulationOptions(seed=3, n_runs=3, duration_s=300.0))
    return folder


def test_round_numbers():
    assert [round_down(x) for x in (0.407, 1.0, 0.99, 0.288, 80.0)] == [0.4, 1.0, 0.8, 0.25, 80.0]
    assert [two_digits_up(x) for x in (0.7, 0.661, 0.0999, 1.0, 12.3, 99.9)] == [0.7, 0.67, 0.1, 1.0, 13.0, 100.0]
    assert [round_up(x) for x in (0.407, 1.0, 0.99, 26.0, 81.0)] == [0.5, 1.0, 1.0, 32.0, 100.0]


def test_energies_start_at_the_lowest_threshold_and_end_with_the_events():
    # Of 538 events ten are left out above: the tenth from the top is at 18 TeV, rounded up to 20.
    # The first bin begins where the run of the lowest threshold is safe, not below it, where it would be empty.
    assert found(facts()).energy_tev == (0.7, 20.0)
    assert found(facts(lo_thres_tev=0.2951), facts()).energy_tev[0] == 0.3
    assert found(facts(background_tev=(0.2, 12.0))).energy_tev[1] == 12.0
    assert found(facts(energies_tev=np.zeros(0))).energy_tev == (0.7, 4.0)


def test_true_energy_is_wider_but_inside_the_table():
    assert found(facts()).energy_true_tev == (0.2, 40.0)
    assert found(facts(energy_true_tev=(0.31, 30.0))).energy_true_tev == (0.32, 25.0)


@pytest.mark.parametrize("migra", [(0.05, 2.0), (1.0, 5.0)])  # counts come from far above, or from far below
def test_true_energy_is_so_wide_that_nothing_is_said_of_it(tmp_path, monkeypatch, migra):
    """A dispersion that is flat between two values of migra: a factor of about 3 and 2 would not do for it."""
    monkeypatch.chdir(tmp_path)
    simulate_store(tmp_path / "wide", SimulationOptions(n_runs=2, duration_s=300.0, tiny=True, shared_irf=True))
    with fits.open(tmp_path / "wide" / SHARED_IRF_FILE) as hdus:
        rows = hdus["ENERGY DISPERSION"].data
        edges = np.geomspace(0.02, 5.0, rows["MIGRA_LO"].shape[1] + 1)
        rows["MIGRA_LO"], rows["MIGRA_HI"] = edges[:-1], edges[1:]
        is_flat = (edges[:-1] >= 0.8 * migra[0]) & (edges[1:] <= 1.2 * migra[1])
        rows["MATRIX"] = (is_flat / np.diff(edges)[is_flat].sum())[:, None]
        table = rows["ENERG_LO"].min(), rows["ENERG_HI"].max()
        hdus.writeto(tmp_path / "irf.fits.gz", checksum=True)
    (tmp_path / "irf.fits.gz").replace(tmp_path / "wide" / SHARED_IRF_FILE)
    config = load_config([init_config("wide", "Crab", Path("a.yaml"), False, True, print)])
    options = config.targets["a"].reduce_options()
    energy, true = options.energy.edges, options.energy_true.edges
    assert true[0] < round_down(energy[0] / 3.0) or true[-1] > round_up(2.0 * energy[-1])
    assert table[0] <= true[0] < true[-1] <= table[1]
    lines = list(target_lines(run_whole(config, lambda line: None), "a"))
    assert not [line for line in lines if "energy_true" in line]
    used = Table.read(tmp_path / "results" / "a" / "runs.ecsv")
    assert list(used["status"]) == ["ok", "ok"]
    assert used["beyond_energy_true"].max() <= 0.01


def test_without_thresholds_the_area_decides():
    draft = found(facts(lo_thres_tev=None), facts())
    assert draft.energy_tev[0] == 0.5
    assert "[offset-max, aeff-max]" in config_text(draft, "c.yaml", None)


def test_without_background_response_there_are_counts_only():
    for each in (found(facts(background_tev=None), facts()), found(facts(background_tev=None), offsets={1: 0.5})):
        text = config_text(each, "c.yaml", None)
        assert "counts: {method: none}" in text
        assert "ring" not in text
        assert "acceptance" not in text


def test_where_no_run_has_a_background_response_it_is_made_from_their_events():
    text = config_text(found(facts(background_tev=None, point_like=True)), "c.yaml", None)
    assert "acceptance: {model: self}" in text
    assert "fov: {method: fov" in text
    assert "ring: {method: ring" in text


def test_the_map_holds_all_fields():
    assert found(offsets={1: 0.5, 2: 1.5}).width_deg == 7.0
    assert found(offsets={1: 0.51}).width_deg == 5.5
    assert found(offsets={1: 0.5}).pixel_deg == 0.02
    assert found(facts(offset_max_deg=4.0), offsets={1: 2.0}).pixel_deg == 0.04


def test_offsets_end_where_the_area_is_a_third():
    offset, far = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.5]), np.full(100, 9.0)
    assert reach_deg(offset, np.array([10.0, 9.0, 8.0, 6.0, 3.2, 1.0]), far) == 2.0
    assert reach_deg(offset[:2], np.array([10.0, 1.0]), far) == 0.5


def test_of_an_area_at_one_offset_the_events_say_where_offsets_end():
    events_deg = np.linspace(0.0, 1.7, 171)  # 95 % of them within 1.615 deg
    one = np.array([0.4]), np.array([1.0])
    assert reach_deg(*one, events_deg) == 1.5
    assert reach_deg(*one, 0.9 * events_deg) == 1.0
    assert reach_deg(*one, 0.1 * events_deg) == reach_deg(*one, events_deg[:0]) == 0.5
    text = config_text(found(facts(has_one_offset=True, offset_max_deg=1.5)), "c.yaml", None)
    assert "offset_max: 1.5 deg  # within which 95% of the events lie; the effective area is known at one" in text


def test_run_numbers_are_drawn_together():
    assert list(ranges_text([3, 1, 2, 7, 9, 10])) == ["1-3", "7", "9-10"]


@pytest.mark.parametrize("path", ["data/x", "../a/b-1", "with blank/x", 'a"b/ü', "null", "1e3", "a: b/#"])
def test_paths_survive_as_yaml(path, tmp_path):
    text = config_text(found(), "c.yaml", None)
    (tmp_path / "c.yaml").write_text(text.replace("store: data/store", f"store: {quoted(path)}"))
    config = load_config([tmp_path / "c.yaml"])
    assert str(config.data.store) == path


@pytest.mark.parametrize(("path", "name"), [("config/crab.yaml", "crab"), ("/x/Crab, hard.yml", "crab-hard")])
def test_the_target_has_the_name_of_the_configuration(path, name, tmp_path):
    (tmp_path / "c.yaml").write_text(config_text(found(), path, None))
    config = load_config([tmp_path / "c.yaml"])
    assert (list(config.targets), str(config.results)) == ([name], "results")


def test_what_is_written_loads_and_excludes_the_target(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    path = init_config(str(store), "83.633 22.014", None, False, True, said.append)
    assert path == Path("config/crab.yaml")
    target = load_config([path]).targets["crab"]
    assert target.position.icrs_deg == (83.633, 22.014)
    assert target.exclusion == (ExclusionFile(Path("config/crab.reg")),)
    assert target.safe_mask.methods == ("offset-max", "aeff-default")
    assert target.backgrounds["fov"].energy_groups == 4
    assert target.energy.axis("energy").n_bins >= 4
    excluded = ExclusionMasks([read_exclusion(target.exclusion[0].path)]).mask(target.reduce_options().geometry)
    assert excluded.mean() == pytest.approx(np.pi * 0.35**2 / target.geometry.width_deg[0] ** 2, abs=3e-4)
    assert said[1] == "Next: cubeflow plan -c config/crab.yaml"
    assert said[2] == 'then: snakemake -s "$(cubeflow workflow)" --cores 2 --configfile config/crab.yaml'
    assert f"#   {said[2].removeprefix('then: ')}\n" in path.read_text()
    assert said[-1].endswith("cubeflow exclude config/crab.yaml")


def test_the_workflow_of_the_working_directory_is_started_where_there_is_one(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "Snakefile").touch()
    said: list[str] = []
    init_config(str(store), "83.633 22.014", Path("a.yaml"), False, False, said.append)
    assert said[2] == "then: snakemake --cores 2 --configfile a.yaml"


def test_nothing_is_replaced_unless_forced(store, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("mine")
    with pytest.raises(MistakeError, match=r"a.yaml: already there; write to another file with -o"):
        init_config(str(store), "Crab", path, False, False, print)
    assert path.read_text() == "mine"
    init_config(str(store), "Crab", path, True, False, print)
    assert load_config([path]).targets["a"].exclusion == ()


def test_regions_that_are_there_stay_and_new_ones_get_a_free_name(store, tmp_path):
    """As in a fresh checkout, which has a `crab.reg` of its own."""
    path, regions = tmp_path / "crab.yaml", tmp_path / "crab.reg"
    regions.write_text("mine")
    (tmp_path / "crab-2.reg").symlink_to(tmp_path / "nowhere")
    init_config(str(store), "Crab", path, False, True, print)
    assert load_config([path]).targets["crab"].exclusion == (ExclusionFile(tmp_path / "crab-3.reg"),)
    init_config(str(store), "Crab", path, True, True, print)  # what is there already is not written twice
    assert load_config([path]).targets["crab"].exclusion == (ExclusionFile(tmp_path / "crab-3.reg"),)
    assert regions.read_text() == "mine"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["crab-2.reg", "crab-3.reg", "crab.reg", "crab.yaml"]


def test_a_configuration_that_is_called_like_regions_is_not_replaced_by_them(store, tmp_path):
    path = init_config(str(store), "Crab", tmp_path / "a.reg", False, True, print)
    assert load_config([path]).targets["a"].exclusion == (ExclusionFile(tmp_path / "a-2.reg"),)


def test_a_target_that_no_run_sees_names_the_closest_run(store, tmp_path):
    with pytest.raises(
        MistakeError, match=r"no run sees Markarian 421 .* the closest, run \d+, points 7\d\.\d deg away"
    ):
        init_config(str(store), "Mrk 421", tmp_path / "a.yaml", False, True, print)
    assert not (tmp_path / "a.yaml").exists()


def test_without_target_the_objects_of_the_store_are_listed(store):
    with pytest.raises(MistakeError, match=r'--target "simulated source"  or  --target "83.633 22.014"  # named by 3'):
        init_config(str(store), None, None, False, True, print)


def runs_of(plan: Plan) -> list[int]:
    """Runs of the target."""
    (planned,) = plan.tasks.values()
    return [keys.unit.obs_id for task in planned.reduce for keys in task.units]


@pytest.mark.parametrize("beside", ["", "obs_7.fits.gz", "notes.fits", "other/hdu-index.fits.gz", "no index"])
def test_of_a_folder_whose_runs_lie_below_one_index_that_is_used(store, tmp_path, beside):
    """Unless a run lies beside it, there are two, or it cannot be read: then every file is opened, as ever."""
    top = tmp_path / "top"
    inner = Path(shutil.copytree(store, top / "deep" / "data"))
    (top / "README.md").write_text("About these data.")
    if beside == "obs_7.fits.gz":
        (inner / "obs_100001.fits.gz").rename(top / beside)
    elif beside == "no index":
        (inner / "hdu-index.fits.gz").write_bytes(b"cut off")
    elif beside:
        (top / beside).parent.mkdir(exist_ok=True)
        shutil.copy(store / "hdu-index.fits.gz", top / beside)  # it holds no run
    said: list[str] = []
    config = load_config([init_config(str(top), "Crab", tmp_path / "a.yaml", False, False, said.append)])
    assert config.data.store == (inner if beside in ("", "notes.fits") else top)
    assert (said[0] == f"{inner}: used as store: the index is there, and so are all runs") == (
        config.data.store == inner
    )
    assert len(runs_of(make_plan(config, said.append))) == 3
    assert any("nobody reads" in line for line in said) == (config.data.store == top)


def of_instrument(folder: Path, *names: str) -> None:
    """Write what instrument the run files of a folder are of into their headers: TELESCOP and INSTRUME."""
    for path in folder.glob("obs_*.fits.gz"):
        with fits.open(path) as hdus:
            hdus["EVENTS"].header.update(dict(zip(("TELESCOP", "INSTRUME"), names, strict=True)))
            hdus.writeto(path.with_suffix(".new"), checksum=True)
        path.write_bytes(gzip.compress(path.with_suffix(".new").read_bytes()))
        path.with_suffix(".new").unlink()


@pytest.mark.parametrize("index", ["none", "without the names", "with the names"])
def test_instruments_that_are_mixed_are_said_and_one_can_be_chosen(tmp_path, index):
    options = SimulationOptions(n_runs=3, duration_s=300.0, tiny=True)
    for number, n_runs, names in ((100001, 3, ("HESS", "I's")), (100004, 2, ("HESS", "II"))):
        part = replace(options, first_obs_id=number, n_runs=n_runs)
        simulate_store(tmp_path / names[1], part)
        of_instrument(tmp_path / names[1], *names)
        for path in (tmp_path / names[1]).glob("obs_*"):
            (tmp_path / "mixed").mkdir(exist_ok=True)
            path.rename(tmp_path / "mixed" / path.name)
    if index != "none":
        write_index(tmp_path / "mixed", options)
    if index == "with the names":
        table = Table.read(path := tmp_path / "mixed" / "obs-index.fits.gz")
        table["TELESCOP"], table["INSTRUME"] = "HESS", ["I's"] * 3 + ["II"] * 2
        table.write(path, overwrite=True)
    said: list[str] = []
    path = init_config(str(tmp_path / "mixed"), "Crab", tmp_path / "a.yaml", False, False, said.append)
    (line,) = (line for line in said if line.startswith("runs of 2 instruments "))
    told = """(3 runs: TELESCOP == 'HESS' and INSTRUME == "I's"; 2 runs: TELESCOP == 'HESS' and INSTRUME == 'II'): """
    assert told in line
    chosen = yaml.safe_load(line[line.index("observations: ") :])
    assert list(chosen["observations"]) == ["ids" if index == "without the names" else "where"]
    assert runs_of(make_plan(load_config([path], chosen), said.append)) == [100001, 100002, 100003]


@pytest.mark.real_data
def test_a_store_whose_index_leads_elsewhere_gets_its_roots(cta_store, tmp_path):
    path = init_config(str(cta_store), "galactic 0 0", tmp_path / "gc.yaml", False, True, print)
    config = load_config([path])
    assert config.data.roots == (cta_store.parents[1].resolve(),)
    target = config.targets["gc"]
    assert target.safe_mask.methods == ("offset-max", "aeff-max")
    assert target.position.frame == target.geometry.frame == "galactic"
    assert "110380" in path.read_text()  # listed in the index, but its file is not there


@pytest.mark.real_data
def test_every_object_of_the_hess_store_can_be_drafted(hess_store, tmp_path):
    for name, runs in (("PKS 2155-304", 21), ("Crab", 4), ("MSH 15-52", 20), ("RX J1713.7-3946", 15)):
        path = init_config(str(hess_store), name, tmp_path / f"{runs}.yaml", False, True, print)
        text = path.read_text()
        assert f"{runs} of the 105 runs" in text
        assert "hess-dr1-background-mirrored" in text
        (target,) = load_config([path]).targets.values()
        assert target.offset_max_deg == 2.0
        edges_tev = target.reduce_options().energy.edges
        assert 0.2 <= edges_tev[0] < 1.0 < 10.0 < edges_tev[-1]


@pytest.mark.real_data
@pytest.mark.parametrize("offset_max", ["1.5 deg", "0.5 deg"])
def test_what_is_drafted_of_magic_uses_both_runs(data_root, tmp_path, monkeypatch, offset_max):
    """Of the narrower field each run has fewer cells than any form but the grid has coefficients."""
    if not (data_root / "magic").is_dir():
        pytest.skip(f"no MAGIC data in {data_root}")
    monkeypatch.chdir(tmp_path)
    path = init_config(str(data_root / "magic"), "Crab", None, False, True, print)
    assert load_config([path]).targets["crab"].offset_max_deg == 1.5
    said: list[str] = []
    run_whole(load_config([path], {"offset_max": offset_max}), said.append)
    (model,) = (line for line in said if line.startswith("self-crab: "))
    told = "; no form can be fitted to a part of the runs: cell by cell"
    assert (told in model) == model.startswith("self-crab: grid, 2 of 2 runs") == (offset_max == "0.5 deg")
    assert list(Table.read(tmp_path / "results" / "crab" / "runs.ecsv")["status"]) == ["ok", "ok"]
