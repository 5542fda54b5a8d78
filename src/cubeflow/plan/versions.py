"""Versions of the algorithms, part of every key.

Bump the number of a step by hand whenever its result changes for the same input; a test freezes
each number together with a digest of a reference result, so that it cannot be forgotten.
"""

REDUCE = 3
BACKGROUND = 2
STACK = 1
EXPORT = 2
TABLE = 2
REPORT = 2
