"""What a plan is made of: plain frozen data, written as JSON for the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Plain = Mapping[str, Any]


@dataclass(frozen=True)
class Selection:
    """Which runs of the store a target wants.

    Parameters
    ----------
    ids : tuple of int or None
        Only these runs; None for all.
    exclude : tuple of int
        Never these runs.
    within_deg : float or None
        Pointing at most this far from the target.
    where : str or None
        Expression over the columns of the observation index.
    """

    ids: tuple[int, ...] | None = None
    exclude: tuple[int, ...] = ()
    within_deg: float | None = None
    where: str | None = None


@dataclass(frozen=True)
class TargetSpec:
    """Everything about a target that decides its products, as plain numbers.

    Parameters
    ----------
    name : str
        Name, safe in file names.
    ra_deg, dec_deg : float
        Position, ICRS.
    selection : Selection
        Its runs.
    reduce : mapping
        Configuration of the step ``reduce``.
    backgrounds : mapping of str to mapping
        Configuration of each background by label, the content digest of its exclusion included.
    export : mapping
        Configuration of the final products.
    settings : mapping
        What changes how products are made or kept but not what they hold (compression, where an
        exclusion file lies); no part of any key.
    batch, fanout : int
        Mean number of runs in a batch and of children of a node.
    require : tuple of str
        HDU types without which a run cannot be reduced.
    """

    name: str
    ra_deg: float
    dec_deg: float
    selection: Selection
    reduce: Plain
    backgrounds: Mapping[str, Plain]
    export: Plain
    settings: Plain
    batch: int = 16
    fanout: int = 16
    require: tuple[str, ...] = ("events", "gti", "aeff")


@dataclass(frozen=True)
class RunPlan:
    """One selected run.

    Parameters
    ----------
    obs_id : int
        Its id.
    inputs : mapping of str to str
        Digest of each input HDU by type and class (``events``, ``gti``, ``aeff:aeff_2d``, ...).
    reduced_key : str
        Key of its ``reduced.h5``.
    background_keys : mapping of str to str
        Key of its ``background-<label>.h5`` by label.
    """

    obs_id: int
    inputs: Mapping[str, str]
    reduced_key: str
    background_keys: Mapping[str, str]


@dataclass(frozen=True)
class BatchPlan:
    """Runs that one job reduces.

    Parameters
    ----------
    name : str
        16 hexadecimal digits from the keys of its runs.
    runs : tuple of RunPlan
        In order of id.
    leaves : mapping of str to str
        File name (without suffix) of its leaf stack by label.
    """

    name: str
    runs: tuple[RunPlan, ...]
    leaves: Mapping[str, str]


@dataclass(frozen=True)
class Refusal:
    """A run that is left out, and why."""

    obs_id: int
    reason: str


@dataclass(frozen=True)
class TargetPlan:
    """The work for one target.

    Parameters
    ----------
    spec : TargetSpec
        What was asked for.
    batches : tuple of BatchPlan
        In order of run id.
    nodes : mapping of str to mapping
        For each label, the children (names) of each inner node (name).
    roots : mapping of str to str
        Name of the last node by label.
    refused : tuple of Refusal
        Selected runs that cannot be used, known before anything is read.
    unselected : int
        Runs of the store that the target did not ask for.
    """

    spec: TargetSpec
    batches: tuple[BatchPlan, ...]
    nodes: Mapping[str, Mapping[str, tuple[str, ...]]]
    roots: Mapping[str, str]
    refused: tuple[Refusal, ...]
    unselected: int = 0
