"""A small store with one good and one bad run, and ways to break the bad one.

Every test changes one thing and then runs what the workflow runs: ``cubeflow plan``, ``reduce`` and ``export``, in
this process. The good run must come out as in an undisturbed store, to the byte.
"""

import csv
import gzip
import importlib.util
import io
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner

from cubeflow.cli import main
from cubeflow.config import load_config
from cubeflow.errors import FailedError
from cubeflow.pipeline.tasks import files_of, stack_file
from cubeflow.plan.jobs import read_jobs, read_targets
from cubeflow.plan.make import Plan, make_plan
from cubeflow.plan.run import do_tasks
from cubeflow.simulate.store import SimulationOptions, simulate_store
from cubeflow.store.artifact import read_artifact

GOOD, BAD = 100001, 100002
LETTERS = {"f4": "E", "f8": "D", "i4": "J", "i8": "K"}
CONFIG = {
    "data": {"store": "store"},
    "targets": {
        "t": {
            "position": {"frame": "icrs", "lon": "83.633 deg", "lat": "22.014 deg"},
            "geometry": {"frame": "icrs", "projection": "TAN", "width": ["3 deg", "2 deg"], "pixel": "0.1 deg"},
        }
    },
    "energy": {"min": "1 TeV", "max": "10 TeV", "bins": 2},
    "energy_true": {"min": "0.5 TeV", "max": "20 TeV", "bins": 4},
    "irf_grid": {"pixel": "0.5 deg", "rad_bins": 10},
    "offset_max": "2 deg",
    "backgrounds": {"fov": {"method": "fov"}},
}


@dataclass(frozen=True)
class Outcome:
    """What came of a run of the workflow: worst exit status, run table by run, all lines said."""

    status: int
    rows: dict
    text: str


