"""The sections of a configuration: those that are not the options of a product, and what holds them all."""

import itertools
import math
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, cast

from cubeflow.config.build import KeyMistake
from cubeflow.config.read import Node
from cubeflow.maps import Axis, Position, energy_axis, log_edges, make_geometry, rad_axis
from cubeflow.products.acceptance import AcceptanceOptions
from cubeflow.products.acceptance_fit import FitOptions, OffOptions
from cubeflow.products.background import BackgroundOptions
from cubeflow.products.dataset import ExportOptions
from cubeflow.products.exclusion import ExclusionFile
from cubeflow.products.fov_background import FovOptions, make_energy_groups
from cubeflow.products.reduced import ReduceOptions
from cubeflow.products.ring_background import AdaptiveRingOptions, RingOptions
from cubeflow.products.safe_mask import SafeMaskOptions
from cubeflow.products.setting import Setting
from cubeflow.products.significance import SignificanceOptions
from cubeflow.products.spectrum import PowerLaw, Spectrum
from cubeflow.products.tiles import Tile, Tiles

# Names of folders beside those of targets and labels, and endings of files there.
RESERVED_TARGETS = frozenset(("logs", "benchmarks", "models"))
RESERVED_LABELS = frozenset(("obs", "stack"))
MAX_LABEL = 40
RESERVED_ENDINGS = (".ecsv", ".csv", ".fits", ".reg", ".json", ".html")
RunId = Annotated[int, Setting(least=0)]
Length = Annotated[float, Setting(above=0.0, least=1e-5, most=180.0)]  # what numbers of pixels are counted in
Seconds = Annotated[float, Setting(least=1)]
Bins = Annotated[int, Setting(least=1, most=10_000)]
Projection = Literal["TAN", "CAR", "AIT", "ZEA", "SIN", "STG", "ARC", "MOL", "SFL", "CEA", "MER", "PAR"]


@dataclass(frozen=True)
class Data:
    """Where the DL3 files are."""

    store: Path
    """Folder with the index files, or with DL3 files and no index."""
    roots: tuple[Path, ...] = ()
    """Further folders from which the index may take files."""
    pattern: str | None = None
    """Glob, relative to the store, of the DL3 files where there is no index."""

    @property
    def source(self) -> Path:
        """Folder of the store, or glob of its files."""
        return self.store / self.pattern if self.pattern else self.store


@dataclass(frozen=True)
class Observations:
    """Which runs are used, and which part of them."""

    ids: tuple[RunId, ...] | None = None
    """Only these runs; null for all."""
    exclude: tuple[RunId, ...] = ()
    """Never these runs."""
    within_deg: float | None = None
    """Pointing at most this far from the target; null for any."""
    where: str | None = None
    """Condition on the columns of the observation index."""
    time_mjd: tuple[tuple[float, float], ...] | None = None
    """Intervals [start, stop] that are used, TT: ISO strings or MJD; null for all."""
    split_s: Literal["gti", "night"] | Seconds | None = None
    """Reduce a run in pieces: by GTI, by night or by duration; null for whole runs."""
    duplicates: Literal["refuse", "drop"] = "refuse"
    """What to do with event rows that appear twice in a run."""

    def __post_init__(self) -> None:
        for name in ("ids", "exclude", "time_mjd"):
            values = getattr(self, name)
            if values == () and name != "exclude":
                raise ValueError(f"{name}: expected at least one, or null for all; got an empty list")
            if values and len(set(values)) < len(values):
                repeated = next(value for value in values if values.count(value) > 1)
                raise ValueError(f"{name}: expected each once, got {repeated} twice")
        for start, stop in self.time_mjd or ():
            if not start < stop:
                raise ValueError(f"time_mjd: expected start before stop, got MJD {start} and {stop}")


@dataclass(frozen=True)
class Events:
    """Which events of a run are used."""

    where: str | None = None
    """Condition on the columns of EVENTS."""


@dataclass(frozen=True)
class EventType:
    """A type of events, with responses of its own where the index has some."""

    where: str
    """Condition on the columns of EVENTS that holds for it, beside that of events."""


