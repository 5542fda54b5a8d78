"""ON/OFF stacks: the ratio that turns OFF counts into background."""

from __future__ import annotations

import numpy as np

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
    off, off_acceptance = counts_off.data, acceptance_off.data
    alpha = np.divide(accepted, off_acceptance, out=np.full(off.shape, np.nan), where=off_acceptance > 0)
    np.divide(predicted, off, out=alpha, where=(off > 0) & (off_acceptance > 0))
    return Cube(alpha, "", counts_off.geom, counts_off.axes)
