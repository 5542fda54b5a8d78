"""What a configuration should say, from what was found in a store: limits, geometry, exclusion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cubeflow.steps.names import KNOWN, Place, separation_deg
from cubeflow.steps.survey import RunFacts

ROUND = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0)  # ten a decade
EVENTS_ABOVE = 10  # events of each run that the last edge of the energy axis leaves out
PIXELS_DEG = (0.02, 0.04, 0.05, 0.1)
MAX_PIXELS = 400


@dataclass(frozen=True)
class Found:
    """What is known of a store and a target.

    Parameters
    ----------
    store : str
        Its path as the user wrote it.
    roots : tuple of str
        Further folders it takes files from.
    place : Place
        Target.
    n_runs : int
        Runs of the store.
    offsets : mapping of int to float
        Runs that see the target, with their offset, deg.
    facts : sequence of RunFacts
        Of a sample of them.
    refused : mapping of int to str
        Runs that cannot be used, as far as known.
    """

    store: str
    roots: tuple[str, ...]
    place: Place
    n_runs: int
    offsets: Mapping[int, float]
    facts: Sequence[RunFacts]
    refused: Mapping[int, str]

    @property
    def offset_max_deg(self) -> float:
        """Largest offset that every run of the sample can use."""
        return min(fact.offset_max_deg for fact in self.facts)

    @property
    def has_thresholds(self) -> bool:
        """Whether all of the sample have a threshold."""
        return all(fact.lo_thres_tev for fact in self.facts)

    @property
    def has_background(self) -> bool:
        """Whether all of the sample have a background response."""
        return all(fact.background_tev and not fact.point_like for fact in self.facts)

    @property
    def energy_tev(self) -> tuple[float, float]:
        """Limits of the reconstructed energy: from the lowest threshold to where hardly an event is left."""
        thresholds = [fact.lo_thres_tev if self.has_thresholds else fact.area_threshold_tev for fact in self.facts]
        lowest = min(value for value in thresholds if value)
        # Only bins wholly above its threshold are safe for a run: one that begins below all of them would be empty.
        lower = two_digits_up(lowest) if self.has_thresholds else round_down(lowest)
        energies = np.sort(np.concatenate([fact.energies_tev for fact in self.facts]))
        few = EVENTS_ABOVE * len(self.facts)
        upper = round_up(float(energies[-few])) if len(energies) > few else 0.0
        limits = [end for fact in self.facts for end in (fact.hi_thres_tev, (fact.background_tev or (0, 0))[1]) if end]
        return lower, max(min([upper, *limits]), round_up(5.0 * lower))

    @property
    def energy_true_tev(self) -> tuple[float, float]:
        """Limits of the true energy: wider by a factor of about 3 and 2, as far as the responses reach."""
        lower, upper = self.energy_tev
        table = max(f.energy_true_tev[0] for f in self.facts), min(f.energy_true_tev[1] for f in self.facts)
        return max(round_down(lower / 3.0), round_up(table[0])), min(
            round_up(2.0 * upper), max(round_down(table[1]), upper)
        )

    @property
    def width_deg(self) -> float:
        """Width of a map that holds the fields of view of all runs."""
        return math.ceil(4.0 * (max(self.offsets.values()) + self.offset_max_deg) - 1e-6) / 2.0

    @property
    def pixel_deg(self) -> float:
        """Finest pixel that keeps the map small."""
        return next((pixel for pixel in PIXELS_DEG if self.width_deg / pixel <= MAX_PIXELS + 0.5), PIXELS_DEG[-1])

    @property
    def excluded(self) -> list[Place]:
        """The target, and the known sources in the map."""
        reach = self.width_deg / math.sqrt(2.0)
        others = [place for place in KNOWN if separation_deg(place, self.place) < reach + place.radius_deg]
        return [self.place, *(place for place in others if separation_deg(place, self.place) > 0.1)]


def round_down(value: float) -> float:
    """Largest round number that is not above a positive one."""
    decade = 10.0 ** math.floor(math.log10(value))
    return float(f"{decade * max(step for step in ROUND if step * decade <= value * (1 + 1e-6) or step == 1.0):.4g}")


def two_digits_up(value: float) -> float:
    """Smallest number of two digits that is not below a positive one."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step * (1 - 1e-9)) * step:.2g}")


def round_up(value: float) -> float:
    """Smallest round number that is not below a positive one."""
    decade = 10.0 ** math.floor(math.log10(value))
    steps = [step for step in (*ROUND, 10.0) if step * decade >= value * (1 - 1e-6)]
    return float(f"{decade * min(steps):.4g}")
