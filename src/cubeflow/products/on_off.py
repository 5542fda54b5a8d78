"""ON/OFF stacks: the ratio that turns OFF counts into background."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Cube


def make_map_alpha(background: Cube, acceptance: Cube, counts_off: Cube, acceptance_off: Cube) -> Cube:
    """Ratio of background to OFF counts of a stack of runs.

    It is sum(alpha OFF) / sum(OFF) over the runs, so that alpha times the stacked OFF counts is the
    stacked background; where no run has any OFF count, the ratio of the stacked acceptances.

    Parameters
    ----------
    background, acceptance : Cube, (energy, lat, lon)
        Stacked alpha x OFF, and stacked acceptance.
    counts_off, acceptance_off : Cube, (energy or 1, lat, lon)
        Stacked OFF counts and OFF acceptance; with a single bin if the ratio is one for all energies.

    Returns
    -------
    alpha : Cube, (energy or 1, lat, lon)
        NaN where there is no OFF acceptance.
    """
    summed = len(counts_off.data) == 1
    predicted, accepted = background.data, acceptance.data
    if summed:
        predicted, accepted = (np.sum(values, axis=0, keepdims=True) for values in (predicted, accepted))
    alpha = find_alpha(predicted, accepted, counts_off.data, acceptance_off.data)
    return Cube(alpha, "", counts_off.geom, counts_off.axes)


def find_alpha(
    background: NDArray[Any], acceptance: NDArray[Any], counts_off: NDArray[Any], acceptance_off: NDArray[Any]
) -> NDArray[Any]:
    """Ratio of `make_map_alpha` from arrays of one shape."""
    alpha = np.divide(acceptance, acceptance_off, out=np.full(counts_off.shape, np.nan), where=acceptance_off > 0)
    np.divide(background, counts_off, out=alpha, where=(counts_off > 0) & (acceptance_off > 0))
    return alpha
