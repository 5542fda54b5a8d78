"""The profile, without a cluster."""

from pathlib import Path

import yaml

PROFILES = Path(__file__).resolve().parents[2] / "workflow" / "profiles"


def read(name):
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text())


def test_profile_for_slurm_names_nothing_that_the_default_profile_overrides():
    assert read("slurm").keys() & read("default").keys() == set()


def test_a_job_that_was_killed_is_tried_again():
    assert read("default")["retries"] == 2
