"""Workflows on a real SLURM: the same bytes as without it, and jobs that are killed recover with more.

Jobs of SLURM wait more than they work, and its time limits are whole minutes: everything is started
at once, and then looked at.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slurm

# The first look at the queue after a few seconds: these jobs are short.
ON_CLUSTER = ("--profile", "workflow/profiles/slurm", "--slurm-init-seconds-before-status-checks", "5")
GEOMETRY = {"frame": "icrs", "projection": "TAN", "width": ["4 deg", "3 deg"], "pixel": "0.1 deg"}
VICTIM = {"position": {"frame": "icrs", "lon": "83.633 deg", "lat": "22.014 deg"}, "geometry": GEOMETRY}
VICTIMS: dict[str, Any] = {
    "data": {"store": "results/victims-dl3"},
    "simulate": {"seed": 5, "runs": 2, "duration": "5 min"},
    "energy": {"min": "1 TeV", "max": "10 TeV", "bins": 3},
    "energy_true": {"min": "0.5 TeV", "max": "20 TeV", "bins": 4},
    "offset_max": "1.5 deg",
    "irf_grid": {"pixel": "0.5 deg", "rad_max": "0.6 deg", "rad_bins": 6},
    "backgrounds": {
        "fov": {"method": "fov", "fit": "scale", "on_failure": "keep"},
        "ring": {"method": "ring", "r_in": "0.5 deg", "width": "0.4 deg"},
    },
    "results": "results",
}
DEATHS = ("memory", "time", "cancelled")
# Comes before the real cubeflow on PATH; the first attempt to reduce ends badly.
FATAL = """#!/bin/bash
if [ "$1" = reduce ] && mkdir "$(dirname "$0")/begun" 2>/dev/null; then
    case %(death)s in
        memory) "%(python)s" -c "held = b'x' * 2**30; import time; time.sleep(60)" ;;
        time) sleep 600 ;;
        cancelled) scancel "$SLURM_JOB_ID"; sleep 60 ;;
    esac
