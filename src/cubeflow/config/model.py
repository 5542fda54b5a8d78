"""The whole configuration, and what it is for one target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cubeflow.config.backgrounds import AdaptiveRingSection, Background, FovSection, RingSection
from cubeflow.config.exclusion import Exclusion
from cubeflow.config.quantity import Angle, FilePath, Memory, Name
from cubeflow.config.section import Section, key_error
from cubeflow.config.sections import (
    Acceptance,
    Artifacts,
    Data,
    EnergyAxis,
    IrfGrid,
    Observations,
    SafeMask,
    Significance,
    Simulate,
    Stack,
)
from cubeflow.config.sky import MapGeometry, Position
from cubeflow.config.spectrum import PowerLaw, Spectrum

if TYPE_CHECKING:
    from cubeflow.maps import Axis, Geometry

RESERVED_TARGETS = frozenset(("logs", "report", "plan", "plan.json", "report.html"))
RESERVED_LABELS = frozenset(("obs", "plan", "stack", "runs.ecsv"))


def default_backgrounds() -> dict[str, Background]:
    """Background methods where the file names none."""
    return {"fov": FovSection(method="fov")}


class TargetConfig(Section):
    """Everything about one target: its own sections, and the common ones with its overrides merged in."""

    position: Position
    """Where the target is."""
    map_geometry: MapGeometry = Field(alias="geometry")
    """Pixel grid of its maps."""
    observations: Observations = Observations()
    """Which runs are used, and which part of them."""
    energy: EnergyAxis
    """Bins of reconstructed energy."""
    energy_true: EnergyAxis
    """Bins of true energy."""
    offset_max_deg: Angle = Field(default=2.0, alias="offset_max")
    """Largest offset from the pointing that is used."""
    gti_filter: bool = True
    """Drop events outside the good time intervals."""
    acceptance: Acceptance = Acceptance()
    """Predicted hadron background."""
    safe_mask: SafeMask = SafeMask()
    """Where the data of a run may be used."""
    irf_grid: IrfGrid = IrfGrid()
    """Coarse grid of the PSF and energy-dispersion maps."""
    exclusion: Exclusion = ()
    """DS9 regions, FITS masks (1 = keep) or tables (RA, DEC, RADIUS) of what is not background; null for none."""
    spectrum: Spectrum = PowerLaw()
    """Spectrum assumed for the exposure in reconstructed energy."""
    backgrounds: Annotated[dict[Name, Background], Field(min_length=1, default_factory=default_backgrounds)]
    """Background methods by label."""
    significance: Significance = Significance()
    """Significance maps."""
    stack: Stack = Stack()
    """How runs are batched and stacked."""

    @field_validator("backgrounds")
    @classmethod
    def _check_labels(cls, values: dict[str, Background]) -> dict[str, Background]:
        for label in values:
            if label.lower() in RESERVED_LABELS:
                raise key_error(label, message="expected another label; this is a folder of the results")
        return values

    @model_validator(mode="after")
    def _check_rings(self) -> TargetConfig:
        for label, section in self.backgrounds.items():
            if not isinstance(section, RingSection | AdaptiveRingSection):
                continue
            if section.r_in_deg >= 2 * self.offset_max_deg:
                limit = f"twice offset_max = {self.offset_max_deg:g} deg (the ring is larger than the field)"
                message = f"expected less than {limit}, got {section.r_in_deg:g} deg"
                raise key_error("backgrounds", label, "r_in", message=message)
            if section.width_deg < self.map_geometry.pixel_deg:
                limit = f"one pixel of {self.map_geometry.pixel_deg:g} deg"
                message = f"expected at least {limit}, got {section.width_deg:g} deg"
                raise key_error("backgrounds", label, "width", message=message)
        return self

    @model_validator(mode="after")
    def _check_groups(self) -> TargetConfig:
        for label, section in self.backgrounds.items():
            if isinstance(section, FovSection) and section.fit == "tilt" and self.energy.n_bins < 2:
                message = "expected scale, or at least two energy bins, which a tilt needs; got tilt and one bin"
                raise key_error("backgrounds", label, "fit", message=message)
            try:
                self._groups(label)
            except ValueError as error:
                message = str(error).removeprefix("energy_groups: ")
                raise key_error("backgrounds", label, "energy_groups", message=message) from error
        return self

    def _groups(self, label: str) -> object:
        """Energy groups of a label as the step takes them: a number, or lists of bins."""
        from cubeflow.products.energy_groups import make_energy_groups

        section = self.backgrounds[label]
        if not isinstance(section, FovSection):
            return None
        groups = make_energy_groups(self.energy_axis(), section.energy_groups)
        return section.energy_groups if isinstance(section.energy_groups, int) else [list(group) for group in groups]

    @property
    def icrs_deg(self) -> tuple[float, float]:
        """Position of the target: right ascension in [0, 360) and declination, ICRS, deg."""
        return self._position_in("icrs")

    def _position_in(self, frame: str) -> tuple[float, float]:
        from cubeflow.maps import sphere

        position = self.position
        if position.frame == frame:
            return position.lon_deg % 360.0, position.lat_deg
        icrs = sphere.frame_to_icrs(sphere.unit_vectors(position.lon_deg, position.lat_deg), position.frame)
        lon, lat = sphere.lon_lat(sphere.icrs_to_frame(icrs, frame))
        return float(lon), float(lat)

    def geometry(self) -> Geometry:
        """Pixel grid of the maps, centred on the target."""
        from cubeflow.maps import make_geometry

        grid = self.map_geometry
        return make_geometry(
            grid.frame, grid.projection, *self._position_in(grid.frame), grid.width_deg, grid.pixel_deg
        )

    def irf_geometry(self) -> Geometry:
        """Coarse grid of the PSF and energy-dispersion maps; it covers `geometry`."""
        return self.geometry().coarse(self.irf_grid.pixel_deg)

    def energy_axis(self) -> Axis:
        """Reconstructed energy."""
        return make_energy_axis(self.energy, "energy")

    def energy_true_axis(self) -> Axis:
        """True energy."""
        return make_energy_axis(self.energy_true, "energy_true")

    def rad_axis(self) -> Axis:
        """Radial axis of the PSF."""
        from cubeflow.maps import rad_axis

        return rad_axis(self.irf_grid.rad_max_deg, self.irf_grid.rad_bins)

    @property
    def reach_deg(self) -> float:
        """How far beyond a pixel its background reaches: the largest outer radius of a ring, 0 without rings."""
        return max(section.reach_deg for section in self.backgrounds.values())

    def to_plain(self, section: str) -> Any:
        """Plain numbers, strings, lists and dictionaries of a section or value, for keys and manifests.

        Names are those of the attributes, with the unit. The energy groups of a background are a number, or lists of
        bins.
        """
        plain = self.model_dump(mode="json", include={section})[section]
        if section == "backgrounds":
            for label in plain:
                if "energy_groups" in plain[label]:
                    plain[label]["energy_groups"] = self._groups(label)
        return plain


def make_energy_axis(section: EnergyAxis, name: str) -> Axis:
    """Axis of a section; its ends are exactly min and max."""
    from cubeflow.maps import energy_axis, log_edges

    if section.edges_tev is not None:
        return energy_axis(section.edges_tev, name)
    return energy_axis(log_edges(*section.limits_tev, section.n_bins), name)


class Config(Section):
    """The whole configuration; every target holds its sections complete."""

    data: Data
    """Where the DL3 files are."""
    targets: Annotated[dict[Name, TargetConfig], Field(min_length=1)]
    """Targets by name, with their position, geometry and whatever differs from the common sections."""
    artifacts: Artifacts = Artifacts()
    """How artifacts are kept."""
    results: FilePath = "results"
    """Folder of the results."""
    memory_mb: Memory | None = Field(default=None, alias="memory")
    """Most memory that a job may need; null for what this machine has."""
    on_refused: Literal["continue", "fail"] = "continue"
    """Go on without refused runs, or fail at the end of their batch."""
    simulate: Simulate | None = None
    """The simulated store that is made where there is none; null for none."""

    @field_validator("targets")
    @classmethod
    def _check_names(cls, values: dict[str, TargetConfig]) -> dict[str, TargetConfig]:
        for name in values:
            if name.lower() in RESERVED_TARGETS:
                raise key_error(name, message="expected another name; this is a file or folder of the results")
        return values
