"""``cubeflow init``: look at a store and write a configuration that runs as it is."""

import json
import math
import os
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cubeflow.config import load_config
from cubeflow.config.sections import EnergyAxis
from cubeflow.dl3.entries import direction_of, event_types_line, text
from cubeflow.dl3.index import HDU_INDEX, RunEntry, Store, StoreError, open_store, read_infos, walk
from cubeflow.dl3.quirks import QUIRKS
from cubeflow.dl3.reader import ReadOptions, read_observation
from cubeflow.errors import MistakeError, Say, counted
from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.maps.axis import energy_axis
from cubeflow.maps.sphere import Position, angular_distance_deg
from cubeflow.observation import Observation, RunRefused
from cubeflow.plan.make import ranges_text
from cubeflow.products.spectrum import PowerLaw, share_beyond
from cubeflow.store.atomic import write_atomic
from cubeflow.tools.targets import KNOWN, SAME, Place, parse_target

MAX_OBJECTS = 12
MAX_ROOTS = 8
SAMPLE = 8  # runs that are read
NEAR = 6.0  # deg: no field of view reaches farther
LEAST_AREA = 0.3  # of the area on axis: where it is less, offsets are not used
MOST_EVENTS = 0.95  # lie within the offset that is used where the area is known at one only
SEES = 2.5  # deg: runs that are read rather than those farther off
ROUND = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0)  # ten a decade
STEP = 1.2  # from one round number to the next
BINS = 8  # of energy, a decade
MOST_BEYOND = 0.006  # of the counts of a run that was read: of others it may be more, and 0.01 is said aloud
EVENTS_ABOVE = 10  # events of each run that the last edge of the energy axis leaves out
PIXELS_DEG = (0.02, 0.04, 0.05, 0.1)
MAX_PIXELS = 400
WRAP = 111
MAX_LISTED = 12  # refused runs that are named
NO_THRESHOLDS = """\
# Not all runs have energy thresholds: energies are used where the effective area is above 10 percent of its
# largest. A smaller aeff_percent reaches to lower energies.
safe_mask: {methods: [offset-max, aeff-max], aeff_percent: 10}"""
NO_BACKGROUND = """\
# Not all runs have a background response, as is so for point-like data: counts and exposure only.
backgrounds: {counts: {method: none}}"""
OWN_MODEL = """\
# The runs have no background response: it is made from their own events, what is excluded left out.
acceptance: {model: self}"""
_ROOT = re.compile(r'roots: \["([^"]+)"\]')
_PLAIN = re.compile(r"[A-Za-z/.][\w/.+-]*/[\w/.+-]*", re.ASCII)


def init_config(store_path: str, target: str | None, output: Path | None, force: bool, exclude: bool, say: Say) -> Path:
    """Write a configuration, ``config/<target>.yaml`` if no other is named, and give its path.

    `store_path` is the folder of the store as it will stand there. `force` replaces a configuration that is there. With
    `exclude` the target and known sources are excluded: their regions lie beside it, under a name that is free.
    MistakeError if the configuration is there, the store cannot be used, no run sees the target, or it is neither a
    position nor a known name, or None: the message lists the objects of the store.
    """
    store, store_path, roots = _open(store_path, say)
    if target is None:
        raise MistakeError(_targets_of(store, store_path))
    place = parse_target(target, (each for each, _ in objects_of(store)))
    path = output or Path("config") / f"{place.slug}.yaml"
    if path.exists() and not force:
        raise MistakeError(f"{path}: already there; write to another file with -o, or replace it with --force")
    found = look_at(store, store_path, roots, place)
    path.parent.mkdir(parents=True, exist_ok=True)
    regions = str(_write_regions(path, regions_text(found).encode())) if exclude else None
    write_atomic(path, config_text(found, str(path), regions).encode())
    config = load_config([path])
    lower, upper = found.energy_tev
    runs = f"{len(found.offsets)} of {found.n_runs} runs within {found.offset_max_deg:g} deg"
    beside = f", exclusion in {regions}" if regions else ""
    say(f"{path}: {place.name}: {runs}, {lower:g} to {upper:g} TeV{beside}")
    if line := _instruments_line(store, found):
        say(line)
    say(f"Next: cubeflow plan -c {path}")
    say(f"then: {snakemake_command(path)}")
    first = next(iter(config.targets.values()))
    if first.event_type is not None:  # what they have in common lies in the folder of the target that they replace
        folder = config.results / replace(place, name=path.stem).slug / next(iter(first.backgrounds))
        say(f"All types are fitted together by Datasets.read('{folder}/joint.yaml', '{folder}/joint-models.yaml')")
    say(f"The exclusion is a first guess; from what is significant it is made by: cubeflow exclude {path}")
    return path


