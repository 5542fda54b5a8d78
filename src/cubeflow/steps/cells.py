"""A column of the run table in a few bytes a row: a run is some fifty values, and there may be 10^5 of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from sys import byteorder
from typing import Any, NamedTuple

import numpy as np

Value = bool | int | float | str | None
BLOCK_ROWS = 256  # packed and read at a time; a multiple of 4, so that blocks are whole words whatever a row is
_KINDS: tuple[type, ...] = (type(None), bool, int, float, str)
_CODES = {kind: code for code, kind in enumerate(_KINDS)}
_INT, _FLOAT, _TEXT = (_CODES[kind] for kind in (int, float, str))


class _Block(NamedTuple):
    """Values packed into bytes; what is the same in all rows stands there once.

    Parameters
    ----------
    n_rows : int
        Number of values.
    codes : bytes
        Kind of each value.
    words : bytes
        Eight bytes for each value: a number, or the number of a text.
    """

    n_rows: int
    codes: bytes
    words: bytes


class Cells:
    """Values of a column, which grows row by row: at most nine bytes each, and none where they are all the same.

    Parameters
    ----------
    n_before : int
        Number of rows without a value with which it begins.

    Examples
    --------
    >>> cells = Cells()
    >>> cells.extend([1, None, 2.5])
    >>> list(cells), len(cells), cells[1:]
    ([1, None, 2.5], 3, [None, 2.5])
    """

    def __init__(self, n_before: int = 0) -> None:
        self._blocks: list[_Block] = []
        self._waiting: list[Value] = []
        self._numbers: dict[str, int] = {}
        self._texts: list[str] = []
        for start in range(0, n_before, BLOCK_ROWS):
            self.extend([None] * min(BLOCK_ROWS, n_before - start))

    def __len__(self) -> int:
        return BLOCK_ROWS * len(self._blocks) + len(self._waiting)

    def __iter__(self) -> Iterator[Value]:
        for block in self._blocks:
            yield from self._unpacked(block)
        yield from self._waiting

    def __getitem__(self, rows: slice) -> list[Value]:
        start, stop, _ = rows.indices(len(self))
        first, last = start // BLOCK_ROWS, -(-stop // BLOCK_ROWS)
        values = [value for block in self._blocks[first:last] for value in self._unpacked(block)]
        if last > len(self._blocks):
            values += self._waiting
        return values[start - first * BLOCK_ROWS : stop - first * BLOCK_ROWS]

    def extend(self, values: Iterable[Value]) -> None:
        """Add the values of the rows that follow; OverflowError for a whole number of more than 64 bits."""
        self._waiting += values
        while len(self._waiting) >= BLOCK_ROWS:
            self._blocks.append(self._packed(self._waiting[:BLOCK_ROWS]))
            del self._waiting[:BLOCK_ROWS]

    def in_order(self, order: Iterable[int]) -> Cells:
        """Cells of the rows of these numbers, in this order."""
        values, chosen = list(self), Cells()
        chosen.extend(values[row] for row in order)
        return chosen

    def _packed(self, values: list[Value]) -> _Block:
        """Pack some values."""
        codes = bytes(_CODES[type(value)] for value in values)
        if codes == codes[:1] * len(codes):
            codes = codes[:1]
        words = _as_bytes(values) if codes == bytes([_FLOAT]) else array("q", map(self._word, values)).tobytes()
        is_same = len(codes) == 1 and words == words[:8] * len(values)
        return _Block(len(values), codes, words[:8] if is_same else words)

    def _unpacked(self, block: _Block) -> list[Value]:
        """Undo `_packed`."""
        if len(block.codes) == 1:
            code = block.codes[0]
            values: list[Value] = list(array("d" if code == _FLOAT else "q", block.words))
            if code not in (_INT, _FLOAT):
                values = [self._value(code, word) for word in array("q", block.words)]
            return values * block.n_rows if len(values) == 1 else values
        return [self._value(code, word) for code, word in zip(block.codes, array("q", block.words), strict=True)]

    def _word(self, value: Value) -> int:
        """Whole number of 64 bits that stands for a value."""
        if isinstance(value, str):
            if value not in self._numbers:
                self._numbers[value] = len(self._texts)
                self._texts.append(value)
            return self._numbers[value]
        return (
            int.from_bytes(_as_bytes([value]), byteorder, signed=True) if isinstance(value, float) else int(value or 0)
        )

    def _value(self, code: int, word: int) -> Value:
        """Undo `_word`."""
        if code == _TEXT:
            return self._texts[word]
        if code == _FLOAT:
            return array("d", word.to_bytes(8, byteorder, signed=True))[0]
        return None if code == 0 else bool(word) if code == _CODES[bool] else word


def _as_bytes(values: Iterable[Any]) -> bytes:
    """Bytes of numbers in double precision."""
    return array("d", values).tobytes()


class Columns:
    """Columns by name that grow by some rows at a time."""

    def __init__(self) -> None:
        self._cells: dict[str, Cells] = {}
        self._length = 0

    def add(self, rows: Sequence[dict[str, Value]]) -> None:
        """Add rows, each by the names of its columns; None where a row lacks one."""
        for name in {name: None for row in rows for name in row}:
            if name not in self._cells:
                self._cells[name] = Cells(self._length)
        for name, cells in self._cells.items():
            cells.extend([row.get(name) for row in rows])
        self._length += len(rows)

    def sorted_by(self, *names: str) -> dict[str, Cells]:
        """All columns with their rows in the order of these ones, which are whole numbers; None stands first."""
        keys = [
            np.fromiter((-1 if value is None else int(value) for value in self._cells[name]), "i8", self._length)
            for name in names
            if name in self._cells
        ]
        order = np.lexsort(keys[::-1]) if keys else np.arange(0)
        if np.array_equal(order, np.arange(self._length)):
            return self._cells
        rows = order.tolist()
        return {name: cells.in_order(rows) for name, cells in self._cells.items()}
