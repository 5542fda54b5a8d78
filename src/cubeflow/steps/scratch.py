"""Where large files are put together."""

from __future__ import annotations

import os
from pathlib import Path

SCRATCH_VARIABLE = "CUBEFLOW_SCRATCH"


def named_scratch() -> Path | None:
    """Folder for temporary files that ``CUBEFLOW_SCRATCH`` names; None where it does not.

    Variables in the name are filled in here, on the machine of the job: ``$SLURM_TMPDIR`` is known to no other.
    """
    name = os.path.expandvars(os.environ.get(SCRATCH_VARIABLE, ""))
    return Path(name) if name else None