@dataclass(frozen=True)
class EnergyAxis:
    """Energy bins: edges, or min, max and either bins or bins_per_decade."""

    edges_tev: tuple[float, ...] | None = None
    """All edges, increasing."""
    min_tev: float | None = None
    """Lower edge of the first bin."""
    max_tev: float | None = None
    """Upper edge of the last bin."""
    bins: Bins | None = None
    """Number of bins, equal in the logarithm."""
    bins_per_decade: Bins | None = None
    """At least this many bins a decade; the number of bins is rounded up."""

    def __post_init__(self) -> None:
        others = (self.min_tev, self.max_tev, self.bins, self.bins_per_decade)
        if self.edges_tev is not None:
            if any(value is not None for value in others):
                raise ValueError("expected edges alone, got min, max, bins or bins_per_decade beside them")
            rising = all(low < high for low, high in itertools.pairwise(self.edges_tev))
            if not (2 <= len(self.edges_tev) <= 10_001 and rising):
                got = f"got {list(self.edges_tev)!r:.60} TeV"
                raise ValueError(f"edges_tev: expected two or more increasing energies (at most 10001), {got}")
        elif self.min_tev is None or self.max_tev is None:
            raise ValueError("expected edges, or min and max and bins")
        elif not self.min_tev < self.max_tev:
            raise ValueError(f"min_tev: expected less than max = {self.max_tev:g} TeV, got {self.min_tev:g} TeV")
        elif (self.bins is None) == (self.bins_per_decade is None):
            raise ValueError("bins: expected one of bins and bins_per_decade")
        self.axis("energy")  # which refuses edges that are the same to 12 digits

    def axis(self, name: str) -> Axis:
        """Axis of these bins; `name` is ``energy`` or ``energy_true``."""
        if self.edges_tev is not None:
            return energy_axis(self.edges_tev, name)
        lower, upper, bins = cast(float, self.min_tev), cast(float, self.max_tev), self.bins
        if self.bins_per_decade is not None:
            bins = max(1, math.ceil(math.log10(upper / lower) * self.bins_per_decade - 1e-9))
        return energy_axis(log_edges(lower, upper, cast(int, bins)), name)


@dataclass(frozen=True)
class MapGeometry:
    """Pixel grid of the maps, centred on the target."""

    width_deg: Annotated[tuple[float, float], Setting(above=0, most=360, alone=True)] | None = None
    """Widths along longitude and latitude; one value for both. Tiles have their own."""
    pixel_deg: Length = 0.02
    """Pixel size."""
    frame: Literal["icrs", "galactic"] = "icrs"
    """Frame of the map."""
    projection: Projection = "TAN"
    """FITS code of the projection."""

    def __post_init__(self) -> None:
        if self.width_deg is not None and (width := min(self.width_deg)) < self.pixel_deg:
            raise ValueError(f"pixel_deg: expected at most the width {width:g} deg, got {self.pixel_deg:g} deg")


@dataclass(frozen=True)
class IrfGrid:
    """Coarse grid of the PSF and energy-dispersion maps."""

    pixel_deg: Length = 0.2
    """Pixel size."""
    rad_max_deg: Length = 0.66
    """Radius up to which the PSF is tabulated."""
    rad_bins: Bins = 66
    """Number of radial bins."""


@dataclass(frozen=True)
class StackOptions:
    """How runs are batched and stacked."""

    batch: Annotated[int, Setting(least=1, most=1024)] = 16
    """Mean number of runs in a batch, which is one job."""
    fanout: Annotated[int, Setting(least=2, most=1024)] = 16
    """Mean number of stacks that are stacked into one."""
    mixed: bool = False
    """Without a background, stack point-like and full-enclosure exposures together; else those of most runs."""
    by_s: Literal["night", "month", "run"] | Seconds | Annotated[tuple[float, ...], Setting("MJD")] | None = None
    """Products by interval, too, and a light curve: by night, month, run, duration or edges (TT); null for none."""

    def __post_init__(self) -> None:
        edges = self.by_s if isinstance(self.by_s, tuple) else (0.0, 1.0)
        if len(edges) < 2 or any(upper - lower < 1 / 86400 for lower, upper in itertools.pairwise(edges)):
            wrong = f"got MJD {list(edges)!r:.80}"
            raise ValueError(f"by_s: expected two or more edges, each at least 1 s after the one before, {wrong}")


