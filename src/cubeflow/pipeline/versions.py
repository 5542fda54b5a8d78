"""Versions of the algorithms, part of every key.

Bump the number of a step by hand whenever its result changes for the same input; a test freezes
each number together with a digest of a reference result, so that it cannot be forgotten.
"""

OFF = 2
MODEL = 4
REDUCE = 7
BACKGROUND = 8
STACK = 4
EXPORT = 10
SERIES = 2
TABLE = 6
FIGURES = 8
REPORT = 6