def _open(path: str, say: Say) -> tuple[Store, str, tuple[str, ...]]:
    """Open a store; gives its folder, and the roots that its index needs.

    Of a folder without an index it is the only one below that has one, if all runs lie there and the index can be used.
    """
    store, roots = open_store(path), list[str]()
    # Folders that its index takes files from are the roots that the configuration must name.
    while len(roots) < MAX_ROOTS and (named := {*_ROOT.findall(" ".join(store.refused.values()))} - {*roots}):
        roots.append(min(named))
        store = open_store(path, roots)
    below = [folder for folder, names in walk(Path(path)) if {*names} & {*HDU_INDEX}]
    files = [*(str(ref.path) for entry in store.runs for ref in entry.hdus), *store.left_out]
    if len(below) == 1 and Path(path) not in below and all(below[0].absolute() in Path(file).parents for file in files):
        with suppress(StoreError):
            if (opened := _open(str(below[0]), say))[0].runs:
                say(f"{below[0]}: used as store: the index is there, and so are all runs")
                return opened
    return store, path, tuple(roots)


def _instruments_line(store: Store, found: "Found") -> str:
    """Say of which instruments the runs that see the target are, and how one is chosen; empty if they are of one."""
    seen = [entry for entry in store.runs if entry.obs_id in found.offsets]
    is_column = all(text(entry.obs_info, "TELESCOP") for entry in seen)
    if not is_column and len({fact.instrument for fact in found.facts}) == 1:
        return ""
    infos = {entry.obs_id: entry.obs_info for entry in seen} if is_column else read_infos(seen)[0]
    runs = defaultdict[str, list[int]](list)
    for obs_id, info in infos.items():
        tests = [f"{key} == {text(info, key)!r}" for key in ("TELESCOP", "INSTRUME") if text(info, key)]
        runs[" and ".join(tests) or "none named"].append(obs_id)
    if len(runs) < 2:
        return ""
    test, obs_ids = max(runs.items(), key=lambda item: len(item[1]))
    one = f"where: {json.dumps(test)}" if is_column else f"ids: {obs_ids}"
    each = "; ".join(f"{counted(len(ids), 'run')}: {test}" for test, ids in runs.items())
    return f"runs of {len(runs)} instruments ({each}): expected one, such as by observations: {{{one}}}"


def snakemake_command(path: Path | str) -> str:
    """What starts the workflow here: where there is none, the one that comes with this installation."""
    where = "" if Path("workflow/Snakefile").is_file() else '-s "$(cubeflow workflow)" '
    return f"snakemake {where}--cores 2 --configfile {path}"


def objects_of(store: Store) -> list[tuple[Place, int]]:
    """Objects that the store names, with their position and number of runs, the most observed first."""
    found = Counter[Place]()
    for entry in store.runs:
        name, position = entry.obs_info.get("OBJECT"), direction_of(entry.obs_info, "OBJ")
        if name and position:
            rounded = Position(lon_deg=round(position[0] % 360.0, 4), lat_deg=round(position[1], 4))
            found[Place(str(name), rounded)] += 1
    return found.most_common()