@dataclass(frozen=True)
class Artifacts:
    """How artifacts are kept."""

    compression: Literal["blosc", "gzip", "none"] = "blosc"
    """Compression of the HDF5 files."""
    keep: Literal["all", "none"] = "all"
    """What a batch leaves: the maps of every run and their sum, or the sum only."""


@dataclass(frozen=True)
class Simulate:
    """The simulated store that is made where there is none."""

    seed: Annotated[int, Setting(least=0, below=2**63)] = 1
    """Seed of the random numbers."""
    runs: Annotated[int, Setting(least=1, most=100_000)] = 6
    """Number of runs."""
    duration_s: Annotated[float, Setting(above=0.0, most=18_000)] = 1680.0
    """Duration of a run."""


@dataclass(frozen=True)
class Match:
    """Which OFF runs are taken for a run: those in which columns of the observation index differ by less."""

    airmass: Annotated[float, Setting(above=0)] | None = 0.15
    """Largest difference in 1 / sin(ALT_PNT); null for any."""
    azimuth_deg: float | None = 45.0
    """Largest difference in AZ_PNT; null for any."""
    nsb: Annotated[float, Setting(above=0)] | None = 0.7
    """Largest difference in NSBLEVEL; null for any."""
    time_s: float | None = 180 * 86_400.0
    """Largest difference in TSTART; null for any."""
    telescopes: bool = True
    """TELLIST must be the same."""
    livetime_s: float = 36_000.0
    """Livetime of OFF runs that is enough, from the most similar one on."""


@dataclass(frozen=True)
class ModelConfig:
    """An acceptance model: the background response that is fitted to the events of OFF runs."""

    energy: EnergyAxis
    """Bins of reconstructed energy."""
    observations: Observations = field(default_factory=Observations)
    """Which OFF runs it is made from."""
    events: Events = field(default_factory=Events)
    """Which events of a run are used: those of the targets that use the model."""
    offset_max_deg: float = 2.0
    """Largest offset from the pointing that is used."""
    safe_mask: SafeMaskOptions = field(default_factory=SafeMaskOptions)
    """Where the data of an OFF run may be used."""
    cell_deg: Length = 0.2
    """Size of the cells in the field of view."""
    alignment: Literal["RADEC", "ALTAZ"] = "RADEC"
    """Whether the field of view turns with the sky or with the telescopes."""
    exclusion: Annotated[tuple[ExclusionFile, ...], Setting(alone=True)] = ()
    """What is not background, as for targets."""
    fit: FitOptions = field(default_factory=FitOptions)
    """How it is fitted, and for which runs it holds."""
    match: Match | None = None
    """Which of the OFF runs are taken for a run; null for all."""

    def __post_init__(self) -> None:
        if self.match is not None and (self.fit.zenith_deg or self.fit.azimuth != "none"):
            raise KeyMistake(("match",), "expected null beside fit.zenith or fit.azimuth: runs that match need neither")
        if "bkg-peak" in self.safe_mask.methods:
            raise KeyMistake(("safe_mask", "methods"), "expected others than bkg-peak: a model has no background yet")
        for key in ("within_deg", "split_s"):
            if getattr(self.observations, key) is not None:
                raise KeyMistake(("observations", key.partition("_")[0]), "expected null: a model has no target")

    def off_options(self) -> OffOptions:
        """What decides the counts and exposure of an OFF run."""
        energy, safe = self.energy.axis("energy"), replace(self.safe_mask, position="own")
        where = None if self.events.where is None else (("events.where", self.events.where),)
        given = self.observations.duplicates, self.observations.time_mjd, where
        return OffOptions(energy, self.offset_max_deg, safe, self.cell_deg, self.alignment, *given)


