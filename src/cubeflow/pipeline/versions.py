"""Versions of the algorithms, part of every key.

Bump the number of a step by hand whenever its result changes for the same input; a test freezes
each number together with a digest of a reference result, so that it cannot be forgotten.
"""

REDUCE = 4
BACKGROUND = 4
STACK = 2
EXPORT = 3
TABLE = 3
FIGURES = 1
REPORT = 3
