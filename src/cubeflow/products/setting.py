"""How a field of an options dataclass may be set, where its type and the unit in its name do not say it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """Annotation of a field, as in ``Annotated[float, Setting(above=0)]``; the configuration checks what it says."""

    unit: str = ""  # in which the plain number is kept, where the name of the field has none
    # Limits in that unit, in place of those that any quantity of it has.
    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    # One value may be written for a list, a word for a section that needs nothing but its first key, null for no list.
    alone: bool = False