def offsets_of(store: Store, place: Place) -> dict[int, float]:
    """Separation of the pointing of each run from a place, deg, the nearest first; without runs whose is unknown."""
    found = {
        entry.obs_id: float(angular_distance_deg(pointing, place.position.icrs_deg))
        for entry in store.runs
        if (pointing := direction_of(entry.obs_info))
    }
    return dict(sorted(found.items(), key=lambda item: item[1]))


def sample_runs(entries: Sequence[RunEntry]) -> "tuple[list[RunFacts], dict[int, str]]":
    """Facts of some runs, evenly spread, and why others cannot be read; StoreError, with a reason, if none can."""
    chosen = [entries[k] for k in sorted({round(k) for k in np.linspace(0, len(entries) - 1, SAMPLE)})]
    facts, refused = list[RunFacts](), dict[int, str]()
    for entry in chosen:
        try:
            for kind in entry.event_types or [""]:
                options = ReadOptions(require=(), duplicates="drop", event_type=kind or None)
                facts.append(replace(run_facts(read_observation(entry, options)), event_type=kind))
        except RunRefused as error:
            refused[entry.obs_id] = str(error)
    if not facts:
        raise StoreError(f"none of {len(chosen)} runs can be read; the first: {next(iter(refused.values()))}")
    return facts, refused


def run_facts(observation: Observation) -> "RunFacts":
    """Facts of one run that has been read."""
    area = observation.aeff
    if area is None:
        raise RunRefused(f"run {observation.obs_id}: no effective area")
    on_axis = area.evaluate(area.energy_true.values, area.offset.values[:1])[:, 0]
    threshold = area.energy_true.values[np.argmax(on_axis >= 0.1 * on_axis.max())]
    events, pointing = observation.events, observation.pointing
    offset = angular_distance_deg((events.ra_deg, events.dec_deg), (pointing.ra_deg, pointing.dec_deg))
    offset_max_deg = reach_deg(area.offset.values, area.evaluate([1.0], area.offset.values)[0], offset)
    thresholds = area.lo_thres_tev, area.hi_thres_tev, float(threshold)
    background, background_tev = observation.background, None
    if background is not None:  # energies between which it is not zero
        filled = np.nonzero(background.rate.reshape(len(background.rate), -1).sum(axis=1) > 0)[0]
        edges = background.energy_edges_tev
        background_tev = (float(edges[filled[0]]), float(edges[filled[-1] + 1])) if filled.size else None
    ranges = (area.energy_true.lower, area.energy_true.upper), background_tev
    used, is_one = events.energy_tev[offset <= offset_max_deg], len(area.offset.values) == 1
    responses = (area, observation.edisp) if observation.edisp else None
    about = observation.point_like, observation.quirks
    instrument = f"{observation.meta.get('telescope')} {observation.meta.get('instrument')}"
    return RunFacts(
        observation.obs_id, *thresholds, *ranges, offset_max_deg, is_one, used, *about, responses, instrument
    )


def reach_deg(offset_deg: NDArray[np.float64], area_m2: NDArray[np.float64], events_deg: NDArray[np.float64]) -> float:
    """Largest offset whose area is above `LEAST_AREA` of the first, down to half a degree but at least that.

    An area at one offset says nothing of others: there it is the offset within which `MOST_EVENTS` of the events lie.
    """
    farthest = offset_deg[area_m2 >= LEAST_AREA * area_m2[0]].max()
    if len(offset_deg) == 1 and len(events_deg):
        farthest = np.quantile(events_deg, MOST_EVENTS)
    return max(0.5, float(np.floor(farthest * 2 + 1e-6) / 2))