class Bench:
    """A folder with a store and a configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store, self.results = folder, folder / "store", folder / "results"
        self.planned = folder / "none"
        self.config = json.loads(json.dumps(CONFIG))

    # --- the store

    def file(self, obs_id=BAD) -> Path:
        return self.store / f"obs_{obs_id}.fits.gz"

    def content(self, obs_id=BAD) -> bytes:
        """FITS file of a run, decompressed."""
        return gzip.decompress(self.file(obs_id).read_bytes())

    def put(self, content: bytes, obs_id=BAD) -> None:
        """Write the FITS file of a run."""
        self.file(obs_id).write_bytes(gzip.compress(content, 1, mtime=0))

    def edit(self, change, obs_id=BAD, checksum=False) -> None:
        """Change the HDUs of a run."""
        with fits.open(io.BytesIO(self.content(obs_id))) as hdus:
            change(hdus)
            self.put(to_bytes(hdus, checksum), obs_id)

    def values(self, hdu: str, column: str, change, obs_id=BAD) -> None:
        """Change the values of a column in place."""
        self.edit(lambda hdus: change(hdus[hdu].data[column]), obs_id)

    def header(self, hdu: str, obs_id=BAD, **values) -> None:
        """Set header values; None removes the key."""
        self.edit(lambda hdus: set_values(hdus[hdu].header, values), obs_id)

    def index(self, change, name="hdu-index", header=None) -> None:
        """Change an index: `change` takes its rows (dicts) and may return others."""
        path = self.store / f"{name}.fits.gz"
        with fits.open(io.BytesIO(gzip.decompress(path.read_bytes()))) as hdus:
            rows = [dict(zip(hdus[1].columns.names, row, strict=True)) for row in hdus[1].data.tolist()]
            rows = change(rows) or rows
            table = fits.BinTableHDU.from_columns(make_columns(rows), name=hdus[1].name)
            set_values(table.header, header or {})
            path.write_bytes(gzip.compress(to_bytes(fits.HDUList([fits.PrimaryHDU(), table])), 1, mtime=0))

    def index_rows(self, obs_id=BAD, hdu_type=None, **values) -> None:
        """Set values in the rows of the HDU index that belong to a run (and HDU type)."""

        def change(rows):
            for row in rows:
                if row["OBS_ID"] == obs_id and hdu_type in (None, row["HDU_TYPE"]):
                    row |= values

        self.index(change)

    # --- the workflow

    def set(self, path: str, value) -> None:
        """Set a key of the configuration: ``targets.t.geometry.width``."""
        *folders, last = path.split(".")
        section = self.config
        for name in folders:
            section = section.setdefault(name, {})
        section[last] = value

    def write_config(self) -> Path:
        path = self.folder / "config.yaml"
        path.write_text(json.dumps(self.config, indent=1))
        return path

    def cubeflow(self, *arguments) -> tuple[int, str]:
        """Exit status and output of a verb; an error that is no message to the user is passed on."""
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    def plan(self) -> tuple[int, str]:
        """Write the plan that `jobs` and `do` follow."""
        status, text = self.cubeflow("plan", "-c", self.write_config())
        if status == 0:
            self.planned = Path(re.search(r"^plan: (.*)$", text, re.MULTILINE)[1])
        return status, text

    def made(self) -> Plan:
        """What is to be done, as it is found now; nothing is written."""
        return make_plan(load_config(self.write_config()), lambda line: None)

    def jobs(self, *kinds: str) -> list[tuple[str, Path, str]]:
        """Verb, file of the plan and name of each job that was not done when the plan was made."""
        jobs = [job for job in read_jobs(self.planned) if job.kind in kinds and not job.is_made]
        return [(job.kind, self.planned, job.name) for job in jobs]

    def do(self, *kinds: str) -> tuple[int, str]:
        """Do the jobs that the last plan has: worst exit status and output."""
        try:
            jobs = self.jobs(*kinds)
        except FailedError as error:  # the plan cannot be read
            return error.status, str(error)
        said = [self.cubeflow(*job) for job in jobs]
        return max((status for status, _ in said), default=0), "".join(text for _, text in said)

    def reduce(self) -> tuple[int, str]:
        """Reduce runs."""
        return self.do("reduce")

    def run(self) -> Outcome:
        """Plan and reduce, stack and write the run table; no final products."""
        said = []
        for step in (self.plan, self.reduce, lambda: self.do("stack"), self.table):
            said.append(step())
            if said[-1][0] != 0:
                break
        rows = self.rows() if said[-1][0] == 0 else {}
        return Outcome(max(status for status, _ in said), rows, "".join(text for _, text in said))

    def table(self) -> tuple[int, str]:
        """Write the run tables."""
        tasks = [task for job in read_jobs(self.planned) for task in job.tasks if task.kind == "table"]
        said = []
        try:
            do_tasks(self.results, read_targets(self.planned, {task.target for task in tasks}), tasks, said.append)
        except FailedError as error:
            return 1, "\n".join([*said, str(error)])
        return 0, "\n".join(said)

    def finish(self) -> tuple[int, str]:
        """Stack and export, as the workflow does after `run`: worst exit status and output."""
        first, second = self.do("stack"), self.do("export")
        return max(first[0], second[0]), first[1] + second[1]

    def rows(self, target="t") -> dict:
        """Run table by run."""
        with (self.results / target / "runs.csv").open(newline="") as lines:
            return {int(row["obs_id"]): row for row in csv.DictReader(lines)}

    def artifact(self, obs_id=BAD, name="reduced") -> Path:
        """Artifact of a run that the plan names."""
        plan = self.made()
        files = [file for task in plan.tasks["t"].reduce for file in files_of(task)]
        (found,) = [file for file in files if re.fullmatch(rf"t/obs/{obs_id}/{name}-[0-9a-f]{{16}}\.h5", file)]
        return self.results / found

    def leaf(self, label="fov") -> Path:
        """The only leaf stack of the plan."""
        (task,) = self.made().tasks["t"].reduce
        return self.results / stack_file("t", label, task.leaves[label])

    def data(self, obs_id=BAD, name="reduced") -> dict:
        """Arrays of an artifact of a run."""
        datasets = read_artifact(self.artifact(obs_id, name)).datasets
        return {key: getattr(value, "data", value) for key, value in datasets.items()}

    def products(self) -> dict:
        """Bytes of every artifact and product below the results."""
        names = ("*.h5", "*.fits.gz", "datasets.yaml", "runs.*")  # certificates hold the versions of libraries
        found = sorted(path for name in names for path in self.results.rglob(name))
        return {str(path.relative_to(self.results)): path.read_bytes() for path in found}

    def leftovers(self) -> list[Path]:
        """Temporary files below the results."""
        return sorted(path for path in self.results.rglob("*") if path.name.endswith(".tmp"))


def to_bytes(hdus: fits.HDUList, checksum=False) -> bytes:
    for hdu in hdus:
        for key in ("CHECKSUM", "DATASUM"):
            hdu.header.remove(key, ignore_missing=True)
    stream = io.BytesIO()
    hdus.writeto(stream, checksum=checksum, output_verify="ignore")
    return stream.getvalue()


def set_values(header: fits.Header, values: dict) -> None:
    for key, value in values.items():
        name = key.replace("_", "-") if key in ("DATE_OBS",) else key
        if value is None:
            header.remove(name, ignore_missing=True)
        else:
            header[name] = value


def make_columns(rows: list[dict]) -> list[fits.Column]:
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        if isinstance(values[0], str | bytes):
            encoded = [value.encode("latin-1") if isinstance(value, str) else value for value in values]
            array = np.array(encoded)
            columns.append(fits.Column(name, f"{max(1, array.dtype.itemsize)}A", array=array))
        else:
            array = np.asarray(values)
            columns.append(fits.Column(name, LETTERS[array.dtype.str[1:]], array=array))
    return columns


@pytest.fixture(scope="session")
def base_store(tmp_path_factory) -> Path:
    """Store of two good runs."""
    folder = tmp_path_factory.mktemp("base") / "store"
    simulate_store(folder, SimulationOptions(tiny=True, n_runs=2, duration_s=600.0, first_obs_id=GOOD))
    return folder


@pytest.fixture
def bench(base_store, tmp_path, monkeypatch) -> Bench:
    """A store of two good runs and its configuration, in the working directory."""
    shutil.copytree(base_store, tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def make_bench():
    """Make a bench of a folder that holds a store."""
    return Bench


@pytest.fixture(scope="session")
def undisturbed(base_store, tmp_path_factory) -> Bench:
    """The base store, reduced."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(base_store, folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made = Bench(folder)
        made.set("data.store", str(made.store))
        made.set("results", str(made.results))
        assert made.run().status == 0
    return made


