"""The images of a final cube with celestial grid, exclusions, ring, pointings and target; and its hot spots.

An image is a PNG whose colours are as many values: the script of the page reads them back from the colours.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from cubeflow.maps import BoolArray, FloatArray, Geometry, Maps, Pair, Place, sphere
from cubeflow.report import drawing
from cubeflow.report.drawing import INK, Scale, line_d, path, round_step, text, tick_name
from cubeflow.report.ds9 import contours

Size = tuple[float, float]  # width and height
LIMITS = 5.0, 15.0  # sigma; to the first colours are even on either side of zero, from the last on all are one
AXES = {"icrs": ("right ascension", "declination"), "galactic": ("galactic longitude", "galactic latitude")}
MAX_SIDE_PIXELS = 1200
N_COLOURS = 64, 200  # of a significance: steps of 0.3 sigma at most, more would tell the noise only; of all else
FLAT_DEG = 20.0  # smaller maps have grids that hardly bend
FINE = 0.4  # of the radius of the discs: structure that is finer there is none
SIGNED = "1f5fa8", "86b9dc", "f8f8f8", "f2a481", "c9242f", "2c0513"
POSITIVE = "440154", "482878", "3e4a89", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"
MAX_POINTINGS = 200
LEFT, TOP, SIDE, ZOOM_SIDE = 50.0, 8.0, 300.0, 200.0
ZOOM_RADII, ZOOM_LEAST_DEG = 5.0, 0.4  # half the side of the part about the target
HOT_SIGMA, MAX_HOT_SPOTS = 4.0, 20


@dataclass(frozen=True, eq=False)
class SkyImage:
    """One image and how it is shown."""

    name: str  # also that of the file
    title: str  # what it is, in words
    unit: str
    data: FloatArray  # shape (ny, nx); NaN for none
    top: float | None = None  # of a significance: where its last colour begins; None for values that are not negative

    @property
    def span(self) -> tuple[float, float]:
        """Values of the first and the last colour."""
        if self.top is not None:
            return -LIMITS[0], self.top
        finite = self.data[np.isfinite(self.data)]
        low, high = min(float(finite.min(initial=0.0)), 0.0), float(finite.max(initial=0.0))
        return low, high if high > low else low + 1.0

    @property
    def stops(self) -> Pair:
        """Values, shape (n,), and their colours, (n, 3), between which colours change evenly."""
        names: tuple[str, ...] = POSITIVE if self.top is None else SIGNED
        values = np.linspace(*self.span, len(names))
        if self.top is not None:
            values = np.append(LIMITS[0] * np.linspace(-1, 1, 5), self.top)
        colours = np.array([list(bytes.fromhex(name)) for name in names], float)
        n = values.size - (self.top == LIMITS[0])
        return values[:n], colours[:n]


@dataclass(frozen=True, eq=False)
class Field:
    """What all images of a label share."""

    geom: Geometry  # pixel grid of the images
    excluded: BoolArray  # shape (ny, nx); True where the exclusion regions are
    pointings_deg: FloatArray  # shape (n, 2): right ascension and declination, ICRS
    target_deg: tuple[float, float]  # the same of the target
    radius_deg: float  # of the disc at the target in which counts are summed
    ring_deg: tuple[float, ...] = ()  # radii of the ring about the target


@dataclass(frozen=True)
class HotSpot:
    """Connected pixels of a significance map above `HOT_SIGMA`, or its highest pixel."""

    significance: float  # of its peak
    ra_deg: float  # where that is, ICRS
    dec_deg: float
    offset_deg: float  # of that from the target
    n_pixels: int
    is_excluded: bool  # the peak lies in an exclusion region


def final_images(maps: Maps, radius_deg: float) -> list[SkyImage]:
    """Images of a final cube, in the order in which people look.

    Of ``disc_significance`` and ``disc_counts`` (1, lat, lon), of that radius, and of ``exposure`` (energy_true, lat,
    lon) if there is one: at the geometric mean of the energies of the events.
    """
    significance, counts = (maps[f"disc_{name}"].data[0] for name in ("significance", "counts"))
    top = float(np.clip(np.max(significance, initial=0.0, where=np.isfinite(significance)), *LIMITS))
    found = [SkyImage("significance", f"significance within {radius_deg:g}°", "σ", significance, top)]
    found += [SkyImage("counts", f"counts within {radius_deg:g}°", "events", counts)]
    if "exposure" not in maps:
        return [*found, SkyImage("exposure", "exposure", "m² s", np.full(counts.shape, np.nan))]
    energy_true, edges = maps["exposure"].axes[0].centers, maps["disc_counts"].axes[0].edges
    index = int(np.argmin(np.abs(np.log(energy_true / np.sqrt(edges[0] * edges[-1])))))
    plane = maps["exposure"].data[index]
    power = drawing.power_of_ten(plane)
    shown, unit = np.where(plane > 0, plane / 10.0**power, np.nan), f"10{drawing.superscript(power)} m² s"
    return [*found, SkyImage("exposure", f"exposure at {energy_true[index]:.3g} TeV", unit, shown)]


def draw_map(shown: Sequence[SkyImage], field: Field, name: str) -> tuple[str, str]:
    """SVG of images of one field, of which the first is seen; and SVG of the part about the target, which refers to it.

    `name` is unique on the page. The script of the page shows the other layers. The second is empty where the target
    is off the map.
    """
    geom, first = field.geom, shown[0]
    width = SIDE * (1.0 if geom.nx < 2.2 * geom.ny else 2.2)
    height = max(width * geom.ny / geom.nx, 60.0)
    step = max(int(FINE * field.radius_deg / geom.pixel_deg), -(-max(geom.shape) // MAX_SIDE_PIXELS), 1)
    # Fewer pixels along each side will do for what is to be looked through, and for what is smooth.
    steps = [3 * step if k or image.name == "exposure" else step for k, image in enumerate(shown)]
    images = "".join(_image(image, geom, steps[k], k == 0) for k, image in enumerate(shown))
    marks, entries = _marks(field, "#20242a" if first.top is not None else "white", name)
    layers = f'<g id="{name}-layers" image-rendering="pixelated">{images}</g>'
    parts = [*_sky((layers, f'<g id="{name}-marks">{marks}</g>'), geom, geom, (width, height))]
    parts += _colour_bar(first, LEFT + width + 8, height, name)
    parts += drawing.legend(LEFT, TOP + height + 48, LEFT + width + 52, entries)[0]
    whole = drawing.svg(parts, LEFT + width + 52, TOP + height + 56, f"Sky map of {first.title}.")
    x, y = map(float, _pixels(geom, sphere.unit_vectors(*field.target_deg)))
    if not (0 <= x <= geom.nx and 0 <= y <= geom.ny):
        return whole, ""
    reach = max(ZOOM_RADII * field.radius_deg, ZOOM_LEAST_DEG, *(1.1 * radius for radius in field.ring_deg[1:]))
    half = int(np.ceil(reach / geom.pixel_deg))
    part = geom.cutout(int(x) - half, geom.ny - int(y) - half, 2 * half, 2 * half)
    again = f'<use href="#{name}-layers"/>', f'<use href="#{name}-marks"/>'
    parts = [*_sky(again, part, geom, (ZOOM_SIDE, ZOOM_SIDE))]
    zoom = drawing.svg(parts, LEFT + ZOOM_SIDE + 8, TOP + ZOOM_SIDE + 38, "The part about the target, enlarged.")
    return whole, zoom


def _sky(content: tuple[str, str], geom: Geometry, whole: Geometry, size: Size) -> Iterator[str]:
    """Parts of an SVG with images of the whole geometry and marks on them, of which `geom` is seen, and their frame."""
    x0, y0 = geom.origin_in(whole)
    top = whole.ny - y0 - geom.ny
    d, ticks = _graticule(geom, size)
    grid = path(d, "#808890", 'stroke-opacity="0.35"') if geom is whole else ""
    place = f'x="{LEFT:g}" y="{TOP:g}" width="{size[0]:g}" height="{size[1]:g}" preserveAspectRatio="none"'
    view = f'viewBox="{x0} {top} {geom.nx} {geom.ny}"'
    yield f'<svg {place} {view}><g class="sky">{grid.join(content)}</g></svg>'
    lon_name, lat_name = AXES[geom.frame]
    yield from drawing.frame((LEFT, TOP, *size), (f"{lon_name} (°)", f"{lat_name} (°)"), *ticks)


def _image(image: SkyImage, geom: Geometry, step: int, is_seen: bool) -> str:
    """Image element of every n-th pixel, each of which covers its neighbours, too."""
    rows, columns = (len(range(step // 2, size, step)) for size in geom.shape)
    png = base64.b64encode(to_png(image, step)).decode()
    span = " ".join(f"{value:.6g}" for value in image.span)
    about = f'data-span="{span}" data-title="{image.title}" data-unit="{image.unit}"'
    hidden = "" if is_seen else ' display="none"'
    place = f'y="{geom.ny - rows * step}" width="{columns * step}" height="{rows * step}" preserveAspectRatio="none"'
    return f'<image {place} {about}{hidden} href="data:image/png;base64,{png}"/>'


def to_png(image: SkyImage, step: int = 1) -> bytes:
    """PNG of every n-th pixel, north up: colour 0, transparent, for none; others for even steps of the value.

    What lies beyond `SkyImage.span` has the first or the last of them.
    """
    from PIL import Image

    (low, high), (at, colours) = image.span, image.stops
    last = N_COLOURS[image.top is None] - 1
    place = np.clip((image.data[step // 2 :: step, step // 2 :: step] - low) / (high - low), 0.0, 1.0)
    index = np.nan_to_num(1 + np.rint(place * last), nan=0.0)
    values = np.linspace(low, high, last + 1)
    rgb = np.stack([np.interp(values, at, channel) for channel in colours.T], axis=1)
    made = Image.fromarray(index[::-1].astype(np.uint8))
    made.putpalette(bytes([0, 0, 0, *np.rint(rgb).astype(np.uint8).ravel()]))
    made.save(buffer := BytesIO(), "PNG", transparency=0)
    return buffer.getvalue()


def _colour_bar(image: SkyImage, x: float, height: float, name: str) -> Iterator[str]:
    """Colour bar with its numbers and unit."""
    values, colours = image.stops
    scale = Scale(float(values[0]), float(values[-1]))
    stops = "".join(
        f'<stop offset="{place:.4f}" stop-color="rgb({",".join(f"{part:.0f}" for part in colour)})"/>'
        for place, colour in zip(scale.place(values), colours, strict=True)
    )
    yield f'<linearGradient id="{name}-bar" x1="0" y1="1" x2="0" y2="0">{stops}</linearGradient>'
    yield f'<rect x="{x:g}" y="{TOP:g}" width="10" height="{height:g}" fill="url(#{name}-bar)"/>'
    ticks = scale.ticks(6)
    for value, place in zip(ticks, scale.place(np.array(ticks)), strict=True):
        yield text(x + 13, TOP + height * (1 - place) + 4, tick_name(value, ticks))
    yield text(x + 42, TOP + height + 29, image.unit, "end")


def _marks(field: Field, line: str, name: str) -> tuple[str, list[tuple[str, str]]]:
    """Exclusions, pointings, disc and ring over an image, each with a seam; and their names for the legend."""
    geom, paper = field.geom, "#20242a" if line == "white" else "white"
    rims = contours(np.pad(field.excluded, 1).astype(float), 0.5)  # which are shifted by a pixel
    x, y = _pixels(geom, sphere.unit_vectors(*field.pointings_deg.T))
    inside = (x >= 0) & (x <= geom.nx) & (y >= 0) & (y <= geom.ny)
    one_in = max(-(-int(inside.sum()) // MAX_POINTINGS), 1)  # of very many some: all of them would hide the map
    size, places = 0.014 * min(geom.nx, geom.ny), zip(x[inside][::one_in], y[inside][::one_in], strict=True)
    cross = f"h{2 * size:.1f}m{-size:.1f},{-size:.1f}v{2 * size:.1f}"
    crosses = "".join(f"M{u - size:.1f},{v:.1f}{cross}" for u, v in places)
    outlines = "".join(line_d(x - 0.5, geom.ny + 0.5 - y) + "Z" for x, y in rims)
    lines = [
        ("exclusion", line, outlines, 'stroke-dasharray="4 3"'),
        ("ring", "#8a63d2", "".join(_circle(field, radius) for radius in field.ring_deg), ""),
        (f"disc {field.radius_deg:g}°", line, _circle(field, field.radius_deg), 'stroke-width="1.6"'),
        ("pointings" if one_in == 1 else f"1 in {one_in} pointings", "#3b8fdd", crosses, 'stroke-width="1.8"'),
    ]
    seam = 'stroke-width="3" stroke-opacity="0.7"'
    drawn = "".join(
        f'<defs><path id="{name}-{k}" d="{d}"/></defs>'
        f'<use href="#{name}-{k}" stroke="{paper}" {seam}/><use href="#{name}-{k}" stroke="{colour}" {how}/>'
        for k, (_, colour, d, how) in enumerate(lines)
        if d
    )
    shown = [(f'stroke="{INK if colour == line else colour}" {how}', name) for name, colour, d, how in lines if d]
    return drawn, shown


def _circle(field: Field, radius_deg: float) -> str:
    outward, east, north = sphere.local_basis(*field.target_deg)
    turn, radius = np.linspace(0.0, 2.0 * np.pi, 37)[:, None], np.deg2rad(radius_deg)
    vectors = np.cos(radius) * outward + np.sin(radius) * (np.cos(turn) * east + np.sin(turn) * north)
    return line_d(*_pixels(field.geom, vectors))


def _pixels(geom: Geometry, vectors: FloatArray) -> Pair:
    """Places, shape (n,), of ICRS unit vectors (n, 3) in an image whose first row is the northernmost."""
    x, y = geom.vectors_to_pixel(vectors)
    return x + 0.5, geom.ny - 0.5 - y


def _vectors(geom: Geometry, x: FloatArray, y: FloatArray) -> FloatArray:
    """Unit vectors, in the frame of the map, of such places; NaN off the sky."""
    return sphere.icrs_to_frame(geom.pixel_to_vectors(x - 0.5, geom.ny - 0.5 - y), geom.frame)


def positions(geom: Geometry, target_deg: Place) -> str:
    """What tells the script of the page where a place in an image lies, as JSON: vectors at nodes of a coarse grid."""
    step = max(int(1.0 / geom.pixel_deg), 1)
    y, x = np.mgrid[: -(-geom.ny // step) + 1, : -(-geom.nx // step) + 1] * step
    nodes = [None if np.isnan(value) else round(value, 6) for value in _vectors(geom, x, y).ravel().tolist()]
    target = sphere.icrs_to_frame(sphere.unit_vectors(*target_deg), geom.frame)
    about: dict[str, object] = {"nx": geom.nx, "ny": geom.ny, "frame": "RA Dec" if geom.frame == "icrs" else "l b"}
    about |= {"step": step, "columns": x.shape[1], "nodes": nodes, "target": np.round(target, 6).tolist()}
    return json.dumps(about, separators=(",", ":"))


def _graticule(geom: Geometry, size: Size) -> tuple[str, list[list[tuple[float, str]]]]:
    """Path of the celestial grid in an image, and where it meets its lower and its left edge, with names."""
    n, few = 61, 3 if max(geom.shape) * geom.pixel_deg < FLAT_DEG else 1  # nodes; one in few is enough for the lines
    y, x = np.meshgrid(np.linspace(0, geom.ny, n), np.linspace(0, geom.nx, n), indexing="ij")
    lon, lat = sphere.lon_lat(_vectors(geom, x, y))
    lon = (lon - geom.lon_deg + 180.0) % 360.0 - 180.0  # from the middle
    d, ticks = "", []
    # Edges that are off the sky tell nothing: the middle then, where it is widest.
    k, m = (n // 2, n // 2) if np.isnan(lon[-1]).all() or np.isnan(lat[:, 0]).all() else (-1, 0)
    for values, edge, length, zero in ((lon, lon[k], size[0], geom.lon_deg), (lat, lat[:, m], size[1], 0.0)):
        low, high = np.nanmin(values) + zero, np.nanmax(values) + zero
        step = round_step(max(high - low, geom.pixel_deg) / 5.0)
        found = []
        for line in step * np.arange(np.ceil(low / step), np.floor(high / step) + 1):
            lines = contours(values[::few, ::few], line - zero)
            d += "".join(line_d(few * u * geom.nx / (n - 1), few * v * geom.ny / (n - 1)) for u, v in lines)
            before, after = edge[:-1] + zero - line, edge[1:] + zero - line
            for at in np.flatnonzero((before * after <= 0) & (np.abs(after - before) < 180))[:1]:
                part = before[at] / ((before[at] - after[at]) or 1.0)
                name = tick_name(line % 360.0 if values is lon else line, [step])
                found.append((float(length * (at + part) / (n - 1)), name))
        ticks.append(found)
    return d, ticks


def find_hot_spots(significance: FloatArray, field: Field) -> list[HotSpot]:
    """Hot spots of a map (ny, nx), NaN for none, the highest first; where it is nowhere as high, its highest pixel."""
    # scipy.ndimage takes a sixth of a second to import
    known = np.nan_to_num(significance, nan=-np.inf)
    iy, ix = np.nonzero(np.isfinite(known) & (known >= min(HOT_SIGMA, known.max())))
    order = np.argsort(-known[iy, ix], kind="stable")
    left = dict.fromkeys(zip(iy[order].tolist(), ix[order].tolist(), strict=True))  # the highest first
    found: list[HotSpot] = []
    while left and len(found) < MAX_HOT_SPOTS:
        number, peak = len(left), next(iter(left))
        edge = [peak]
        while edge:
            row, column = edge.pop()
            near = [(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
            edge += [each for each in near if each in left and left.pop(each) is None]
        vector = field.geom.pixel_to_vectors(peak[1], peak[0])
        ra, dec = sphere.lon_lat(vector)
        offset = float(sphere.separation_deg(vector, sphere.unit_vectors(*field.target_deg)))
        about = float(ra), float(dec), offset, number - len(left), bool(field.excluded[peak])
        found.append(HotSpot(float(significance[peak]), *about))
    return found