def look_at(store: Store, store_path: str, roots: tuple[str, ...], place: Place) -> "Found":
    """What is known of a store and a target; MistakeError if no run sees it."""
    offsets = offsets_of(store, place)
    if not offsets:
        raise MistakeError(f"{store_path}: no run with a pointing (RA_PNT, DEC_PNT){_first_refusal(store)}")
    closest, offset = next(iter(offsets.items()))
    if offset <= NEAR:
        reach = SEES if offset <= SEES else NEAR
        facts, refused = sample_runs([entry for entry in store.runs if offsets.get(entry.obs_id, 999.0) <= reach])
        found = Found(store_path, roots, place, len(store.runs), offsets, facts, {**store.refused, **refused})
        if seen := {obs_id: value for obs_id, value in offsets.items() if value <= found.offset_max_deg}:
            return replace(found, offsets=seen)
    at = place.position
    name = f"{place.name} ({at.frame} {at.lon_deg:g} {at.lat_deg:g} deg)"
    objects = ", ".join(repr(each.name) for each, _ in objects_of(store)[:MAX_OBJECTS])
    hint = f". The store names {objects}" if objects else ""
    raise MistakeError(f"--target: no run sees {name}; the closest, run {closest}, points {offset:.1f} deg away{hint}")


def _write_regions(config: Path, content: bytes) -> Path:
    """Write regions beside a configuration, under its name, numbered where that is taken: none is replaced."""
    path, number = config.with_name(f"{config.stem}.reg"), 1
    while path == config or (os.path.lexists(path) and not (path.is_file() and path.read_bytes() == content)):
        number += 1
        path = config.with_name(f"{config.stem}-{number}.reg")
    if not path.exists():
        write_atomic(path, content)
    return path


def _first_refusal(store: Store) -> str:
    """Why the first of the refused runs is, if there are any."""
    return f"; run {next(iter(store.refused))}: {next(iter(store.refused.values()))}" if store.refused else ""


def _targets_of(store: Store, store_path: str) -> str:
    """Say what can be a target: objects of the store, then well-known sources."""
    lines = [f"--target: expected a position or a name; {store_path} has {len(store.runs)} runs{_first_refusal(store)}"]
    for place, count in (objects := objects_of(store))[:MAX_OBJECTS]:
        position = f"{place.position.lon_deg:g} {place.position.lat_deg:g}"
        lines.append(f'  --target "{place.name}"  or  --target "{position}"  # named by {count} runs')
    lines += [f"  and {len(objects) - MAX_OBJECTS} more"] if len(objects) > MAX_OBJECTS else []
    return "\n".join([*lines, f"Known without a store: {', '.join(place.name for place in KNOWN)}"])


@dataclass(frozen=True, eq=False)
class RunFacts:
    """What the responses and events of a run, or of a type of its events, allow."""

    obs_id: int
    lo_thres_tev: float | None  # thresholds of the effective area
    hi_thres_tev: float | None
    area_threshold_tev: float  # from here on the area on axis is above a tenth of its largest
    energy_true_tev: tuple[float, float]  # range of the effective area
    background_tev: tuple[float, float] | None  # range of energies with a background; None without one
    offset_max_deg: float  # see `reach_deg`
    has_one_offset: bool  # the effective area
    energies_tev: NDArray[np.float64]  # of the events within `offset_max_deg`, in no order
    point_like: bool  # the responses hold inside a directional cut
    quirks: tuple[str, ...]  # deviations from the format
    responses: tuple[EffectiveArea, EnergyDispersion] | None = None  # if it has both
    instrument: str = ""  # telescope and instrument that the file names
    event_type: str = ""  # for which the responses hold; empty for all


