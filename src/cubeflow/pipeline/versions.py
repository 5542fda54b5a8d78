"""Versions of the algorithms, part of every key.

Bump the number of a step by hand whenever its result changes for the same input; a test freezes
each number together with a digest of a reference result, so that it cannot be forgotten.
"""

OFF = 3
MODEL = 6
REDUCE = 8
BACKGROUND = 9
STACK = 5
EXPORT = 11
SERIES = 3
TABLE = 7
FIGURES = 10
REPORT = 8