def assert_left_out(bench):
    """Of a run that was read there is a verdict and no map; of one whose files are missing there is nothing."""
    for path in bench.results.glob(f"t/obs/{BAD}/*.h5"):
        artifact = read_artifact(path)
        assert (artifact.attributes["status"], dict(artifact.datasets)) == ("refused", {})


@pytest.fixture
def rejects(bench, undisturbed):
    """``rejects("words", ...)``: the bad run is refused with one line that holds the words; the good one is done."""

    def check(*words: str, outcome: Outcome | None = None) -> Outcome:
        outcome = outcome or bench.run()
        assert outcome.status == 0, outcome.text
        bad, good = outcome.rows[BAD], outcome.rows[GOOD]
        assert (bad["status"], good["status"]) == ("refused", "ok"), outcome.rows
        assert "\n" not in bad["reason"]
        role = re.match(r"file( of [a-z_, ]+)?(?=[:\[])", bad["reason"])  # which has a name where it is told
        assert bad["reason"][role.end() if role else 0 :] in outcome.text
        for word in words:
            assert word in bad["reason"], bad["reason"]
        assert bench.artifact(GOOD).read_bytes() == undisturbed.artifact(GOOD).read_bytes()
        assert_left_out(bench)
        assert read_artifact(bench.leaf(), names=[]).attributes["n_runs"] == 1
        return outcome

    return check


@pytest.fixture
def accepts(bench, undisturbed):
    """``accepts(name=count)``: both runs are done, these repairs are in the run table; the maps are the same."""

    def check(same=True, quirks=(), outcome: Outcome | None = None, **repairs: int) -> dict:
        outcome = outcome or bench.run()
        assert outcome.status == 0, outcome.text
        row = outcome.rows[BAD]
        assert row["status"] == "ok", row
        found = dict(item.split("=") for item in row["repairs"].split())
        assert found == {name: str(count) for name, count in repairs.items()}, found
        assert set(quirks) <= set(row["quirks"].split()), row["quirks"]
        assert bench.artifact(GOOD).read_bytes() == undisturbed.artifact(GOOD).read_bytes()
        if same:
            expected, maps = undisturbed.data(), bench.data()
            assert expected.keys() == maps.keys()
            for name, values in maps.items():
                np.testing.assert_array_equal(values, expected[name], err_msg=name)
        return row

    return check


def load(name: str, path: Path):
    """Module of another folder of tests."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def stores():
    """tests/dl3/stores.py: valid runs as tables, with every class of response."""
    return load("dl3_stores", Path(__file__).parents[1] / "dl3" / "stores.py")
