"""Versions of the algorithms, part of every key.

Bump the number of a step by hand whenever its result changes for the same input; a test freezes
each number together with a digest of a reference result, so that it cannot be forgotten.
"""

OFF = 1
MODEL = 1
REDUCE = 7
BACKGROUND = 6
STACK = 3
EXPORT = 8
SERIES = 1
TABLE = 5
FIGURES = 5
REPORT = 5
