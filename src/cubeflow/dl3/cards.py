"""Header cards of a FITS file as plain Python values."""

from __future__ import annotations

import re

Value = str | int | float | bool | None
Header = dict[str, Value]

CARD = 80
_STRING = re.compile(r"\s*'((?:[^']|'')*)'")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([EeDd][+-]?\d+)?$")
_SKIPPED = ("COMMENT ", "HISTORY ", "        ", "END     ")


def parse_header(cards: bytes) -> Header:
    """Keys and values of header cards; the first of several equal keys counts.

    Text that is not ASCII is read as Latin-1 with control characters removed, so that every
    header gives clean strings. A value that cannot be read is None.

    Parameters
    ----------
    cards : bytes
        Whole cards of 80 bytes each.

    Returns
    -------
    dict
        Values by upper-case key; long strings (CONTINUE) are joined.
    """
    text = cards.decode("latin-1")
    header: Header = {}
    last = ""
    for start in range(0, len(text), CARD):
        card = text[start : start + CARD]
        if card.startswith(_SKIPPED):
            continue
        if card.startswith("CONTINUE"):
            _join(header, last, card[8:])
            continue
        key, value = _split(card)
        last = key
        if key and key not in header:
            header[key] = parse_value(value)
    return header


def _split(card: str) -> tuple[str, str]:
    """Key and text of the value; an empty key if the card has no value."""
    if card[8:10] == "= ":
        return card[:8].rstrip().upper(), card[10:]
    if card.startswith("HIERARCH "):
        key, equals, value = card[9:].partition("=")
        return (key.strip().upper(), value) if equals else ("", "")
    if card[8:9] == "=":
        return card[:8].rstrip().upper(), card[9:]
    return "", ""


def _join(header: Header, key: str, text: str) -> None:
    """Append the string of a CONTINUE card to the one before, which ends with ``&``."""
    before, more = header.get(key), parse_value(text)
    if isinstance(before, str) and before.endswith("&") and isinstance(more, str):
        header[key] = before[:-1] + more


def parse_value(text: str) -> Value:
    """Value field of a card: string, logical, whole number, number, or None."""
    match = _STRING.match(text)
    if match:
        return clean(match[1].replace("''", "'").rstrip())
    word = text.split("/", 1)[0].strip()
    if word in ("T", "F"):
        return word == "T"
    if not _NUMBER.match(word):
        return None
    if word.lstrip("+-").isdigit():
        return int(word)
    return float(word.upper().replace("D", "E"))


def clean(text: str) -> str:
    """Text without control characters."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