fi
exec "%(cubeflow)s" "$@"
"""


@pytest.fixture(scope="module")
def demo(cluster, new_workflow):
    return new_workflow("config/config.yaml", "results", "demo")


@pytest.fixture(scope="module")
def victims(cluster, new_workflow):
    """A workflow of one target for each way in which its first job ends."""
    found = {}
    for death in DEATHS:
        workflow = found[death] = new_workflow("config/victims.yaml", "results", death)
        write_victims(workflow, death)
        fatal = workflow.folder / "bin" / "cubeflow"
        fatal.parent.mkdir()
        real = Path(sys.executable).with_name("cubeflow")
        fatal.write_text(FATAL % {"death": death, "python": sys.executable, "cubeflow": real})
        fatal.chmod(0o755)
    return found


def write_victims(workflow, *targets: str, **changes: Any) -> Path:
    path = workflow.folder / "config" / "victims.yaml"
    path.write_text(json.dumps({**VICTIMS, "targets": dict.fromkeys(targets, VICTIM), **changes}))
    return path


@pytest.fixture(scope="module")
def small(cluster, new_workflow):
    workflow = new_workflow("config/victims.yaml", "results", *DEATHS)
    write_victims(workflow, *DEATHS)
    return workflow


@pytest.fixture(scope="module")
def crab(cluster, new_workflow, data_root, hess_store):
    return new_workflow("config/hess-crab.yaml", "results/hess-crab", "crab")


@pytest.fixture(scope="module", autouse=True)
def running(request, victims, demo, small):
    """All workflows, at work on the cluster; that of the Crab nebula where its data are."""
    # The victim of time gets whole minutes, the least that SLURM counts; it would have more.
    limits = ("--set-resources", "reduce_1:runtime=attempt", "--", "products")
    processes = {
        death: workflow.start(*ON_CLUSTER, *limits, first_on_path=workflow.folder / "bin")
        for death, workflow in victims.items()
    }
    processes |= {"demo": demo.start(*ON_CLUSTER), "small": small.start(*ON_CLUSTER, "--", "products")}
    with pytest.MonkeyPatch.context() as patch:
        with suppress(pytest.skip.Exception):
            crab = request.getfixturevalue("crab")
            patch.setenv("CUBEFLOW_DATA", str(request.getfixturevalue("data_root")))
            processes["crab"] = crab.start(*ON_CLUSTER, "--", *crab.finals())
        yield processes
    subprocess.run(["scancel", "--user=root"], check=True)
    for process in processes.values():
        process.kill()
        process.wait()


def test_a_plan_made_meanwhile_takes_nothing_from_under_the_jobs(victims, running):
    """The plan is for another configuration in the same results folder; a job still to come must not see it."""
    victim = victims["time"]
    wait_for(lambda: list((victim.folder / "results/.cubeflow").glob("plan-*.jsonl")))
    (plan,) = (victim.folder / "results/.cubeflow").glob("plan-*.jsonl")
    other = {"ring": {"method": "ring", "r_in": "0.6 deg", "width": "0.4 deg"}}
    path = victim.folder / "config" / "other.yaml"
    path.write_text(json.dumps({**VICTIMS, "targets": {"time": VICTIM}, "backgrounds": other}))
    command = [Path(sys.executable).with_name("cubeflow"), "plan", "--configfile", path]
    subprocess.run(command, cwd=victim.folder, check=True, capture_output=True)
    assert plan.exists()
    assert running["time"].poll() is None


@pytest.mark.real_data
def test_crab_runs_have_the_bytes_of_a_local_run(crab, running, new_workflow):
    local = new_workflow(crab.configfile, crab.results, *crab.targets)
    local.end(local.start("--cores", "1", "--", *local.finals()))
    crab.end(running["crab"])
    assert crab.digests() == local.digests()


def test_demo_has_the_bytes_of_a_local_run(demo, running, new_workflow):
    local = new_workflow(demo.configfile, demo.results, *demo.targets)
    local.end(local.start("--cores", "2", "--", *local.finals()))
    demo.end(running["demo"])
    assert demo.digests() == local.digests()
    assert (demo.folder / "results" / "demo" / "report.html").is_file()
    assert {row["State"] for row in jobs_of(demo)} == {"COMPLETED"}
    assert len(jobs_of(demo)) == demo.said.count("has been submitted")


def test_fault_58_killed_jobs_recover_with_more(victims, running, new_workflow):
    for death, victim in victims.items():
        local = new_workflow(victim.configfile, victim.results, death)
        write_victims(local, death)
        local.end(local.start("--cores", "1", "--", "products"))
        said = victim.end(running[death])
        assert victim.digests() == local.digests()
        assert len(re.findall(r"Error in rule reduce_1:", said)) == 1
        first, second = attempts(victim)
        assert (first["State"] != "COMPLETED", second["State"]) == (True, "COMPLETED")
        assert megabytes(second["ReqMem"]) == pytest.approx(1.5 * megabytes(first["ReqMem"]), abs=1)
        assert int(second["TimelimitRaw"]) == 2 * int(first["TimelimitRaw"])


def test_small_targets_share_jobs_and_have_the_bytes_that_they_have_alone(small, victims, running):
    small.end(running["small"])
    for death, victim in victims.items():
        victim.end(running[death])
        alone = victim.digests()
        assert {name: digest for name, digest in small.digests().items() if name in alone} == alone
    assert len(jobs_of(small)) < 2 * len(DEATHS)


def test_fault_58_each_was_killed_for_its_own_reason(victims, running):
    for death, victim in victims.items():
        victim.end(running[death])
    first = {death: attempts(victim)[0] for death, victim in victims.items()}
    assert first["time"]["State"] == "TIMEOUT"
    assert first["cancelled"]["State"].startswith("CANCELLED")
    logs = victims["memory"].folder / ".snakemake" / "slurm_logs"
    assert "exceeded memory limit" in next(logs.rglob(f"{first['memory']['JobIDRaw']}.log")).read_text()


def wait_for(is_reached, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not is_reached():
        assert time.monotonic() < end, f"not reached in {seconds} s"
        time.sleep(0.5)


def jobs_of(workflow) -> list[dict[str, str]]:
    """What the accounting says of each job that a workflow submitted, in order."""
    name = re.search(r"SLURM run ID: (\S+)", workflow.said).group(1)
    columns = "JobIDRaw,State,ReqMem,TimelimitRaw,Comment"
    command = ["sacct", "-X", "--parsable2", f"--format={columns}", "--name", name]
    header, *rows = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = [dict(zip(header.split("|"), row.split("|"), strict=True)) for row in rows]
    return sorted(found, key=lambda row: int(row["JobIDRaw"]))


def attempts(workflow) -> list[dict[str, str]]:
    """Jobs that reduce, in order."""
    return [row for row in jobs_of(workflow) if row["Comment"].startswith("rule_reduce_")]


def megabytes(text: str) -> float:
    """Memory as SLURM writes it, such as 507M or 1.50G."""
    number, unit = re.fullmatch(r"([\d.]+)([MG])", text).groups()
    return float(number) * {"M": 1, "G": 1024}[unit]
