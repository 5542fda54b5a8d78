"""Types of arrays and positions."""

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Pair = tuple[FloatArray, FloatArray]
Place = tuple[float, float]  # right ascension and declination, ICRS, deg
