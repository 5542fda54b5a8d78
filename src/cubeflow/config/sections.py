"""Sections of the configuration: one for each step, which is its schema and its argument."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Literal, cast

from pydantic import BeforeValidator, Field, field_validator, model_validator

from cubeflow.config.quantity import (
    Angle,
    AsTuple,
    Bins,
    DataPath,
    Duration,
    Energy,
    Time,
    parse_quantity,
)
from cubeflow.config.section import Section, key_error

SafeMaskMethod = Literal["offset-max", "aeff-default", "aeff-max", "edisp-bias", "bkg-peak"]
RunId = Annotated[int, Field(ge=0)]


def _parse_split(value: object) -> object:
    """``gti``, ``night``, or a duration in s."""
    if value in (None, "gti", "night"):
        return value
    try:
        seconds = parse_quantity(value, "s")
    except ValueError as error:
        raise ValueError(f"expected null, gti, night or a duration such as '10 min', got {value!r:.60}") from error
    if seconds < 1.0:
        raise ValueError(f"expected a duration of at least 1 s, got {value!r}")
    return seconds


class Data(Section):
    """Where the DL3 files are."""

    store: DataPath
    """Folder with the index files, or with DL3 files and no index."""
    roots: Annotated[tuple[DataPath, ...], AsTuple] = ()
    """Further folders from which the index may take files."""
    pattern: str | None = None
    """Glob, relative to the store, of the DL3 files where there is no index."""


class Observations(Section):
    """Which runs are used, and which part of them."""

    ids: Annotated[tuple[RunId, ...], AsTuple] | None = None
    """Only these runs; null for all."""
    exclude: Annotated[tuple[RunId, ...], AsTuple] = ()
    """Never these runs."""
    within_deg: Angle | None = Field(default=None, alias="within")
    """Pointing at most this far from the target; null for any."""
    where: str | None = None
    """Condition on the columns of the observation index."""
    time_mjd: Annotated[tuple[Annotated[tuple[Time, Time], AsTuple], ...], AsTuple] | None = Field(
        default=None, alias="time"
    )
    """Intervals [start, stop] that are used, TT: ISO strings or MJD; null for all."""
    split_s: Annotated[
        Literal["gti", "night"] | float | None, BeforeValidator(_parse_split, json_schema_input_type=str | None)
    ] = Field(default=None, alias="split")
    """Reduce a run in pieces: by GTI, by night or by duration; null for whole runs."""
    duplicates: Literal["refuse", "drop"] = "refuse"
    """What to do with event rows that appear twice in a run."""

    @field_validator("ids", "exclude", "time_mjd")
    @classmethod
    def _check_repeated(cls, values: tuple[object, ...] | None) -> tuple[object, ...] | None:
        if values is not None and len(set(values)) < len(values):
            repeated = next(value for index, value in enumerate(values) if value in values[:index])
            raise ValueError(f"expected each once, got {repeated} twice")
        return values

    @field_validator("ids", "time_mjd")
    @classmethod
    def _check_any(cls, values: tuple[object, ...] | None) -> tuple[object, ...] | None:
        if values == ():
            raise ValueError("expected at least one, or null for all; got an empty list")
        return values

    @field_validator("time_mjd")
    @classmethod
    def _check_order(cls, values: tuple[tuple[float, float], ...] | None) -> tuple[tuple[float, float], ...] | None:
        for start, stop in values or ():
            if not start < stop:
                raise ValueError(f"expected start before stop, got MJD {start} and {stop}")
        return values


class EnergyAxis(Section):
    """Energy bins: edges, or min, max and either bins or bins_per_decade."""

    edges_tev: Annotated[tuple[Energy, ...], AsTuple, Field(max_length=10_001)] | None = Field(
        default=None, alias="edges"
    )
    """All edges, increasing."""
    min_tev: Energy | None = Field(default=None, alias="min")
    """Lower edge of the first bin."""
    max_tev: Energy | None = Field(default=None, alias="max")
    """Upper edge of the last bin."""
    bins: Bins | None = None
    """Number of bins, equal in the logarithm."""
    bins_per_decade: Bins | None = None
    """At least this many bins a decade; the number of bins is rounded up."""

    @model_validator(mode="after")
    def _check_bins(self) -> EnergyAxis:
        limits = self.min_tev, self.max_tev
        if self.edges_tev is not None:
            if any(value is not None for value in (*limits, self.bins, self.bins_per_decade)):
                raise ValueError("expected edges alone, got min, max, bins or bins_per_decade beside them")
            _check_edges(self.edges_tev)
        elif self.min_tev is None or self.max_tev is None:
            raise ValueError("expected edges, or min and max and bins")
        elif not self.min_tev < self.max_tev:
            message = f"expected less than max = {self.max_tev:g} TeV, got {self.min_tev:g} TeV"
            raise key_error("min", message=message)
        elif (self.bins is None) == (self.bins_per_decade is None):
            raise key_error("bins", message="expected one of bins and bins_per_decade")
        return self

    @property
    def n_bins(self) -> int:
        """Number of bins."""
        if self.edges_tev is not None:
            return len(self.edges_tev) - 1
        if self.bins_per_decade is None:
            return cast(int, self.bins)
        lower, upper = self.limits_tev
        return max(1, math.ceil(math.log10(upper / lower) * self.bins_per_decade - 1e-9))

    @property
    def limits_tev(self) -> tuple[float, float]:
        """First and last edge, TeV."""
        if self.edges_tev is not None:
            return self.edges_tev[0], self.edges_tev[-1]
        return cast(float, self.min_tev), cast(float, self.max_tev)


def _check_edges(edges_tev: tuple[float, ...]) -> None:
    """ValueError unless there are two or more increasing edges."""
    if len(edges_tev) < 2 or any(not low < high for low, high in itertools.pairwise(edges_tev)):
        raise key_error("edges", message=f"expected two or more increasing energies, got {list(edges_tev)} TeV")


class Acceptance(Section):
    """Predicted hadron background."""

    interpolation: Literal["log", "linear"] = "log"
    """What is linear between the bins of the table in the field of view: the logarithm of the rate, or the rate."""


class SafeMask(Section):
    """Where the data of a run may be used."""

    methods: Annotated[tuple[SafeMaskMethod, ...], AsTuple] = ("offset-max", "aeff-default")
    """Conditions that must all hold."""
    aeff_percent: Annotated[float, Field(gt=0, lt=100)] = 10.0
    """aeff-max: least effective area, in percent of the largest."""
    bias_percent: Annotated[float, Field(gt=0, lt=100)] = 10.0
    """edisp-bias: largest energy bias, in percent."""
    position: Literal["own", "target"] = "own"
    """Offset at which aeff-max and edisp-bias find the energy: each pixel's own, or the target's."""


class IrfGrid(Section):
    """Coarse grid of the PSF and energy-dispersion maps."""

    pixel_deg: Angle = Field(default=0.2, alias="pixel")
    """Pixel size."""
    rad_max_deg: Angle = Field(default=0.66, alias="rad_max")
    """Radius up to which the PSF is tabulated."""
    rad_bins: Bins = 66
    """Number of radial bins."""


class Significance(Section):
    """Significance maps."""

    radius_deg: Angle = Field(default=0.1, alias="radius")
    """Radius of the disc in which counts are summed."""


class Stack(Section):
    """How runs are batched and stacked."""

    batch: Annotated[int, Field(ge=1, le=1024)] = 16
    """Mean number of runs in a batch, which is one job."""
    fanout: Annotated[int, Field(ge=2, le=1024)] = 16
    """Mean number of stacks that are stacked into one."""


class Artifacts(Section):
    """How artifacts are kept."""

    compression: Literal["blosc", "gzip", "none"] = "blosc"
    """Compression of the HDF5 files."""
    form: Literal["dense", "factored"] = "dense"
    """What is kept of a run: its maps, or what they are made from again."""


class Simulate(Section):
    """The simulated store that is made where there is none."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Seed of the random numbers."""
    runs: Annotated[int, Field(ge=1, le=100_000)] = 6
    """Number of runs."""
    duration_s: Duration = Field(default=1680.0, alias="duration")
    """Duration of a run."""