@dataclass(frozen=True)
class Found:
    """What is known of a store and a target."""

    store: str  # its path as the user wrote it
    roots: tuple[str, ...]  # further folders it takes files from
    place: Place  # target
    n_runs: int  # of the store
    offsets: Mapping[int, float]  # of the runs that see the target, deg
    facts: Sequence[RunFacts]  # of a sample of them
    refused: Mapping[int, str]  # runs that cannot be used, as far as known

    @property
    def offset_max_deg(self) -> float:
        """Largest offset that every run of the sample can use."""
        return min(fact.offset_max_deg for fact in self.facts)

    @property
    def has_thresholds(self) -> bool:
        """Whether all of the sample have a threshold."""
        return all(fact.lo_thres_tev for fact in self.facts)

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
        """Limits of the true energy: wider by a factor of about 3 and 2, as far as the responses reach.

        Each end is farther out if more than `MOST_BEYOND` of the counts of a bin of energy come from beyond it.
        """
        (low, high), (begins, ends) = self.energy_tev, zip(*(fact.energy_true_tev for fact in self.facts), strict=True)
        lowest, highest = round_up(max(begins)), max(round_down(min(ends)), high)
        lower, upper = max(round_down(low / 3.0), lowest), min(round_up(2.0 * high), highest)
        while lower > lowest and self._beyond(lower, max(ends)) > MOST_BEYOND:
            lower = max(round_down(lower / STEP), lowest)
        while upper < highest and self._beyond(lower, upper) > MOST_BEYOND:
            upper = min(round_up(upper * STEP), highest)
        return lower, upper

    def _beyond(self, *true_tev: float) -> float:
        """Largest share of the counts of a run in a bin of energy above its threshold from outside true energies."""
        (lower, upper), true, largest = self.energy_tev, energy_axis(true_tev, "energy_true"), 0.0
        energy = EnergyAxis(None, lower, upper, bins_per_decade=BINS).axis("energy")
        for fact in self.facts:
            if fact.responses:
                share = share_beyond(*fact.responses, true, energy, PowerLaw(), self.offset_max_deg)
                threshold = (self.has_thresholds and fact.lo_thres_tev) or 0.0
                largest = max(largest, share[energy.edges_array[:-1] >= threshold].max(initial=0.0))
        return largest

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
        reach, at = self.width_deg / math.sqrt(2.0), self.place.position.icrs_deg
        apart = {place: angular_distance_deg(place.position.icrs_deg, at) for place in KNOWN}
        return [self.place, *(each for each, deg in apart.items() if SAME < deg < reach + each.radius_deg)]


def round_down(value: float) -> float:
    """Largest round number that is not above a positive one."""
    decade = 10.0 ** math.floor(math.log10(value))
    return float(f"{decade * max(step for step in ROUND if step * decade <= value * (1 + 1e-6) or step == 1.0):.4g}")


def round_up(value: float) -> float:
    """Smallest round number that is not below a positive one."""
    decade = 10.0 ** math.floor(math.log10(value))
    return float(f"{decade * min(step for step in (*ROUND, 10.0) if step * decade >= value * (1 - 1e-6)):.4g}")


