"""One program for each contender of `queries`: the same five operations on the same table.

They run in environments of their own, so they import nothing of the package, of the tests, or of
the other benchmarks but what needs no more than the standard library.
"""
