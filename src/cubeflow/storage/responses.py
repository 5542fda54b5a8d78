"""Responses of a run as tables and plain numbers, from which the same responses are made again, to the bit.

A table is kept in single precision only where that loses nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.background import Background2D, Background3D
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.psf import Psf3Gauss, PsfKing, PsfTable
from cubeflow.irf.rad_max import RadMax
from cubeflow.irf.table import Nodes

Array = NDArray[Any]
KINDS: Mapping[str, tuple[type[Any], ...]] = {
    "aeff": (EffectiveArea,),
    "edisp": (EnergyDispersion,),
    "psf": (PsfTable, Psf3Gauss, PsfKing),
    "background": (Background2D, Background3D),
    "rad_max": (RadMax,),
}
PER_MEV = 1e6  # files have background rates per MeV, in single precision


def pack_response(kind: str, response: Any) -> tuple[dict[str, Array], dict[str, Any]]:
    """Tables and plain values of a response.

    Parameters
    ----------
    kind : str
        ``aeff``, ``edisp``, ``psf``, ``background`` or ``rad_max``.
    response : object
        One of the classes in `KINDS`.

    Returns
    -------
    tables : dict of str to array
        By ``<kind>.<field>``.
    plain : dict
        ``class``; axes, one of nodes as lower edge, nodes, upper edge; what is no array; and ``per_mev``: names of the
        tables that are to be multiplied by 1e6.

    Raises
    ------
    ValueError
        If there is no place for a response of that class.
    """
    if not isinstance(response, KINDS[kind]):
        raise ValueError(f"{kind}: responses of class {type(response).__name__} have no factored form")
    tables: dict[str, Array] = {}
    plain: dict[str, Any] = {"class": type(response).__name__, "per_mev": []}
    for field in dataclasses.fields(response):
        value, name = getattr(response, field.name), f"{kind}.{field.name}"
        if field.type == "Nodes":
            plain[field.name] = _pack_nodes(name, value)
        elif isinstance(value, np.ndarray) and value.ndim == 1:
            plain[field.name] = value.tolist()
        elif isinstance(value, np.ndarray):
            tables[name], is_scaled = _smallest(value)
            plain["per_mev"] += [name] if is_scaled else []
        else:
            plain[field.name] = value
    return tables, plain


def unpack_response(kind: str, plain: Mapping[str, Any], tables: Mapping[str, Any]) -> Any:
    """Undo `pack_response`, for content that may have been made by anyone.

    Raises
    ------
    ValueError, TypeError, KeyError
        If a part is missing, of another type or shape, or not finite.
    """
    made = next((each for each in KINDS[kind] if each.__name__ == plain["class"]), None)
    if made is None:
        raise ValueError(f"{kind}: no class {str(plain['class'])[:40]!r}")
    hints = get_type_hints(made)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(made):
        name = f"{kind}.{field.name}"
        if field.type == "Nodes":
            values[field.name] = _unpack_nodes(name, plain[field.name])
        elif field.type == "FloatArray" and field.name in plain:
            values[field.name] = _edges(name, plain[field.name])
        elif field.type == "FloatArray":
            values[field.name] = _wide(name, tables[name]) * (PER_MEV if name in plain["per_mev"] else 1.0)
        else:
            values[field.name] = _plain(name, plain[field.name], hints[field.name])
    return made(**values)


def _smallest(values: Array) -> tuple[Array, bool]:
    """Values in single precision if that is exact, and whether they are to be multiplied by `PER_MEV`."""
    for scale in (1.0, PER_MEV):
        with np.errstate(over="ignore"):
            narrow = (values / scale).astype(np.float32)
        if np.array_equal(narrow.astype(np.float64) * scale, values):
            return narrow, scale != 1.0
    return values, False


def _wide(name: str, values: Any) -> Array:
    """Table in double precision; ValueError unless it is one of finite numbers."""
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or not np.all(np.isfinite(values)):
        raise ValueError(f"{name}: expected finite numbers")
    return values.astype(np.float64)


def _edges(name: str, values: Any) -> Array:
    """Edges of bins; ValueError unless they are finite and increase, and those of energies are above 0."""
    if not isinstance(values, list) or len(values) < 2 or not all(type(each) is float for each in values):
        raise ValueError(f"{name}: expected two or more edges")
    edges = np.array(values)
    if not np.all(np.isfinite(edges)) or np.any(np.diff(edges) <= 0) or (_is_log(name) and edges[0] <= 0):
        raise ValueError(f"{name}: expected increasing edges{' above 0' if _is_log(name) else ''}")
    return edges


def _is_log(name: str) -> bool:
    """Whether an axis is interpolated in the logarithm: energies are."""
    return name.split(".")[-1].startswith("energy")


def _pack_nodes(name: str, nodes: Nodes) -> list[float | None]:
    """Lower edge, nodes and upper edge of an axis; None for an edge at infinity."""
    if nodes.log != _is_log(name):
        raise ValueError(f"{name}: expected {'a logarithmic' if _is_log(name) else 'no logarithmic'} axis")
    lower, upper = (float(edge) if math.isfinite(edge) else None for edge in (nodes.lower, nodes.upper))
    return [lower, *nodes.values.tolist(), upper]


def _unpack_nodes(name: str, values: Any) -> Nodes:
    """Axis of nodes; ValueError unless they are numbers that increase within the edges."""
    if not isinstance(values, list) or len(values) < 3:
        raise ValueError(f"{name}: expected a lower edge, nodes and an upper edge")
    lower, *nodes, upper = values
    if not all(type(each) is float for each in nodes) or not {type(lower), type(upper)} <= {float, type(None)}:
        raise ValueError(f"{name}: expected numbers")
    ends = -math.inf if lower is None else lower, math.inf if upper is None else upper
    return Nodes(np.array(nodes), *ends, _is_log(name))


def _plain(name: str, value: Any, hint: Any) -> Any:
    """One of the words that a field may hold, or a number or None."""
    if get_origin(hint) is Literal:
        fits = type(value) is str and value in get_args(hint)
    else:
        fits = value is None or (type(value) is float and math.isfinite(value))
    if not fits:
        raise ValueError(f"{name}: got {str(value)[:40]!r}")
    return value
