"""Pictures, figures and words of one label of a target, for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cubeflow.report.images import Image, final_images
from cubeflow.report.page import Figure, LabelSection
from cubeflow.report.skymap import Field, draw_image
from cubeflow.steps.report_checks import LabelCube, LabelRows, draw_checks
from cubeflow.steps.rows import TargetRows
from cubeflow.storage.artifact import open_artifact
from cubeflow.storage.atomic import write_atomic
from cubeflow.storage.slabs import open_map

MAPS = ("counts", "background", "mask_safe", "exposure")
DISCS = ("disc_significance", "disc_excess", "disc_counts", "disc_background")
FILES = ("cube.h5", "dataset.fits.gz", "significance.fits.gz")
# Resolution of images inside the page by the number of target-label pairs, and whether all images are shown.
DETAIL = ((4, 110, True), (16, 72, True), (60, 60, False))
LEAST_DETAIL = 40, False
CAPTIONS = {
    "significance": "Blue below zero, red above; equal steps of colour are equal steps in σ.",
    "excess": "Counts minus background; the colours are stretched about the noise so that faint structure shows.",
    "counts": "Events that pass the safe mask, summed in discs.",
    "background": "Predicted background, summed in the same discs.",
    "exposure": "Effective area times livetime, summed over the runs.",
}


@dataclass(frozen=True, eq=False)
class LabelInput:
    """What a label is known by before its cube is read."""

    target: str
    label: str
    manifest: Mapping[str, Any]
    folder: Path
    runs: TargetRows
    table_key: str

    @property
    def method(self) -> str:
        """Background method."""
        return str(self.manifest["background"]["method"])

    def rows_of_label(self) -> LabelRows:
        """Rows for the figures."""
        return LabelRows(self.label, self.runs, self.runs.profiles[self.label])

    @property
    def name(self) -> str:
        """Beginning of the names of its figures."""
        plain = "".join(char if char.isalnum() else "-" for char in f"{self.target}-{self.label}")
        return f"{plain}-{self.manifest['key'][:8]}"


def make_label(given: LabelInput, field: Field, n_finals: int) -> tuple[LabelSection, Mapping[str, Any]]:
    """Section of a label and the summary of its cube; writes its pictures.

    Parameters
    ----------
    given : LabelInput
        Which one.
    field : Field
        What the images of the target share.
    n_finals : int
        Number of labels of all targets: the more there are, the smaller are their images on the page.
    """
    path = given.folder / given.label / "cube.h5"
    names = [*DISCS, *MAPS]
    with open_artifact(path, names=names, expect_kind="cube", expect_key=given.manifest["key"]) as opened:
        maps = {name: open_map(opened, name) for name in names if name in opened.descriptions}
        cube = LabelCube(maps, opened.parts["attributes"])
        figures = draw_maps(given, cube, field, n_finals)
        figures += draw_checks(given.name, f"of {given.target}, background {given.label}", cube, given.rows_of_label())
    links = [(name, f"{given.target}/{given.label}/{name}") for name in FILES]
    section = LabelSection(given.label, given.method, label_facts(cube.about), figures, links)
    return section, cube.about


def draw_maps(given: LabelInput, cube: LabelCube, field: Field, n_finals: int) -> list[Figure]:
    """Write the images as PNG; return those that the page shows."""
    dpi, is_all = detail(n_finals)
    named = Field(field.geom, field.keep, field.pointings_deg, field.target_deg, f"{given.target}, {given.label}")
    figures = []
    for image in final_images(cube.maps, cube.about["radius_deg"], cube.energy.edges):
        name = f"{given.name}-{image.name}"
        is_shown = bool(np.isfinite(image.data).any()) and (is_all or image.name == "significance")
        png, svg = draw_image(image, named, name if is_shown else None, describe_image(given, image), dpi)
        write_atomic(given.folder / given.label / f"{image.name}.png", png)
        if is_shown:
            title = image.title[0].upper() + image.title[1:]
            path = f"{given.target}/{given.label}/{image.name}.png"
            figures.append(Figure(name, title, CAPTIONS[image.name], svg, path, field.geom.nx > 2.2 * field.geom.ny))
    return figures


def detail(n_finals: int) -> tuple[int, bool]:
    """Resolution of the images on the page, and whether all of them are shown."""
    return next((step[1:] for step in DETAIL if n_finals <= step[0]), LEAST_DETAIL)


def describe_image(given: LabelInput, image: Image) -> str:
    """Words for those who do not see a map."""
    finite = image.data[np.isfinite(image.data)]
    span = f"from {finite.min():.3g} to {finite.max():.3g}" if finite.size else "without any value"
    return f"Sky map of {image.title} of {given.target}, background {given.label}: {image.unit} {span}."


def label_facts(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Numbers of a label; what is not known is a dash."""
    source = about["source"] or {}
    return [
        ("significance", _number(source.get("significance"), ".1f", " σ")),
        ("excess", _number(source.get("excess"), ".1f")),
        ("counts", _number(source.get("counts"), ".0f")),
        ("background", _number(source.get("background"), ".1f")),
        ("within", f"{about['radius_deg']:g}°"),
        ("livetime", f"{about['livetime_s'] / 3600:.2f} h"),
        ("runs", str(about["n_runs"])),
    ]


def summary_line(given: LabelInput, about: Mapping[str, Any]) -> dict[str, str]:
    """Line of the summary of the page."""
    facts = dict(label_facts(about))
    used = given.runs.used[given.label]
    return {
        "target": given.target,
        "label": given.label,
        "method": given.method,
        **{name: facts[name] for name in ("significance", "excess", "counts", "background")},
        "hours": facts["livetime"],
        "used": str(used),
        "left_out": str(len(given.runs) - used),
    }


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{form}}{unit}"
