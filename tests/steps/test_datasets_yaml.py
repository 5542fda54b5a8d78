"""The list of datasets against what gammapy reads, and against what it would write."""

import pytest

from cubeflow.steps.datasets_yaml import datasets_yaml


def test_gammapy_verifies_the_checksum():
    scripts = pytest.importorskip("gammapy.utils.scripts")
    text = datasets_yaml(
        [("crab-fov", "MapDataset", "dataset.fits.gz"), ("x" * 60, "MapDatasetOnOff", "a b.fits")]
    ).decode()
    content = scripts.from_yaml(text, checksum=True)  # a wrong checksum is a warning, which is an error here
    assert content == {
        "datasets": [
            {"name": "crab-fov", "type": "MapDataset", "filename": "dataset.fits.gz"},
            {"name": "x" * 60, "type": "MapDatasetOnOff", "filename": "a b.fits"},
        ]
    }
