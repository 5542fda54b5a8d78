"""ON/OFF stacks: the ratio that turns OFF counts into background."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def make_map_alpha(
    background: NDArray[Any], acceptance: NDArray[Any], counts_off: NDArray[Any], acceptance_off: NDArray[Any]
) -> NDArray[Any]:
    """Ratio of background to OFF counts of a stack of runs.

    It is sum(alpha OFF) / sum(OFF) over the runs, so that alpha times the stacked OFF counts is the
    stacked background; where no run has any OFF count, the ratio of the stacked acceptances.

    Parameters
    ----------
    background, acceptance : array, shape (n, ny, nx)
        Stacked alpha x OFF, and stacked acceptance; summed over energy if the ratio is one for all energies.
    counts_off, acceptance_off : array, shape (n, ny, nx)
        Stacked OFF counts and OFF acceptance.

    Returns
    -------
    alpha : array, shape (n, ny, nx)
        NaN where there is no OFF acceptance.
    """
    alpha = np.divide(acceptance, acceptance_off, out=np.full(counts_off.shape, np.nan), where=acceptance_off > 0)
    np.divide(background, counts_off, out=alpha, where=(counts_off > 0) & (acceptance_off > 0))
    return alpha
