"""How a field of an options dataclass may be set, where its type and the unit in its name do not say it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """Annotation of a field, as in ``Annotated[float, Setting(above=0)]``; the configuration checks what it says.

    Parameters
    ----------
    unit : str
        Unit in which the plain number is kept, where the name of the field has none.
    above, least, below, most : float or None
        Limits in that unit: exclusive and inclusive lower, exclusive and inclusive upper. They are in place of those
        that any quantity of this unit has.
    alone : bool
        One value may be written for a list, a word for a section that needs nothing but its first key, and null for
        an empty list.
    """

    unit: str = ""
    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    alone: bool = False
