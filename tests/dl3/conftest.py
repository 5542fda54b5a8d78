"""Synthetic DL3 stores for the tests of this folder; see stores.py."""

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("dl3_stores", Path(__file__).with_name("stores.py"))


@pytest.fixture(scope="session")
def stores():
    """The module stores.py: write_run, write_index, make_run, ..."""
    module = importlib.util.module_from_spec(_SPEC)
    import sys

    sys.modules[_SPEC.name] = module
    _SPEC.loader.exec_module(module)
    return module


@pytest.fixture
def read(stores, tmp_path):
    """Write a run with deviations and read it: ``read(edit, events={...})``; options as in ReadOptions."""
    from cubeflow.dl3.index import open_store
    from cubeflow.dl3.reader import ReadOptions, read_observation

    def read_run(edit=None, options=None, **headers):
        path = stores.write_run(tmp_path, 7, edit, **headers)
        return read_observation(open_store(path).runs[0], options or ReadOptions())

    return read_run