@dataclass(frozen=True)
class TargetConfig:
    """Everything about one target: its own sections, and the common ones with its overrides merged in."""

    energy: EnergyAxis
    """Bins of reconstructed energy."""
    energy_true: EnergyAxis
    """Bins of true energy."""
    position: Position | None = None
    """Where the target is; null for tiles."""
    tiles: Tiles | None = None
    """Tiles of the sky in place of a position: each that the runs reach is a target."""
    geometry: MapGeometry = field(default_factory=MapGeometry)
    """Pixel grid of its maps."""
    observations: Observations = field(default_factory=Observations)
    """Which runs are used, and which part of them."""
    events: Events = field(default_factory=Events)
    """Which events of a run are used."""
    event_types: dict[str, EventType] | None = None
    """Types of events by EVENT_TYPE of the index; a target of each, <target>-<type>, takes the place of the target."""
    offset_max_deg: float = 2.0
    """Largest offset from the pointing that is used."""
    gti_filter: bool = True
    """Drop events outside the good time intervals."""
    acceptance: AcceptanceOptions = field(default_factory=AcceptanceOptions)
    """Predicted hadron background."""
    safe_mask: SafeMaskOptions = field(default_factory=SafeMaskOptions)
    """Where the data of a run may be used."""
    irf_grid: IrfGrid = field(default_factory=IrfGrid)
    """Coarse grid of the PSF and energy-dispersion maps."""
    exclusion: Annotated[tuple[ExclusionFile, ...], Setting(alone=True)] = ()
    """DS9 regions, FITS masks (1 = keep) or tables (RA, DEC, RADIUS) of what is not background; null for none."""
    spectrum: Spectrum = field(default_factory=PowerLaw)
    """Spectrum assumed for the exposure in reconstructed energy."""
    backgrounds: dict[str, BackgroundOptions] = field(default_factory=lambda: {"fov": FovOptions()})
    """Background methods by label."""
    significance: SignificanceOptions = field(default_factory=SignificanceOptions)
    """Significance maps."""
    stack: StackOptions = field(default_factory=StackOptions)
    """How runs are batched and stacked."""
    export: ExportOptions = field(default_factory=ExportOptions)
    """Datasets for modelling."""
    tile: Tile | None = field(default=None, compare=False, repr=False)
    """Which of the tiles this is; None for a target with a position of its own."""

    def __post_init__(self) -> None:
        if self.tiles is not None:
            given = self.position, self.geometry.width_deg, self.observations.within_deg
            for value, path in zip(given, ("position", "geometry.width", "observations.within"), strict=True):
                if value is not None:
                    raise KeyMistake(tuple(path.split(".")), "expected none beside tiles, which have their own")
        elif self.position is None:
            raise KeyMistake(("position",), "expected it, such as {lon: 83.633 deg, lat: 22.014 deg}, or tiles")
        elif self.geometry.width_deg is None:
            raise KeyMistake(("geometry", "width"), "expected a quantity with a unit such as '6 deg', got nothing")
        if self.export.per == "interval" and self.stack.by_s is None:
            raise KeyMistake(("export", "per"), "expected stack.by, which says what the intervals are; it is null")
        if (radius_deg := self.export.fit_radius_deg) is not None and radius_deg < self.geometry.pixel_deg:
            least = f"expected at least one pixel of {self.geometry.pixel_deg:g} deg, got {radius_deg:g} deg"
            raise KeyMistake(("export", "fit_radius"), least)
        if self.acceptance.model == "self" and "bkg-peak" in self.safe_mask.methods:
            raise KeyMistake(("safe_mask", "methods"), "expected others than bkg-peak, as acceptance.model is self")
        if self.event_types and self.acceptance.model not in (None, "self"):
            expected = f"expected self or null, as event_types are modelled each by itself; got {self.acceptance.model}"
            raise KeyMistake(("acceptance", "model"), expected)
        energy, true = self.energy.axis("energy").edges, self.energy_true.axis("energy_true").edges
        if true[-1] <= energy[0] or energy[-1] <= true[0]:
            expected = f"expected energies that reach over those of energy, {energy[0]:g} to {energy[-1]:g} TeV"
            raise KeyMistake(("energy_true",), f"{expected}, got {true[0]:g} to {true[-1]:g} TeV")
        for band in self.significance.bands_tev:
            try:
                lower, upper = (self.energy.axis("energy").edge_index(edge) for edge in band)
            except ValueError as error:
                raise KeyMistake(("significance", "bands"), str(error)) from error
            if lower >= upper:
                raise KeyMistake(("significance", "bands"), f"expected the lower edge first, got {list(band)} TeV")
        has_fov = any(isinstance(each, FovOptions) for each in self.backgrounds.values())
        if self.significance.background_systematic is not None and not has_fov:
            key = "significance", "background_systematic"
            raise KeyMistake(key, "expected null, as no background is of method fov")
        for label, options in self.backgrounds.items():
            if label.lower() in RESERVED_LABELS or label.lower().endswith(RESERVED_ENDINGS):
                raise KeyMistake(("backgrounds", label), "expected another label; this is a name in the results")
            if len(label) > MAX_LABEL:
                limit = f"at most {MAX_LABEL} letters, as columns of FITS tables begin with it"
                raise KeyMistake(("backgrounds", label), f"expected a label of {limit}; got {len(label)}")
            if problem := self._problem(options):
                raise KeyMistake(("backgrounds", label, problem[0]), problem[1])

    def _problem(self, options: BackgroundOptions) -> tuple[str, str] | None:
        """Key of a background that does not fit this target, and what it would have to be."""
        if isinstance(options, RingOptions | AdaptiveRingOptions):
            r_in, width, pixel = options.r_in_deg, options.width_deg, self.geometry.pixel_deg
            if r_in >= 2 * self.offset_max_deg:
                limit = f"twice offset_max = {self.offset_max_deg:g} deg (the ring is larger than the field)"
                return "r_in", f"expected less than {limit}, got {r_in:g} deg"
            if width < pixel:
                return "width", f"expected at least one pixel of {pixel:g} deg, got {width:g} deg"
            if self.significance.bands_tev and not options.per_energy:
                return "per_energy", "expected true, as significance.bands asks for bands of energy; got false"
        elif isinstance(options, FovOptions):
            energy = self.energy.axis("energy")
            if options.sky_model and self.significance.background_systematic == "measured":
                return "sky_model", "expected none, or a number as significance.background_systematic, not measured"
            if options.fit == "tilt" and energy.n_bins < 2:
                return "fit", "expected scale, or at least two energy bins, which a tilt needs; got tilt and one bin"
            try:
                make_energy_groups(energy, options.energy_groups)
            except ValueError as error:
                return "energy_groups", str(error).removeprefix("energy_groups: ")
        return None

    @property
    def event_type(self) -> str | None:
        """Type of the events of a target of one type; None for a target of all."""
        return next(iter(self.event_types or ()), None)

    @property
    def events_where(self) -> tuple[tuple[str, str], ...] | None:
        """Conditions on the columns of EVENTS, each after its key; None for all events."""
        types = (self.event_types or {}).items()
        given = [("events", self.events.where), *((f"event_types.{kind}", each.where) for kind, each in types)]
        return tuple((f"{key}.where", where) for key, where in given if where is not None) or None

    @property
    def icrs_deg(self) -> tuple[float, float]:
        """Position of the target: right ascension in [0, 360) and declination, ICRS, deg."""
        return cast(Position, self.position).icrs_deg

    def reduce_options(self) -> ReduceOptions:
        """Everything that decides what the maps of an observation are."""
        grid = self.geometry
        center, width_deg = cast(Position, self.position).in_frame(grid.frame), cast("tuple", grid.width_deg)
        geometry = make_geometry(grid.frame, grid.projection, *center, width_deg, grid.pixel_deg)
        return ReduceOptions(
            geometry=geometry,
            irf_geometry=geometry.coarse(self.irf_grid.pixel_deg),
            energy=self.energy.axis("energy"),
            energy_true=self.energy_true.axis("energy_true"),
            rad=rad_axis(self.irf_grid.rad_max_deg, self.irf_grid.rad_bins),
            offset_max_deg=self.offset_max_deg,
            gti_filter=self.gti_filter,
            duplicates=self.observations.duplicates,
            time_mjd=self.observations.time_mjd,
            split_s=self.observations.split_s,
            acceptance=replace(self.acceptance, model=None),  # not the name of a model decides, but its key
            safe_mask=self.safe_mask,
            spectrum=self.spectrum,
            events_where=self.events_where,
            tile=self.tile,
        )