def two_digits_up(value: float) -> float:
    """Smallest number of two digits that is not below a positive one."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step * (1 - 1e-9)) * step:.2g}")


def config_text(found: Found, path: str, exclusion: str | None) -> str:
    """Text of the configuration that will lie at `path`; `exclusion` is the region file of what is not background.

    Its name is that of the target, whose folder in the results no other configuration has.
    """
    place, at, energy, true = found.place, found.place.position, found.energy_tev, found.energy_true_tev
    reach = f"{found.offset_max_deg:g} deg"
    roots = ", ".join(json.dumps(root) for root in found.roots)
    runs = f"runs {', '.join(ranges_text(found.offsets))}"
    size = f"width: {found.width_deg:g} deg, pixel: {found.pixel_deg:g} deg"
    safe_mask, tev = NO_THRESHOLDS, [fact.lo_thres_tev for fact in found.facts if fact.lo_thres_tev]
    if found.has_thresholds:
        note = f"thresholds of the runs: {min(tev):.2g} to {max(tev):.2g} TeV"
        safe_mask = f"safe_mask: {{methods: [offset-max, aeff-default]}}  # {note}"
    used = f"{len(found.offsets)} of the {found.n_runs} runs of a store"
    why = "up to where the effective area is a third of that on axis"
    if any(fact.has_one_offset for fact in found.facts):
        why = f"within which {MOST_EVENTS:.0%} of the events lie; the effective area is known at one offset only"
    lines = [
        f"# {place.name}: {used}. Drafted by `cubeflow init`, and can be used as it is.",
        "# What each key means, and what else there is: config/README.md",
        f"#   cubeflow plan -c {path}",
        f"#   {snakemake_command(path)}",
        f"data:\n  store: {quoted(found.store)}",
        *([f"  roots: [{roots}]  # its index takes files from here"] if roots else []),
        f"observations:\n  within: {reach}  # from pointing to target; new runs that point there join in",
        *textwrap.wrap(runs, WRAP, initial_indent="  # today: ", subsequent_indent="  #   ", break_on_hyphens=False),
        "  # ids: [...]             # only these runs",
        '  # where: "ZEN_PNT < 60"  # only such runs',
        f"targets:\n  {replace(place, name=Path(path).stem).slug}:",
        f"    position: {{frame: {at.frame}, lon: {at.lon_deg:.9g} deg, lat: {at.lat_deg:.9g} deg}}",
        f"    geometry: {{frame: {at.frame}, projection: TAN, {size}}}  # holds the fields of all runs",
        f"energy: {{min: {energy[0]:g} TeV, max: {energy[1]:g} TeV, bins_per_decade: {BINS}}}",
        f"energy_true: {{min: {true[0]:g} TeV, max: {true[1]:g} TeV, bins_per_decade: 12}}  # wider: energies migrate",
        f"offset_max: {reach}  # {why}",
        safe_mask,
        *([f"exclusion: {quoted(exclusion)}  # what is not background: DS9 regions"] if exclusion else []),
    ]
    is_modelled = not any(fact.background_tev for fact in found.facts) and len(found.offsets) > 1
    lines += [OWN_MODEL] if is_modelled else []
    if is_modelled or all(fact.background_tev and not fact.point_like for fact in found.facts):
        ring = f"{{method: ring, r_in: {max(0.5, round(place.radius_deg + 0.15, 2)):g} deg, width: 0.3 deg}}"
        # One norm for all energies passes errors of the templates near the threshold on to spectra.
        fov = "{method: fov, fit: scale, energy_groups: 4}  # a norm for each of 4 groups of energy bins"
        lines += ["backgrounds:", f"  fov: {fov}", f"  ring: {ring}"]
    else:
        lines += [NO_BACKGROUND]
    if types := sorted({fact.event_type for fact in found.facts} - {""}):
        lines += [f"{event_types_line(types)}  # each with its condition, responses and products"]
    lines += ["significance: {radius: 0.1 deg}", "results: results", *_notes(found)]
    return "\n".join(lines) + "\n"


def regions_text(found: Found) -> str:
    """Text of the DS9 region file of what is not background."""
    about = "# What is not background. Radii in degrees, and any DS9 shape may be added."
    lines = ["# Region file format: DS9", about, "icrs"]
    for place in found.excluded:
        ra, dec = place.position.icrs_deg
        name = re.sub(r"[^\w .+-]", " ", place.name)  # other signs may mean something to DS9
        lines += [f"# {name}", f"circle({ra:.4f}, {dec:.4f}, {place.radius_deg:g})"]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Path as YAML, in quotes where it needs them."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _notes(found: Found) -> list[str]:
    """Comments on runs that were read: refused ones, and deviations from the format."""
    n_read = len({fact.obs_id for fact in found.facts})
    met = f"# {n_read} of the runs were read. Deviations from the format that were met, and dealt with:"
    counts = Counter(quirk for fact in found.facts for quirk in fact.quirks)
    quirks = [f"#   {name} ({count} runs): {QUIRKS[name].description}" for name, count in sorted(counts.items())]
    lines = ["", met, *(quirks or ["#   none"])]
    if found.refused:
        lines += ["# Runs that cannot be used; if they are selected, the run table has them with the reason:"]
        reasons = [f"#   {obs_id}: {' '.join(reason.split())}" for obs_id, reason in sorted(found.refused.items())]
        more = [f"#   and {len(reasons) - MAX_LISTED} more"] if len(reasons) > MAX_LISTED else []
        lines += [*reasons[:MAX_LISTED], *more]
    return lines
