"""Artifacts for people: what a file holds as plain objects, and as objects of gammapy."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.errors import MistakeError
from cubeflow.maps import Cube
from cubeflow.observation import TIME_REFERENCE_MJD
from cubeflow.pipeline.tasks import PARTS
from cubeflow.products.dataset import dataset_maps, response_exposure
from cubeflow.regular import read_regular
from cubeflow.store.artifact import read_artifact
from cubeflow.store.keys import parse_json

if TYPE_CHECKING:
    from gammapy.datasets import MapDataset
    from gammapy.maps import WcsNDMap


@dataclass(frozen=True, eq=False)
class Loaded:
    """The content of an artifact."""

    kind: str  #: ``cube``, ``reduced``, ``background``, ``stack``, ``off`` or ``model``
    key: str  #: of everything it was made of
    maps: Mapping[str, Cube]  #: ``maps["counts"].data`` is an array (energy, lat, lon); a unit, axes and ``geom``
    arrays: Mapping[str, NDArray[Any]]  #: what is no map, such as ``gti_s``, shape (n, 2), TT s since MJD 51910
    attributes: Mapping[str, Any]  #: plain results
    provenance: Mapping[str, Any]  #: what it was made of

    def __repr__(self) -> str:
        """What it holds, a line for each map and array; no values."""
        held = {name: repr(cube) for name, cube in self.maps.items()}
        held |= {name: f"array of shape {array.shape}, {array.dtype}" for name, array in self.arrays.items()}
        lines = [f"<{self.kind} {self.key[:16]}: maps, arrays, attributes and provenance>"]
        return "\n".join([*lines, *(f"  {name}: {text}" for name, text in held.items())])

    def to_gammapy(self) -> "MapDataset | dict[str, WcsNDMap]":
        """Objects of gammapy, which must be installed for this and for nothing else.

        A dataset for a final cube, as of the FITS file beside it; maps by name for any other artifact.
        """
        from astropy.units import Quantity

        about = self.attributes.get("row", self.attributes)
        livetime = Quantity(about.get("livetime_s", np.nan), "s")
        of_exposure = {"livetime": livetime, "is_pointlike": about.get("is_pointlike", False)}
        if self.kind != "cube":
            meta = {"m2 s": of_exposure}  # by unit
            return {name: cube.to_gammapy(meta.get(cube.unit)) for name, cube in self.maps.items()}
        from astropy.time import Time
        from gammapy.data import GTI
        from gammapy.datasets import MapDataset, MapDatasetOnOff
        from gammapy.irf import EDispKernelMap, PSFMap

        maps, special = dataset_maps(self.maps), ("exposure", "psf", "edisp", "irf_exposure")
        made: dict[str, object] = {key: cube.to_gammapy() for key, cube in maps.items() if key not in special}
        if "exposure" in maps:
            made["exposure"] = maps["exposure"].to_gammapy(of_exposure)
        for response, kind in (("psf", PSFMap), ("edisp", EDispKernelMap)):
            if response in maps:
                exposure = response_exposure(maps, response).to_gammapy(of_exposure)
                made[response] = kind(maps[response].to_gammapy(), exposure)
        start, stop = (Quantity(self.arrays["gti_s"][:, k], "s") for k in (0, 1))
        gti = GTI.create(start, stop, reference_time=Time(TIME_REFERENCE_MJD, format="mjd", scale="tt"))
        name = "-".join(filter(None, map(self.attributes.get, ("target", "label", "part"))))
        return (MapDatasetOnOff if "counts_off" in maps else MapDataset)(**made, gti=gti, name=name)


def load(path: str | Path, obs_id: int | None = None, label: str = "*") -> Loaded:
    """Read an artifact, whole and checked.

    Parameters
    ----------
    path : path
        ``cube.h5``, ``reduced-<key>.h5``, ``background-<label>-<key>.h5`` or a stack; or the folder of a target.
    obs_id, label : int and str, optional
        Run whose cube is read (``export: {per: run}``), and its background: the first by name if left out.

    Raises
    ------
    StorageError, ArtifactDamaged, ArtifactMismatch, ArtifactNewer, MistakeError
        If it cannot be read, is damaged, was written by an older or newer version, or there is no cube of the run.
    """
    key = None
    if obs_id is not None:
        path, key = _cube_of_run(Path(path), obs_id, label)
    artifact = read_artifact(path, key=key)
    arrays = {name: each for name, each in artifact.datasets.items() if not isinstance(each, Cube)}
    return Loaded(artifact.kind, artifact.key, artifact.maps, arrays, artifact.attributes, artifact.provenance)


def _cube_of_run(folder: Path, obs_id: int, label: str) -> tuple[Path, str]:
    """Cube of a run, and its key, as the list of the parts of a label has it."""
    for certificate in sorted(folder.glob(f"{label}/series-*.json")):
        for part, key in parse_json(read_regular(certificate))["inputs"].items():
            if f"-{part}".endswith(f"-run-{obs_id}"):
                return certificate.parent / PARTS / part / "cube.h5", key
    raise MistakeError(f"{folder}: no cube of run {obs_id}, expected one as export: {{per: run}} makes it")
