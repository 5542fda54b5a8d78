"""A node is stacked in slabs: the bytes of stacking in memory, with none of its memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from h5py import h5f

from cubeflow.errors import FailedError, MistakeError
from cubeflow.maps import Cube, energy_axis, log_edges, make_geometry
from cubeflow.plan.build import node_key
from cubeflow.products.stack import Stack, empty_stack, stack
from cubeflow.steps import tree
from cubeflow.steps.kept import write_stack
from cubeflow.steps.tree import StackError, stack_node
from cubeflow.storage.keys import short

PARENT = make_geometry("icrs", "TAN", 83.6, 22.0, (6.0, 5.0), 0.1)
ENERGY = energy_axis(log_edges(1.0, 10.0, 5), "energy")


def make_part(seed: int, x0: int, y0: int, nx: int = 21, ny: int = 17) -> Stack:
    """Stack on a part of the parent geometry."""
    rng = np.random.default_rng(seed)
    geom = PARENT.cutout(x0, y0, nx, ny)
    shape = (ENERGY.n_bins, *geom.shape)
    layers = {
        "counts": Cube(rng.poisson(0.5, shape).astype(np.int64), "", geom, (ENERGY,)),
        "background": Cube(rng.random(shape), "", geom, (ENERGY,)),
        "mask_safe": Cube(rng.random(shape) < 0.5, "", geom, (ENERGY,)),
    }
    gti_s = np.array([[100.0 * seed, 100.0 * seed + 50.0]])
    return Stack(layers, gti_s, 50.0, 45.0, 1)


def write_parts(folder, parts) -> list:
    paths = [folder / f"{number:016x}-00000000.h5" for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        write_stack(path, part, f"{len(path.name):064x}", {"rows": []}, "blosc")
    return paths


def node_of(folder, paths):
    return folder / f"{short(node_key('node', [path.stem for path in paths]))}.h5"


def in_memory(folder, parts, paths) -> bytes:
    names = [path.stem for path in paths]
    write_stack(folder / "memory.h5", stack(parts), node_key("node", names), {"children": names}, "blosc")
    return (folder / "memory.h5").read_bytes()


@pytest.mark.parametrize("slab_bytes", [1, 40_000, 1 << 25])
def test_bytes_are_those_of_stacking_in_memory(tmp_path, monkeypatch, slab_bytes):
    monkeypatch.setattr(tree, "SLAB_BYTES", slab_bytes)
    parts = [make_part(1, 3, 5), make_part(2, 20, 9), empty_stack(), make_part(3, 0, 30, 9, 4)]
    paths = write_parts(tmp_path, parts)
    stack_node(node_of(tmp_path, paths), paths, "blosc", print)
    assert node_of(tmp_path, paths).read_bytes() == in_memory(tmp_path, parts, paths)


def test_node_of_nothing(tmp_path):
    paths = write_parts(tmp_path, [empty_stack(), empty_stack()])
    stack_node(node_of(tmp_path, paths), paths, "blosc", print)
    assert node_of(tmp_path, paths).read_bytes() == in_memory(tmp_path, [empty_stack(), empty_stack()], paths)


def test_memory_is_that_of_some_planes(tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "SLAB_BYTES", 1 << 16)
    geom = make_geometry("icrs", "TAN", 83.6, 22.0, (30.0, 20.0), 0.1)
    axis = energy_axis(log_edges(0.1, 100.0, 60), "energy")
    data = np.ones((60, *geom.shape))
    layers = {"background": Cube(data, "", geom, (axis,))}
    paths = write_parts(tmp_path, [Stack(layers, np.zeros((0, 2)), 0.0, 0.0, 1)] * 3)
    tracemalloc.start()
    stack_node(node_of(tmp_path, paths), paths, "none", print)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data.nbytes > 25e6
    assert peak < 0.5 * data.nbytes


@pytest.mark.parametrize("slab_bytes", [40_000, 1 << 25])
def test_one_child_is_open_at_a_time(tmp_path, monkeypatch, slab_bytes):
    """HDF5 takes half a megabyte for each open file, however small."""
    monkeypatch.setattr(tree, "SLAB_BYTES", slab_bytes)
    paths = write_parts(tmp_path, [make_part(seed, 3 * seed, 5) for seed in range(6)])
    files, add = [], tree._add

    def count(*arguments):
        files.append(h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_FILE))
        add(*arguments)

    monkeypatch.setattr(tree, "_add", count)
    stack_node(node_of(tmp_path, paths), paths, "blosc", print)
    assert len(files) >= 6 * 3
    assert max(files) <= 2, "one that is read, and the one that is written"


def test_damaged_child_is_set_aside(tmp_path):
    paths = write_parts(tmp_path, [make_part(1, 3, 5), make_part(2, 20, 9)])
    content = bytearray(paths[1].read_bytes())
    content[len(content) // 2] ^= 1
    paths[1].write_bytes(content)
    with pytest.raises(FailedError, match=r"set aside as .*corrupt, start again"):
        stack_node(node_of(tmp_path, paths), paths, "blosc", print)
    assert not paths[1].exists()
    assert not node_of(tmp_path, paths).exists()


def test_other_layers_and_values_are_refused(tmp_path):
    part = make_part(1, 3, 5)
    fewer = Stack({"counts": part.layers["counts"]}, part.gti_s, 1.0, 1.0, 1)
    paths = write_parts(tmp_path, [part, fewer])
    with pytest.raises(StackError, match="layers differ"):
        stack_node(node_of(tmp_path, paths), paths, "blosc", print)
    background = part.layers["background"]
    hole = Cube(np.full_like(background.data, np.nan), "", background.geom, background.axes)
    paths = write_parts(tmp_path, [part, Stack({**part.layers, "background": hole}, part.gti_s, 1.0, 1.0, 1)])
    with pytest.raises(MistakeError, match="'background' holds values that are not finite"):
        stack_node(node_of(tmp_path, paths), paths, "blosc", print)


def test_name_must_be_that_of_the_children(tmp_path):
    paths = write_parts(tmp_path, [make_part(1, 3, 5), make_part(2, 20, 9)])
    with pytest.raises(StackError, match="expected the name"):
        stack_node(tmp_path / "0123456789abcdef.h5", paths, "blosc", print)
