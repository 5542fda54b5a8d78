"""Where arrays lie that are written to piece by piece."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Room(Protocol):
    """Where sums lie."""

    def zeros(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Give a new array of zeros."""
        ...

    def settle(self, array: NDArray[Any]) -> None:
        """Hear that an array is not written to for a while."""
        ...


class Memory:
    """Sums in memory."""

    def zeros(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Give a new array of zeros."""
        return np.zeros(shape, dtype)

    def settle(self, array: NDArray[Any]) -> None:
        """Do nothing."""