@dataclass(frozen=True)
class Config:
    """The whole configuration; every target holds its sections complete."""

    data: Data
    """Where the DL3 files are."""
    targets: dict[str, TargetConfig]
    """Targets by name, with their position, geometry and whatever differs from the common sections."""
    models: dict[str, ModelConfig] = field(default_factory=dict)
    """Acceptance models by name."""
    artifacts: Artifacts = field(default_factory=Artifacts)
    """How artifacts are kept."""
    results: Path = Path("results")
    """Folder of the results."""
    memory_mb: float | None = None
    """Most memory that a job may need; null for what this machine has."""
    on_refused: Literal["continue", "fail"] = "continue"
    """Go on without refused runs, or fail at the export, before which every run is done."""
    simulate: Simulate | None = None
    """The simulated store that is made where there is none; null for none."""
    written: Node | None = field(default=None, compare=False, repr=False)
    """All values as they were written, with their places; None for a configuration from no file."""

    def __post_init__(self) -> None:
        if set("{}") & set(str(self.results)):
            raise ValueError(f"results: expected a path without braces, which Snakemake fills in, got {self.results}")
        if own := next((name for name in self.models if re.match("self(-|$)", name)), None):
            raise KeyMistake(("models", own), "expected another name: self is the model from a target's own runs")
        for name, target in self.targets.items():
            if (model := target.acceptance.model) not in (None, "self", *self.models):
                expected = ", ".join(("self", *self.models))
                raise KeyMistake(("targets", name, "acceptance", "model"), f"expected one of {expected}, got {model!r}")
            if model in self.models and self.models[model].events != target.events:
                expected = f"expected events as of the target {name!r}, {target.events.where!r}"
                raise KeyMistake(("models", model, "events"), f"{expected}, got {self.models[model].events.where!r}")
            if name.lower() in RESERVED_TARGETS or name.lower().endswith(RESERVED_ENDINGS):
                raise KeyMistake(("targets", name), "expected another name; this is a file or folder of the results")

    def written_name(self, target: str) -> str:
        """Name under which a target was written: that of its tiles for a tile."""
        section, end = self.targets[target], f"-{self.targets[target].event_type}"
        stem = target.removesuffix(end)
        return stem.rpartition("-")[0] + target.removeprefix(stem) if section.tile else target

    def places(self, message: str) -> str:
        """Message ``key: what was expected`` with the file and line of its key in front, as far as they are known.

        The key of a target begins with ``targets.<name>``, and may be written in the common sections. What a variable
        is, is said where the value was written with it.
        """
        key, _, text = message.partition(": ")
        name = max((each for each in self.targets if key.startswith(f"targets.{each}.")), key=len, default=None)
        keys = key.split(".")
        if name is not None:
            keys = ["targets", self.written_name(name), *key.removeprefix(f"targets.{name}.").split(".")]
        if self.written is None or keys[0] not in ("data", "models", "targets"):
            return message
        node = self.written.child(*keys)
        for name in sorted(set(re.findall(r"\$\{?(\w+)", repr(node.plain())))):
            text += f"; {name} is {os.environ.get(name) or 'not set'}"
        return replace(node, path=tuple(keys)).says(text)
